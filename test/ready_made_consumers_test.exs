defmodule Cryptoki.ReadyMadeConsumersTest do
  use ExUnit.Case, async: true

  # Somebody else's project on a machine without Rust, which depends on a package that has a ready-made library: a
  # Mix application, an umbrella, a release and a rebar3 application, each signs with a key on a token.

  import Cryptoki.Test.BuildProject, only: [clean_environment: 0, path_without_cargo: 1]
  alias Cryptoki.Native.Loader
  alias Cryptoki.Test.{FileServer, Scratch, SoftHSM}

  @root File.cwd!()
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

    environment =
      clean_environment() ++
        [
          {"CRYPTOKI_BASE_URL", FileServer.folder(published)},
          {"CRYPTOKI_CACHE", Path.join(directory, "cache")},
          {"PATH", path_without_cargo(directory)},
          {"ERL_LIBS", nil},
          {"HSM_URI", SoftHSM.uri(SoftHSM.create("ready-made"))}
        ]

    %{directory: directory, package: package, environment: environment}
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

  # The files that mix.exs names for it, and the checksums of what is published beside it.
  defp package(package, published) do
    {text, 0} =
      System.cmd(
        "git",
        ~w(ls-files -z -co --exclude-standard --) ++ Mix.Project.config()[:package][:files],
        cd: @root
      )

    for file <- String.split(text, "\0", trim: true), File.regular?(Path.join(@root, file)) do
      File.mkdir_p!(Path.dirname(Path.join(package, file)))
      File.cp!(Path.join(@root, file), Path.join(package, file))
    end

    {:ok, target} = Cryptoki.Build.Target.find()
    name = "cryptoki_nif-#{Mix.Project.config()[:version]}-#{target}.so"
    File.mkdir_p!(published)
    File.cp!(Loader.path(), Path.join(published, name))
    sum = :sha256 |> :crypto.hash(File.read!(Loader.path())) |> Base.encode16(case: :lower)
    File.write!(Path.join(package, "checksums.txt"), "#{sum}  #{name}\n")
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
