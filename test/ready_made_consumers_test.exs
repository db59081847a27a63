defmodule Cryptoki.ReadyMadeConsumersTest do
  use ExUnit.Case, async: true

  # Somebody else's project on a machine without Rust, which depends on a package that has a ready-made library: a
  # Mix application, an umbrella, a release and a rebar3 application, each signs with a key on a token.

  import Cryptoki.Test.BuildProject, only: [clean_environment: 0, path_without_cargo: 1]
  alias Cryptoki.Native.Loader
  alias Cryptoki.Test.{FileServer, Package, Scratch, SoftHSM}

  @moduletag timeout: 600_000

  @question """
  {:ok, hsm} = Cryptoki.start_link(uri: System.fetch_env!("HSM_URI"), timeout: 60_000)
  {:ok, {_, key}} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, curve: :secp256r1, token: true)
  {:ok, <<_::512>>} = Cryptoki.sign(hsm, key, :ecdsa_sha256, "text")
  IO.puts(:signed)
  """

  setup_all do
    directory = Scratch.directory("ready-made-consumers")
    on_exit(fn -> File.rm_rf!(directory) end)
    package = Path.join(directory, "package")
    published = Path.join(directory, "published")
    package(package, published)

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

    %{directory: directory, package: package, url: url, environment: environment}
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
    [fetch, compile] =
      for [_, code] <- Regex.scan(~r/^```sh\n(.*?)^```/ms, File.read!("guides/install.md")),
          do: code

    project = application(Path.join(context.directory, "offline"), "offline", context.package)
    File.mkdir_p!(Path.join(project, "deps"))
    File.ln_s!(context.package, Path.join(project, "deps/cryptoki"))
    {:ok, target} = Cryptoki.Build.Target.find()

    with_network = [
      cd: project,
      env: [{"TARGET", target}, {"BASE_URL", context.url}],
      stderr_to_stdout: true
    ]

    assert {text, 0} = System.cmd("sh", ["-ec", fetch], with_network)
    assert text =~ "#{target}.so: OK"

    without = [{"CRYPTOKI_BASE_URL", "http://127.0.0.1:9"}, {"CRYPTOKI_CACHE", nil}]

    context =
      update_in(context.environment, &Enum.uniq_by(without ++ &1, fn {name, _} -> name end))

    assert {text, 0} = run(context, project, "sh", ["-ec", compile])
    assert {signed, 0} = run(context, project, "mix", ["run", "-e", @question])
    assert signed =~ "signed", text <> signed
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
  end

  # As bin/release makes it, unpacked as Hex does, with the checksums of what is published beside it.
  defp package(package, published) do
    {:ok, target} = Cryptoki.Build.Target.find()
    name = "cryptoki_nif-#{Mix.Project.config()[:version]}-#{target}.so"
    File.mkdir_p!(published)
    File.cp!(Loader.path(), Path.join(published, name))
    sum = :sha256 |> :crypto.hash(File.read!(Loader.path())) |> Base.encode16(case: :lower)
    (published <> ".clone") |> Package.make("#{sum}  #{name}\n") |> Package.unpack(package)
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

    for arguments <- [~w(init -q), ~w(add -A -f), ~w(commit -q -m test)] do
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
