defmodule Mix.Tasks.Compile.CryptokiNative do
  @moduledoc false
  # Builds native/cryptoki_nif with cargo and installs the library below the application's priv in
  # _build, never in the source tree:
  #
  #     priv/native/cryptoki_nif-0.1.0-x86_64-unknown-linux-gnu-<md5 of the file>.so
  #     priv/native/current        one line: the name above, which Cryptoki.Native.Loader reads
  #
  # A library that a running VM has mapped is never written over: different bytes have a different
  # name, and each file comes by temporary file and rename.
  #
  #     CRYPTOKI_NATIVE_LIBRARY=/path/x.so   installs a ready-made library, cargo is not needed
  #     CARGO_BUILD_TARGET=triple            builds for another machine
  #
  # cargo's cache is _build/native, for all environments. CARGO_TARGET_DIR is not followed: cargo gives
  # the library one file name there, whatever source it came from, so two checkouts that share a
  # cache would be served each other's.

  use Mix.Task.Compiler

  alias Mix.Task.Compiler.Diagnostic

  @impl true
  def run(_args) do
    with :ok <- check_target(),
         {:ok, library, target} <- library(),
         {:ok, status} <- install(library, target) do
      {status, []}
    else
      {:error, sentence} -> refuse(sentence)
    end
  end

  @impl true
  def manifests, do: [current_file()]

  @impl true
  def clean do
    File.rm_rf!(install_dir())

    # Not the dependencies: they are the longest part of a build and do not change.
    if cargo = System.find_executable("cargo"), do: cargo_clean(cargo)
    :ok
  end

  # Which library -----------------------------------------------------------------------------

  defp library do
    case System.get_env("CRYPTOKI_NATIVE_LIBRARY", "") do
      "" -> build()
      path -> {:ok, path, "ready"}
    end
  end

  # Without this a Nerves project would get a library for the machine it is built on.
  defp check_target do
    cross =
      Enum.find_value(~w(MIX_TARGET CROSSCOMPILE TARGET_ARCH), fn name ->
        value = System.get_env(name, "")
        value not in ["", "host"] and "#{name}=#{value}"
      end)

    if cross && unset?("CARGO_BUILD_TARGET") && unset?("CRYPTOKI_NATIVE_LIBRARY") do
      {:error,
       "#{cross} asks for another machine than this one, and cargo would build for this one. " <>
         "Set CARGO_BUILD_TARGET to the target's triple (and its linker in cargo's configuration), " <>
         "or CRYPTOKI_NATIVE_LIBRARY to a library built for it."}
    else
      :ok
    end
  end

  defp unset?(name), do: System.get_env(name, "") == ""

  defp build do
    if cargo = System.find_executable("cargo") do
      build(cargo)
    else
      {:error,
       "cargo is needed to build the native part of cryptoki and is not on the PATH. " <>
         "Install Rust #{rust_version()} or newer (https://rustup.rs), " <>
         "or set CRYPTOKI_NATIVE_LIBRARY to a library built elsewhere."}
    end
  end

  defp build(cargo) do
    same_source!(cargo)

    # In release, or below the target that a variable or a configuration file of cargo's names. Where there are
    # both from before, the one that cargo puts there again is meant.
    if match?([_, _ | _], built()), do: Enum.each(built(), &File.rm/1)
    before = built()
    colour = if IO.ANSI.enabled?(), do: "always", else: "never"

    port =
      Port.open({:spawn_executable, cargo}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        :hide,
        args: ~w(build --release --locked -p cryptoki_nif --color #{colour}),
        cd: root(),
        env: [{~c"CARGO_TARGET_DIR", to_charlist(cache())}],
        line: 65_536
      ])

    case {passed_on(port), built() -- before, before} do
      {0, [library], _before} -> {:ok, library, target_of(library)}
      {0, [], [library]} -> {:ok, library, target_of(library)}
      {status, _new, _before} -> {:error, failure(cargo, status)}
    end
  end

  defp built do
    for folder <- ["release", "*/release"],
        file <- Path.wildcard(Path.join([cache(), folder, "libcryptoki_nif.{so,dylib}"])),
        do: file
  end

  # The same cache after the dependency moved, say from a path to git: see above.
  defp same_source!(cargo) do
    marker = Path.join(cache(), "source")

    unless File.read(marker) == {:ok, root()} do
      if File.exists?(marker), do: cargo_clean(cargo)
      File.mkdir_p!(cache())
      write!(marker, root())
    end
  end

  defp cargo_clean(cargo) do
    args = ~w(clean --quiet --release --offline -p cryptoki_nif)
    env = [{"CARGO_TARGET_DIR", cache()}]
    System.cmd(cargo, args, cd: root(), env: env, stderr_to_stdout: true)
  end

  # cargo's own lines go to the terminal as they come; its exit status.
  defp passed_on(port) do
    receive do
      {^port, {:data, {:noeol, part}}} ->
        IO.write(:stderr, part)
        passed_on(port)

      {^port, {:data, {:eol, line}}} ->
        # Said by every run that had nothing to do.
        unless line =~ ~r/^(\e\[[\d;]*m)*\s*Finished/, do: IO.puts(:stderr, line)
        passed_on(port)

      {^port, {:exit_status, status}} ->
        status
    end
  end

  # Asked only after a failure: cargo's own sentence about an edition it does not know helps nobody.
  defp failure(cargo, status) do
    {text, _} = System.cmd(cargo, ["--version"], stderr_to_stdout: true, cd: root())

    with [_, found] <- Regex.run(~r/^cargo (\d+\.\d+\.\d+)/, text),
         :lt <- Version.compare(found, rust_version() <> ".0") do
      "cargo #{found} is too old to build the native part of cryptoki: " <>
        "it needs Rust #{rust_version()} or newer (rustup update)."
    else
      _ -> "cargo could not build the native part of cryptoki (exit status #{status}); see above."
    end
  end

  # Installing ---------------------------------------------------------------------------------

  defp install(library, target) do
    case File.read(library) do
      {:ok, bytes} ->
        name = "cryptoki_nif-#{version()}-#{target}-#{md5(bytes)}.so"

        if installed?(name, bytes) do
          {:ok, :noop}
        else
          own_priv!()
          File.mkdir_p!(install_dir())
          write!(Path.join(install_dir(), name), bytes)
          write!(current_file(), name <> "\n")

          remove_all_but!(name)
          {:ok, :ok}
        end

      {:error, reason} ->
        {:error, "the native library #{library} cannot be read: #{:file.format_error(reason)}"}
    end
  end

  # A VM that has one of them mapped keeps it until it ends.
  defp remove_all_but!(name) do
    for old <- File.ls!(install_dir()), Path.extname(old) == ".so", old != name do
      File.rm(Path.join(install_dir(), old))
    end
  end

  defp installed?(name, bytes) do
    with {:ok, current} <- File.read(current_file()),
         true <- String.trim(current) == name,
         {:ok, %{size: size, type: :regular}} <- File.stat(Path.join(install_dir(), name)) do
      size == byte_size(bytes)
    else
      _ -> false
    end
  end

  # Mix and rebar3 link priv to the source tree, and that tree is not ours to write in.
  defp own_priv! do
    priv = Path.join(Mix.Project.app_path(), "priv")
    source = Path.join(root(), "priv")

    with {:ok, _} <- File.read_link(priv) do
      File.rm!(priv)
      if File.dir?(source), do: File.cp_r!(source, priv)
    end
  end

  defp write!(path, bytes) do
    temporary = "#{path}.#{System.pid()}.tmp"
    File.write!(temporary, bytes)
    File.rename!(temporary, path)
  end

  # It tells builds and accidents apart, not friend and foe.
  defp md5(bytes), do: bytes |> :erlang.md5() |> Base.encode16(case: :lower)

  # Places -------------------------------------------------------------------------------------

  defp root, do: Path.dirname(Mix.Project.project_file())
  defp install_dir, do: Path.join([Mix.Project.app_path(), "priv", "native"])
  defp current_file, do: Path.join(install_dir(), "current")
  defp version, do: Mix.Project.config()[:version]

  # _build/dev/.. is _build, unless somebody named another place. rebar3's hook names its own.
  defp cache do
    cond do
      not unset?("CRYPTOKI_CARGO_CACHE") -> System.fetch_env!("CRYPTOKI_CARGO_CACHE")
      unset?("MIX_BUILD_PATH") -> Path.expand("../native", Mix.Project.build_path())
      true -> Path.join(Mix.Project.build_path(), "native")
    end
  end

  # target/release/x.so was built for this machine, target/triple/release/x.so for that one.
  defp target_of(library) do
    folder = library |> Path.dirname() |> Path.dirname() |> Path.basename()

    if folder == System.get_env("CARGO_BUILD_TARGET"),
      do: folder,
      else: to_string(:erlang.system_info(:system_architecture))
  end

  defp rust_version do
    toml = File.read!(Path.join(root(), "Cargo.toml"))
    [_, version] = Regex.run(~r/^rust-version = "(.+)"$/m, toml)
    version
  end

  defp refuse(sentence) do
    Mix.shell().error("cryptoki: " <> sentence)
    file = Mix.Project.project_file()

    {:error,
     [
       %Diagnostic{
         compiler_name: "cargo",
         file: file,
         severity: :error,
         message: sentence,
         position: nil
       }
     ]}
  end
end
