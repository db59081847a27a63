defmodule Cryptoki.PrivateKeyTest do
  # Private keys in files, as programs write them and as nobody should.
  use ExUnit.Case, async: true

  alias Cryptoki.{DER, Error, PEM, PrivateKey}
  alias Cryptoki.Test.KeyFiles

  @rsa {1, 2, 840, 113_549, 1, 1, 1}
  @ec {1, 2, 840, 10_045, 2, 1}
  @p256 {1, 2, 840, 10_045, 3, 1, 7}
  @p384 {1, 3, 132, 0, 34}
  @ed25519 {1, 3, 101, 112}

  describe "what is read is what is in it:" do
    for {name, kind, missing} <- KeyFiles.all() do
      @tag skip: missing
      test name do
        made = KeyFiles.make(unquote(name))
        assert {:ok, key} = PrivateKey.File.read(made.file)
        assert key.type == unquote(kind)
        assert public(key) == made.public
        assert inspect(key) == "#Cryptoki.PrivateKey<#{key.type}>"
        if key.type in [:rsa, :ec], do: assert(secret(key) == otp(made.file))
      end
    end
  end

  describe "one key, in every form it can have:" do
    for kind <- ["openssl genpkey, RSA", "openssl ecparam", "openssl genpkey, Ed25519"] do
      test kind do
        %{file: pem} = KeyFiles.make(unquote(kind))
        {:ok, key} = PrivateKey.File.read(pem)

        assert {:ok, ^key} =
                 PrivateKey.File.read("text before\r\n" <> String.replace(pem, "\n", "\r\n"))

        der =
          KeyFiles.changed(pem, "openssl pkcs8 -topk8 -nocrypt -in $IN -outform DER -out $OUT")

        assert {:ok, ^key} = PrivateKey.File.read(der)
        assert {:ok, ^key} = PrivateKey.File.read(PEM.encode(der, "PRIVATE KEY"))

        if key.type != :ed25519 do
          old = KeyFiles.changed(pem, "openssl pkey -in $IN -traditional -out $OUT")
          assert {:ok, ^key} = PrivateKey.File.read(old)
        end
      end
    end

    test "version 2, with attributes and the public key (RFC 8410, section 10.3)" do
      pem = """
      -----BEGIN PRIVATE KEY-----
      MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
      oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
      Z9w7lshQhqowtrbLDFw4rXAxZuE=
      -----END PRIVATE KEY-----
      """

      assert {:ok, %{type: :ed25519} = key} = PrivateKey.File.read(pem)

      assert "19BF44096984CDFE8541BAC167DC3B96C85086AA30B6B6CB0C5C38AD703166E1" =
               Base.encode16(key.public_attributes[:ec_point])
    end
  end

  describe "what is read elsewhere:" do
    setup do
      %{pem: KeyFiles.make("openssl genpkey, RSA").file}
    end

    for {name, commands, says} <- [
          {"PBES2", "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef -out $OUT", "encrypted"},
          {"PBES2, DER",
           "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef -outform DER -out $OUT",
           "encrypted"},
          {"Proc-Type",
           "openssl rsa -in $IN -aes128 -passout pass:abcdef -traditional -out $OUT; grep Proc-Type $OUT",
           "encrypted"},
          {"OpenSSH, encrypted",
           "cp $IN $OUT; chmod 600 $OUT; ssh-keygen -q -p -P '' -N 'abcdef' -f $OUT; grep OPENSSH $OUT",
           "`ssh-keygen -p -N '' -f COPY`"},
          {"PKCS #12",
           "openssl pkcs12 -export -nocerts -inkey $IN -passout pass:abcdef -out $OUT",
           "{:pkcs12, der}"},
          {"PSS only", "openssl genpkey -algorithm RSA-PSS -out $OUT", "PSS"}
        ] do
      @tag skip:
             name =~ "OpenSSH" and !System.find_executable("ssh-keygen") &&
               "there is no ssh-keygen"
      test name, %{pem: pem} do
        file = KeyFiles.changed(pem, unquote(commands))
        assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(file)
        assert text =~ unquote(says)
        assert text =~ ~r/\Aprivate key: /
      end
    end

    test "what the sentence about encrypted ones says does it", %{pem: pem} do
      {:ok, key} = PrivateKey.File.read(pem)

      for commands <- [
            "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef -out $OUT.enc",
            "openssl rsa -in $IN -aes128 -passout pass:abcdef -traditional -out $OUT.enc"
          ] do
        plain = "; openssl pkcs8 -topk8 -nocrypt -in $OUT.enc -passin pass:abcdef -out $OUT"
        assert {:ok, ^key} = PrivateKey.File.read(KeyFiles.changed(pem, commands <> plain))
      end
    end

    test "PuTTY, parameters of a curve, more primes, unknown curves and kinds", %{pem: pem} do
      explicit = "openssl ecparam -name prime256v1 -genkey -param_enc explicit -out $OUT"

      for {file, says} <- [
            {"PuTTY-User-Key-File-3: ssh-ed25519\r\n", "puttygen"},
            {KeyFiles.changed(pem, explicit), "-param_enc named_curve"},
            {KeyFiles.changed(pem, "openssl genrsa -primes 3 -out $OUT 2048"), "two primes"},
            {pkcs8([DER.oid(@ec), DER.oid({1, 2, 3})], sec1(<<5>>, "")), "1.2.3"},
            {pkcs8([DER.oid({1, 2, 840, 10_040, 4, 1})], DER.integer(5)), "DSA"},
            {PEM.encode("key", "DSA PRIVATE KEY"), "DSA"},
            {DER.sequence(for(n <- [0, 23, 11, 4, 16, 2], do: DER.integer(n))), "DSA"},
            {DER.sequence(for(n <- [23, 3], do: DER.integer(n))), "-RSAPublicKey_in"},
            {PEM.encode("key", "PKCS12"), "{:pkcs12, der}"},
            {pkcs8([DER.oid({1, 2, 3})], "x"), "1.2.3"}
          ] do
        assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(file)
        assert text =~ says
      end
    end
  end

  describe "of RSA" do
    setup do
      %{numbers: numbers()}
    end

    test "each number is held to the others", %{numbers: numbers} do
      {:ok, _key} = PrivateKey.File.read(pkcs1(numbers))

      for {name, index} <- Enum.with_index(~w[modulus publicExponent privateExponent prime1 prime2
                exponent1 exponent2 coefficient]),
          change <- [&(&1 + 2), &(-&1), fn _ -> 0 end, fn _ -> 1 end, &(&1 * 3)] do
        changed = List.update_at(numbers, index, change)

        for file <- [pkcs1(changed), pkcs8([DER.oid(@rsa), DER.null()], pkcs1(changed))] do
          assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                   PrivateKey.File.read(file)

          assert text =~ "private key: "
          refute_numbers(text, numbers)
          if index > 4, do: assert(text =~ name)
        end
      end
    end

    test "which one is wrong is said", %{numbers: [n, e, d, p, q, dp, dq, qinv]} do
      for {numbers, says} <- [
            {[n, e, d, q, p, dq, dp, qinv],
             ~r/coefficient, byte \d+: it (does not follow|is not less)/},
            {[n, e, d + p - 1, p, q, dp, dq, qinv],
             ~r/privateExponent, byte \d+: it is not that/},
            {[n, e, d, p, q, dq, dq, qinv], ~r/exponent1, byte \d+: it does not follow/},
            {[n, e, d, p, q, dp, dp, qinv], ~r/exponent2, byte \d+: it does not follow/},
            {[n, e, d, 1, n, dp, dq, qinv], ~r/prime1, byte \d+: it is no prime/},
            {[n, e, d, n, 1, dp, dq, qinv], ~r/prime2, byte \d+: it is no prime/},
            {[p * p, e, d, p, p, dp, dp, qinv], ~r/prime2, byte \d+: it is the first/},
            {[n, 4, d, p, q, dp, dq, qinv], ~r/exponent of RSA is even/}
          ] do
        assert {:error, %Error{detail: text}} = PrivateKey.File.read(pkcs1(numbers))
        assert text =~ says
      end
    end

    test "primes that are none" do
      # Three primes in two numbers: all but the primes themselves holds.
      {:RSAPrivateKey, _, _, _, _, p, q, _, _, _, _} = generated(2048)
      {:RSAPrivateKey, _, _, _, _, r, _, _, _, _, _} = generated(2048)
      {n, e} = {p * q * r, 65_537}
      d = inverse(e, (p * r - 1) * (q - 1))
      numbers = [n, e, d, p * r, q, rem(d, p * r - 1), rem(d, q - 1), inverse(q, p * r)]
      assert {:error, %Error{detail: text}} = PrivateKey.File.read(pkcs1(numbers))
      assert text =~ "prime1"
      assert text =~ "it is no prime"
    end

    test "weak ones, as in certificates" do
      assert {:error, %Error{detail: text}} = PrivateKey.File.read(pkcs1(numbers(1024)))
      assert text =~ "RSA of 1024 bits is too weak"
    end

    test "no bit of it can be changed", %{numbers: numbers} do
      der = pkcs1(numbers)

      for at <- 0..(byte_size(der) - 1), bit <- [1, 128] do
        {before, <<byte, rest::binary>>} = :erlang.split_binary(der, at)
        changed = <<before::binary, Bitwise.bxor(byte, bit), rest::binary>>
        assert {:error, %Error{} = error} = PrivateKey.File.read(changed)
        # A byte of it neither, as what a tag is called would be.
        refute Exception.message(error) =~ "0x"
      end
    end
  end

  describe "on curves" do
    test "the number is one from 1 to the order, whatever its length" do
      for key <- [<<5::256>>, <<5>>, <<5::512>>] do
        assert {:ok, %{attributes: attributes}} = PrivateKey.File.read(sec1(key))
        assert attributes[:value] == <<5::256>>
      end

      order = :secp256r1 |> :crypto_ec_curves.curve() |> elem(3)

      for key <- ["", <<0>>, <<0::256>>, order, <<255::8, 0::256>>, :binary.copy("x", 300)] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(sec1(key))

        assert text =~ "it is no number from 1 to the order of secp256r1"
      end

      <<high::binary-31, low>> = order
      assert {:ok, _} = PrivateKey.File.read(sec1(<<high::binary, low - 1>>))
    end

    test "every curve that OTP has and that is long enough" do
      for curve <- Cryptoki.Attribute.Curve.names() -- [:ed25519, :ed448, :x25519, :x448],
          curve in :crypto.supports(:curves) do
        {:ok, oid} = Cryptoki.Attribute.Curve.oid(curve)
        {point, value} = :crypto.generate_key(:ecdh, curve)
        der = sec1(value, DER.explicit(0, DER.oid(oid)), [DER.explicit(1, DER.bit_string(point))])

        case PrivateKey.File.read(der) do
          {:ok, %{public: {{:ECPoint, ^point}, {:namedCurve, ^oid}}}} -> :ok
          {:error, %Error{detail: text}} -> assert text =~ "too weak a curve"
        end
      end
    end

    test "the public key is its own, and so is the curve" do
      {point, value} = :crypto.generate_key(:ecdh, :secp256r1)
      {other, _} = :crypto.generate_key(:ecdh, :secp256r1)
      curve = DER.explicit(0, DER.oid(@p256))
      public = &DER.explicit(1, DER.bit_string(&1))
      named = [DER.oid(@ec), DER.oid(@p256)]
      assert {:ok, key} = PrivateKey.File.read(sec1(value, curve, [public.(point)]))
      assert {:ok, ^key} = PrivateKey.File.read(pkcs8(named, sec1(value, "", [public.(point)])))
      assert {:ok, ^key} = PrivateKey.File.read(pkcs8(named, sec1(value, curve)))

      assert {:ok, ^key} =
               PrivateKey.File.read(
                 pkcs8(named, sec1(value, curve), [<<0x81, 66, 0>> <> point], 1)
               )

      for {der, says} <- [
            {sec1(value, curve, [public.(other)]), "public key of another"},
            {sec1(value, curve, [public.("")]), "public key of another"},
            {pkcs8(named, sec1(value, "", [public.(other)])), "public key of another"},
            {pkcs8(named, sec1(value), [<<0x81, 66, 0>> <> other], 1), "public key of another"},
            {pkcs8(named, sec1(value), [<<0x81, 66, 0>> <> point]), "only version 2 has one"},
            {pkcs8([DER.oid(@ec), DER.oid(@p384)], sec1(value, curve)), "another curve"},
            {sec1(value, DER.explicit(0, DER.oid(@ed25519))), "a form of their own"},
            {sec1(value, ""), "it has no curve"},
            {pkcs8([DER.oid(@ec)], sec1(value)), "it has no curve"}
          ] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(der)

        assert text =~ says
      end
    end

    test "EC PARAMETERS say the curve, and the same one" do
      parameters = &PEM.encode(DER.oid(&1), "EC PARAMETERS")
      key = PEM.encode(sec1(<<5::256>>, ""), "EC PRIVATE KEY")
      assert {:ok, %{type: :ec}} = PrivateKey.File.read(parameters.(@p256) <> key)
      named = PEM.encode(sec1(<<5::256>>), "EC PRIVATE KEY")
      assert {:ok, %{type: :ec}} = PrivateKey.File.read(parameters.(@p256) <> named)
      assert {:error, %Error{detail: text}} = PrivateKey.File.read(parameters.(@p384) <> named)
      assert text =~ "another curve"
    end

    test "those of RFC 8410 have the length that they have" do
      algorithm = [DER.oid(@ed25519)]
      assert {:ok, _key} = PrivateKey.File.read(pkcs8(algorithm, <<4, 32, 7::256>>))
      {point, _} = :crypto.generate_key(:eddsa, :ed25519, <<7::256>>)

      assert {:ok, _key} =
               PrivateKey.File.read(
                 pkcs8(algorithm, <<4, 32, 7::256>>, [<<0x81, 33, 0>> <> point], 1)
               )

      for {algorithm, key} <- [
            {algorithm, <<7::256>>},
            {algorithm, <<4, 31, 7::248>>},
            {algorithm, <<4, 32, 7::264>>},
            {algorithm, <<4, 0x81, 32, 7::256>>},
            {algorithm, <<3, 32, 7::256>>},
            {algorithm, ""},
            {[DER.oid(@ed25519), DER.null()], <<4, 32, 7::256>>}
          ] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(pkcs8(algorithm, key))

        refute text =~ "0x"
      end

      another = pkcs8(algorithm, <<4, 32, 7::256>>, [<<0x81, 33, 0, 1::256>>], 1)
      assert {:error, %Error{detail: text}} = PrivateKey.File.read(another)
      assert text =~ "public key of another"
    end
  end

  describe "what is no key:" do
    test "everything that is cut off" do
      for name <- ["openssl pkcs8 -topk8, DER", "openssl ec, SEC 1 in DER", "openssl ecparam"],
          %{file: file} = KeyFiles.make(name),
          size <- 0..(byte_size(String.trim(file)) - 2) do
        assert {:error, %Error{reason: :invalid_argument}} =
                 PrivateKey.File.read(binary_part(file, 0, size))
      end
    end

    test "bytes behind it, other versions, other things" do
      rsa = [DER.oid(@rsa), DER.null()]
      numbers = numbers()
      key = pkcs1(numbers)

      for {file, says} <- [
            {"", "neither DER nor PEM"},
            {<<0x30, 0>>, "neither PKCS #8"},
            {key <> <<5, 0>>, "behind its end"},
            {pkcs8(rsa, key <> <<5, 0>>), "one value should be in it"},
            {pkcs8(rsa, key, [], 2), "no such version of PKCS #8"},
            {pkcs8(rsa, pkcs1(numbers, 1)), "no such version of PKCS #1"},
            {pkcs1(numbers, 2), "no such version of PKCS #1"},
            {pkcs8([DER.oid(@rsa), DER.oid(@rsa)], key), "NULL should stand here"},
            {pkcs8(rsa, key, [<<0xA0, 2, 1, 9>>]), "cut off"},
            {pkcs8(rsa, key, [DER.null()]), "nothing should stand here"},
            {sec1(<<5::256>>, DER.explicit(0, DER.oid(@p256)), [], 2),
             "no such version of SEC 1"},
            {DER.sequence([DER.sequence(rsa), DER.bit_string("x")]), "it is no RSA key"},
            {PEM.encode(key, "PUBLIC KEY"), "should stand here"},
            {PEM.encode(key, "CERTIFICATE"), ~s("CERTIFICATE")},
            {"{", "begins as JSON"},
            {PEM.encode(key, "PRIVATE KEY"), "a SEQUENCE should stand here"},
            {PEM.encode(key, "EC PRIVATE KEY"), "should stand here"},
            {PEM.encode(key, "RSA PRIVATE KEY") <> PEM.encode(key, "RSA PRIVATE KEY"),
             "there are 2"},
            {String.replace(PEM.encode(key, "RSA PRIVATE KEY"), "M", "*"),
             "line 2: this is not base64"},
            {PEM.encode(:binary.copy(<<0x30>>, 70_000), "PRIVATE KEY"), "longer than 65536"},
            # Of the text, too, whatever it is.
            {String.duplicate(" ", 66_000) <> PEM.encode(key, "RSA PRIVATE KEY"),
             "private key: it is longer than 65536"},
            {String.duplicate(" ", 66_000) <> "{", "longer than 65536"},
            {PEM.encode(key, "RSA PRIVATE KEY") <>
               PEM.encode(:binary.copy("x", 60_000), "CERTIFICATE"), "longer than 65536"}
          ] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(file)

        assert text =~ says
      end
    end
  end

  ## Keys by hand

  defp pkcs8(algorithm, key, more \\ [], version \\ 0) do
    DER.sequence([DER.integer(version), DER.sequence(algorithm), DER.octet_string(key) | more])
  end

  defp pkcs1(numbers, version \\ 0),
    do: DER.sequence(Enum.map([version | numbers], &DER.integer/1))

  @default DER.explicit(0, DER.oid(@p256))
  defp sec1(key, curve \\ @default, more \\ [], version \\ 1),
    do: DER.sequence([DER.integer(version), DER.octet_string(key), curve | more])

  defp numbers(bits \\ 2048), do: bits |> generated() |> Tuple.to_list() |> Enum.slice(2, 8)
  defp generated(bits), do: :public_key.generate_key({:rsa, bits, 65_537})

  # Extended Euclid.
  defp inverse(a, n), do: Integer.mod(elem(Integer.extended_gcd(a, n), 1), n)

  defp refute_numbers(text, numbers) do
    for number <- numbers, number > 65_537 do
      refute text =~ Integer.to_string(number)
      refute text =~ binary_part(:binary.encode_unsigned(number), 0, 8)
    end
  end

  ## What other readers say

  defp public(%{type: type, public: {{:ECPoint, point}, {:namedCurve, oid}}}) when type != :ec,
    do: PEM.encode(PrivateKey.public_info([DER.oid(oid)], point), "PUBLIC KEY")

  defp public(%{public: key}) do
    entry = :public_key.pem_entry_encode(:SubjectPublicKeyInfo, key)
    String.trim_trailing(:public_key.pem_encode([entry])) <> "\n"
  end

  defp secret(%{type: :rsa, attributes: attributes}) do
    for name <- ~w[modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2
                   coefficient]a,
        do: :binary.decode_unsigned(attributes[name])
  end

  defp secret(%{type: :ec, attributes: attributes}),
    do: :binary.decode_unsigned(attributes[:value])

  defp otp(file) do
    pem =
      if file =~ "-----BEGIN",
        do: file,
        else: KeyFiles.changed(file, "openssl pkey -in $IN -out $OUT")

    entries = :public_key.pem_decode(pem)
    entry = Enum.find(entries, &(elem(&1, 0) in [:PrivateKeyInfo, :RSAPrivateKey, :ECPrivateKey]))

    case :public_key.pem_entry_decode(entry) do
      key when elem(key, 0) == :RSAPrivateKey -> key |> Tuple.to_list() |> Enum.slice(2, 8)
      key when elem(key, 0) == :ECPrivateKey -> :binary.decode_unsigned(elem(key, 2))
    end
  end
end
