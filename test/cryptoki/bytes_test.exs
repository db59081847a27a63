defmodule Cryptoki.BytesTest do
  # Data that is no iodata: the error names the argument, and neither it nor its stack trace holds any of it.
  use ExUnit.Case, async: false

  alias Cryptoki.Operation
  alias Cryptoki.Test.MainToken

  @secret "the salary of somebody"
  @bad [@secret, :not_iodata]

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    uses = [encrypt: true, decrypt: true, wrap: true, unwrap: true]
    key = Cryptoki.generate_key!(hsm, :aes_key_gen, [value_len: 16, label: "bytes"] ++ uses)
    rsa = [label: "bytes", modulus_bits: 2048]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa)
    %{hsm: hsm, key: key, public: public, private: private}
  end

  test "of no function", %{hsm: hsm, key: key, public: public, private: private} do
    cbc = {:aes_cbc, iv: <<0::128>>}
    message = &%Operation{session: &1, kind: :message_encrypt, mechanism: :aes_gcm}
    stream = {:stream, ["well", @bad]}

    calls = [
      sign: fn -> Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, @bad) end,
      verify: fn -> Cryptoki.verify(hsm, public, :sha256_rsa_pkcs, "", @bad) end,
      sign_stream: fn -> Cryptoki.sign(hsm, private, :sha256_rsa_pkcs, stream) end,
      encrypt: fn -> Cryptoki.encrypt(hsm, key, cbc, @bad) end,
      encrypt_stream: fn -> Cryptoki.encrypt(hsm, key, cbc, stream) end,
      lazy: fn -> hsm |> Cryptoki.encrypt_stream(key, cbc, ["well", @bad]) |> Enum.to_list() end,
      digest: fn -> Cryptoki.digest(hsm, :sha256, @bad) end,
      digest_stream: fn -> Cryptoki.digest(hsm, :sha256, stream) end,
      seed: fn -> Cryptoki.seed_random(hsm, @bad) end,
      unwrap: fn -> Cryptoki.unwrap_key(hsm, key, :aes_key_wrap, @bad, class: :secret_key) end,
      dual: fn ->
        verify = {public, :sha256_rsa_pkcs, @bad}
        Cryptoki.decrypt(hsm, key, cbc, <<0::128>>, verify: verify)
      end,
      update: fn -> in_session(hsm, :digest, &Operation.update(&1, @bad)) end,
      message: fn ->
        Cryptoki.with_session(hsm, &Operation.message(message.(&1), [iv: <<0::96>>], "", @bad))
      end,
      associated: fn ->
        Cryptoki.with_session(hsm, &Operation.message(message.(&1), [iv: <<0::96>>], @bad, "x"))
      end,
      jws: fn -> Cryptoki.JWS.sign(hsm, private, @bad, alg: "RS256") end,
      ssh: fn -> Cryptoki.SSH.sign(hsm, private, @bad, namespace: "file") end,
      erlang: fn -> :cryptoki.sign(hsm, private, :sha256_rsa_pkcs, @bad) end,
      erlang_update: fn ->
        in_session(hsm, :digest, &:cryptoki_operation.update(&1, @bad))
      end
    ]

    for {name, call} <- calls do
      {error, stack} = raised(call)
      assert {name, %ArgumentError{}} = {name, Exception.normalize(:error, error, stack)}
      shown = inspect({error, stack}, limit: :infinity, printable_limit: :infinity)
      refute shown =~ @secret, "#{name}: #{shown}"
    end

    assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, ["still ", "well"])
  end

  defp in_session(hsm, kind, fun) do
    Cryptoki.with_session(hsm, fn session ->
      {:ok, op} = Cryptoki.start(session, kind, :sha256)
      fun.(op)
    end)
  end

  defp raised(call) do
    flunk("nothing was raised: #{inspect(call.())}")
  rescue
    error -> {error, __STACKTRACE__}
  end
end
