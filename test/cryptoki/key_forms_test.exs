defmodule Cryptoki.KeyFormsTest do
  # Keys in the forms beside PKCS #8, PKCS #1 and SEC 1, as programs write them and as nobody should: OpenSSH's
  # own, JWK, records of OTP, public keys.
  use ExUnit.Case, async: true

  alias Cryptoki.{Base64URL, Error, JSON, PEM, PrivateKey, PublicKey, SecretKey}
  alias Cryptoki.PrivateKey.{JWK, Record}
  alias Cryptoki.Test.{Jose, KeyFiles, OpenSSL}

  @ssh !System.find_executable("ssh-keygen") && "there is no ssh-keygen"

  describe "OpenSSH's own form:" do
    for {type, kind} <- ["rsa -b 3072": :rsa, "ecdsa -b 256": :ec, "ecdsa -b 521": :ec] do
      @tag skip: @ssh
      test "#{type} is the key that ssh-keygen rewrites as PKCS #8" do
        file = ssh("-t #{unquote(type)}")
        assert file =~ "OPENSSH PRIVATE KEY"
        assert {:ok, %PrivateKey{type: unquote(kind)} = key} = PrivateKey.File.read(file)
        commands = "cp $IN $OUT; chmod 600 $OUT; ssh-keygen -q -p -m PKCS8 -P '' -N '' -f $OUT"
        assert PrivateKey.File.read(KeyFiles.changed(file, commands)) == {:ok, key}
      end
    end

    @tag skip: @ssh
    test "Ed25519 is the key whose public line ssh-keygen writes" do
      file = ssh("-t ed25519")
      assert {:ok, %PrivateKey{type: :ed25519} = key} = PrivateKey.File.read(file, "not needed")
      commands = "cp $IN $OUT.key; chmod 600 $OUT.key; ssh-keygen -y -f $OUT.key > $OUT"
      ["ssh-ed25519", base64 | _] = file |> KeyFiles.changed(commands) |> String.split()
      {{:ECPoint, point}, _curve} = key.public
      assert binary_part(Base.decode64!(base64), 51, -32) == point
      # What signs with it is OpenSSL, by the seed alone.
      signature = :crypto.sign(:eddsa, :none, "text", [key.attributes[:value], :ed25519])
      assert :crypto.verify(:eddsa, :none, "text", signature, [point, :ed25519])
    end

    @tag skip: @ssh
    test "each byte of it counts" do
      for type <- ["ed25519", "ecdsa -b 256"] do
        file = ssh("-t #{type}")
        {:ok, key} = PrivateKey.File.read(file)
        {:ok, [{label, bytes}]} = PEM.decode(file, :all)

        for at <- 0..(byte_size(bytes) - 1) do
          {before, <<byte, rest::binary>>} = :erlang.split_binary(bytes, at)
          changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
          read = PrivateKey.File.read(PEM.encode(changed, label))
          # But the comment, which is nobody's.
          assert match?({:error, %Error{}}, read) or read == {:ok, key}
          if match?({:ok, _}, read), do: assert(at > byte_size(bytes) - 48)

          assert {:error, %Error{detail: text}} =
                   PrivateKey.File.read(PEM.encode(<<0>> <> before, label))

          assert String.valid?(text)
        end
      end
    end
  end

  describe "JWK:" do
    for key <- [
          %{kty: "RSA", size: 2048},
          %{kty: "EC", crv: "P-256"},
          %{kty: "EC", crv: "P-384"},
          %{kty: "EC", crv: "P-521"},
          %{kty: "EC", crv: "secp256k1"},
          %{kty: "OKP", crv: "Ed25519"},
          %{kty: "OKP", crv: "X25519"}
        ] do
      test "#{inspect(key)} of jwcrypto is the one of its PEM" do
        jwk = unquote(Macro.escape(key))

        [%{"jwk" => jwk, "pem" => pem, "public" => public, "public_pem" => public_pem}] =
          Jose.python([%{"do" => "key", "key" => jwk}])

        assert {:ok, %PrivateKey{} = read} = PrivateKey.File.read(pem)
        assert PrivateKey.File.read(JSON.encode!(jwk)) == {:ok, read}
        assert JWK.read(jwk) == {:ok, read}
        assert {:ok, %PublicKey.Given{public: same}} = JWK.read(public)
        assert same == read.public
        assert JWK.read(public) == PrivateKey.File.read(public_pem)

        # Another's public half, and each member left out.
        for name <- Map.keys(jwk) -- ~w[kty d crv kid use alg] do
          assert {:error, %Error{reason: :invalid_argument} = error} =
                   JWK.read(Map.delete(jwk, name))

          refute error.detail =~ jwk["d"]
          assert {:error, %Error{}} = JWK.read(Map.update!(jwk, name, &changed/1))
        end
      end
    end

    test "secret ones, and what they are for" do
      k = Base64URL.encode(:binary.copy("k", 32))

      for {alg, type} <- [
            {nil, :generic_secret},
            {"HS256", :hmac},
            {"A256GCM", :aes},
            {"A256KW", :aes},
            {"A128CBC-HS256", :generic_secret},
            {"dir", :generic_secret}
          ] do
        assert {:ok, %SecretKey{type: ^type} = key} =
                 JWK.read(%{"kty" => "oct", "k" => k, "alg" => alg})

        assert key.value == :binary.copy("k", 32)
        refute inspect(key) =~ "k" <> "kkkk"
      end
    end

    test "what is none is told" do
      for {jwk, reason, says} <- [
            {%{"kty" => "oct", "k" => "a+b/"}, :invalid_argument, ~s("k")},
            {%{"kty" => "oct", "k" => ""}, :invalid_argument, ~s("k")},
            {%{"kty" => "oct", "k" => "QUJD", "alg" => "A256GCM"}, :invalid_argument, "32 bytes"},
            {%{"kty" => "RSA", "d" => "AQ", "n" => 5}, :invalid_argument, ~s("n")},
            {%{"kty" => "RSA", "oth" => []}, :unsupported, "two primes"},
            {%{"kty" => "EC", "crv" => "P-257"}, :unsupported, "curve"},
            {%{"kty" => "EC", "crv" => "P-256", "x" => "AQ", "y" => "AQ"}, :invalid_argument,
             "32 bytes"},
            {%{"kty" => "XY"}, :unsupported, "kty"},
            {%{"keys" => []}, :invalid_argument, "a set of keys"},
            {%{"ciphertext" => "x"}, :unsupported, "JWE"},
            {%{}, :invalid_argument, "kty"}
          ] do
        assert {:error, %Error{reason: ^reason, detail: text}} = JWK.read(jwk)
        assert text =~ says
        assert text =~ ~r/\A(JWK|secret key): /
      end
    end
  end

  describe "records of OTP" do
    test "are the keys that they are in a file" do
      for {kind, params} <- [
            RSAPrivateKey: {:rsa, 2048, 65_537},
            ECPrivateKey: {:namedCurve, :secp256r1},
            ECPrivateKey: {:namedCurve, :secp521r1}
          ] do
        record = :public_key.generate_key(params)
        assert Record.record?(record)
        pem = :public_key.pem_encode([:public_key.pem_entry_encode(kind, record)])
        assert {:ok, key} = Record.read(record)
        assert PrivateKey.File.read(pem) == {:ok, key}
        assert Record.record?(key.public)
        spki = OpenSSL.pem(key.public)
        assert Record.read(key.public) == PrivateKey.File.read(spki)
        assert {:ok, %PublicKey.Given{}} = Record.read(key.public)
      end

      for curve <- [:ed25519, :x25519] do
        record = :public_key.generate_key({:namedCurve, curve})
        assert {:ok, %PrivateKey{type: ^curve} = key} = Record.read(record)
        assert key.attributes[:value] == elem(record, 2)
        assert {:ok, %{type: ^curve}} = Record.read(key.public)
      end
    end

    test "whose fields are others are told" do
      rsa = :public_key.generate_key({:rsa, 2048, 65_537})
      ec = :public_key.generate_key({:namedCurve, :secp256r1})

      for wrong <- [
            put_elem(rsa, 2, "x"),
            put_elem(rsa, 4, elem(rsa, 4) + 2),
            put_elem(rsa, 10, []),
            put_elem(ec, 2, :x),
            put_elem(ec, 2, <<0::256>>),
            put_elem(ec, 3, {:ecParameters, 1}),
            put_elem(ec, 3, {:namedCurve, :nowhere}),
            put_elem(ec, 3, {:namedCurve, "x"}),
            put_elem(ec, 4, <<4, 1::512>>),
            {:RSAPublicKey, "a", 1},
            {:RSAPublicKey, 15, 3},
            {{:ECPoint, "x"}, {:namedCurve, :secp256r1}}
          ] do
        assert Record.record?(wrong)
        assert {:error, %Error{reason: reason}} = Record.read(wrong)
        assert reason in [:invalid_argument, :unsupported]
      end

      refute Record.record?({:RSAPrivateKey, 1})
      refute Record.record?({:DSAPrivateKey, 1, 2, 3, 4, 5, 6})
    end
  end

  test "public keys are held to what those of certificates are" do
    for {commands, says} <- [
          {"openssl genrsa 1024 | openssl pkey -pubout -out $OUT", "1024 bits"},
          {"openssl genpkey -algorithm RSA-PSS -out $OUT.k; openssl pkey -in $OUT.k -pubout -out $OUT",
           "PSS only"}
        ] do
      assert {:error, %Error{detail: text}} = PrivateKey.File.read(KeyFiles.changed("", commands))
      assert text =~ says
    end
  end

  defp ssh(options, password \\ "-N ''"),
    do: KeyFiles.changed("", "ssh-keygen -q #{options} #{password} -f $OUT")

  # The last bits of base64url may stand for nothing.
  defp changed(<<first, rest::binary>>), do: <<if(first == ?A, do: ?B, else: ?A), rest::binary>>
end
