defmodule Cryptoki.ConsumersTest do
  use ExUnit.Case, async: true

  # Somebody else's project that depends on this one, by path and by git, in dev, test and prod, and
  # its release; each asks the token's library for its slots, and in a process of its own for random bytes. The crates
  # that are not ours come from the cargo cache of this project.

  alias Cryptoki.Test.{Package, SoftHSM}

  @root File.cwd!()
  @moduletag timeout: 1_800_000

  @question "{:ok, [_ | _]} = Cryptoki.slots(library: #{inspect(SoftHSM.library())}); " <>
              "{:ok, apart} = Cryptoki.start_link(uri: System.fetch_env!(\"HSM_URI\"), " <>
              "isolation: :process, timeout: 60_000); {:ok, <<_::64>>} = Cryptoki.random(apart, 8)"

  setup_all do
    directory = Path.join(SoftHSM.directory(), "consumers")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf!(directory) end)
    System.put_env("HSM_URI", SoftHSM.uri(SoftHSM.create("consumer")))
    on_exit(fn -> System.delete_env("HSM_URI") end)
    %{directory: directory, repository: repository(directory)}
  end

  test "by path, in dev, test and prod", %{directory: directory} do
    before = source_tree()
    project = consumer(directory, "by_path", "path: #{inspect(@root)}")

    for env <- ~w(dev test prod) do
      assert {text, 0} = mix(project, ["run", "-e", @question <> "; IO.puts(:works)"], env)
      assert text =~ "works", text
    end

    # The Mix tasks, with nothing on standard output but their result; the application is not started.
    tokens = ["cryptoki.tokens", "--library", SoftHSM.library()]
    assert {"slot " <> _, 0} = mix(project, tokens, "dev")

    assert source_tree() == before
  end

  test "by git, in dev, test and prod, in a release, and at the top", context do
    url = "file://" <> context.repository
    project = consumer(context.directory, "by_git", "git: #{inspect(url)}")
    assert {_, 0} = mix(project, ["deps.get"], "dev")

    for env <- ~w(dev test prod) do
      assert {text, 0} = mix(project, ["run", "-e", @question <> "; IO.puts(:works)"], env)
      assert text =~ "works", text
    end

    release(project)
    top_level(Path.join(project, "deps/cryptoki"), Path.join(project, "_build/native"))
  end

  # test/rebar3 is an Erlang application that names the dependency and nothing else of it.
  test "by rebar3: Common Test, shell and release", %{
    directory: directory,
    repository: repository
  } do
    project = Path.join(directory, "by_rebar3")
    File.cp_r!("test/rebar3", project)
    copy_cache!(Path.join(@root, "_build/native"), Path.join(project, "_build/native"))
    config = Path.join(project, "rebar.config")
    [_, published] = Regex.run(~r/git, "(.+?)"/, File.read!(config))
    File.write!(config, String.replace(File.read!(config), published, "file://" <> repository))

    uri = SoftHSM.uri(SoftHSM.create("signer"))
    environment = clean_environment() ++ [{"ERL_LIBS", nil}, {"HSM_URI", uri}]
    options = [cd: project, env: environment, stderr_to_stdout: true]

    assert {text, 0} = System.cmd("rebar3", ["ct"], options)
    assert text =~ "All 2 tests passed", text

    shell(project, environment)

    assert {text, 0} = System.cmd("rebar3", ["release"], options)
    assert text =~ "successfully assembled", text

    # It starts where neither Elixir nor its own build is.
    moved = Path.join(directory, "released")
    File.rename!(Path.join(project, "_build/default/rel/signer"), moved)
    File.rm_rf!(Path.join(project, "_build/default/lib"))

    code =
      ~s|{ok, _} = signer:sign("text"), {ok, Apart} = cryptoki:start_link(| <>
        ~s|\#{uri => os:getenv("HSM_URI"), isolation => process, timeout => 60000}), | <>
        ~s|{ok, <<_:64>>} = cryptoki:random(Apart, 8), io:format("~p: works", [code:get_mode()]), init:stop().|

    environment = [{"ERL_FLAGS", "-eval '#{code}'"} | environment]
    command = Path.join(moved, "bin/signer")

    assert {text, 0} =
             System.cmd(command, ["foreground"], Keyword.put(options, :env, environment))

    assert text =~ "embedded: works", text
  end

  test "by package: the fault module, with the command of guides/testing.md", context do
    project = Path.join(context.directory, "by_package")
    tarball = Package.make(Path.join(context.directory, "package"), "")
    Package.unpack(tarball, Path.join(project, "deps/cryptoki"))
    guide = File.read!("guides/testing.md")
    [_, command] = Regex.run(~r/^\$ (cargo build .*-p faulty_module)$/m, guide)
    [_, built] = Regex.run(~r/^  @built "(.+)"$/m, guide)
    environment = [{"CARGO_NET_OFFLINE", "true"} | clean_environment()]
    options = [cd: project, env: environment, stderr_to_stdout: true]
    assert {text, 0} = System.cmd("sh", ["-ec", command], options)
    assert text =~ "Compiling faulty_module", text

    # As the page uses it: a copy, with its settings beside it.
    library = Path.join(project, "faulty.so")
    File.cp!(Path.join(project, built), library)
    softhsm = SoftHSM.library_copy()
    control = library <> ".control"
    File.write!(library <> ".env", "FAULTY_TARGET=#{softhsm}\nFAULTY_CONTROL=#{control}\n")
    assert {:ok, [_ | _]} = Cryptoki.slots(library: library)
    File.write!(control, "C_GetSlotList rv=0x30\n")
    assert {:error, %{reason: :device_error}} = Cryptoki.slots(library: library)

    readme = File.read!(Path.join(project, "deps/cryptoki/native/faulty_module/README.md"))
    assert readme =~ "FAULTY_CONTROL"
  end

  # Typed into it once the applications run.
  defp shell(project, environment) do
    environment =
      for {name, value} <- environment,
          do: {to_charlist(name), if(value, do: to_charlist(value), else: false)}

    port =
      Port.open({:spawn_executable, System.find_executable("rebar3")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        args: ["shell"],
        cd: project,
        env: environment
      ])

    await(port, "Booted signer", "")
    Port.command(port, ~s|{ok, _} = signer:sign("text"), works = list_to_atom("wor" ++ "ks").\n|)
    await(port, "works\n", "")
    Port.command(port, "init:stop().\n")
    assert_receive {^port, {:exit_status, 0}}, 60_000
  end

  defp await(port, wanted, text) do
    unless text =~ wanted do
      # It builds the native code first, beside other tests that do.
      assert_receive {^port, {:data, more}}, 300_000, text
      await(port, wanted, text <> more)
    end
  end

  defp release(project) do
    assert {_, 0} = mix(project, ["release", "--quiet"], "prod")
    release = Path.join(project, "_build/prod/rel/by_git")
    # Nothing of the place where it was built is needed where it runs.
    moved = Path.join(project, "moved")
    File.rename!(release, moved)
    File.rm_rf!(Path.join(project, "_build/prod/lib"))
    command = Path.join(moved, "bin/by_git")

    eval = "{:ok, _} = Application.ensure_all_started(:cryptoki); #{@question}; IO.puts(:works)"
    assert {text, 0} = System.cmd(command, ["eval", eval], stderr_to_stdout: true)
    assert text =~ "works", text

    # As it runs in production: all code is loaded before anything starts.
    environment = [{"BY_GIT_REPORT", "yes"}, {"RELEASE_DISTRIBUTION", "none"}]
    assert {text, 0} = System.cmd(command, ["start"], env: environment, stderr_to_stdout: true)
    assert text =~ "embedded: works", text
  end

  # The clone as a project of its own: in prod, for in test and dev bin/test and bin/demo have it. It
  # stands where the dependency stood, so the crate is built already.
  defp top_level(clone, cache) do
    copy_cache!(cache, Path.join(clone, "_build/native"))
    assert {text, 0} = mix(clone, ["run", "-e", @question <> "; IO.puts(:works)"], "prod")
    assert text =~ "works", text
    assert {"", 0} = mix(clone, ["compile"], "prod")

    # .fetch is Mix's own note in every git dependency; newer ones keep it elsewhere.
    assert {status, 0} = System.cmd("git", ["status", "--porcelain"], cd: clone)
    assert status in ["?? .fetch\n", ""]
  end

  # A project with one module that can start, run and report.
  defp consumer(directory, name, dependency) do
    project = Path.join(directory, name)
    File.mkdir_p!(Path.join(project, "lib"))
    module = Macro.camelize(name)

    File.write!(Path.join(project, "mix.exs"), """
    defmodule #{module}.MixProject do
      use Mix.Project

      def project do
        [app: :#{name}, version: "1.0.0", deps: [{:cryptoki, #{dependency}}]]
      end

      def application, do: [mod: {#{module}, []}]
    end
    """)

    File.write!(Path.join(project, "lib/#{name}.ex"), """
    defmodule #{module} do
      use Application

      def start(_, _) do
        if System.get_env("#{String.upcase(name)}_REPORT") do
          spawn(fn ->
            #{@question}
            IO.puts("\#{:code.get_mode()}: works")
            System.stop(0)
          end)
        end

        Supervisor.start_link([], strategy: :one_for_one)
      end
    end
    """)

    File.mkdir_p!(Path.join(project, "_build"))
    copy_cache!(Path.join(@root, "_build/native"), Path.join(project, "_build/native"))
    project
  end

  # With its times, which cargo compares.
  defp copy_cache!(from, to) do
    File.mkdir_p!(to)

    for name <- ~w(release source .rustc_info.json CACHEDIR.TAG),
        path = Path.join(from, name),
        File.exists?(path) do
      {_, 0} = System.cmd("cp", ["-a", path, to])
    end
  end

  # What a commit of the work tree as it is now would hold.
  defp repository(directory) do
    repository = Path.join(directory, "repository")

    for file <- files(), File.regular?(Path.join(@root, file)) do
      target = Path.join(repository, file)
      File.mkdir_p!(Path.dirname(target))
      File.cp!(Path.join(@root, file), target)
    end

    identity = ~w(-c user.name=test -c user.email=test@localhost -c init.defaultBranch=main)

    for arguments <- [~w(init -q), ~w(add -A -f), ~w(commit -q -m test)] do
      assert {_, 0} =
               System.cmd("git", identity ++ arguments, cd: repository, stderr_to_stdout: true)
    end

    repository
  end

  defp files do
    {text, 0} = System.cmd("git", ~w(ls-files -z -co --exclude-standard), cd: @root)
    String.split(text, "\0", trim: true)
  end

  # Nothing new in the source tree, ignored files included, but for _build.
  defp source_tree do
    {text, 0} =
      System.cmd("git", ~w(status --porcelain --ignored --untracked-files=all), cd: @root)

    text |> String.split("\n") |> Enum.reject(&(&1 =~ ~r/_build/))
  end

  defp mix(project, arguments, env) do
    environment = clean_environment() ++ [{"MIX_ENV", env}]
    System.cmd("mix", arguments, cd: project, env: environment, stderr_to_stdout: true)
  end

  # What bin/test or a person set for this project and not for that one.
  defp clean_environment do
    for name <- ~w(MIX_ENV MIX_BUILD_PATH MIX_TARGET CARGO_TARGET_DIR CARGO_BUILD_TARGET),
        do: {name, nil}
  end
end
