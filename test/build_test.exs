defmodule Cryptoki.BuildTest do
  use ExUnit.Case, async: true

  # The Mix compile task of build/, in a small project of its own: the same mix.exs, Cargo.toml and
  # build/, with a crate that compiles in a blink in the place of the real one.

  alias Cryptoki.Native.Loader
  import Cryptoki.Test.BuildProject, except: [directory: 1]
  alias Cryptoki.Test.{BuildProject, Scratch}

  @root File.cwd!()

  setup_all do
    project = BuildProject.directory("build-test")

    File.write!(Path.join(project, "Cargo.lock"), """
    version = 4

    [[package]]
    name = "cryptoki_nif"
    version = "#{Mix.Project.config()[:version]}"

    [[package]]
    name = "cryptoki_worker"
    version = "#{Mix.Project.config()[:version]}"
    """)

    source(project, "pub fn one() {}")
    on_exit(fn -> File.rm_rf!(project) end)
    %{project: project, folder: Path.join(project, "_build/dev/lib/cryptoki/priv/native")}
  end

  setup %{project: project} do
    source(project, "pub fn one() {}")
  end

  test "installs once, and does nothing when nothing changed", %{project: project, folder: folder} do
    build(project)
    before = listing(folder)
    assert result(project) == {:noop, []}
    assert listing(folder) == before
    assert [library, worker, "current", "current_worker"] = Enum.sort(File.ls!(folder))
    version = Mix.Project.config()[:version]
    assert library =~ ~r/^cryptoki_nif-#{version}-[\w-]+-[0-9a-f]{32}\.so$/
    assert worker =~ ~r/^cryptoki_worker-#{version}-[\w-]+-[0-9a-f]{32}$/
    assert File.read!(Path.join(folder, "current")) == library <> "\n"
    assert File.read!(Path.join(folder, "current_worker")) == worker <> "\n"
    assert System.cmd(worker(folder), []) == {"a worker\n", 0}
    refute File.exists?(Path.join(project, "priv"))
  end

  test "a library that is mapped is never written over", %{project: project, folder: folder} do
    build(project)
    old = library(folder)
    inode = File.stat!(old).inode
    # As a VM that runs holds it.
    {:ok, held} = :file.open(old, [:read, :raw, :binary])
    bytes = File.read!(old)

    source(project, "#[unsafe(no_mangle)] pub extern \"C\" fn two() -> u64 { 2 }")
    assert {:ok, []} = result(project)

    new = library(folder)
    assert Path.basename(new) != Path.basename(old)
    assert File.stat!(new).inode != inode
    assert {:ok, ^bytes} = :file.pread(held, 0, byte_size(bytes) + 1)
    names = [new, worker(folder)] |> Enum.map(&Path.basename/1)
    assert Enum.sort(File.ls!(folder)) == names ++ ["current", "current_worker"]
  end

  test "installs again what was deleted or cut short", %{project: project, folder: folder} do
    build(project)
    library = library(folder)
    File.rm!(library)
    assert {:ok, []} = result(project)
    assert File.exists?(library)

    bytes = File.read!(library)
    File.write!(library, binary_part(bytes, 0, 100))
    assert {:ok, []} = result(project)
    assert File.read!(library) == bytes

    File.rm_rf!(folder)
    assert {:ok, []} = result(project)
    assert File.read!(library) == bytes
  end

  test "and a worker that was deleted, cut short or may not be run", context do
    %{project: project, folder: folder} = context
    build(project)
    worker = worker(folder)
    bytes = File.read!(worker)

    for break <- [&File.rm!/1, &File.write!(&1, "half"), &File.chmod!(&1, 0o644)] do
      break.(worker)
      assert {:ok, []} = result(project)
      assert File.read!(worker) == bytes
      assert System.cmd(worker, []) == {"a worker\n", 0}
      assert result(project) == {:noop, []}
    end
  end

  test "does not write through a priv that is a link into the source tree",
       %{project: project, folder: folder} do
    source_priv = Path.join(project, "priv")
    File.mkdir_p!(source_priv)
    File.write!(Path.join(source_priv, "kept.txt"), "kept")
    File.rm_rf!(Path.dirname(folder))

    build(project)
    assert File.ls!(source_priv) == ["kept.txt"]
    assert File.read!(Path.join(folder, "../kept.txt")) == "kept"
    assert File.exists?(library(folder))
    assert result(project) == {:noop, []}
  after
    File.rm_rf!(Path.join(project, "priv"))
  end

  test "dev and prod share what cargo compiled", %{project: project} do
    build(project)
    assert {text, 0} = mix(project, "Mix.Task.run(:compile)", [{"MIX_ENV", "prod"}])
    refute text =~ "Compiling cryptoki_nif"
    assert File.exists?(library(Path.join(project, "_build/prod/lib/cryptoki/priv/native")))
  end

  test "a person sees what rustc said, and mix fails", %{project: project} do
    source(project, "pub fn wrong() -> u32 {\n    \"é\"\n}")
    assert {text, 1} = mix(project, "Mix.Task.run(:compile)")
    assert text =~ "mismatched types"
    assert text =~ "\"é\""
    assert text =~ "native/cryptoki_nif/src/lib.rs:2"
    assert {:error, [%{compiler_name: "cargo", message: message}]} = result(project)
    assert message =~ "cargo could not build"
  end

  test "a target of cargo's own configuration is found, too", %{project: project, folder: folder} do
    {text, 0} = System.cmd("rustc", ["-vV"])
    [_, triple] = Regex.run(~r/^host: (.+)$/m, text)
    source(project, exported(2))
    build(project)
    File.mkdir_p!(Path.join(project, ".cargo"))
    File.write!(Path.join(project, ".cargo/config.toml"), "[build]\ntarget = \"#{triple}\"\n")
    # There, and nowhere else from then on, also where both have been built before.
    for number <- 3..4 do
      source(project, exported(number))
      assert {:ok, []} = result(project)
      assert File.read!(library(folder)) == File.read!(built(project, triple))
      assert result(project) == {:noop, []}
    end

    File.rm_rf!(Path.join(project, ".cargo"))
    assert {:ok, []} = result(project)
    assert File.read!(library(folder)) == File.read!(built(project, ""))
  after
    File.rm_rf!(Path.join(project, ".cargo"))
  end

  test "musl's libraries share its C library, without a flag of anybody's", %{project: project} do
    File.mkdir_p!(Path.join(project, ".cargo"))
    File.cp!(Path.join(@root, ".cargo/config.toml"), Path.join(project, ".cargo/config.toml"))
    # rustc prints it also where that target is not installed.
    cargo =
      ~w(rustc --quiet --offline -p cryptoki_nif --target x86_64-unknown-linux-musl -- --print cfg)

    options = [
      cd: project,
      env: clean_environment() ++ [{"RUSTFLAGS", nil}],
      stderr_to_stdout: true
    ]

    assert {text, 0} = System.cmd("cargo", cargo, options)
    assert text =~ ~s(target_env="musl")
    refute text =~ "crt-static"

    File.rm_rf!(Path.join(project, ".cargo"))
    assert {text, 101} = System.cmd("cargo", cargo, options)
    assert text =~ "cannot produce cdylib"
  after
    File.rm_rf!(Path.join(project, ".cargo"))
  end

  test "refuses to build for this machine when another is asked for", %{project: project} do
    build(project)

    for {name, value} <- [{"MIX_TARGET", "rpi4"}, {"CROSSCOMPILE", "/opt/arm-linux"}] do
      assert {:error, [%{message: message}]} = result(project, [], [{name, value}])
      assert message =~ "#{name}=#{value} asks for another machine"
      assert message =~ "CARGO_BUILD_TARGET"
    end

    assert result(project, [], [{"MIX_TARGET", "host"}]) == {:noop, []}
  end

  test "CARGO_BUILD_TARGET is in the name of what it built", %{project: project, folder: folder} do
    {text, 0} = System.cmd("rustc", ["-vV"])
    [_, triple] = Regex.run(~r/^host: (.+)$/m, text)
    environment = [{"CARGO_BUILD_TARGET", triple}, {"CROSSCOMPILE", "yes"}]
    assert {:ok, []} = result(project, [], environment)
    assert Path.basename(library(folder)) =~ "-#{triple}-"
  end

  test "takes a ready-made library, without cargo", %{project: project, folder: folder} do
    build(project)
    ready = Path.join(project, "ready.so")
    File.cp!(library(folder), ready)
    environment = [{"CRYPTOKI_NATIVE_LIBRARY", ready}, {"PATH", path_without_cargo(project)}]

    assert {:ok, []} = result(project, [], environment)
    assert Path.basename(library(folder)) =~ "-ready-"
    assert File.read!(library(folder)) == File.read!(ready)
    assert result(project, [], [{"MIX_TARGET", "rpi4"} | environment]) |> elem(0) == :ok

    assert {:error, [%{message: message}]} =
             result(project, [], [{"CRYPTOKI_NATIVE_LIBRARY", "/nowhere.so"}])

    assert message == "the native library /nowhere.so cannot be read: no such file or directory"
  end

  # The same with a cargo that only says so: test/ready_made_test.exs.
  test "what a release has and cannot be had is built by cargo", context do
    %{project: project, folder: folder} = context
    {:ok, target} = Cryptoki.Build.Target.find()
    checksums = Path.join(project, "checksums.txt")
    none = String.duplicate("0", 64)
    version = Mix.Project.config()[:version]
    names = ["cryptoki_nif-#{version}-#{target}.so", "cryptoki_worker-#{version}-#{target}"]
    File.write!(checksums, for(name <- names, do: "#{none}  #{name}\n"))
    File.rm_rf!(folder)
    source(project, exported(5))
    empty = Path.join(project, "cache")
    nowhere = [{"CRYPTOKI_BASE_URL", "http://127.0.0.1:9"}, {"CRYPTOKI_CACHE", empty}]
    assert {text, 0} = mix(project, "Mix.Task.run(:compile)", nowhere)

    for name <- names,
        do: assert(text =~ ~r/the ready-made #{name} is not in .*Building with cargo/)

    assert File.read!(library(folder)) == File.read!(built(project, ""))
    assert System.cmd(worker(folder), []) == {"a worker\n", 0}
    # Asked again, it has what it wants.
    assert {:noop, []} = result(project, [], nowhere)

    File.rm_rf!(folder)
    assert {:ok, []} = result(project, [], nowhere)
    assert File.read!(library(folder)) == File.read!(built(project, ""))
  after
    File.rm!(Path.join(context.project, "checksums.txt"))
  end

  test "a ready-made worker goes with a ready-made library, and none without it", context do
    %{project: project, folder: folder} = context
    build(project)
    ready = Path.join(project, "ready.so")
    ready_worker = Path.join(project, "ready_worker")
    File.cp!(library(folder), ready)
    # Whatever modes it comes with.
    File.cp!(worker(folder), ready_worker)
    File.chmod!(ready_worker, 0o600)
    path = {"PATH", path_without_cargo(project)}
    library_only = [{"CRYPTOKI_NATIVE_LIBRARY", ready}, path]

    # What was built here belongs to another library.
    assert {:ok, []} = result(project, [], library_only)
    assert Enum.sort(File.ls!(folder)) == [Path.basename(library(folder)), "current"]
    assert {:noop, []} = result(project, [], library_only)
    assert {:error, sentence} = Loader.worker(folder)
    assert sentence =~ "was not installed here"
    assert sentence =~ "CRYPTOKI_NATIVE_WORKER"

    both = [{"CRYPTOKI_NATIVE_WORKER", ready_worker} | library_only]
    assert {:ok, []} = result(project, [], both)
    assert Path.basename(worker(folder)) =~ "-ready-"
    assert System.cmd(worker(folder), []) == {"a worker\n", 0}

    # One is not the other.
    swapped = [{"CRYPTOKI_NATIVE_LIBRARY", ready}, {"CRYPTOKI_NATIVE_WORKER", ready}, path]
    assert {:error, [%{message: message}]} = result(project, [], swapped)
    assert message =~ "the worker #{ready} is not installed: it is not cryptoki_worker"
  end

  test "says what to do when cargo is not there or too old", %{project: project} do
    path = path_without_cargo(project)
    assert {:error, [%{message: message}]} = result(project, [], [{"PATH", path}])
    assert message =~ "cargo is needed"
    assert message =~ "rustup.rs"

    old = Path.join(path, "cargo")
    File.write!(old, "#!/bin/sh\necho 'cargo 1.70.0 (ec8a8a0ca 2023-04-25)'\nexit 101\n")
    File.chmod!(old, 0o755)
    assert {:error, [%{message: message}]} = result(project, [], [{"PATH", path}])
    assert message =~ "cargo 1.70.0 is too old"
    assert message =~ ~r/needs Rust 1\.\d+ or newer/
  after
    File.rm_rf!(Path.join(project, "bin"))
  end

  test "a lock file that does not fit is an error, not an update", %{project: project} do
    lock = Path.join(project, "Cargo.lock")
    right = File.read!(lock)
    File.write!(lock, String.replace(right, "cryptoki_nif", "another"))
    assert {:error, [%{message: message}]} = result(project)
    assert message =~ "cargo could not build"
    assert File.read!(lock) =~ "another"
    File.write!(lock, right)
  end

  test "mix clean removes what was installed", %{project: project, folder: folder} do
    assert {_, 0} = mix(project, "Mix.Task.run(:clean)")
    refute File.exists?(folder)
    assert {:ok, []} = result(project)
    assert File.exists?(library(folder))
  end

  describe "the loader" do
    @version Mix.Project.config()[:version]

    setup do
      folder = Scratch.directory("loader")
      on_exit(fn -> File.rm_rf!(folder) end)
      %{folder: folder}
    end

    test "finds what current names, and hands over the version", %{folder: folder} do
      name = install(folder, @version, "bytes")
      path = to_charlist(Path.join(folder, Path.rootname(name)))
      assert Loader.find(folder) == {:ok, path, @version}
      assert String.starts_with?(Loader.path(), Application.app_dir(:cryptoki, "priv/native"))
      assert Loader.error() == nil
    end

    # The control is in test/safety/panic_test.exs: the library of that test has it.
    test "the library that is installed cannot be told to panic" do
      refute File.read!(Loader.path()) =~ "CRYPTOKI_INJECT_PANIC"
    end

    test "says that nothing was built", %{folder: folder} do
      assert {:not_built, text} = why(folder)
      assert text =~ "was never built here"
      assert text =~ "mix deps.compile cryptoki --force"
    end

    test "says that the file has gone", %{folder: folder} do
      File.rm!(Path.join(folder, install(folder, @version, "bytes")))
      assert {:missing, text} = why(folder)
      assert text =~ "no such file or directory"
    end

    test "refuses another version, and does not open the file", %{folder: folder} do
      install(folder, "0.0.9", "bytes")
      assert {:version, text} = why(folder)
      assert text =~ "is not of version #{@version}"
    end

    test "refuses a file that was replaced or cut short", %{folder: folder} do
      path = Path.join(folder, install(folder, @version, "bytes"))

      for bytes <- ["byte", "", "other"] do
        File.write!(path, bytes)
        assert {:foreign, text} = why(folder)
        assert text =~ "was replaced or is incomplete"
      end
    end

    test "finds the worker, which is looked at as the library is", %{folder: folder} do
      assert {:error, sentence} = Loader.worker(folder)
      assert sentence =~ "was not installed here"
      path = Path.join(folder, install_worker(folder, @version, "bytes"))
      assert {:error, sentence} = Loader.worker(folder)
      assert sentence =~ "may not be run"
      File.chmod!(path, 0o755)
      assert Loader.worker(folder) == {:ok, path}

      File.write!(path, "byte")
      assert {:error, sentence} = Loader.worker(folder)
      assert sentence =~ "is not what was built"
      File.rm!(path)
      assert {:error, sentence} = Loader.worker(folder)
      assert sentence =~ "no such file or directory"
      install_worker(folder, "0.0.9", "bytes")
      assert {:error, sentence} = Loader.worker(folder)
      assert sentence =~ "is not of version #{@version}"
    end

    test "the worker that is installed is of this version" do
      {:ok, worker} = Loader.worker()
      assert {"cryptoki_worker " <> rest, 0} = System.cmd(worker, ["--version"])
      assert String.starts_with?(rest, @version <> " ")
    end

    test "explains what the VM answers" do
      for {reason, words} <- [
            load_failed: "cannot be loaded into this VM (OTP #{System.otp_release()}",
            bad_lib: "built for another one",
            load: "refused to be loaded by version #{@version}",
            reload: "loaded already",
            upgrade: "restart the VM",
            old_code: "restart the VM"
          ] do
        text = Loader.explain(reason, "dlopen said so")
        assert text =~ words, "#{reason}: #{text}"
      end
    end

    test "what is no library for this VM gives a sentence", %{folder: folder} do
      install(folder, @version, "a library for another machine")
      {:ok, path, version} = Loader.find(folder)

      # load_nif wants to be called by the module itself.
      [{module, _}] =
        Code.compile_string("""
        defmodule Cryptoki.BuildTest.Foreign do
          def load(path, info), do: :erlang.load_nif(path, info)
        end
        """)

      assert {:error, {:load_failed, text}} = module.load(path, version)
      assert Loader.explain(:load_failed, to_string(text)) =~ "cannot be loaded into this VM"
    end

    test "a VM without the library starts, and each call says why", %{folder: folder} do
      app = Path.join(folder, "cryptoki")
      File.mkdir_p!(app)
      File.cp_r!(Application.app_dir(:cryptoki, "ebin"), Path.join(app, "ebin"))
      code = ~S|Application.ensure_all_started(:cryptoki); Cryptoki.slots(library: "/x.so")|

      assert {text, 1} =
               System.cmd("elixir", ["-pa", Path.join(app, "ebin"), "-e", code],
                 stderr_to_stdout: true
               )

      assert text =~ "(RuntimeError) The native library of cryptoki was never built here"
    end

    defp install(folder, version, bytes) do
      name = "cryptoki_nif-#{version}-x-#{Base.encode16(:erlang.md5(bytes), case: :lower)}.so"
      File.write!(Path.join(folder, name), bytes)
      File.write!(Path.join(folder, "current"), name <> "\n")
      name
    end

    defp install_worker(folder, version, bytes) do
      name = "cryptoki_worker-#{version}-x-#{Base.encode16(:erlang.md5(bytes), case: :lower)}"
      File.write!(Path.join(folder, name), bytes)
      File.write!(Path.join(folder, "current_worker"), name <> "\n")
      name
    end

    defp why(folder) do
      {:error, {reason, text}} = Loader.find(folder)
      {reason, Loader.explain(reason, to_string(text))}
    end
  end

  # What stays in the library, whatever the linker thinks of it.
  defp exported(number),
    do: "#[unsafe(no_mangle)]\npub extern \"C\" fn number() -> u32 { #{number} }"

  defp built(project, target),
    do: Path.join([project, "_build/native", target, "release/libcryptoki_nif.so"])

  defp build(project), do: assert({_, 0} = mix(project, "Mix.Task.run(:compile)"))

  # With what the task looks for in a library.
  defp source(project, text) do
    path = Path.join(project, "native/cryptoki_nif/src/lib.rs")

    text =
      text <>
        """

        #[unsafe(no_mangle)] pub extern "C" fn nif_init() {}
        #[used] #[unsafe(no_mangle)]
        static VERSION: &str = concat!("cryptoki_nif:version=", env!("CARGO_PKG_VERSION"), "\\0");
        """

    unless File.read(path) == {:ok, text}, do: File.write!(path, text)
    :ok
  end

  defp listing(folder) do
    for name <- Enum.sort(File.ls!(folder)) do
      stat = File.stat!(Path.join(folder, name))
      {name, stat.inode, stat.mtime}
    end
  end
end
