# What calls cost beside a loop in C on the same library, and beside the other ways to make them; bin/bench says how.
#
# Every case is measured in rounds in which all contenders take their turn, for a while each; what is told is the median
# of the rounds and their spread. Ratios are those of the medians of one run.

defmodule Bench.Nif do
  @on_load :load
  def load, do: :erlang.load_nif(String.to_charlist(System.fetch_env!("CRYPTOKI_BENCH_NIF")), 0)
  def open(_library, _label, _pin, _key, _sessions), do: :erlang.nif_error(:not_loaded)
  def scheduler(_data), do: :erlang.nif_error(:not_loaded)
  def dirty(_data), do: :erlang.nif_error(:not_loaded)
end

defmodule Bench.Program do
  # A program that answers "CASE THREADS MILLISECONDS" with numbers.
  def start(command, arguments) do
    path = System.find_executable(command) || command
    Port.open({:spawn_executable, path}, [:binary, {:line, 200}, args: arguments])
  end

  def ask(port, case, threads, milliseconds) do
    Port.command(port, "#{case} #{threads} #{milliseconds}\n")

    receive do
      {^port, {:data, {:eol, line}}} ->
        for word <- String.split(line), do: String.to_integer(word)
    after
      milliseconds + 60_000 -> raise "no answer to #{case}"
    end
  end
end

defmodule Bench do
  @rounds String.to_integer(System.get_env("CRYPTOKI_BENCH_ROUNDS", "7"))
  @milliseconds String.to_integer(System.get_env("CRYPTOKI_BENCH_MILLISECONDS", "400"))

  def median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  # Calls a second of so many processes that call for a while.
  def callers(count, fun) do
    begun = System.monotonic_time()
    until = begun + System.convert_time_unit(@milliseconds, :millisecond, :native)
    work = fn -> loop(fun, until, 0) end

    calls =
      1..count
      |> Enum.map(fn _ -> Task.async(work) end)
      |> Task.await_many(:infinity)
      |> Enum.sum()

    calls * 1.0e9 /
      System.convert_time_unit(System.monotonic_time() - begun, :native, :nanosecond)
  end

  defp loop(fun, until, count) do
    if System.monotonic_time() < until do
      fun.()
      loop(fun, until, count + 1)
    else
      count
    end
  end

  def program(port, case, threads) do
    [operations, nanoseconds] = Bench.Program.ask(port, case, threads, @milliseconds)
    operations * 1.0e9 / nanoseconds
  end

  # [{name, [calls a second in each round]}]; the first round warms up.
  def rounds(contenders) do
    all = for _round <- 0..@rounds, do: for({name, fun} <- contenders, do: {name, fun.()})

    for {name, _fun} <- contenders,
        do: {name, for(round <- tl(all), do: :proplists.get_value(name, round))}
  end

  def row(case, goal, measured) do
    [{_limit, limit} | others] = measured
    limit = median(limit)

    for {name, values} <- others do
      rate = median(values)
      spread = (Enum.max(values) - Enum.min(values)) / rate
      {case, name, limit, rate, rate / limit, spread, goal}
    end
  end
end

uri = System.fetch_env!("CRYPTOKI_BENCH_URI")
[library, pin] = for name <- ~w(LIBRARY PIN), do: System.fetch_env!("CRYPTOKI_BENCH_" <> name)
Logger.configure(level: :warning)
{:ok, one} = Cryptoki.start_link(uri: uri, sessions: 1)

for {mechanism, options} <- [
      {:ec_key_pair_gen, [label: "bench ec", curve: :secp256r1]},
      {:rsa_pkcs_key_pair_gen, [label: "bench rsa", modulus_bits: 2048]}
    ],
    do: {:ok, _pair} = Cryptoki.generate_key_pair(one, mechanism, options ++ [token: true])

{:ok, _} =
  Cryptoki.generate_key(one, :generic_secret_key_gen,
    label: "bench hmac",
    value_len: 32,
    token: true,
    sign: true
  )

{:ok, _} =
  Cryptoki.generate_key(one, :aes_key_gen,
    label: "bench aes",
    value_len: 32,
    token: true,
    encrypt: true
  )

limit = Bench.Program.start(System.fetch_env!("CRYPTOKI_BENCH_LIMIT"), [library, "bench", pin])
python = System.get_env("CRYPTOKI_BENCH_PYTHON")
python = python && Bench.Program.start(python, ["bench/python.py", library, "bench", pin])

in_python = fn case ->
  if python, do: [{"python-pkcs11", fn -> Bench.program(python, case, 1) end}], else: []
end

[single, both, ping] = Bench.Program.ask(limit, "processors", 2, 500)
key = fn hsm, label -> elem(Cryptoki.find_one(hsm, label: label, class: :private_key), 1) end
secret = fn hsm, label -> elem(Cryptoki.find_one(hsm, label: label, class: :secret_key), 1) end
data = :binary.copy(<<7>>, 32)
large = :binary.copy(<<7>>, 1_048_576)
gcm = {:aes_gcm, iv: :binary.copy(<<1>>, 12), tag_bits: 128}
sign = fn hsm, key, mechanism -> fn -> {:ok, _} = Cryptoki.sign(hsm, key, mechanism, data) end end

calls = fn hsm ->
  %{
    "ecdsa" => sign.(hsm, key.(hsm, "bench ec"), :ecdsa),
    "rsa" => sign.(hsm, key.(hsm, "bench rsa"), :sha256_rsa_pkcs),
    "hmac" => sign.(hsm, secret.(hsm, "bench hmac"), :sha256_hmac),
    "random" => fn -> {:ok, _} = Cryptoki.random(hsm, 32) end,
    "sha256" => fn -> {:ok, _} = Cryptoki.digest(hsm, :sha256, large) end,
    "gcm" =>
      (fn key -> fn -> {:ok, _} = Cryptoki.encrypt(hsm, key, gcm, large) end end).(
        secret.(hsm, "bench aes")
      )
  }
end

goals = %{
  {"ecdsa", 1} => 0.90,
  {"hmac", 1} => 0.65,
  {"rsa", 1} => 0.95,
  {"gcm", 1} => 0.95,
  {"sha256", 1} => 0.95,
  {"ecdsa", 32} => 0.80,
  {"hmac", 32} => 0.60,
  {"rsa", 32} => 0.95
}

IO.puts(
  "| case | callers, sessions | way | calls a second | of the C loop | spread | wanted |\n|---|---|---|---|---|---|---|"
)

print = fn case, callers, sessions, rows ->
  for {_case, name, _limit, rate, ratio, spread, goal} <- rows do
    goal = if goal && name == "cryptoki", do: :io_lib.format("~.2f", [goal]), else: ""

    :io.format("| ~s | ~B, ~B | ~s | ~B | ~.2f | ~B % | ~s |~n", [
      case,
      callers,
      sessions,
      name,
      round(rate),
      ratio,
      round(100 * spread),
      goal
    ])
  end
end

measure = fn hsm, case, callers, sessions, others ->
  call = calls.(hsm)[case]
  ours = {"cryptoki", fn -> Bench.callers(callers, call) end}
  loop = {"loop in C", fn -> Bench.program(limit, case, sessions) end}
  rows = Bench.row(case, goals[{case, callers}], Bench.rounds([loop, ours | others]))
  print.(case, callers, sessions, rows)
end

selector = sign.(one, [label: "bench ec"], :ecdsa)
digest = data
{_public, private} = :crypto.generate_key(:ecdh, :secp256r1)
software = fn -> :crypto.sign(:ecdsa, :sha256, {:digest, digest}, [private, :secp256r1]) end

1 =
  Bench.Nif.open(String.to_charlist(library), ~c"bench", String.to_charlist(pin), ~c"bench ec", 2)

measure.(
  one,
  "ecdsa",
  1,
  1,
  [
    {"cryptoki, key by its label", fn -> Bench.callers(1, selector) end},
    {"a NIF on its scheduler", fn -> Bench.callers(1, fn -> Bench.Nif.scheduler(data) end) end},
    {"a dirty NIF", fn -> Bench.callers(1, fn -> Bench.Nif.dirty(data) end) end},
    {":crypto, a key in memory", fn -> Bench.callers(1, software) end}
  ] ++ in_python.("ecdsa")
)

for case <- ~w(hmac rsa random), do: measure.(one, case, 1, 1, in_python.(case))
for case <- ~w(gcm sha256), do: measure.(one, case, 1, 1, [])
# The NIF lives by the library that the first instance has initialised: it stays.
{:ok, two} = Cryptoki.start_link(uri: uri, sessions: 2)

dirty = fn callers ->
  [{"a dirty NIF", fn -> Bench.callers(callers, fn -> Bench.Nif.dirty(data) end) end}]
end

for callers <- [4, 32, 256], do: measure.(two, "ecdsa", callers, 2, dirty.(callers))
for case <- ~w(hmac rsa random), do: measure.(two, case, 32, 2, [])
:ok = Cryptoki.stop(two)

:io.format(
  "~nProcessors: two threads do ~.2f of what one does; two that wake each other take ~.1f us a round. ",
  [both / single, ping / 1000]
)

IO.puts(
  "#{System.schedulers_online()} schedulers, OTP #{System.otp_release()}, Elixir #{System.version()}."
)
