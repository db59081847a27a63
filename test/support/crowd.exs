# Many callers at once on few schedulers: each gets the answer to what it asked, in time or not at all, and no message later.
# Run by test/cryptoki/crowd_test.exs: the start options as an RFC 7512 URI, and how many callers.
[uri, count] = System.argv()
count = String.to_integer(count)

Logger.configure(level: :error)
{:ok, _} = Application.ensure_all_started(:cryptoki)

{:ok, hsm} =
  Cryptoki.start_link(uri: uri, sessions: 4, queue_limit: 2 * count, timeout: :infinity)

crowd = self()

# Some are patient, some give up soon; all say what came of it.
ask = fn number ->
  timeout = if rem(number, 3) == 0, do: 1 + rem(number, 7), else: :infinity
  data = "caller #{number}"

  case Cryptoki.digest(hsm, :sha256, data, timeout: timeout) do
    {:ok, digest} -> {:answered, digest == :crypto.hash(:sha256, data)}
    {:error, %Cryptoki.Error{reason: :timeout}} when timeout != :infinity -> :gave_up
  end
end

callers =
  for number <- 1..count do
    spawn_link(fn ->
      send(crowd, {:asked, self(), ask.(number)})
      receive do: (:look -> send(crowd, {:left, self(), Process.info(self(), :messages)}))
    end)
  end

# They end in the middle, and take nobody's answer along.
for number <- 1..div(count, 20), do: Process.exit(spawn(fn -> ask.(3 * number + 1) end), :kill)

outcomes = for caller <- callers, do: receive(do: ({:asked, ^caller, outcome} -> outcome))

served = fn served ->
  case Cryptoki.status!(hsm) do
    %{queue: 0, sessions: %{busy: 0, overdue: 0}} -> :ok
    _not_yet -> served.(served)
  end
end

# Whatever was to come has come.
:ok = served.(served)
for caller <- callers, do: send(caller, :look)
left = for caller <- callers, do: receive(do: ({:left, ^caller, messages} -> messages))

IO.inspect(
  answered: Enum.count(outcomes, &(&1 == {:answered, true})),
  wrong: Enum.count(outcomes, &(&1 == {:answered, false})),
  gave_up: Enum.count(outcomes, &(&1 == :gave_up)),
  stray: Enum.count(left, &(&1 != {:messages, []})),
  schedulers: System.schedulers_online()
)

:ok = Cryptoki.stop(hsm)
