defmodule Cryptoki.IdleTest do
  # Alone: what other tests have open is not to be mistaken for this.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.MainToken

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

    Enum.each(threads, &sleeps/1)
    asleep = Enum.map(threads, &used/1)
    Process.sleep(@interval)
    assert Enum.map(threads, &used/1) == asleep

    # A call is seen: what was looked at says something.
    Cryptoki.random!(hsm, 8)
    assert Enum.map(threads, &used/1) != asleep
  end

  # Of sessions, by their names, cryptoki-<number>.
  defp threads do
    for comm <- Path.wildcard("/proc/self/task/*/comm"),
        {:ok, name} <- [File.read(comm)],
        name =~ ~r/^cryptoki-\d+$/,
        do: Path.dirname(comm)
  end

  defp sleeps(thread) do
    stat = File.read!(Path.join(thread, "stat"))
    unless stat =~ ~r/\) S /, do: sleeps(thread)
  end

  # Nanoseconds on a processor, and how often it was given one.
  defp used(thread) do
    [run, _waited, times] = thread |> Path.join("schedstat") |> File.read!() |> String.split()
    {run, times}
  end
end
