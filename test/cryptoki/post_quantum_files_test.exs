defmodule Cryptoki.PostQuantumFilesTest do
  # Keys of ML-DSA, ML-KEM and SLH-DSA that OpenSSL 3.5 wrote, private and public, on Kryoptic. What the token signs is
  # judged by pq_referee with the public key of the file, what OpenSSL signed by the token; more of both, with keys that
  # are made for it, in test/pki.
  use ExUnit.Case, async: true

  alias Cryptoki.{Base64URL, DER, Error, JSON, JWK, Key, PEM}
  alias Cryptoki.Test.{PostQuantum, SoftHSM, Token}

  @moduletag skip:
               !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"

  @folder "test/vectors/openssl"
  @text "a text that is signed"
  # The prefix of a file, what PKCS #11 and what OTP call it.
  @signing [
    {"ml_dsa_65", :ml_dsa, :ml_dsa_65, :mldsa65},
    {"slh_dsa_sha2_128f", :slh_dsa, :slh_dsa_sha2_128f, :slh_dsa_sha2_128f}
  ]

  setup_all do
    library = Path.join(SoftHSM.directory(), "post-quantum-files-kryoptic.so")
    Token.copy_kryoptic(library)
    token = Token.kryoptic(library, "post-quantum-files")
    %{hsm: start_supervised!({Cryptoki, Token.options(token, sessions: 2)})}
  end

  setup do
    %{label: "file #{System.unique_integer([:positive])}"}
  end

  for {name, type, set, _otp} <- @signing do
    test "#{name} signs as in its file, and verifies what OpenSSL has signed", context do
      %{hsm: hsm, label: label} = context
      template = [label: label, token: true]

      assert {:ok, %Key{class: :private_key, key_type: unquote(type)} = key} =
               Cryptoki.import_key(hsm, file("#{unquote(name)}.pem"), template)

      assert signs?(hsm, key, unquote(set), unquote(name))
      assert [public] = Cryptoki.find!(hsm, class: :public_key, label: label)
      signature = file("#{unquote(name)}.sig")
      assert Cryptoki.verify(hsm, public, unquote(type), @text, signature) == :ok

      for given <- public_forms(unquote(name)) do
        assert {:ok, %Key{class: :public_key, key_type: unquote(type)} = key} =
                 Cryptoki.import_key(hsm, given, label: label)

        assert Cryptoki.verify(hsm, key, unquote(type), @text, signature) == :ok

        assert {:error, %Error{reason: :signature_invalid}} =
                 Cryptoki.verify(hsm, key, unquote(type), "another", signature)
      end
    end
  end

  test "a key that is encrypted, with its password", %{hsm: hsm, label: label} do
    sealed = file("ml_dsa_44_sealed.pem")

    assert {:error, %Error{reason: :unsupported} = error} = Cryptoki.import_key(hsm, sealed, [])
    assert Exception.message(error) =~ "say password:"

    assert {:error, %Error{reason: :invalid_argument}} =
             Cryptoki.import_key(hsm, sealed, [], password: "falsch")

    assert {:ok, key} = Cryptoki.import_key(hsm, sealed, [label: label], password: "geheim")
    assert signs?(hsm, key, :ml_dsa_44, "ml_dsa_44_sealed")
  end

  test "keys of ML-KEM agree as in their files", %{hsm: hsm, label: label} do
    assert {:ok, private} = Cryptoki.import_key(hsm, file("ml_kem_768.pem"), label: label)
    secret = [class: :secret_key, key_type: :generic_secret, value_len: 32]
    secret = secret ++ [sensitive: false, extractable: true]
    value = fn key -> Cryptoki.attributes!(hsm, key, [:value]).value end

    {ciphertext, sent} = PostQuantum.encapsulate(:ml_kem_768, bytes("ml_kem_768"))
    received = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, ciphertext, secret)
    assert value.(received) == sent

    for given <- public_forms("ml_kem_768") do
      assert {:ok, %Key{class: :public_key} = public} =
               Cryptoki.import_key(hsm, given, label: label)

      assert %{encapsulate: true} = Cryptoki.attributes!(hsm, public, [:encapsulate])
      {ciphertext, sent} = Cryptoki.encapsulate_key!(hsm, public, :ml_kem, secret)
      received = Cryptoki.decapsulate_key!(hsm, private, :ml_kem, ciphertext, secret)
      assert value.(received) == value.(sent)
    end
  end

  test "a JWK of ML-DSA is read as it is written", %{hsm: hsm, label: label} do
    {:ok, public} = Cryptoki.import_key(hsm, file("ml_dsa_65.pub"), label: label)
    jwk = JWK.public!(hsm, public, kid: "1")
    assert jwk["pub"] == Base64URL.encode(bytes("ml_dsa_65"))
    signature = file("ml_dsa_65.sig")

    for given <- [jwk, JSON.encode!(jwk)] do
      assert {:ok, key} = Cryptoki.import_key(hsm, given, label: label)
      assert Cryptoki.verify(hsm, key, :ml_dsa, @text, signature) == :ok
    end

    for {member, value, reason} <- [
          {"pub", "AQAB", :invalid_argument},
          {"pub", 7, :invalid_argument},
          {"alg", "ML-DSA-66", :unsupported}
        ] do
      wrong = Map.put(jwk, member, value)
      assert {:error, %Error{reason: ^reason}} = Cryptoki.import_key(hsm, wrong, label: label)
      assert {:error, %Error{reason: ^reason}} = JWK.to_public_key(wrong)
    end
  end

  test "records of OTP 29, which it makes of the files", %{hsm: hsm, label: label} do
    for {name, _type, set, otp} <- @signing do
      record = private_record(name, otp)
      assert {:ok, key} = Cryptoki.import_key(hsm, record, label: label)
      assert signs?(hsm, key, set, name)
    end

    {:"ML-DSAPrivateKey", :mldsa65, seed, expanded} = private_record("ml_dsa_65", :mldsa65)

    for one <- [{seed, ""}, {"", expanded}] do
      {seed, expanded} = one
      record = {:"ML-DSAPrivateKey", :mldsa65, seed, expanded}
      assert {:ok, key} = Cryptoki.import_key(hsm, record, label: label)
      assert signs?(hsm, key, :ml_dsa_65, "ml_dsa_65")
    end

    record = private_record("ml_kem_768", :mlkem768)
    assert {:ok, %Key{key_type: :ml_kem}} = Cryptoki.import_key(hsm, record, label: label)
  end

  test "records that are none", %{hsm: hsm, label: label} do
    public = bytes("ml_dsa_65")

    for {record, reason} <- [
          {{:"ML-DSAPrivateKey", :mldsa65, "", ""}, :invalid_argument},
          {{:"ML-DSAPrivateKey", :mldsa65, <<1::248>>, ""}, :invalid_argument},
          {{:"ML-DSAPrivateKey", :mldsa65, "", <<1::248>>}, :invalid_argument},
          {{:"ML-DSAPrivateKey", :mldsa66, <<1::256>>, ""}, :unsupported},
          {{:"ML-KEMPrivateKey", :mldsa65, <<1::256>>, ""}, :unsupported},
          {{:"ML-DSAPrivateKey", :mldsa65, 1, 2}, :invalid_argument},
          {{:"SLH-DSAPrivateKey", :slh_dsa_sha2_128f, <<1::256>>}, :invalid_argument},
          {{:"SLH-DSAPrivateKey", :mldsa65, public}, :unsupported},
          {{:"ML-DSAPublicKey", :mldsa44, public}, :invalid_argument},
          {{:"ML-DSAPublicKey", :slh_dsa_sha2_128f, public}, :unsupported},
          {{:"ML-DSAPublicKey", :mldsa65, nil}, :invalid_argument},
          {{:SubjectPublicKeyInfo, {:AlgorithmIdentifier, {1, 2, 3}, :asn1_NOVALUE}, "a"},
           :unsupported},
          {{:SubjectPublicKeyInfo, {:AlgorithmIdentifier, :rsa, :asn1_NOVALUE}, "a"},
           :invalid_argument},
          {{:SubjectPublicKeyInfo, {:AlgorithmIdentifier, {1, 2, 3}, <<5, 0>>}, "a"},
           :invalid_argument}
        ] do
      assert {:error, %Error{reason: reason_given}} =
               Cryptoki.import_key(hsm, record, label: label)

      assert {record, reason_given} == {record, reason}
    end

    assert_raise ArgumentError, ~r/a record of :public_key/, fn ->
      Cryptoki.import_key(hsm, {:"SLH-DSAPrivateKey", :slh_dsa_sha2_128f, "", ""}, label: label)
    end

    assert Cryptoki.find!(hsm, label: label) == []
  end

  defp file(name), do: File.read!(Path.join(@folder, name))

  # The bytes of its public key: they stand behind all else.
  defp bytes(name) do
    {:ok, [der]} = PEM.ders(file(name <> ".pub"), :public_key)
    {:SubjectPublicKeyInfo, _algorithm, bytes} = info(der)
    bytes
  end

  defp info(der), do: :public_key.der_decode(:SubjectPublicKeyInfo, der)

  defp signs?(hsm, key, set, name) do
    type = if set == :slh_dsa_sha2_128f, do: :slh_dsa, else: :ml_dsa
    signature = Cryptoki.sign!(hsm, key, type, @text)
    PostQuantum.valid?(set, bytes(name), PostQuantum.message(@text, ""), signature)
  end

  # PEM, DER, the record of a release without such keys, and that of one with them.
  defp public_forms(name) do
    pem = file(name <> ".pub")
    {:ok, [der]} = PEM.ders(pem, :public_key)
    {record, otp} = public_record(name)
    own = {record, otp, bytes(name)}
    if knows?(otp), do: assert(own == decoded(pem))
    [pem, der, info(der), own]
  end

  defp public_record("ml_dsa_65"), do: {:"ML-DSAPublicKey", :mldsa65}
  defp public_record("ml_kem_768"), do: {:"ML-KEMPublicKey", :mlkem768}
  defp public_record("slh_dsa_sha2_128f"), do: {:"SLH-DSAPublicKey", :slh_dsa_sha2_128f}

  # Of OTP where it has it, and put together as OTP 29 does where it has not.
  defp private_record(name, otp) do
    pem = file(name <> ".pem")
    {:ok, [{_label, der}]} = PEM.decode(pem, ["PRIVATE KEY"])
    record = record(name, otp, der)
    if knows?(otp), do: assert(record == decoded(pem))
    record
  end

  defp record("slh_dsa_sha2_128f", otp, der),
    do: {:"SLH-DSAPrivateKey", otp, binary_part(der, byte_size(der), -64)}

  defp record(name, otp, der) do
    {seed_size, size, record} =
      if name == "ml_dsa_65",
        do: {32, 4032, :"ML-DSAPrivateKey"},
        else: {64, 2400, :"ML-KEMPrivateKey"}

    expanded = binary_part(der, byte_size(der), -size)
    head = byte_size(DER.octet_string(expanded)) - size
    before = byte_size(der) - size - head
    {record, otp, binary_part(der, before - seed_size, seed_size), expanded}
  end

  defp knows?(otp), do: otp in (:crypto.supports(:public_keys) ++ kems())
  defp kems, do: Keyword.get(:crypto.supports(), :kems, [])
  defp decoded(pem), do: pem |> :public_key.pem_decode() |> hd() |> :public_key.pem_entry_decode()
end
