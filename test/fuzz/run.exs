# What `bin/support/fuzz` runs of the targets in Elixir: `mix run test/fuzz/run.exs COUNT SEED [TARGET ...]`,
# where SEED is `new` or that of an earlier run.
alias Cryptoki.Test.{Fuzz, SoftHSM}
alias Cryptoki.Test.Fuzz.Targets
alias Cryptoki.Test.PKI.Requests

[count, seed | names] = System.argv()
count = String.to_integer(count)
known = for {target, _kind} <- Targets.all(), do: "#{target}"
unless names -- known == [], do: raise("targets: #{Enum.join(known, ", ")}")
targets = for {target, _kind} <- Targets.all(), names == [] or "#{target}" in names, do: target

# Hours may pass: what is compiled meanwhile is not what runs.
{:ok, modules} = :application.get_key(:cryptoki, :modules)
:ok = :code.ensure_modules_loaded(modules)

SoftHSM.prepare()
{:ok, hsm} = Cryptoki.start_link(SoftHSM.options(sessions: 1, timeout: :infinity))
Targets.on(hsm)

# Requests of other programs and by hand, as DER and as text, with the keys of the earlier run.
kept = Path.join(Mix.Project.build_path(), "fuzz_requests")
again? = seed != "new" and File.exists?(kept)

unless again? or (:x509 not in targets and :text not in targets) do
  requests =
    for maker <- Requests.makers(),
        Requests.lacks(maker) in [nil, false],
        %{bytes: bytes} <- Requests.make(maker),
        byte_size(bytes) < 8_000,
        do: bytes

  File.write!(kept, :erlang.term_to_binary(requests))
end

requests = if File.exists?(kept), do: kept |> File.read!() |> :erlang.binary_to_term(), else: []
seed = if seed == "new", do: System.os_time(), else: String.to_integer(seed)
{der, text} = Enum.split_with(requests, &match?(<<0x30, _::binary>>, &1))
more = %{x509: der, text: text}

for target <- targets do
  from = System.monotonic_time(:millisecond)
  :ok = Fuzz.run(target, count, seed, Map.get(more, target, []))
  rate = div(1000 * count, max(System.monotonic_time(:millisecond) - from, 1))

  IO.puts(
    "#{String.pad_trailing("#{target}", 11)} #{count} inputs, no finding (OTP #{System.otp_release()}, " <>
      "seed #{seed}, #{rate} a second)"
  )
end
