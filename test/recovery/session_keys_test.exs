defmodule Cryptoki.Recovery.SessionKeysTest do
  # A key of a session ends with it. What has its names afterwards is another key, on the token most of all:
  # it is never signed with, and never destroyed.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Key}
  alias Cryptoki.Test.{FaultyModule, MainToken}

  @moduletag :capture_log

  @names [label: "payments", id: <<1>>]
  # Kryoptic locks itself out when one thread logs in while others search.
  @locking %{softhsm2: :os, kryoptic: :serialized}

  setup do
    module = FaultyModule.new()
    FaultyModule.control(module, "handles shift")
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module, hsm: start(module, :one)}
  end

  defp start(module, id) do
    options = [sessions: 2, reconnect: [min: 5, max: 50], locking: @locking[MainToken.name()]]
    start_supervised!({Cryptoki, FaultyModule.options(module, options)}, id: id)
  end

  defp keys!(hsm, template) do
    use = [public: [verify: true], private: [sign: true, extractable: true]]
    pair = template ++ use
    ec = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, [curve: :secp256r1] ++ pair)
    rsa = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, [modulus_bits: 2048] ++ pair)
    use = [encrypt: true, decrypt: true, wrap: true, unwrap: true, extractable: true]
    aes = Cryptoki.generate_key!(hsm, :aes_key_gen, [value_len: 16] ++ use ++ template)
    %{ec: elem(ec, 1), ec_public: elem(ec, 0), rsa: elem(rsa, 1), aes: aes}
  end

  defp calls(hsm, keys) do
    data = <<1::256>>

    [
      fn -> Cryptoki.sign(hsm, keys.ec, :ecdsa, data) end,
      fn -> Cryptoki.sign(hsm, keys.rsa, :sha256_rsa_pkcs, data) end,
      fn -> Cryptoki.sign(hsm, keys.rsa, :sha256_rsa_pkcs, {:stream, [data]}) end,
      fn -> Cryptoki.verify(hsm, keys.ec_public, :ecdsa, data, <<0::512>>) end,
      fn -> Cryptoki.encrypt(hsm, keys.aes, :aes_ecb, data) end,
      fn -> Cryptoki.decrypt(hsm, keys.aes, :aes_ecb, data) end,
      fn -> Cryptoki.wrap_key(hsm, keys.aes, :aes_key_wrap, keys.aes) end,
      fn -> Cryptoki.attributes(hsm, keys.aes, [:label]) end,
      fn -> Cryptoki.update(hsm, keys.aes, label: "mine") end,
      fn -> Cryptoki.copy(hsm, keys.aes, label: "mine") end,
      fn -> Cryptoki.find_one(hsm, keys.ec) end,
      fn -> Cryptoki.public_key(hsm, keys.ec_public) end,
      fn -> Cryptoki.with_session(hsm, &Cryptoki.sign(&1, keys.ec, :ecdsa, data)) end,
      fn -> Cryptoki.with_session(hsm, &Cryptoki.start(&1, :encrypt, keys.aes, :aes_ecb)) end
    ] ++ for {_name, key} <- keys, do: fn -> Cryptoki.destroy(hsm, key) end
  end

  defp not_found?(answer), do: match?({:error, %Error{reason: :key_not_found}}, answer)

  for lost <- ["sessions forget", "token replug", "C_SignInit forget count=1"] do
    test "after its session is lost: #{lost}", %{hsm: hsm, module: module} do
      stored = keys!(hsm, [token: true] ++ @names)
      keys = keys!(hsm, [token: false] ++ @names)
      FaultyModule.control(module, "handles shift\n#{unquote(lost)}")
      assert not_found?(again(fn -> Cryptoki.sign(hsm, keys.ec, :ecdsa, <<1::256>>) end))
      for call <- calls(hsm, keys), do: assert(not_found?(call.()))
      assert Cryptoki.find(hsm, keys.aes) == {:ok, []}

      assert {:error, {:key_not_found, _}} =
               :cryptoki.encrypt(hsm, keys.aes, :aes_ecb, <<1::128>>)

      assert {:error, {:key_not_found, _}} = :cryptoki.destroy(hsm, keys.ec)
      stream = Cryptoki.encrypt_stream(hsm, keys.aes, :aes_ecb, [<<1::128>>])
      assert %Error{reason: :key_not_found} = catch_error(Enum.to_list(stream))

      # Those of the token are found again, each as itself.
      for {_name, key} <- stored, do: assert({:ok, [%Key{token: true}]} = Cryptoki.find(hsm, key))
      assert {:ok, _signature} = Cryptoki.sign(hsm, stored.ec, :ecdsa, <<1::256>>)
    end
  end

  test "nor is a key of the token taken for one of a session that has its names", context do
    %{hsm: hsm, module: module} = context
    stored = keys!(hsm, [token: true] ++ @names)
    other = start(FaultyModule.beside(module), :beside)
    for {_name, key} <- stored, do: :ok = Cryptoki.destroy(hsm, key)
    later = keys!(other, [token: false] ++ @names)
    for call <- calls(other, stored), do: assert(not_found?(call.()))
    for {_name, key} <- later, do: assert({:ok, [%Key{token: false}]} = Cryptoki.find(other, key))
  end

  @tag skip: MainToken.apart("two instances of a library do not share its session objects")
  test "another instance has it as long as there is its session, and then none of its names",
       context do
    %{hsm: hsm, module: module} = context
    FaultyModule.control(module, "")
    maker = start(module, :maker)
    [key, namesake] = for at <- [maker, hsm], do: keys!(at, [token: false] ++ @names)
    signature = Cryptoki.sign!(hsm, key.ec, :ecdsa, <<1::256>>)
    assert Cryptoki.verify(hsm, key.ec_public, :ecdsa, <<1::256>>, signature) == :ok
    assert Cryptoki.verify(maker, key.ec_public, :ecdsa, <<1::256>>, signature) == :ok
    assert {:ok, [%Key{}]} = Cryptoki.find(hsm, key.aes)
    twin = keys!(maker, [token: false] ++ @names)

    for %{ec: private, ec_public: public} <- [twin, key, twin, namesake, key] do
      signature = Cryptoki.sign!(hsm, private, :ecdsa, <<1::256>>)
      assert Cryptoki.verify(hsm, public, :ecdsa, <<1::256>>, signature) == :ok
    end

    stop_supervised!(:maker)
    for call <- calls(hsm, key), do: assert(not_found?(call.()))
    for {_name, key} <- namesake, do: assert({:ok, [_]} = Cryptoki.find(hsm, key))
  end

  test "a key of which the token did not say where it is, is one of which it says so no more",
       context do
    %{hsm: hsm, module: module} = context
    Cryptoki.generate_key!(hsm, :aes_key_gen, [value_len: 16, token: true] ++ @names)
    FaultyModule.control(module, "handles shift\nattribute 0x1")
    key = Cryptoki.generate_key!(hsm, :aes_key_gen, [value_len: 16] ++ @names)
    assert key.token == nil
    FaultyModule.control(module, "handles shift\nsessions forget")

    if key.unique_id in [nil, ""],
      do: assert(not_found?(again(fn -> Cryptoki.destroy(hsm, key) end)))
  end

  # A call whose session was lost in it may say so.
  defp again(call) do
    case call.() do
      {:error, %Error{reason: reason}}
      when reason in [:session_handle_invalid, :token_absent, :session_closed] ->
        again(call)

      answer ->
        answer
    end
  end
end
