defmodule Cryptoki.Build.ReadyMade do
  @moduledoc false
  # A library that a release was published with. Which bytes it has is said by checksums.txt in the package, made by
  # bin/release; where they come from does not matter: what is installed already, the cache folder, or the network.
  #
  #     CRYPTOKI_CACHE=/folder          where they are kept; a person may put them there
  #     CRYPTOKI_BASE_URL=https://...   where they are fetched from, in place of the release's page of the repository

  alias Cryptoki.Build.{Download, Target}

  @doc "The bytes of a file; `:none` when the package names no such file, or a sentence."
  @spec find(String.t(), Path.t(), String.t(), [Path.t()]) ::
          {:ok, binary} | :none | {:error, String.t()}
  def find(file, root, version, installed) do
    with {:ok, checksum} <- checksum(file, root),
         do: kept(file, checksum, installed) || fetch(file, checksum, version)
  end

  # A checkout has none: they are written for the package, when the libraries are there.
  defp checksum(file, root) do
    case File.read(Path.join(root, "checksums.txt")) do
      {:ok, text} -> line(text, file)
      {:error, _} -> :none
    end
  end

  defp line(text, file) do
    case Regex.run(~r/^([0-9a-f]{64})  #{Regex.escape(file)}\r?$/m, text) do
      [_, checksum] -> {:ok, checksum}
      nil -> {:error, "this package has no ready-made #{file}"}
    end
  end

  # A file of other bytes is not what was published, and is no error: it is fetched again.
  defp kept(file, checksum, installed) do
    Enum.find_value(installed ++ [Path.join(cache(), file)], fn path ->
      case File.read(path) do
        {:ok, bytes} -> sha256(bytes) == checksum && {:ok, bytes}
        {:error, _} -> nil
      end
    end)
  end

  defp fetch(file, checksum, version) do
    with {:ok, base} <- base_url(version),
         url = String.trim_trailing(base, "/") <> "/" <> file,
         {:ok, bytes} <- Download.get(url),
         :ok <- same(bytes, checksum, url) do
      keep(file, bytes)
      {:ok, bytes}
    else
      {:error, why} ->
        {:error,
         "the ready-made #{file} is not in #{cache()}, and #{why}. Put the file there, or set CRYPTOKI_BASE_URL " <>
           "to where it can be fetched from"}
    end
  end

  defp base_url(version) do
    repository = Mix.Project.config()[:source_url]

    cond do
      url = Target.variable("CRYPTOKI_BASE_URL") -> {:ok, url}
      repository -> {:ok, "#{repository}/releases/download/v#{version}"}
      true -> {:error, "no place to fetch it from is known"}
    end
  end

  defp same(bytes, checksum, url) do
    if sha256(bytes) == checksum,
      do: :ok,
      else:
        {:error,
         "what came from #{Download.shown(url)} is another file than the one published: its SHA-256 is " <>
           "#{sha256(bytes)}, checksums.txt says #{checksum}"}
  end

  # Where it cannot be kept it is fetched again.
  defp keep(file, bytes) do
    temporary = Path.join(cache(), "#{file}.#{System.pid()}.tmp")

    with :ok <- File.mkdir_p(cache()),
         :ok <- File.write(temporary, bytes),
         {:error, _} <- File.rename(temporary, Path.join(cache(), file)),
         do: File.rm(temporary)
  end

  @doc "The folder in which files are kept."
  @spec cache :: Path.t()
  def cache do
    Target.variable("CRYPTOKI_CACHE") ||
      to_string(:filename.basedir(:user_cache, ~c"cryptoki"))
  end

  defp sha256(bytes), do: :sha256 |> :crypto.hash(bytes) |> Base.encode16(case: :lower)
end
