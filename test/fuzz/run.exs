# What `bin/support/fuzz` runs of the targets in Elixir: `mix run test/fuzz/run.exs COUNT`.
alias Cryptoki.Test.{Fuzz, SoftHSM}
alias Cryptoki.Test.Fuzz.Targets

[count] = System.argv()
SoftHSM.prepare()
{:ok, hsm} = Cryptoki.start_link(SoftHSM.options(sessions: 1, timeout: :infinity))
Targets.on(hsm)
seed = System.os_time()

for {target, _kind} <- Targets.all() do
  :ok = Fuzz.run(target, String.to_integer(count), seed)
  IO.puts("#{String.pad_trailing("#{target}", 11)} #{count} inputs, no finding (seed #{seed})")
end
