defmodule Cryptoki.CCallsTest do
  # The table of guides/scaling.md: how many C functions a call is, the first time and later.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.FaultyModule

  @moduletag timeout: 180_000

  @guide "guides/scaling.md"
  @iv <<0::128>>
  @digest :crypto.hash(:sha256, "data")
  # As much as a call takes of a stream.
  @chunks List.duplicate(:binary.copy("of a KiB", 8_192), 3)

  setup_all do
    module = FaultyModule.new(token: :softhsm2)
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module))
    pair = [label: "invoice", curve: :secp256r1, token: true]
    {_public, _private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, pair)
    secret = [value_len: 32, token: true, wrap: true, encrypt: true, extractable: true]

    for label <- ["archive", "invoice key"],
        do: Cryptoki.generate_key!(hsm, :aes_key_gen, [label: label] ++ secret)

    rsa = [label: "contract", modulus_bits: 2048, token: true]
    {_public, _private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa)
    private = [label: "invoice", class: :private_key]
    signature = Cryptoki.sign!(hsm, private, :ecdsa, @digest)
    :ok = Cryptoki.stop(hsm)
    %{faulty: module, signature: signature}
  end

  test "each row says what reaches the library", %{faulty: module, signature: signature} do
    rows = rows()
    calls = calls(signature)
    assert length(rows) == length(calls)

    seen =
      for {call, _cold, _warm} <- rows do
        {_name, prepare, fun} = List.keyfind!(calls, call, 0)
        [cold, warm] = counted(module, prepare, fun)
        {call, cold, warm}
      end

    assert seen == rows
  end

  # The first and the second call of an instance. What a selector has found is good for five seconds: whoever was kept
  # for longer between the two does it again.
  defp counted(module, prepare, fun) do
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 1))
    argument = prepare.(hsm)
    begun = System.monotonic_time(:millisecond)
    counted = for _ <- 1..2, do: count(module, fn -> fun.(hsm, argument) end)
    taken = System.monotonic_time(:millisecond) - begun
    :ok = Cryptoki.stop(hsm)
    if taken < 4_500, do: counted, else: counted(module, prepare, fun)
  end

  defp count(module, fun) do
    {answer, calls} = FaultyModule.calls(module, fun)
    assert answer == :ok or elem(answer, 0) == :ok
    length(calls)
  end

  defp rows do
    for [_, call, cold, warm] <-
          Regex.scan(~r/^\| (`.*) \| (\d+) \| (\d+) \|$/m, File.read!(@guide)),
        do: {call, String.to_integer(cold), String.to_integer(warm)}
  end

  defp calls(signature) do
    nothing = fn _hsm -> nil end
    sign = fn key, data -> fn hsm, nil -> Cryptoki.sign(hsm, key, :ecdsa, data) end end
    private = [label: "invoice", class: :private_key]

    [
      {"`random(hsm, 32)`", nothing, fn hsm, nil -> Cryptoki.random(hsm, 32) end},
      {"`digest(hsm, :sha256, data)`", nothing,
       fn hsm, nil -> Cryptoki.digest(hsm, :sha256, "data") end},
      {"`sign(hsm, key, :ecdsa, digest)`, with a `%Cryptoki.Key{}`",
       &Cryptoki.find_one!(&1, private),
       fn hsm, key -> Cryptoki.sign(hsm, key, :ecdsa, @digest) end},
      {~s|`sign(hsm, [label: "invoice"], :ecdsa, digest)`|, nothing,
       sign.([label: "invoice"], @digest)},
      {~s|`sign(hsm, [label: "invoice", class: :private_key], :ecdsa, digest)`|, nothing,
       sign.(private, @digest)},
      {~s|`sign(hsm, [label: "contract"], :sha256_rsa_pkcs, {:stream, chunks})`|, nothing,
       fn hsm, nil ->
         Cryptoki.sign(hsm, [label: "contract"], :sha256_rsa_pkcs, {:stream, @chunks})
       end},
      {~s|`verify(hsm, [label: "invoice"], :ecdsa, digest, signature)`|, nothing,
       fn hsm, nil ->
         Cryptoki.verify(hsm, [label: "invoice"], :ecdsa, @digest, signature)
       end},
      {~s|`encrypt(hsm, [label: "archive"], {:aes_cbc_pad, iv: iv}, data)`|, nothing,
       fn hsm, nil ->
         Cryptoki.encrypt(hsm, [label: "archive"], {:aes_cbc_pad, iv: @iv}, "data")
       end},
      {~s|`wrap_key(hsm, [label: "archive"], :aes_key_wrap, [label: "invoice key"])`|, nothing,
       fn hsm, nil ->
         Cryptoki.wrap_key(hsm, [label: "archive"], :aes_key_wrap, label: "invoice key")
       end},
      {~s|`public_key(hsm, [label: "invoice"])`|, nothing,
       fn hsm, nil -> Cryptoki.public_key(hsm, label: "invoice") end},
      {~s|`attributes(hsm, [label: "invoice", class: :private_key], [:label, :id])`|, nothing,
       fn hsm, nil -> Cryptoki.attributes(hsm, private, [:label, :id]) end},
      {~s|`find_one(hsm, label: "invoice", class: :private_key)`|, nothing,
       fn hsm, nil -> Cryptoki.find_one(hsm, private) end},
      {"`generate_key(hsm, :aes_key_gen, value_len: 32)`", nothing,
       fn hsm, nil -> Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 32) end},
      {"`token_info(hsm)`", nothing, fn hsm, nil -> Cryptoki.token_info(hsm) end},
      {"`status(hsm)`", nothing, fn hsm, nil -> Cryptoki.status(hsm) end}
    ]
  end
end
