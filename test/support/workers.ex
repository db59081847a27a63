defmodule Cryptoki.Test.Workers do
  @moduledoc false
  # The processes that libraries run in with `isolation: :process`, as the kernel shows them: each is a child of its
  # keeper, which is a child of a VM.

  @doc "Those of this VM, the oldest first, by their numbers."
  @spec all :: [String.t()]
  def all do
    us = System.pid()

    processes()
    |> Enum.filter(&(parent(parent(&1)) == us))
    |> Enum.sort_by(&String.to_integer/1)
  end

  @doc "Every process of the program on this machine, keepers among them."
  @spec processes :: [String.t()]
  def processes do
    for name <- File.ls!("/proc"),
        name =~ ~r/^\d+$/,
        {:ok, comm} <- [File.read("/proc/#{name}/comm")],
        String.starts_with?(comm, "cryptoki_worker"),
        do: name
  end

  @doc "Who has started a process; nil where it has ended."
  @spec parent(String.t() | nil) :: String.t() | nil
  def parent(nil), do: nil

  def parent(pid) do
    with {:ok, status} <- File.read("/proc/#{pid}/status"),
         [_all, parent] <- Regex.run(~r/^PPid:\s+(\d+)$/m, status) do
      parent
    else
      _gone -> nil
    end
  end

  @doc "Whether it is there still, and no number that nobody has fetched yet."
  @spec alive?(String.t()) :: boolean
  def alive?(pid) do
    case File.read("/proc/#{pid}/stat") do
      {:ok, stat} -> not (stat =~ ") Z")
      {:error, _gone} -> false
    end
  end
end
