defmodule Cryptoki.IdleTest do
  # Alone: what other tests have open is not to be mistaken for this.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.{MainToken, Workers}

  @sessions 64
  # Milliseconds in which nothing is to happen.
  @interval 1_000

  @tag skip: if(File.exists?("/proc/self/task"), do: false, else: "there is no /proc/self/task")
  test "an instance that nobody calls uses no processor" do
    before = threads()
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: @sessions)})
    threads = threads() -- before
    assert length(threads) >= @sessions

    # They have all served, and looked for more.
    calls = fn -> for _ <- 1..20, do: Cryptoki.random!(hsm, 8) end
    callers = for _ <- 1..@sessions, do: Task.async(calls)
    Task.await_many(callers, :infinity)

    threads = Enum.filter(threads, &File.dir?/1)
    assert length(threads) >= @sessions

    # A thread that is about to sleep may wait for its turn on a busy machine: then the next interval counts.
    assert Enum.any?(1..10, fn _attempt -> still?(threads) end)

    asleep = Enum.map(threads, &used/1)
    # A call is seen: what was looked at says something.
    Cryptoki.random!(hsm, 8)
    assert Enum.map(threads, &used/1) != asleep
  end

  # Of sessions, cryptoki-<number>, and of what the library has besides; all of a process of its own, and of its keeper.
  defp threads do
    ours = ["self" | Enum.flat_map(Workers.all(), &[&1, Workers.parent(&1)])]

    for process <- ours,
        comm <- Path.wildcard("/proc/#{process}/task/*/comm"),
        {:ok, name} <- [File.read(comm)],
        process != "self" or String.starts_with?(name, "cryptoki-"),
        do: Path.dirname(comm)
  end

  defp still?(threads) do
    before = Enum.map(threads, &used/1)
    Process.sleep(@interval)
    Enum.map(threads, &used/1) == before
  end

  # Nanoseconds on a processor, and how often it was given one.
  defp used(thread) do
    [run, _waited, times] = thread |> Path.join("schedstat") |> File.read!() |> String.split()
    {run, times}
  end
end
