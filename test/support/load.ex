defmodule Cryptoki.Test.Load do
  @moduledoc false
  # Processes that call over and over while a test does something to the token, and the threads of the
  # sessions that serve them.

  @doc "Calls in a process of its own, until stop/1."
  @spec start((() -> term)) :: Task.t()
  def start(call), do: Task.async(fn -> repeat(call, %{}) end)

  @doc "Ends them, and answers how often each had which outcome."
  @spec stop([Task.t()]) :: [%{term => pos_integer}]
  def stop(tasks) do
    for task <- tasks, do: send(task.pid, :enough)
    Task.await_many(tasks, :infinity)
  end

  @doc "One that signs: `:signed`, and rightly, or `:refused`."
  @spec signing(Cryptoki.hsm(), Cryptoki.Key.t(), atom, tuple, keyword) :: Task.t()
  def signing(hsm, key, mechanism, public, opts \\ []) do
    data = "data #{System.unique_integer()}"

    start(fn ->
      case Cryptoki.sign(hsm, key, mechanism, data, opts) do
        {:ok, signature} ->
          true = :public_key.verify(data, :sha256, signature, public)
          :signed

        {:error, %Cryptoki.Error{}} ->
          :refused
      end
    end)
  end

  @doc "How many session threads there are: their names are cryptoki-<number>."
  @spec session_threads :: non_neg_integer
  def session_threads, do: threads(~r/^cryptoki-\d+$/)

  @doc "Threads of this VM whose name matches."
  @spec threads(Regex.t()) :: non_neg_integer
  def threads(name) do
    Enum.count(Path.wildcard("/proc/self/task/*/comm"), fn file ->
      case File.read(file) do
        {:ok, found} -> String.trim_trailing(found) =~ name
        {:error, _ended} -> false
      end
    end)
  end

  defp repeat(call, counts) do
    receive do
      :enough -> counts
    after
      0 -> repeat(call, Map.update(counts, call.(), 1, &(&1 + 1)))
    end
  end
end
