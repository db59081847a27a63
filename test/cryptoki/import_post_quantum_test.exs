defmodule Cryptoki.ImportPostQuantumTest do
  # Private keys of ML-DSA, ML-KEM and SLH-DSA on Kryoptic, as seeds, expanded, and both; the judge is pq_referee.
  use ExUnit.Case, async: false

  alias Cryptoki.{Base64URL, DER, Error, Key, PEM, PrivateKey}
  alias Cryptoki.PrivateKey.{SHAKE, Written}
  alias Cryptoki.Test.{FaultyModule, PostQuantum, Token}

  @moduletag skip:
               !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"

  @oids %{
    ml_dsa_44: {2, 16, 840, 1, 101, 3, 4, 3, 17},
    ml_dsa_65: {2, 16, 840, 1, 101, 3, 4, 3, 18},
    ml_dsa_87: {2, 16, 840, 1, 101, 3, 4, 3, 19},
    ml_kem_512: {2, 16, 840, 1, 101, 3, 4, 4, 1},
    ml_kem_768: {2, 16, 840, 1, 101, 3, 4, 4, 2},
    ml_kem_1024: {2, 16, 840, 1, 101, 3, 4, 4, 3},
    slh_dsa_sha2_128f: {2, 16, 840, 1, 101, 3, 4, 3, 21}
  }

  setup_all do
    module = FaultyModule.new(token: :kryoptic)
    options = FaultyModule.options(module, sessions: 2, timeout: 20_000)
    %{hsm: start_supervised!({Cryptoki, options}), faulty: module}
  end

  setup %{faulty: module} do
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{label: "pq #{System.unique_integer([:positive])}"}
  end

  defp pkcs8(set, key, public \\ nil) do
    version = if public, do: 1, else: 0
    more = if public, do: [DER.value(0x81, [0, public])], else: []

    DER.sequence(
      [DER.integer(version), DER.sequence([DER.oid(@oids[set])]), DER.octet_string(key)] ++ more
    )
  end

  # As RFC 9881 and RFC 9935 write the same key.
  defp forms(seed, expanded) do
    both = DER.sequence([DER.octet_string(seed), DER.octet_string(expanded)])
    [seed: DER.value(0x80, seed), expanded: DER.octet_string(expanded), both: both]
  end

  for set <- [:ml_dsa_44, :ml_dsa_65, :ml_dsa_87] do
    test "#{set}", %{hsm: hsm, label: label} do
      seed = :crypto.strong_rand_bytes(32)
      {public, expanded} = PostQuantum.keygen(unquote(set), seed)

      for {form, key} <- forms(seed, expanded), beside <- [nil, public] do
        der = pkcs8(unquote(set), key, beside)
        id = :crypto.strong_rand_bytes(4)
        file = if form == :both, do: PEM.encode(der, "PRIVATE KEY"), else: der

        assert {:ok, %Key{key_type: :ml_dsa} = key} =
                 Cryptoki.import_key(hsm, file, label: label, id: id)

        signature = Cryptoki.sign!(hsm, key, :ml_dsa, "a text")

        assert PostQuantum.valid?(
                 unquote(set),
                 public,
                 PostQuantum.message("a text", ""),
                 signature
               )

        twin = Cryptoki.find_one!(hsm, class: :public_key, label: label, id: id)
        assert Cryptoki.verify(hsm, twin, :ml_dsa, "a text", signature) == :ok
        assert Cryptoki.attributes!(hsm, twin, [:value]) == %{value: public}

        assert Cryptoki.attributes!(hsm, key, [:sensitive, :extractable]) == %{
                 sensitive: true,
                 extractable: false
               }
      end

      jwk = %{
        "kty" => "AKP",
        "alg" => unquote(set |> to_string() |> String.upcase() |> String.replace("_", "-")),
        "pub" => Base64URL.encode(public),
        "priv" => Base64URL.encode(seed)
      }

      assert {:ok, key} = Cryptoki.import_key(hsm, jwk, label: label, public: false)
      signature = Cryptoki.sign!(hsm, key, :ml_dsa, "a text")

      assert PostQuantum.valid?(
               unquote(set),
               public,
               PostQuantum.message("a text", ""),
               signature
             )

      other =
        Map.put(
          jwk,
          "pub",
          Base64URL.encode(
            <<Bitwise.bxor(:binary.first(public), 1),
              binary_part(public, 1, byte_size(public) - 1)::binary>>
          )
        )

      assert {:error, %Error{reason: :invalid_argument}} =
               Cryptoki.import_key(hsm, other, label: label)
    end
  end

  for set <- [:ml_kem_512, :ml_kem_768, :ml_kem_1024] do
    test "#{set}", %{hsm: hsm, label: label} do
      seed = :crypto.strong_rand_bytes(64)
      {public, expanded} = PostQuantum.keygen(unquote(set), seed)

      for {_form, key} <- forms(seed, expanded), beside <- [nil, public] do
        der = pkcs8(unquote(set), key, beside)
        id = :crypto.strong_rand_bytes(4)

        assert {:ok, %Key{key_type: :ml_kem} = key} =
                 Cryptoki.import_key(hsm, der, label: label, id: id)

        {ciphertext, secret} = PostQuantum.encapsulate(unquote(set), public)

        template = [
          class: :secret_key,
          key_type: :generic_secret,
          sensitive: false,
          extractable: true,
          value_len: 32
        ]

        {:ok, agreed} = Cryptoki.decapsulate_key(hsm, key, :ml_kem, ciphertext, template)
        assert Cryptoki.attributes!(hsm, agreed, [:value]) == %{value: secret}
        twin = Cryptoki.find_one!(hsm, class: :public_key, label: label, id: id)

        assert Cryptoki.attributes!(hsm, twin, [:value, :encapsulate]) == %{
                 value: public,
                 encapsulate: true
               }
      end
    end
  end

  test "SLH-DSA", %{hsm: hsm, label: label} do
    set = :slh_dsa_sha2_128f
    readable = [parameter_set: set, private: [extractable: true, sensitive: false]]
    {:ok, {_public, private}} = Cryptoki.generate_key_pair(hsm, :slh_dsa_key_pair_gen, readable)
    %{value: value} = Cryptoki.attributes!(hsm, private, [:value])
    public = binary_part(value, 32, 32)

    for beside <- [nil, public] do
      assert {:ok, key} = Cryptoki.import_key(hsm, pkcs8(set, value, beside), label: label)
      signature = Cryptoki.sign!(hsm, key, :slh_dsa, "a text")
      assert PostQuantum.valid?(set, public, PostQuantum.message("a text", ""), signature)
    end

    assert {:error, %Error{reason: :invalid_argument}} =
             Cryptoki.import_key(hsm, pkcs8(set, value, <<0::256>>), label: label)
  end

  # Kryoptic 1.5.4 unwraps none of them; of PKCS #8 it says so.
  test "a token that takes no value, nor unwraps one, says both", context do
    %{hsm: hsm, faulty: module, label: label} = context
    {public, expanded} = PostQuantum.keygen(:ml_dsa_44, :crypto.strong_rand_bytes(32))
    FaultyModule.control(module, "values refused")
    der = pkcs8(:ml_dsa_44, DER.octet_string(expanded), public)

    assert {:error, %Error{reason: :attribute_value_invalid, executed: false} = error} =
             Cryptoki.import_key(hsm, der, label: label)

    assert Exception.message(error) =~ "C_UnwrapKey answered"
    FaultyModule.control(module, "")
    assert Cryptoki.find!(hsm, label: label) == []
  end

  test "what does not belong together is no key", %{hsm: hsm, label: label} do
    seed = :crypto.strong_rand_bytes(32)
    {public, expanded} = PostQuantum.keygen(:ml_dsa_44, seed)
    other = :crypto.strong_rand_bytes(32)
    {others, _expanded} = PostQuantum.keygen(:ml_dsa_44, other)
    kem_seed = :crypto.strong_rand_bytes(64)
    {kem_public, kem} = PostQuantum.keygen(:ml_kem_512, kem_seed)

    both = fn seed, expanded ->
      DER.sequence([DER.octet_string(seed), DER.octet_string(expanded)])
    end

    flipped = fn <<first, rest::binary>> -> <<Bitwise.bxor(first, 1), rest::binary>> end

    last = fn bytes ->
      binary_part(bytes, 0, byte_size(bytes) - 1) <> <<Bitwise.bxor(:binary.last(bytes), 1)>>
    end

    for der <- [
          pkcs8(:ml_dsa_44, both.(other, expanded)),
          pkcs8(:ml_dsa_44, DER.value(0x80, seed), others),
          pkcs8(:ml_dsa_44, DER.octet_string(expanded), others),
          pkcs8(:ml_dsa_44, DER.octet_string(flipped.(expanded)), public),
          pkcs8(:ml_dsa_44, DER.value(0x80, seed <> <<0>>)),
          pkcs8(:ml_dsa_65, DER.octet_string(expanded)),
          pkcs8(:ml_dsa_44, seed),
          pkcs8(:ml_kem_512, both.(flipped.(kem_seed), kem)),
          pkcs8(:ml_kem_512, both.(last.(kem_seed), kem)),
          pkcs8(:ml_kem_512, DER.octet_string(kem), flipped.(kem_public)),
          pkcs8(:ml_kem_512, DER.value(0x80, kem_seed), last.(kem_public)),
          pkcs8(:slh_dsa_sha2_128f, <<0::504>>)
        ] do
      assert {:error, %Error{reason: :invalid_argument} = error} =
               Cryptoki.import_key(hsm, der, label: label)

      refute Exception.message(error) =~ seed
    end

    assert Cryptoki.find!(hsm, label: label) == []
  end

  for {what, rules, reason} <- [
        {"it signs wrongly", "lie C_Sign garbage", :module_misbehaved},
        {"it cannot sign just now", "C_Sign rv=0x30", :device_error},
        {"it shows another public key", "attribute 0x129 class=3 value=3000", :module_misbehaved},
        {"it shows none", "attribute 0x129 class=3", :unsupported},
        {"it does not verify", "C_VerifyInit rv=0x70", :unsupported},
        {"the public key is refused", "C_CreateObject rv=0x13 after=2", :attribute_value_invalid}
      ] do
    test "nothing is left: #{what}", %{hsm: hsm, faulty: module, label: label} do
      der = pkcs8(:ml_dsa_44, DER.value(0x80, :crypto.strong_rand_bytes(32)))
      FaultyModule.control(module, unquote(rules))
      before = length(Cryptoki.find!(hsm, class: :public_key))
      answer = Cryptoki.import_key(hsm, der, label: label, token: true)
      FaultyModule.control(module, "")
      assert {:error, %Error{executed: false, reason: unquote(reason)}} = answer
      assert Cryptoki.find!(hsm, label: label) == []
      assert length(Cryptoki.find!(hsm, class: :public_key)) == before
    end
  end

  test "the public key that a token shows is compared before anything is signed", context do
    %{hsm: hsm, faulty: module, label: label} = context
    {others, _expanded} = PostQuantum.keygen(:ml_dsa_44, :crypto.strong_rand_bytes(32))
    info = DER.sequence([DER.sequence([DER.oid(@oids.ml_dsa_44)]), DER.bit_string(others)])
    der = pkcs8(:ml_dsa_44, DER.value(0x80, :crypto.strong_rand_bytes(32)))
    FaultyModule.control(module, "attribute 0x129 class=3 value=#{Base.encode16(info)}")

    {answer, calls} =
      FaultyModule.calls(module, fn -> Cryptoki.import_key(hsm, der, label: label) end)

    FaultyModule.control(module, "")
    assert {:error, %Error{reason: :module_misbehaved, executed: false}} = answer
    refute Enum.any?(calls, fn {name, _, _} -> name == "C_SignInit" end)
  end

  test "a public key of which the token shows another is taken away", context do
    %{hsm: hsm, faulty: module, label: label} = context
    {public, _expanded} = PostQuantum.keygen(:ml_dsa_44, :crypto.strong_rand_bytes(32))
    info = DER.sequence([DER.sequence([DER.oid(@oids.ml_dsa_44)]), DER.bit_string(public)])
    # CKA_VALUE
    FaultyModule.control(module, "attribute 0x11 class=2 value=00")
    answer = Cryptoki.import_key(hsm, info, label: label, token: true)
    FaultyModule.control(module, "")
    assert {:error, %Error{reason: :module_misbehaved, executed: false}} = answer
    assert Cryptoki.find!(hsm, label: label) == []
    assert {:ok, %Key{}} = Cryptoki.import_key(hsm, info, label: label)
  end

  test "ML-KEM that agrees on another secret is taken away", %{
    hsm: hsm,
    faulty: module,
    label: label
  } do
    der = pkcs8(:ml_kem_512, DER.value(0x80, :crypto.strong_rand_bytes(64)))
    FaultyModule.control(module, "lie C_EncapsulateKey garbage")
    answer = Cryptoki.import_key(hsm, der, label: label, token: true)
    FaultyModule.control(module, "")
    assert {:error, %Error{executed: false}} = answer
    assert Cryptoki.find!(hsm, label: label) == []
  end

  test "what is written is what was read" do
    seed = :crypto.strong_rand_bytes(32)
    {public, expanded} = PostQuantum.keygen(:ml_dsa_44, seed)

    for {_form, key} <- forms(seed, expanded) do
      der = pkcs8(:ml_dsa_44, key)
      assert {:ok, read} = PrivateKey.File.read(der)
      assert Written.pkcs8(read) == der
      assert inspect(read) == "#Cryptoki.PrivateKey<ml_dsa>"

      assert {:ok, %{public: {_, _, ^public}}} =
               PrivateKey.File.read(pkcs8(:ml_dsa_44, key, public))
    end
  end

  test "SHAKE256 is that of OpenSSL" do
    for size <- [0, 1, 34, 134], bytes = :crypto.strong_rand_bytes(size), out <- [1, 128, 136] do
      commands = "openssl dgst -shake256 -xoflen #{out} -binary $IN > $OUT"
      assert Cryptoki.Test.KeyFiles.changed(bytes, commands) == SHAKE.shake256(bytes, out)
    end
  end
end
