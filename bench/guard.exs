# Five ratios to the loop in C, each with a bound that only a mistake falls below: `bin/test --bench`.
for part <- ~w(nif program measure calls world cases curves),
    do: Code.require_file("parts/#{part}.exs", __DIR__)

alias Bench.{Calls, Curves, Finding, Measure, Program, World}

Logger.configure(level: :warning)
world = World.open()

of_the_loop = fn case, callers, sessions ->
  World.with_instance(world, :uri, [sessions: sessions], fn hsm ->
    call = Calls.of(hsm, case)
    loop = {"", fn -> Program.rate(world.limit, case, sessions, Measure.turn(), 1_048_576) end}
    ours = {"", fn -> Measure.callers(callers, call) end}
    [{_, ours}, {_, loops}] = Measure.rounds([ours, loop])
    Measure.median(ours) / Measure.median(loops)
  end)
end

found = fn ->
  [{ours, loops}] = Finding.rates(world, [1000], 3)
  Measure.median(ours) / Measure.median(loops)
end

slow = fn ->
  [{_sessions, ours, loop}] = Curves.latency_points(world, 10, [16])
  ours / loop
end

guarded = [
  {"ECDSA, one caller", 0.25, fn -> of_the_loop.("ecdsa", 1, 1) end},
  {"HMAC, 32 callers on 2 sessions", 0.20, fn -> of_the_loop.("hmac", 32, 2) end},
  {"SHA-256 of 1 MiB", 0.40, fn -> of_the_loop.("sha256", 1, 1) end},
  {"objects found with their attributes", 0.20, found},
  {"16 sessions with 10 ms of latency", 0.70, slow}
]

kept =
  for {what, least, measure} <- guarded do
    ratio = measure.()
    :io.format("~ts: ~.2f of the loop in C; at least ~.2f~n", [what, ratio, least])
    ratio >= least
  end

failed = Enum.count(kept, &(not &1))
IO.puts("#{length(kept) - failed} passed, #{failed} failed")
if failed > 0, do: System.halt(1)
