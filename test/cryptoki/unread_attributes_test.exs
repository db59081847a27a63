defmodule Cryptoki.UnreadAttributesTest do
  # Attributes that a token does not show, or that say nothing: no function computes with them or prints
  # them as if they were there.
  use ExUnit.Case, async: false

  alias Cryptoki.{CMS, Error, JWK, JWS, Listing, SSH, X509}
  alias Cryptoki.Test.{FaultyModule, KeyPairs, MainToken}

  @attributes [
    class: 0x0,
    label: 0x3,
    value: 0x11,
    key_type: 0x100,
    id: 0x102,
    derive: 0x10C,
    sign: 0x108,
    modulus: 0x120,
    public_exponent: 0x122,
    public_key_info: 0x129,
    value_len: 0x161,
    ec_params: 0x180,
    ec_point: 0x181,
    always_authenticate: 0x202
  ]

  @mechanisms %{rsa: :sha256_rsa_pkcs, secp256r1: :ecdsa_sha256, ed25519: :eddsa}

  setup_all do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 2))
    pairs = KeyPairs.make(hsm, Map.keys(@mechanisms))
    roots = for {_, key} <- pairs, do: X509.self_signed!(hsm, key, subject: "/CN=a", ca: true)
    keys = for {kind, key} <- pairs, do: {key, @mechanisms[kind]}
    %{faulty: module, hsm: hsm, keys: [{hmac(hsm, 32), :sha256_hmac} | keys], roots: roots}
  end

  setup %{faulty: module} do
    FaultyModule.control(module, "")
    on_exit(fn -> FaultyModule.control(module, "") end)
  end

  test "a length of 0 is not known", %{faulty: module, hsm: hsm} do
    key = hmac(hsm, 32)
    FaultyModule.control(module, "attribute 0x161 value=0000000000000000")
    assert %{value_len: 0} = Cryptoki.attributes!(hsm, key, [:value_len])

    assert {:ok, jws} = JWS.sign(hsm, key, "text", alg: "HS256")
    assert {:ok, %{payload: "text"}} = JWS.verify(hsm, key, jws)

    # Then the token decides.
    case JWS.sign(hsm, key, "text", alg: "HS384") do
      {:ok, _jws} -> :ok
      {:error, error} -> assert error.function == :C_SignInit
    end

    FaultyModule.control(module, "")
    error = JWS.sign(hsm, key, "text", alg: "HS384") |> elem(1)
    assert {error.reason, error.function} == {:key_size_range, nil}
  end

  test "an unwrapped key signs, whatever length it shows", %{hsm: hsm} do
    wrapping = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 32, wrap: true, unwrap: true)

    key = hmac(hsm, 32)
    mechanism = if MainToken.name() == :softhsm2, do: :aes_key_wrap_pad, else: :aes_key_wrap_kwp
    blob = Cryptoki.wrap_key!(hsm, wrapping, mechanism, key)
    kind = [class: :secret_key, key_type: :generic_secret, sign: true, verify: true]
    {:ok, unwrapped} = Cryptoki.unwrap_key(hsm, wrapping, mechanism, blob, kind)
    assert {:ok, jws} = JWS.sign(hsm, unwrapped, "text", alg: "HS256")
    assert {:ok, %{payload: "text"}} = JWS.verify(hsm, key, jws)
  end

  test "what is not shown is not printed", %{faulty: module, hsm: hsm} do
    %{secp256r1: private} = KeyPairs.make(hsm, [:secp256r1])
    FaultyModule.control(module, "attribute 0x100\nattribute 0x180")
    assert {:error, %Error{reason: :invalid_argument} = error} = JWS.sign(hsm, private, "text")
    assert Exception.message(error) =~ "does not say"

    assert {:error, %Error{reason: :key_type_inconsistent} = error} =
             JWS.sign(hsm, private, "text", alg: "ES256")

    assert Exception.message(error) =~ "does not say"
  end

  for {name, code} <- @attributes do
    test "every function answers without #{name}", %{faulty: module, keys: keys, roots: roots} do
      # One that knows nothing yet.
      options = FaultyModule.options(module, sessions: 1)
      hsm = start_supervised!({Cryptoki, options}, id: :fresh)

      # None, nothing, one byte, and eight that are a number without a name.
      for value <- ["", " value=", " value=ff", " value=ffffffffffffff7f"] do
        FaultyModule.control(module, "attribute #{unquote(code)}#{value}")

        for {key, mechanism} <- keys, answer <- answers(hsm, key, mechanism, roots) do
          assert fine?(answer), inspect({unquote(name), value, key, answer})
        end
      end
    end
  end

  defp answers(hsm, key, mechanism, roots) do
    by_id = if key.id in [nil, ""], do: [], else: [[id: key.id], [class: key.class, id: key.id]]

    for selector <- [key | by_id],
        answer <-
          [
            Cryptoki.public_key(hsm, selector),
            # SoftHSM does not look whether a key is one for the mechanism, and ends the VM when it is not.
            Cryptoki.sign(hsm, selector, mechanism, "text"),
            Cryptoki.sign(hsm, selector, mechanism, {:stream, ["text"]}),
            JWS.sign(hsm, selector, "text"),
            JWS.sign(hsm, selector, "text", alg: "RS256"),
            JWS.sign(hsm, selector, "text", alg: "HS256"),
            JWS.sign(hsm, selector, "text", alg: "ES256"),
            JWK.public(hsm, selector),
            SSH.public_key(hsm, selector),
            SSH.sign(hsm, selector, "text"),
            X509.csr(hsm, selector, subject: "/CN=a"),
            CMS.sign(hsm, selector, hd(roots), "text"),
            Cryptoki.find(hsm, if(selector == key, do: [class: key.class], else: selector))
          ] ++ listed(hsm, selector) ++ certificate(hsm, selector),
        do: answer
  end

  # What names another class is a mistake of the program.
  defp certificate(hsm, %Cryptoki.Key{class: :private_key} = key),
    do: [Cryptoki.certificate(hsm, key)]

  defp certificate(hsm, [id: _] = selector), do: [Cryptoki.certificate(hsm, selector)]
  defp certificate(_hsm, _selector), do: []

  defp listed(hsm, %Cryptoki.Key{} = key), do: [Listing.object(hsm, key, 80)]
  defp listed(_hsm, _selector), do: []

  defp fine?(:ok), do: true
  defp fine?({:ok, value}), do: is_binary(inspect(value))
  defp fine?({:error, %Error{} = error}), do: is_binary(Exception.message(error))
  defp fine?(_other), do: false

  defp hmac(hsm, bytes) do
    use = [sign: true, verify: true, extractable: true, sensitive: false, id: <<bytes>>]
    Cryptoki.generate_key!(hsm, :generic_secret_key_gen, [value_len: bytes] ++ use)
  end
end
