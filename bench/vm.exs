# A VM that answers as bench/limit.c does, "CASE CALLERS MILLISECONDS SIZE": to compare VMs with different settings.
for part <- ~w(measure calls), do: Code.require_file("parts/#{part}.exs", __DIR__)

Logger.configure(level: :warning)
{:ok, _} = Application.ensure_all_started(:cryptoki)
{:ok, hsm} = Cryptoki.start_link(uri: hd(System.argv()), sessions: 2)

for line <- IO.stream(:stdio, :line) do
  [case, callers, milliseconds, _size] = String.split(line)
  call = Bench.Calls.of(hsm, case)
  begun = System.monotonic_time()
  milliseconds = String.to_integer(milliseconds)
  rate = Bench.Measure.callers(String.to_integer(callers), call, milliseconds)
  seconds = Bench.Measure.seconds_since(begun)
  IO.puts("#{round(rate * seconds)} #{round(seconds * 1.0e9)}")
end
