defmodule Cryptoki.SSH.Agent.Socket do
  @moduledoc false
  # The Unix socket of an agent, which nobody else can reach: in a directory of its own.

  alias Cryptoki.Error
  alias Cryptoki.SSH.Agent.Message

  @doc "Listens at a path; its directory is made where there is none."
  @spec listen(Path.t()) :: {:ok, :gen_tcp.socket()} | {:error, Error.t()}
  def listen(path) do
    with :ok <- directory(Path.dirname(path)),
         :ok <- free(path),
         {:ok, socket} <- bind(path),
         :ok <- ours(path, socket),
         do: {:ok, socket}
  end

  # Before there is a socket in it that others could reach.
  defp directory(directory) do
    case File.mkdir(directory) do
      :ok -> File.chmod(directory, 0o700) |> told(directory)
      {:error, :eexist} -> private(directory)
      {:error, reason} -> told({:error, reason}, directory)
    end
  end

  defp private(directory) do
    case File.lstat(directory) do
      {:ok, %{type: :directory, mode: mode}} ->
        if Bitwise.band(mode, 0o077) == 0,
          do: :ok,
          else: no("#{directory} is open to others: chmod 700")

      {:ok, _file} ->
        no("#{directory} is no directory")

      {:error, reason} ->
        told({:error, reason}, directory)
    end
  end

  # What an agent left behind that was killed; one that answers is somebody's.
  defp free(path) do
    case File.lstat(path) do
      {:error, :enoent} -> :ok
      {:ok, %{type: :other}} -> left_behind(path)
      {:ok, _file} -> no("#{path} is there, and is no socket")
      {:error, reason} -> told({:error, reason}, path)
    end
  end

  defp left_behind(path) do
    case :gen_tcp.connect({:local, path}, 0, [:binary, active: false]) do
      {:ok, socket} ->
        :gen_tcp.close(socket)
        no("#{path} is that of an agent that runs")

      {:error, :econnrefused} ->
        path |> File.rm() |> told(path)

      {:error, reason} ->
        told({:error, reason}, path)
    end
  end

  defp bind(path) do
    options = [
      :binary,
      active: false,
      packet: 4,
      packet_size: Message.most(),
      # Who asks and does not read is not waited for.
      send_timeout: 30_000,
      send_timeout_close: true,
      ifaddr: {:local, path}
    ]

    with {:error, reason} <- :gen_tcp.listen(0, options), do: told({:error, reason}, path)
  end

  # A directory of somebody else's would let him put another socket there.
  defp ours(path, socket) do
    with :ok <- File.chmod(path, 0o600),
         {:ok, %{uid: uid}} <- File.stat(path),
         {:ok, %{uid: ^uid}} <- File.stat(Path.dirname(path)) do
      :ok
    else
      {:ok, _another} -> closed(path, socket, no("#{Path.dirname(path)} is somebody else's"))
      {:error, reason} -> closed(path, socket, told({:error, reason}, path))
    end
  end

  defp closed(path, socket, error) do
    close(path, socket)
    error
  end

  @doc "Ends it, and takes its file away."
  @spec close(Path.t(), :gen_tcp.socket()) :: :ok
  def close(path, socket) do
    :gen_tcp.close(socket)
    _ = File.rm(path)
    :ok
  end

  defp told(:ok, _path), do: :ok
  defp told({:error, reason}, path), do: no("#{path}: #{:inet.format_error(reason)}")
  defp no(text), do: {:error, Error.new(:invalid_argument, "path: " <> text)}
end
