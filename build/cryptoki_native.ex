for file <- ~w(target artefact download ready_made cargo),
    do: Code.require_file(file <> ".ex", __DIR__)

defmodule Mix.Tasks.Compile.CryptokiNative do
  @moduledoc false
  # Installs what is native below the application's priv in _build, never in the source tree:
  #
  #     priv/native/cryptoki_nif-0.1.0-x86_64-unknown-linux-gnu-<md5 of the file>.so
  #     priv/native/current           one line: the name above, which Cryptoki.Native.Loader reads
  #     priv/native/cryptoki_worker-0.1.0-x86_64-unknown-linux-gnu-<md5 of the file>
  #     priv/native/current_worker    the same for the program of `isolation: :process`
  #
  # A file that a running VM has mapped is never written over: different bytes have a different
  # name, and each file comes by temporary file and rename. In this order it is:
  #
  #     CRYPTOKI_NATIVE_LIBRARY=/path/x.so   a library that a person names, and with CRYPTOKI_NATIVE_WORKER=/path/x
  #                                          the program; without that none is installed
  #     checksums.txt                        a ready-made one, when the package names one for this machine; see
  #                                          Cryptoki.Build.ReadyMade. CRYPTOKI_BUILD=1 goes past it
  #     cargo                                built from native/; CARGO_BUILD_TARGET=triple for another machine

  use Mix.Task.Compiler

  alias Cryptoki.Build.{Artefact, Cargo, ReadyMade, Target}
  alias Mix.Task.Compiler.Diagnostic

  # One row for each: the crate, its file as cargo names it, the function that the VM calls, how it is installed, the
  # variable that names a ready one, and whether nothing works without it.
  @artefacts [
    %{
      name: "cryptoki_nif",
      what: "the native library",
      built: "libcryptoki_nif.{so,dylib}",
      entry: "nif_init",
      extension: ".so",
      mode: 0o644,
      current: "current",
      variable: "CRYPTOKI_NATIVE_LIBRARY",
      needed?: true
    },
    %{
      name: "cryptoki_worker",
      what: "the worker",
      built: "cryptoki_worker",
      entry: nil,
      extension: "",
      mode: 0o755,
      current: "current_worker",
      variable: "CRYPTOKI_NATIVE_WORKER",
      needed?: false
    }
  ]

  @impl true
  def run(_args) do
    with {:ok, target} <- target(),
         {:ok, status} <- install_all(target) do
      {status, []}
    else
      {:error, sentence} -> refuse(sentence)
    end
  end

  @impl true
  def manifests, do: Enum.map(@artefacts, &current_file/1)

  @impl true
  def clean do
    File.rm_rf!(install_dir())
    for artefact <- @artefacts, do: Cargo.clean(artefact, place())
    :ok
  end

  # What cannot be had or is not right leaves what is installed as it was.
  defp install_all(target) do
    with {:ok, found} <- each(@artefacts, &find(&1, target)),
         found = Enum.zip(@artefacts, found),
         {:ok, _looked_at} <- each(found, &look/1),
         {:ok, installed} <- each(found, &install/1),
         do: {:ok, if(:ok in installed, do: :ok, else: :noop)}
  end

  defp each(list, function) do
    Enum.reduce_while(list, {:ok, []}, fn element, {:ok, done} ->
      case function.(element) do
        {:ok, result} -> {:cont, {:ok, done ++ [result]}}
        {:error, why} -> {:halt, {:error, why}}
      end
    end)
  end

  # Which library -----------------------------------------------------------------------------

  # nil is a machine that only the person who names a library knows.
  defp target do
    case Target.find() do
      {:ok, nil} -> if named?(), do: {:ok, nil}, else: {:error, Cargo.wrong_machine()}
      found -> found
    end
  end

  defp named?, do: Enum.any?(@artefacts, &(&1.needed? and Target.variable(&1.variable) != nil))

  # The bytes, what they are in a sentence, what they are for, and the word for it in their name; :none for one that
  # is not needed, where a person brings the others along.
  defp find(artefact, target) do
    cond do
      path = Target.variable(artefact.variable) -> read(artefact, path, "ready", target)
      named?() and not artefact.needed? -> {:ok, :none}
      true -> ready_made(artefact, target)
    end
  end

  defp ready_made(artefact, target) do
    file = "#{artefact.name}-#{version()}-#{target}#{artefact.extension}"

    case published(artefact, file) do
      {:ok, bytes} -> {:ok, %{bytes: bytes, what: file, target: target, tag: target}}
      :none -> cargo(artefact, target, nil)
      {:error, why} -> cargo(artefact, target, why)
    end
  end

  defp published(artefact, file) do
    if Target.variable("CRYPTOKI_BUILD") in ["1", "true"],
      do: :none,
      else: ReadyMade.find(file, root(), version(), installed(artefact))
  end

  # After a ready-made one that could not be had, for a reason, or that does not exist.
  defp cargo(artefact, target, failure) do
    wrong_machine = Cargo.wrong_machine()

    cond do
      wrong_machine -> {:error, sentences(failure, wrong_machine)}
      not Cargo.there?() -> {:error, without_cargo(artefact, failure)}
      true -> build(artefact, target, failure)
    end
  end

  defp build(artefact, target, failure) do
    if failure, do: Mix.shell().error("cryptoki: #{failure}. Building with cargo.")

    with {:ok, path, built_for} <- Cargo.build(artefact, place()) do
      target = built_for || target
      read(artefact, path, target, target)
    end
  end

  defp without_cargo(artefact, nil) do
    "cargo is needed to build the native part of cryptoki and is not on the PATH. " <>
      "Install #{Cargo.rust(place())}, or set #{artefact.variable} to #{artefact.what} built elsewhere."
  end

  defp without_cargo(artefact, failure) do
    sentences(
      failure,
      "Or set #{artefact.variable} to #{artefact.what} built elsewhere; to build it here install #{Cargo.rust(place())}."
    )
  end

  defp sentences(nil, sentence), do: sentence
  defp sentences(failure, sentence), do: "#{failure}. #{sentence}"

  defp read(artefact, path, tag, target) do
    case File.read(path) do
      {:ok, bytes} ->
        {:ok, %{bytes: bytes, what: "#{artefact.what} #{path}", target: target, tag: tag}}

      {:error, reason} ->
        {:error, "#{artefact.what} #{path} cannot be read: #{:file.format_error(reason)}"}
    end
  end

  # Installing ---------------------------------------------------------------------------------

  defp look({_artefact, :none}), do: {:ok, :none}

  defp look({artefact, found}) do
    with false <- installed?(artefact, name(artefact, found), found.bytes),
         {:error, why} <- Artefact.look(found.bytes, artefact, found.target, version()) do
      {:error, "#{found.what} is not installed: it #{why}."}
    else
      _ -> {:ok, :right}
    end
  end

  defp install({artefact, :none}) do
    with :ok <- File.rm(current_file(artefact)) do
      remove_all_but!(artefact, nil)
      {:ok, :ok}
    else
      _ -> {:ok, :noop}
    end
  end

  defp install({artefact, found}) do
    name = name(artefact, found)

    if installed?(artefact, name, found.bytes) do
      {:ok, :noop}
    else
      own_priv!()
      File.mkdir_p!(install_dir())
      write!(Path.join(install_dir(), name), found.bytes, artefact.mode)
      write!(current_file(artefact), name <> "\n", 0o644)
      remove_all_but!(artefact, name)
      {:ok, :ok}
    end
  end

  defp name(artefact, found),
    do: "#{artefact.name}-#{version()}-#{found.tag}-#{md5(found.bytes)}#{artefact.extension}"

  # A VM that has one of them mapped keeps it until it ends.
  defp remove_all_but!(artefact, name) do
    for old <- File.ls!(install_dir()),
        String.starts_with?(old, "#{artefact.name}-"),
        not String.ends_with?(old, ".tmp"),
        old != name,
        do: File.rm(Path.join(install_dir(), old))
  end

  defp installed?(artefact, name, bytes) do
    with [path] <- installed(artefact),
         true <- Path.basename(path) == name,
         {:ok, %{mode: mode}} <- File.stat(path),
         true <- Bitwise.band(mode, artefact.mode) == artefact.mode do
      File.read(path) == {:ok, bytes}
    else
      _ -> false
    end
  end

  # The file that the last build installed.
  defp installed(artefact) do
    case File.read(current_file(artefact)) do
      {:ok, name} -> [Path.join(install_dir(), String.trim(name))]
      {:error, _} -> []
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

  defp write!(path, bytes, mode) do
    temporary = "#{path}.#{System.pid()}.tmp"
    File.write!(temporary, bytes)
    File.chmod!(temporary, mode)
    File.rename!(temporary, path)
  end

  # It tells builds and accidents apart, not friend and foe.
  defp md5(bytes), do: bytes |> :erlang.md5() |> Base.encode16(case: :lower)

  # Places -------------------------------------------------------------------------------------

  defp place, do: %{root: root(), cache: cache()}
  defp root, do: Path.dirname(Mix.Project.project_file())
  defp install_dir, do: Path.join([Mix.Project.app_path(), "priv", "native"])
  defp current_file(artefact), do: Path.join(install_dir(), artefact.current)
  defp version, do: Mix.Project.config()[:version]

  # _build/dev/.. is _build, unless somebody named another place. rebar3's hook names its own.
  defp cache do
    cond do
      place = Target.variable("CRYPTOKI_CARGO_CACHE") -> place
      Target.variable("MIX_BUILD_PATH") -> Path.join(Mix.Project.build_path(), "native")
      true -> Path.expand("../native", Mix.Project.build_path())
    end
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
