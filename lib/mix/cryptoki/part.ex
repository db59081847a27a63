defmodule Mix.Cryptoki.Part do
  @moduledoc false
  # A file that nobody sees half of: its content is in another one beside it, for its user alone, which becomes it at
  # the end. What watches over that is a program, so that it goes however this one ends, killed as well.

  # Makes the file, tells what files may be by default, and ends by a word or takes the file away. To redirect is not to write over
  # one that is there (`set -C`).
  @watch ~S"""
  trap '' HUP INT QUIT TERM
  usual=$(umask); umask 077; set -C
  : 2>/dev/null >"$1" || exit 1
  echo "$usual"
  read -r whole || rm -f -- "$1"
  """

  @doc "Writes a file by a function of what writes to it; there is none when that fails, in whatever way."
  @spec write(Path.t(), ((iodata -> :ok | {:error, term}) -> :ok | {:error, term})) ::
          :ok | {:error, {Path.t(), term}}
  def write(path, fun) do
    part = path <> ".part"

    case watch(part) do
      {:ok, watcher, mode} -> watched(watcher, part, path, mode, fun)
      {:error, reason} -> {:error, {part, reason}}
    end
  end

  defp watched(watcher, part, path, mode, fun) do
    with {:ok, file} <- :file.open(part, [:append, :raw]),
         :ok <- filled(file, fun),
         :ok <- File.chmod(part, mode),
         :ok <- File.rename(part, path) do
      :ok
    else
      {:error, reason} -> {:error, {path, reason}}
    end
  after
    File.rm(part)
    release(watcher)
  end

  defp filled(file, fun) do
    with :ok <- fun.(&:file.write(file, &1)), do: :file.close(file)
  after
    :file.close(file)
  end

  defp watch(part) do
    sh = System.find_executable("sh")
    options = [:binary, :exit_status, args: ["-c", @watch, "part", part]]
    port = Port.open({:spawn_executable, sh}, options)

    receive do
      {^port, {:data, umask}} -> {:ok, port, usual(umask)}
      {^port, {:exit_status, _status}} -> {:error, reason(part)}
    end
  end

  defp usual(umask) do
    taken = umask |> String.trim() |> String.to_integer(8)
    Bitwise.band(0o666, Bitwise.bnot(taken))
  end

  # The shell says it in the words of its system.
  defp reason(part) do
    case File.open(part, [:write, :exclusive]) do
      {:error, reason} ->
        reason

      {:ok, file} ->
        File.close(file)
        File.rm(part)
        :eio
    end
  end

  # It has gone when this returns: the name may be used again.
  defp release(watcher) do
    Port.command(watcher, "whole\n")

    receive do
      {^watcher, {:exit_status, _status}} -> :ok
    end
  rescue
    # It was killed.
    ArgumentError -> :ok
  end
end
