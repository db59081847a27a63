defmodule Cryptoki.ReadyMadeConsumersTest do
  use ExUnit.Case, async: true

  # Somebody else's project on a machine without Rust, which depends on a package that has a ready-made library: a
  # Mix application, an umbrella, a release and a rebar3 application, each signs with a key on a token, also by the
  # worker beside the library.

  import Cryptoki.Test.BuildProject, only: [clean_environment: 0, path_without_cargo: 1]
  alias Cryptoki.Native.Loader
  alias Cryptoki.Test.{Cluster, FileServer, Package, Scratch, SoftHSM, Terminal}

  @moduletag timeout: 1_800_000

  @question """
  {:ok, hsm} = Cryptoki.start_link(uri: System.fetch_env!("HSM_URI"), timeout: 60_000)
  {:ok, {_, key}} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, id: :rand.bytes(8), curve: :secp256r1, token: true)
  {:ok, <<_::512>>} = Cryptoki.sign(hsm, key, :ecdsa_sha256, "text")
  {:ok, apart} = Cryptoki.start_link(uri: System.fetch_env!("HSM_URI"), timeout: 60_000, isolation: :process)
  {:ok, <<_::512>>} = Cryptoki.sign(apart, [id: key.id], :ecdsa_sha256, "text")
  IO.puts(:signed)
  """

  setup_all do
    directory = Scratch.directory("ready-made-consumers")
    on_exit(fn -> File.rm_rf!(directory) end)
    package = Path.join(directory, "package")
    published = Path.join(directory, "published")
    tarball = package(published)
    Package.unpack(tarball, package)

    url = FileServer.folder(published)

    environment =
      clean_environment() ++
        [
          {"CRYPTOKI_BASE_URL", url},
          {"CRYPTOKI_CACHE", Path.join(directory, "cache")},
          {"PATH", path_without_cargo(directory)},
          {"ERL_LIBS", nil},
          {"HSM_URI", SoftHSM.uri(SoftHSM.create("ready-made"))}
        ]

    %{
      directory: directory,
      package: package,
      published: published,
      url: url,
      environment: environment
    }
  end

  test "a Mix application, and its release", context do
    project = application(Path.join(context.directory, "app"), "app", context.package)
    assert {text, 0} = run(context, project, "mix", ["run", "-e", @question])
    assert text =~ "signed", text
    refute text =~ "cargo"

    in_prod =
      update_in(context.environment, &[{"MIX_ENV", "prod"} | List.keydelete(&1, "MIX_ENV", 0)])

    assert {_, 0} = run(in_prod, project, "mix", ["release", "--quiet"])
    moved = Path.join(context.directory, "released")
    File.rename!(Path.join(project, "_build/prod/rel/app"), moved)
    File.rm_rf!(Path.join(project, "_build"))

    eval = "{:ok, _} = Application.ensure_all_started(:cryptoki)\n" <> @question
    assert {text, 0} = run(context, moved, Path.join(moved, "bin/app"), ["eval", eval])
    assert text =~ "signed", text
  end

  # Its lines typed at a shell of the machine: the node is a release, whose PIN is a wrong one.
  test "a release on its node, as guides/operations.md says", context do
    project = application(Path.join(context.directory, "on_call"), "on_call", context.package)
    mix = Path.join(project, "mix.exs")
    logger = "extra_applications: [:logger]"
    File.write!(mix, String.replace(File.read!(mix), logger, "mod: {OnCall, []}, " <> logger))

    Scratch.write(project, "lib/on_call.ex", """
    defmodule OnCall do
      use Application

      def start(_type, _args) do
        place = [library: #{inspect(SoftHSM.library())}, token: [label: System.fetch_env!("HSM_TOKEN")]]
        hsm = [name: MyApp.HSM, pin: {:env, "HSM_PIN"}, timeout: 60_000, sessions: 1] ++ place
        {:ok, pid} = Supervisor.start_link([{Cryptoki, hsm}], strategy: :one_for_one)
        IO.puts("up")
        {:ok, pid}
      end
    end
    """)

    :ok = Cluster.epmd()

    own = [
      {"MIX_ENV", "prod"},
      {"RELEASE_DISTRIBUTION", "name"},
      {"RELEASE_NODE", "on-call-#{System.pid()}@127.0.0.1"},
      {"HSM_TOKEN", SoftHSM.create()},
      {"HSM_PIN", "11111111"}
    ]

    context = update_in(context.environment, &(&1 ++ own))
    assert {_, 0} = run(context, project, "mix", ["release", "--quiet"])
    command = Path.join(project, "_build/prod/rel/on_call/bin/on_call")
    pin = Scratch.write(context.directory, "hsm_pin", SoftHSM.pin())

    guide = File.read!("guides/operations.md")
    [_, section] = String.split(guide, "\n## On the node\n")
    [section, _] = String.split(section, "\n### ", parts: 2)

    [status, remote, unlock] =
      for [_, line] <- Regex.scan(~r/^\$ (.+)$/m, section) do
        line
        |> String.replace("/opt/my_app/bin/my_app", command)
        |> String.replace("/run/secrets/hsm_pin", pin)
      end

    node = node(context, command)
    shell = &run(context, project, "sh", ["-c", &1])
    assert {text, 0} = shell.(status)
    assert text =~ "state: :locked"

    # Typed by a person, and nowhere to be seen.
    [_, typed, question] = Regex.run(~r/^iex\(\S+\)1> (.+)\n(.+)$/m, section)
    # tmux is no program of the node's.
    environment = List.keydelete(context.environment, "PATH", 0)
    terminal = Terminal.start(context.directory, remote, 120, environment)
    Terminal.await(terminal, ~r/^iex\(\S+\)1>/m)
    Terminal.type(terminal, typed)
    Terminal.await(terminal, ~r/^#{Regex.escape(question)}/m)
    Terminal.type(terminal, SoftHSM.pin())
    screen = Terminal.await(terminal, ~r/^iex\(\S+\)2>/m)
    assert screen =~ ~r/^:ok$/m
    refute Terminal.written(terminal) =~ SoftHSM.pin()
    assert {text, 0} = shell.(status)
    assert text =~ "state: :ready"

    # Its supervisor starts it again, with a PIN that was refused.
    assert {_, 0} = shell.("#{command} rpc 'Cryptoki.stop(MyApp.HSM)'")
    assert {text, 0} = shell.(status)
    assert text =~ "state: :locked"
    assert {":ok\n", 0} = shell.(unlock)
    assert {text, 0} = shell.(status)
    assert text =~ "state: :ready"

    assert {_, 0} = shell.("#{command} stop")
    assert_receive {^node, {:exit_status, 0}}, 120_000
    refute said(node) =~ SoftHSM.pin()
  end

  test "an umbrella", context do
    umbrella = Path.join(context.directory, "umbrella")

    for name <- ~w(one two),
        do: application(Path.join([umbrella, "apps", name]), name, context.package)

    File.write!(Path.join(umbrella, "mix.exs"), """
    defmodule Umbrella.MixProject do
      use Mix.Project
      def project, do: [apps_path: "apps", version: "1.0.0", deps: []]
    end
    """)

    assert {text, 0} = run(context, umbrella, "mix", ["run", "-e", @question])
    assert text =~ "signed", text
  end

  test "without a network, as guides/install.md says", context do
    [unpack, fetch, compile] =
      for [_, code] <- Regex.scan(~r/^```sh\n(.*?)^```/ms, File.read!("guides/install.md")),
          do: code

    guide = File.read!("guides/install.md")
    [_, dependency] = Regex.run(~r/^The dependency is `{:cryptoki, path: "(.+?)"}`/m, guide)
    project = application(Path.join(context.directory, "offline"), "offline", dependency)
    of_it = [{"FOLDER", context.published}, {"VERSION", Mix.Project.config()[:version]}]
    assert {"", 0} = System.cmd("sh", ["-ec", unpack], cd: project, env: of_it)
    {:ok, target} = Cryptoki.Build.Target.find()

    with_network = [
      cd: project,
      env: [{"TARGET", target}, {"BASE_URL", context.url}],
      stderr_to_stdout: true
    ]

    assert {text, 0} = System.cmd("sh", ["-ec", fetch], with_network)
    assert text =~ "#{target}.so: OK"
    assert text =~ "#{target}: OK"

    without = [{"CRYPTOKI_BASE_URL", "http://127.0.0.1:9"}, {"CRYPTOKI_CACHE", nil}]

    context =
      update_in(context.environment, &Enum.uniq_by(without ++ &1, fn {name, _} -> name end))

    assert {text, 0} = run(context, project, "sh", ["-ec", compile])
    assert {signed, 0} = run(context, project, "mix", ["run", "-e", @question])
    assert signed =~ "signed", text <> signed
  end

  # As Livebook does it: what the page installs, and its cells one after the other in the same VM.
  test "the Livebook of the first signature, with its Mix.install", context do
    book = File.read!("guides/first_signature.livemd")
    cells = for [_, code] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, book), do: code
    # A checkout has no library: without Rust it is the package, as the page says.
    [published] = Regex.run(~r/git: "[^"]+", tag: "[^"]+"/, book)
    assert book =~ "`path:` in place of `git:` and `tag:`"

    script =
      Scratch.write(
        context.directory,
        "livebook.exs",
        cells
        |> Enum.join("\nIO.puts(:cell)\n")
        |> String.replace(published, "path: #{inspect(context.package)}")
      )

    configuration = SoftHSM.configuration(Path.join(context.directory, "livebook"))

    own = [
      {"SOFTHSM2_CONF", configuration},
      {"MIX_INSTALL_DIR", Path.join(context.directory, "installed")},
      # No Hex, and none of the user's settings.
      {"MIX_HOME", Path.join(context.directory, "mix")},
      {"HOME", context.directory}
    ]

    context = update_in(context.environment, &(&1 ++ own))
    assert {text, 0} = run(context, context.directory, "elixir", [script])
    assert length(String.split(text, "cell\n")) == length(cells), text
    refute text =~ "cargo"
  end

  # The lines of its snippet that are for a shell, in an application that has a test; the rest of it is GitHub's.
  test "continuous integration, as guides/install.md says", context do
    [yaml] =
      for [_, code] <- Regex.scan(~r/^```yaml\n(.*?)^```/ms, File.read!("guides/install.md")),
          do: code

    project = application(Path.join(context.directory, "ci"), "ci", context.package)
    File.mkdir_p!(Path.join(project, "test"))
    Scratch.write(project, "test/test_helper.exs", "ExUnit.start()\n")

    Scratch.write(project, "test/signs_test.exs", """
    defmodule SignsTest do
      use ExUnit.Case
      test "signs" do
        #{@question}
      end
    end
    """)

    [_, cache] = Regex.run(~r/CRYPTOKI_CACHE: \${{ github.workspace }}\/(\S+)/, yaml)
    assert yaml =~ ~r/^ +path: #{Regex.escape(cache)}$/m, "what is kept is not what is cached"

    own = [
      {"CRYPTOKI_CACHE", Path.join(project, cache)},
      {"HOME", context.directory},
      {"MIX_ENV", nil}
    ]

    context = update_in(context.environment, &(&1 ++ own))
    commands = for [_, command] <- Regex.scan(~r/- run: (mix .+)$/m, yaml), do: command
    assert commands == ["mix deps.get", "mix test"]

    for command <- commands do
      assert {text, 0} = run(context, project, "sh", ["-ec", command])
      refute text =~ "cargo"
      if command == "mix test", do: assert(text =~ ~r/1 test, 0 failures|1 passed/, text)
    end

    # What the next run finds there, without fetching it.
    assert [_library, _worker] = File.ls!(Path.join(project, cache))
  end

  # What RELEASE.md says of a Mac, with another place for SoftHSM: from folders as a person types them.
  test "a first signature on a machine that nothing was run on, as RELEASE.md says", context do
    [block] =
      Regex.run(~r/^   ```sh\n(   folder=.*?)^   ```/ms, File.read!("RELEASE.md"),
        capture: :all_but_first
      )

    place = Path.join(context.directory, "mac")
    File.mkdir_p!(Path.join(place, "bin"))

    for name <- ~w(openssl tar gzip),
        do: File.ln_s!(System.find_executable(name), Path.join([place, "bin", name]))

    # Homebrew's, of a machine whose prefix is /usr.
    brew = Scratch.write(place, "bin/brew", "#!/bin/sh\n[ \"$*\" = --prefix ] && echo /usr\n")
    File.chmod!(brew, 0o755)
    File.ln_s!(context.published, Path.join(place, "release"))
    File.ln_s!(File.cwd!(), Path.join(place, "clone"))

    lines =
      block
      |> String.replace("FOLDER", "release")
      |> String.replace("CLONE", "clone")
      |> String.replace("VERSION", Mix.Project.config()[:version])

    context =
      update_in(context.environment, fn environment ->
        {_, path} = List.keyfind(environment, "PATH", 0)
        List.keystore(environment, "PATH", 0, {"PATH", "#{place}/bin:#{path}"})
      end)

    assert {text, 0} = run(context, place, "sh", ["-ec", lines])
    assert text =~ "ecdsa_sha256: signed and verified", text
  end

  test "a rebar3 application", context do
    repository = commit(context.package)
    project = Path.join(context.directory, "by_rebar3")
    File.cp_r!("test/rebar3", project)
    config = Path.join(project, "rebar.config")
    [_, published] = Regex.run(~r/git, "(.+?)"/, File.read!(config))
    File.write!(config, String.replace(File.read!(config), published, "file://" <> repository))

    # Its tests sign.
    assert {text, 0} = run(context, project, "rebar3", ["ct"])
    assert text =~ "All 2 tests passed", text
    refute text =~ "cargo"

    # Its release signs, with the key that they have made, and has the worker, as a program.
    assert {text, 0} = run(context, project, "rebar3", ["release"])
    assert text =~ "successfully assembled", text
    code = ~s|{ok, _} = signer:sign("text"), io:format("signed"), init:stop().|
    released = update_in(context.environment, &(&1 ++ [{"ERL_FLAGS", "-eval '#{code}'"}]))
    command = Path.join(project, "_build/default/rel/signer/bin/signer")
    assert {text, 0} = run(released, project, command, ["foreground"])
    assert text =~ "signed", text

    native =
      Path.wildcard(Path.join(project, "_build/default/rel/signer/lib/cryptoki-*/priv/native"))

    assert {:ok, worker} = Loader.worker(hd(native))
    assert {"cryptoki_worker " <> _, 0} = System.cmd(worker, ["--version"])
  end

  # The node in the foreground, once it is up.
  defp node(context, command) do
    environment =
      for {name, value} <- context.environment,
          do: {to_charlist(name), if(value, do: to_charlist(value), else: false)}

    options = [:binary, :exit_status, :stderr_to_stdout, args: ["start"], env: environment]
    port = Port.open({:spawn_executable, command}, options)
    {:os_pid, pid} = Port.info(port, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true) end)
    up(port, "")
    port
  end

  defp up(port, said) do
    unless said =~ ~r/^up$/m do
      assert_receive {^port, {:data, more}}, 120_000, said
      up(port, said <> more)
    end
  end

  defp said(port) do
    receive do
      {^port, {:data, text}} -> text <> said(port)
    after
      0 -> ""
    end
  end

  # As bin/release makes it, with the checksums of what is published beside it.
  defp package(published) do
    {:ok, target} = Cryptoki.Build.Target.find()
    {:ok, worker} = Loader.worker()
    version = Mix.Project.config()[:version]
    File.mkdir_p!(published)

    checksums =
      for {file, name} <- [
            {Loader.path(), "cryptoki_nif-#{version}-#{target}.so"},
            {worker, "cryptoki_worker-#{version}-#{target}"}
          ] do
        bytes = File.read!(file)
        # As it comes from a server: no program.
        File.write!(Path.join(published, name), bytes)
        "#{Base.encode16(:crypto.hash(:sha256, bytes), case: :lower)}  #{name}\n"
      end

    tarball = Package.make(published <> ".clone", Enum.join(checksums))
    File.cp!(tarball, Path.join(published, Path.basename(tarball)))
    tarball
  end

  defp application(project, name, package) do
    File.mkdir_p!(Path.join(project, "lib"))
    module = Macro.camelize(name)

    File.write!(Path.join(project, "mix.exs"), """
    defmodule #{module}.MixProject do
      use Mix.Project
      def project, do: [app: :#{name}, version: "1.0.0", deps: [{:cryptoki, path: #{inspect(package)}}]]
      def application, do: [extra_applications: [:logger]]
    end
    """)

    project
  end

  # rebar3 takes it by git.
  defp commit(package) do
    repository = package <> ".git"
    File.cp_r!(package, repository)
    identity = ~w(-c user.name=test -c user.email=test@localhost -c init.defaultBranch=main)

    for arguments <- [~w(init -q), ~w(add -A -f), ~w(commit -q -m test), ~w(tag none)] do
      assert {_, 0} =
               System.cmd("git", identity ++ arguments, cd: repository, stderr_to_stdout: true)
    end

    repository
  end

  defp run(context, folder, command, arguments) do
    command = System.find_executable(command)
    System.cmd(command, arguments, cd: folder, env: context.environment, stderr_to_stdout: true)
  end
end
