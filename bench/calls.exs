# How fast calls are, as ratios inside one run: `bench/run`.
#
#   round trip    a C_GenerateRandom of 8 bytes: queue, thread, library and back
#   sign          ECDSA P-256 with a session key
#   callers       signatures a second of N processes against those of one
#   mailbox       a round trip of a process with 100 000 messages waiting, against one with none

defmodule Bench do
  def microseconds(count, fun) do
    for _ <- 1..div(count, 10), do: fun.()
    {time, _} = :timer.tc(fn -> for _ <- 1..count, do: fun.() end)
    time / count
  end

  def per_second(callers, count, fun) do
    each = div(count, callers)
    work = fn -> for _ <- 1..each, do: fun.() end

    {time, _} =
      :timer.tc(fn ->
        1..callers |> Enum.map(fn _ -> Task.async(work) end) |> Task.await_many(:infinity)
      end)

    each * callers * 1_000_000 / time
  end

  def line(name, value, unit, ratio \\ nil) do
    ratio = if ratio, do: :io_lib.format("  ~5.2f x", [ratio]), else: ""
    IO.puts([String.pad_trailing(name, 34), :io_lib.format("~10.1f ~s", [value, unit]), ratio])
  end
end

Logger.configure(level: :warning)
{:ok, hsm} = Cryptoki.start_link(uri: System.fetch_env!("CRYPTOKI_BENCH_URI"), sessions: 8)

{:ok, {_public, key}} =
  Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, curve: :secp256r1, token: false)

digest = :crypto.hash(:sha256, "data")
random = fn -> Cryptoki.random!(hsm, 8) end
sign = fn -> Cryptoki.sign!(hsm, key, :ecdsa, digest) end

trip = Bench.microseconds(20_000, random)
Bench.line("round trip", trip, "us")
Bench.line("sign P-256", Bench.microseconds(10_000, sign), "us")

one = Bench.per_second(1, 10_000, sign)

for callers <- [1, 2, 8, 64],
    rate = Bench.per_second(callers, 20_000, sign),
    do: Bench.line("sign, #{callers} callers", rate, "/s", rate / one)

full =
  Task.async(fn ->
    for n <- 1..100_000, do: send(self(), {:waiting, n})
    Bench.microseconds(5_000, random)
  end)
  |> Task.await(:infinity)

Bench.line("round trip, 100 000 messages wait", full, "us", full / trip)
