# Whoever asks again and again without waiting, while others answer it, gets every answer of theirs.
# Run by test/cryptoki/crowd_test.exs: the start options as an RFC 7512 URI, how many rounds, what is asked.
[uri, rounds, question] = System.argv()

Logger.configure(level: :error)
{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link(uri: uri, sessions: 1, queue_limit: 1)

asked =
  case question do
    "status" -> fn -> Cryptoki.status!(hsm) end
    "random" -> fn -> {:ok, <<_::64>>} = Cryptoki.random(hsm, 8) end
  end

# Until so many have ended.
ask = fn ask, ended, count ->
  asked.()
  if :atomics.get(ended, 1) < count, do: ask.(ask, ended, count)
end

lost =
  for _ <- 1..String.to_integer(rounds) do
    ended = :atomics.new(1, [])

    answer = fn ->
      receive do: (:go -> :atomics.add(ended, 1, 1))
      :answered
    end

    others = for _ <- 1..300, do: Task.async(answer)

    spawn_link(fn ->
      for other <- others do
        send(other.pid, :go)
        for n <- 1..200, do: :erlang.phash2(n)
      end
    end)

    ask.(ask, ended, 200)
    Enum.count(Task.yield_many(others, 10_000), &(not match?({_, {:ok, :answered}}, &1)))
  end

IO.inspect(lost: Enum.sum(lost))
:ok = Cryptoki.stop(hsm)
