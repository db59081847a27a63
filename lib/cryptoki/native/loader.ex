defmodule Cryptoki.Native.Loader do
  @moduledoc false
  # Finds the native library, and says in a sentence why it cannot be used. Called by the @on_load
  # of Cryptoki.Native, which must itself call :erlang.load_nif/2 (the VM checks who calls):
  #
  #     @on_load :load
  #     def load do
  #       with {:ok, path, info} <- Loader.find() do
  #         :erlang.load_nif(path, info)
  #       end
  #       |> Loader.done()
  #     end
  #
  # The compile task in build/ installs the library as
  # priv/native/cryptoki_nif-<version>-<target>-<md5>.so and writes that name into priv/native/current;
  # beside it stands the worker, which a program is started of, with its name in priv/native/current_worker.

  @version Mix.Project.config()[:version]
  @key {__MODULE__, :load_error}
  @again "Compile cryptoki again on this machine (mix deps.compile cryptoki --force)."

  @library %{current: "current", name: "cryptoki_nif", extension: ".so"}
  @worker %{current: "current_worker", name: "cryptoki_worker", extension: ""}

  @doc "The library to load: its path without `.so`, as load_nif wants it, and the version to agree on."
  @spec find(Path.t() | nil) :: {:ok, charlist, binary} | {:error, {atom, charlist}}
  def find(folder \\ folder()) do
    with {:ok, path} <- installed(folder, @library),
         do: {:ok, to_charlist(Path.rootname(path, ".so")), @version}
  end

  @doc """
  The program that is started for `isolation: :process`: its path, or a sentence that says why there is none.
  """
  @spec worker(Path.t() | nil) :: {:ok, Path.t()} | {:error, String.t()}
  def worker(folder \\ folder()) do
    with {:ok, path} <- installed(folder, @worker),
         :ok <- a_program(path) do
      {:ok, path}
    else
      {:error, {reason, text}} -> {:error, no_worker(reason, to_string(text))}
    end
  end

  @doc """
  Whether the program of that path is still the one that was found: an instance starts the same one again, whatever was
  installed since.
  """
  @spec same_worker(Path.t()) :: :ok | {:error, String.t()}
  def same_worker(path) do
    with :ok <- intact(path, @worker),
         :ok <- a_program(path) do
      :ok
    else
      {:error, {:missing, text}} ->
        {:error,
         "The worker of cryptoki that this instance was started with is not there any more (#{text}): start the instance again."}

      {:error, {reason, text}} ->
        {:error, no_worker(reason, to_string(text))}
    end
  end

  defp installed(folder, artefact) do
    with {:ok, folder} <- folder_exists(folder),
         {:ok, name} <- read_current(Path.join(folder, artefact.current)),
         path = Path.join(folder, name),
         :ok <- intact(path, artefact),
         do: {:ok, path}
  end

  defp intact(path, artefact) do
    name = Path.basename(path)

    with {:ok, bytes} <- read_installed(path),
         :ok <- same_version(name, artefact),
         do: same_bytes(name, bytes, artefact)
  end

  @doc """
  Keeps the sentence about what load_nif answered, and says whether the module is to be loaded: not in
  the place of one that has the library.
  """
  @spec done(:ok | {:error, {atom, charlist}}) :: :ok | {:error, {atom, charlist}}
  def done(:ok) do
    :persistent_term.erase(@key)
    :ok
  end

  def done({:error, {reason, text}}) when reason in [:upgrade, :reload, :old_code],
    do: {:error, {reason, to_charlist(explain(reason, to_string(text)))}}

  def done({:error, {reason, text}}) do
    :persistent_term.put(@key, explain(reason, to_string(text)))
    :ok
  end

  @doc "Why the native library is not loaded, or nil."
  @spec error :: binary | nil
  def error, do: :persistent_term.get(@key, nil)

  @doc "What a call raises when the library is not there."
  @spec missing :: Exception.t()
  def missing,
    do: %RuntimeError{message: error() || "The native library of cryptoki is not loaded."}

  @doc "The file that is loaded, or nil when it is not there."
  @spec path :: binary | nil
  def path do
    case find() do
      {:ok, path, _} -> to_string(path) <> ".so"
      {:error, _} -> nil
    end
  end

  defp folder do
    case :code.priv_dir(:cryptoki) do
      {:error, :bad_name} -> nil
      priv -> Path.join(to_string(priv), "native")
    end
  end

  defp folder_exists(nil),
    do: failure(:no_application, "the application :cryptoki is not on the code path")

  defp folder_exists(folder), do: {:ok, folder}

  defp read_current(file) do
    case :file.read_file(file) do
      {:ok, name} -> {:ok, String.trim(name)}
      {:error, reason} -> failure(:not_built, "#{file}: #{:file.format_error(reason)}")
    end
  end

  defp read_installed(path) do
    with {:error, reason} <- :file.read_file(path),
         do: failure(:missing, "#{path}: #{:file.format_error(reason)}")
  end

  defp same_version(name, artefact) do
    if String.starts_with?(name, "#{artefact.name}-#{@version}-"),
      do: :ok,
      else: failure(:version, "#{name} is not of version #{@version}")
  end

  # Half a file would be mapped, and end the VM with a SIGBUS when the missing half is touched.
  defp same_bytes(name, bytes, artefact) do
    md5 = bytes |> :erlang.md5() |> Base.encode16(case: :lower)

    if String.ends_with?(name, "-#{md5}#{artefact.extension}"),
      do: :ok,
      else: failure(:foreign, "the content of #{name} is not what was built")
  end

  # Copies without modes are made by some who put releases together.
  defp a_program(path) do
    with {:ok, %{mode: mode}} <- File.stat(path) do
      if Bitwise.band(mode, 0o111) != 0,
        do: :ok,
        else: failure(:no_program, "#{path} may not be run: chmod +x")
    else
      {:error, reason} -> failure(:missing, "#{path}: #{:file.format_error(reason)}")
    end
  end

  defp failure(reason, text), do: {:error, {reason, to_charlist(text)}}

  defp no_worker(:not_built, text) do
    "The worker of cryptoki, for isolation: :process, was not installed here (#{text}): compile cryptoki again " <>
      "(mix deps.compile cryptoki --force), with CRYPTOKI_NATIVE_WORKER where CRYPTOKI_NATIVE_LIBRARY names the library."
  end

  defp no_worker(_reason, text),
    do: "The worker of cryptoki, for isolation: :process, cannot be started: #{text}. #{@again}"

  @doc "The sentence about an error of find/1 or of load_nif."
  @spec explain(atom, binary) :: binary
  def explain(:no_application, text),
    do: "The native library of cryptoki cannot be found: #{text}."

  def explain(:not_built, text),
    do: "The native library of cryptoki was never built here (#{text}). #{@again}"

  def explain(:missing, text),
    do: "The native library of cryptoki has been removed (#{text}). #{@again}"

  def explain(:version, text),
    do: "The native library of cryptoki is from another version: #{text}. #{@again}"

  def explain(:foreign, text),
    do: "The native library of cryptoki was replaced or is incomplete: #{text}. #{@again}"

  # The library's own load callback said no to the version it was given.
  def explain(:load, text),
    do:
      "The native library of cryptoki refused to be loaded by version #{@version}: #{text}. #{@again}"

  def explain(:reload, text), do: "The native library of cryptoki is loaded already: #{text}"

  def explain(reason, _text) when reason in [:old_code, :upgrade],
    do:
      "The native library of cryptoki belongs to code that is still running; restart the VM to change it."

  def explain(_load_failed_or_bad_lib, text) do
    "The native library of cryptoki cannot be loaded into this VM " <>
      "(OTP #{:erlang.system_info(:otp_release)}, #{:erlang.system_info(:system_architecture)}); " <>
      "it was built for another one or lacks something here: #{text}. #{@again}"
  end
end
