defmodule Cryptoki.ImportSecretTest do
  # Secret and public keys on the token, and the check values of secret ones.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Key}
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken}

  setup_all do
    %{hsm: start_supervised!({Cryptoki, MainToken.own(sessions: 2)})}
  end

  setup do
    %{label: "secret #{System.unique_integer([:positive])}"}
  end

  describe "a secret key" do
    test "of AES encrypts as OpenSSL does with its bytes", %{hsm: hsm, label: label} do
      for size <- [16, 24, 32] do
        value = :crypto.strong_rand_bytes(size)
        assert {:ok, key} = Cryptoki.import_key(hsm, {:aes, value}, label: label, id: <<size>>)
        assert %Key{class: :secret_key, key_type: :aes, label: ^label, token: false} = key

        read = Cryptoki.attributes!(hsm, key, [:sensitive, :extractable, :encrypt, :decrypt])
        assert read == %{sensitive: true, extractable: false, encrypt: true, decrypt: true}
        iv = :crypto.strong_rand_bytes(16)
        sealed = Cryptoki.encrypt!(hsm, key, {:aes_cbc_pad, iv: iv}, "a text")

        assert openssl(sealed, "enc -d -aes-#{size * 8}-cbc -K #{hex(value)} -iv #{hex(iv)}") ==
                 "a text"
      end
    end

    test "of HMAC signs as OpenSSL does with its bytes", %{hsm: hsm, label: label} do
      value = :crypto.strong_rand_bytes(40)
      jwk = %{"kty" => "oct", "alg" => "HS256", "k" => Base.url_encode64(value, padding: false)}

      for given <- [{:hmac, value}, {:generic_secret, value}, jwk, Cryptoki.JSON.encode!(jwk)] do
        assert {:ok, key} = Cryptoki.import_key(hsm, given, label: label)
        mac = Cryptoki.sign!(hsm, key, :sha256_hmac, "a text")
        arguments = "dgst -sha256 -mac HMAC -macopt hexkey:#{hex(value)} -binary"
        assert openssl("a text", arguments) == mac
      end

      assert {:ok, key} =
               :cryptoki.import_key(hsm, {:hmac, value}, %{
                 label: label,
                 key_type: :generic_secret
               })

      assert :cryptoki.check_value(hsm, key) == Cryptoki.check_value(hsm, key)
    end

    test "that may do one thing only is proven by that", %{hsm: hsm, label: label} do
      for {kind, uses} <- [
            aes: [encrypt: true],
            aes: [decrypt: true],
            aes: [sign: true, verify: true],
            aes: [unwrap: true],
            aes: [encrypt: true, allowed_mechanisms: [:aes_cbc]],
            hmac: [sign: true],
            generic_secret: [derive: true]
          ] do
        template = [label: label, token: true] ++ uses
        value = :crypto.strong_rand_bytes(32)

        case Cryptoki.import_key(hsm, {kind, value}, template) do
          {:ok, key} ->
            :ok = Cryptoki.destroy(hsm, key)

          # Nothing that it may do shows which it is.
          {:error, %Error{reason: :unsupported} = error} ->
            assert error.detail =~ "cannot be proven"
            assert MainToken.name() == :kryoptic
        end

        assert Cryptoki.find!(hsm, label: label) == []
      end
    end

    test "of another length is none, and its bytes are in no error", %{hsm: hsm} do
      for {given, says} <- [
            {{:aes, "a secret of 17 by"}, "this has 17"},
            {{:hmac, ""}, "no byte"},
            {{:generic_secret, String.duplicate("a secret", 4000)}, "longer than 16384"}
          ] do
        assert {:error, %Error{reason: :invalid_argument} = error} =
                 Cryptoki.import_key(hsm, given, [])

        assert Exception.message(error) =~ says
        refute Exception.message(error) =~ "a secret"
      end

      for {template, says} <- [
            {[value: "a secret"], ":value"},
            {[value_len: 16], ":value_len"},
            {[key_type: :rsa], ":key_type"},
            {[class: :data], ":class"}
          ] do
        error =
          assert_raise ArgumentError, fn ->
            Cryptoki.import_key(hsm, {:hmac, "a secret value"}, template)
          end

        assert error.message =~ says
        refute error.message =~ "a secret"
      end
    end
  end

  describe "a token that makes another key of it, or fails," do
    setup do
      module = FaultyModule.new()
      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)}, id: :faulty)
      on_exit(fn -> FaultyModule.control(module, "") end)
      %{module: module, faulty: hsm}
    end

    for {kind, rules, reason} <- [
          {:aes, "lie C_Encrypt garbage", :module_misbehaved},
          {:aes, "C_Encrypt rv=0x63\nlie C_Decrypt garbage", :module_misbehaved},
          {:aes, "C_Encrypt rv=0x30", :device_error},
          {:hmac, "lie C_Sign garbage", :module_misbehaved},
          {:hmac, "C_Sign rv=0x30", :device_error},
          {:aes, "C_GetAttributeValue rv=0x30", :device_error}
        ] do
      test "leaves nothing: #{kind}, #{rules}", %{module: module, faulty: hsm, label: label} do
        value = :crypto.strong_rand_bytes(32)
        FaultyModule.control(module, unquote(rules))
        answer = Cryptoki.import_key(hsm, {unquote(kind), value}, label: label, token: true)
        FaultyModule.control(module, "")
        assert {:error, %Error{executed: false, reason: unquote(reason)} = error} = answer
        refute inspect(error) =~ inspect(value)
        assert Cryptoki.find!(hsm, label: label) == []
      end
    end

    test "the wrong check value is no proof", %{module: module, faulty: hsm, label: label} do
      rules =
        "C_EncryptInit rv=0x63\nC_DecryptInit rv=0x63\nC_SignInit rv=0x63\nC_DigestKey rv=0x67\nC_UnwrapKey rv=0x63\n"

      template = [label: label, token: true]
      value = :crypto.strong_rand_bytes(32)
      {:ok, kcv} = Cryptoki.CheckValue.of(:aes, value)

      for {shown, taken?} <- [{hex(kcv), true}, {"010203", false}, {"", nil}] do
        FaultyModule.control(module, rules <> "attribute 0x90 value=#{shown}")
        answer = Cryptoki.import_key(hsm, {:aes, value}, template)
        FaultyModule.control(module, "")

        case taken? do
          true -> assert {:ok, _key} = answer
          false -> assert {:error, %Error{reason: :module_misbehaved}} = answer
          nil -> assert {:error, %Error{reason: :unsupported}} = answer
        end

        left = Cryptoki.find!(hsm, label: label)
        assert length(left) == if(taken?, do: 1, else: 0)
        for key <- left, do: Cryptoki.destroy!(hsm, key)
      end
    end

    test "shows another public key", %{module: module, faulty: hsm, label: label} do
      %{public: pem} = KeyFiles.make("openssl genrsa")
      # CKA_PUBLIC_EXPONENT
      FaultyModule.control(module, "attribute 0x122 value=03")
      answer = Cryptoki.import_key(hsm, pem, label: label, token: true)
      FaultyModule.control(module, "")
      assert {:error, %Error{reason: :module_misbehaved, executed: false}} = answer
      assert Cryptoki.find!(hsm, label: label) == []
    end
  end

  describe "a public key" do
    for name <- [
          "openssl genrsa",
          "openssl ecparam",
          "openssl genpkey, Ed25519",
          "openssl genpkey, Ed448"
        ] do
      test "verifies what its owner signs: #{name}", %{hsm: hsm, label: label} do
        made = KeyFiles.make(unquote(name))
        template = [label: label, id: <<1>>, token: true]

        assert {:ok, %Key{class: :public_key} = key} =
                 Cryptoki.import_key(hsm, made.public, template)

        {:ok, public} = Cryptoki.public_key(hsm, key)
        {:ok, private} = Cryptoki.PrivateKey.File.read(made.file)
        assert public == private.public
        {mechanism, signature} = signed(made)
        assert Cryptoki.verify(hsm, key, mechanism, "a text", signature) == :ok

        assert {:error, %{reason: :signature_invalid}} =
                 Cryptoki.verify(hsm, key, mechanism, "another", signature)

        assert [_] = Cryptoki.find!(hsm, label: label)
        assert {:ok, again} = Cryptoki.import_key(hsm, public, label: label, id: <<2>>)
        assert Cryptoki.verify(hsm, again, mechanism, "a text", signature) == :ok
      end
    end
  end

  describe "a public key that agrees" do
    for name <- ["openssl genpkey, X25519 in DER", "openssl genpkey, X448"] do
      test "is that of its file: #{name}", %{hsm: hsm, label: label} do
        made = KeyFiles.make(unquote(name))
        {:ok, private} = Cryptoki.PrivateKey.File.read(made.file)
        {:ok, jwk} = Cryptoki.JWK.from_public_key(private.public)
        # SoftHSM has one type for all keys of RFC 8410.
        type = if MainToken.name() == :softhsm2, do: [key_type: :ec_edwards], else: []

        for given <- [made.public, private.public, jwk] do
          template = [label: label, token: true] ++ type
          assert {:ok, %Key{class: :public_key} = key} = Cryptoki.import_key(hsm, given, template)
          assert Cryptoki.public_key(hsm, key) == {:ok, private.public}
          :ok = Cryptoki.destroy(hsm, key)
        end
      end
    end
  end

  describe "a check value" do
    test "is what OpenSSL computes", %{hsm: hsm, label: label} do
      for size <- [16, 32] do
        value = :crypto.strong_rand_bytes(size)
        {:ok, key} = Cryptoki.import_key(hsm, {:aes, value}, label: label)
        zeros = openssl(<<0::128>>, "enc -aes-#{size * 8}-ecb -nopad -K #{hex(value)}")
        assert Cryptoki.check_value(hsm, key) == {:ok, binary_part(zeros, 0, 3)}
        assert Cryptoki.check_value!(hsm, key) == binary_part(zeros, 0, 3)
      end

      value = :crypto.strong_rand_bytes(33)
      {:ok, key} = Cryptoki.import_key(hsm, {:hmac, value}, label: label)

      assert Cryptoki.check_value(hsm, key) ==
               {:ok, binary_part(openssl(value, "dgst -sha1 -binary"), 0, 3)}
    end

    test "is computed where the token keeps none", %{label: label} do
      module = FaultyModule.new()
      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)}, id: :faulty)
      value = :crypto.strong_rand_bytes(32)
      {:ok, aes} = Cryptoki.import_key(hsm, {:aes, value}, label: label, id: <<1>>)

      {:ok, hmac} =
        Cryptoki.import_key(hsm, {:hmac, value},
          label: label,
          id: <<2>>,
          sensitive: false,
          extractable: true
        )

      for shown <- ["attribute 0x90", "attribute 0x90 value=", "attribute 0x90 value=0102030405"] do
        FaultyModule.control(module, shown)
        assert Cryptoki.check_value(hsm, aes) == Cryptoki.CheckValue.of(:aes, value)
        assert Cryptoki.check_value(hsm, hmac) == Cryptoki.CheckValue.of(:generic_secret, value)
        # Another mode of the cipher; the value, where it may be read.
        FaultyModule.control(
          module,
          shown <> "\nC_EncryptInit rv=0x70 count=1\nC_DigestKey rv=0x67"
        )

        assert Cryptoki.check_value(hsm, aes) == Cryptoki.CheckValue.of(:aes, value)
        assert Cryptoki.check_value(hsm, hmac) == Cryptoki.CheckValue.of(:generic_secret, value)
        FaultyModule.control(module, shown <> "\nC_EncryptInit rv=0x68\nC_DigestKey rv=0x30")
        assert {:error, %Error{reason: :unsupported}} = Cryptoki.check_value(hsm, aes)
        assert {:error, %Error{reason: :device_error}} = Cryptoki.check_value(hsm, hmac)
      end

      FaultyModule.control(module, "")
    end

    # Without it this call would wait for a minute, and more than that for each step.
    test "and a proof have the time of their call, also where the key is digested", context do
      module = FaultyModule.new()
      options = FaultyModule.options(module, sessions: 4, timeout: 600_000)
      hsm = start_supervised!({Cryptoki, options}, id: :digested)
      on_exit(fn -> FaultyModule.control(module, "") end)
      {:ok, key} = Cryptoki.import_key(hsm, {:hmac, <<1::256>>}, label: context.label)

      FaultyModule.control(module, "attribute 0x90\nC_SignInit rv=0x63\nC_DigestKey hang")
      assert {:error, %Error{reason: :timeout}} = Cryptoki.check_value(hsm, key, timeout: 500)

      assert {:error, %Error{reason: :timeout}} =
               Cryptoki.import_key(hsm, {:hmac, <<2::256>>}, [label: "digested"], timeout: 2000)

      FaultyModule.control(module, "")
    end

    test "is of secret keys only", %{hsm: hsm, label: label} do
      {:ok, {_public, private}} =
        Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, label: label, curve: :secp256r1)

      assert {:error, %Error{reason: :key_not_found}} = Cryptoki.check_value(hsm, private)
      assert {:error, %Error{reason: :key_not_found}} = Cryptoki.check_value(hsm, label: label)

      assert_raise ArgumentError, fn ->
        Cryptoki.check_value(hsm, class: :private_key, label: label)
      end
    end
  end

  defp signed(%{kind: :rsa} = made), do: {:sha256_rsa_pkcs, openssl_sign(made)}

  defp signed(%{kind: :ec} = made) do
    {:ok, raw} = Cryptoki.Ecdsa.from_der(openssl_sign(made), 32)
    {:ecdsa_sha256, raw}
  end

  defp signed(%{kind: kind} = made) do
    commands =
      "printf 'a text' > $OUT.d; openssl pkeyutl -sign -rawin -inkey $IN -in $OUT.d -out $OUT"

    mechanism = if kind == :ed25519, do: :eddsa, else: {:eddsa, prehash: false}
    {mechanism, KeyFiles.changed(made.file, commands)}
  end

  defp openssl_sign(made) do
    commands = "printf 'a text' > $OUT.d; openssl dgst -sha256 -sign $IN -out $OUT $OUT.d"
    KeyFiles.changed(made.file, commands)
  end

  defp openssl(input, arguments),
    do: KeyFiles.changed(input, "openssl #{arguments} < $IN > $OUT")

  defp hex(bytes), do: Base.encode16(bytes, case: :lower)
end
