defmodule Cryptoki.Referee.KeyGenerationTest do
  use Cryptoki.Test.Referee, async: true

  # Keys that the token makes are keys: what can be read of them fits together by :crypto's arithmetic.

  @readable [sensitive: false, extractable: true]

  # Mechanism, type of key, sizes in bytes (nil: the type has one).
  @secret_keys [
    {:aes_key_gen, :aes, [16, 24, 32]},
    {:generic_secret_key_gen, :generic_secret, [1, 16, 100]},
    {:chacha20_key_gen, :chacha20, [32]},
    {:hkdf_key_gen, :hkdf, [32]},
    {:des_key_gen, :des, [nil]},
    {:des2_key_gen, :des2, [nil]},
    {:des3_key_gen, :des3, [nil]},
    {:sha_1_key_gen, :sha_1_hmac, [20]},
    {:sha224_key_gen, :sha224_hmac, [28]},
    {:sha256_key_gen, :sha256_hmac, [32]},
    {:sha384_key_gen, :sha384_hmac, [48]},
    {:sha512_key_gen, :sha512_hmac, [64]},
    {:sha512_224_key_gen, :sha512_224_hmac, [28]},
    {:sha512_256_key_gen, :sha512_256_hmac, [32]},
    {:sha3_224_key_gen, :sha3_224_hmac, [28]},
    {:sha3_256_key_gen, :sha3_256_hmac, [32]},
    {:sha3_384_key_gen, :sha3_384_hmac, [48]},
    {:sha3_512_key_gen, :sha3_512_hmac, [64]}
  ]
  @sizes %{des: 8, des2: 16, des3: 24}

  on_each_token do
    for {mechanism, key_type, sizes} <- @secret_keys do
      check "#{mechanism}", [{mechanism, :generate}], %{hsm: hsm} do
        for size <- unquote(sizes) do
          template = if size, do: [value_len: size], else: []
          template = [label: "made", key_type: unquote(key_type)] ++ template

          key = Cryptoki.generate_key!(hsm, unquote(mechanism), @readable ++ template)
          another = Cryptoki.generate_key!(hsm, unquote(mechanism), @readable ++ template)
          assert {key.class, key.key_type, key.label} == {:secret_key, unquote(key_type), "made"}
          assert byte_size(value(hsm, key)) == (size || @sizes[unquote(key_type)])
          if size == nil or size > 8, do: assert(value(hsm, key) != value(hsm, another))

          if unquote(key_type) in [:des, :des2, :des3],
            do: assert(odd_parity(value(hsm, key)) == value(hsm, key))

          stays = Cryptoki.generate_key!(hsm, unquote(mechanism), template)

          names = [
            :value,
            :local,
            :sensitive,
            :extractable,
            :always_sensitive,
            :never_extractable
          ]

          attributes = Cryptoki.attributes!(hsm, stays, [:key_gen_mechanism | names])
          assert attributes.value == {:error, :attribute_sensitive}
          assert attributes.key_gen_mechanism == unquote(mechanism)

          for name <- names -- [:value, :extractable] do
            assert {name, attributes[name]} == {name, true}
          end

          assert attributes.extractable == false
        end
      end
    end

    for {bits, exponent} <- [{2048, 65_537}, {2048, 3}, {3072, 65_537}] do
      check "RSA, #{bits} bits, exponent #{exponent}",
            [rsa_pkcs_key_pair_gen: :generate_key_pair],
            %{hsm: hsm} do
        template = [modulus_bits: unquote(bits), public_exponent: unquote(exponent)]

        {public, private} =
          Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template ++ @readable)

        assert {:RSAPublicKey, n, unquote(exponent)} = Cryptoki.public_key!(hsm, public)
        assert n in Bitwise.bsl(1, unquote(bits - 1))..(Bitwise.bsl(1, unquote(bits)) - 1)

        names = ~w[prime_1 prime_2 private_exponent exponent_1 exponent_2 coefficient]a
        numbers = Cryptoki.attributes!(hsm, private, names)
        [p, q, d, dp, dq, qi] = for name <- names, do: :binary.decode_unsigned(numbers[name])

        assert p * q == n
        assert rem(unquote(exponent) * d, lcm(p - 1, q - 1)) == 1
        assert {dp, dq} == {rem(d, p - 1), rem(d, q - 1)}
        assert rem(qi * q, p) == 1
      end
    end

    for curve <- [:secp256r1, :secp384r1, :secp521r1] do
      check "EC on #{curve}", [ec_key_pair_gen: :generate_key_pair], %{hsm: hsm} do
        fits(hsm, :ec_key_pair_gen, unquote(curve), :ecdh, :ec)
      end
    end

    for curve <- [:ed25519, :ed448] do
      check "#{curve}", [ec_edwards_key_pair_gen: :generate_key_pair], %{hsm: hsm} do
        fits(hsm, :ec_edwards_key_pair_gen, unquote(curve), :eddsa, :ec_edwards)
      end
    end

    for curve <- [:x25519, :x448] do
      check "#{curve}", [ec_montgomery_key_pair_gen: :generate_key_pair], %{hsm: hsm} do
        fits(hsm, :ec_montgomery_key_pair_gen, unquote(curve), :ecdh, :ec_montgomery)
      end
    end

    check "Diffie-Hellman", [dh_pkcs_key_pair_gen: :generate_key_pair], %{hsm: hsm} do
      {prime, base} = Outside.dh_group()
      template = [prime: prime, base: base, derive: true] ++ @readable
      {public, private} = Cryptoki.generate_key_pair!(hsm, :dh_pkcs_key_pair_gen, template)
      x = :binary.decode_unsigned(value(hsm, private))
      y = :crypto.mod_pow(base, x, prime)
      assert :binary.decode_unsigned(value(hsm, public)) == :binary.decode_unsigned(y)
    end

    check "attributes of both halves", [:ec_key_pair_gen], %{hsm: hsm} do
      template = [label: "both", id: <<1, 2>>, curve: :secp256r1, private: [label: "private"]]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
      assert {public.class, public.label, public.id} == {:public_key, "both", <<1, 2>>}
      assert {private.class, private.label, private.id} == {:private_key, "private", <<1, 2>>}

      names = [:curve, :sign, :derive, :local, :sensitive, :extractable, :token, :private, :value]
      attributes = Cryptoki.attributes!(hsm, private, names)
      assert %{curve: :secp256r1, sign: true, derive: false, local: true} = attributes
      assert %{sensitive: true, extractable: false, token: false, private: true} = attributes
      assert attributes.value == {:error, :attribute_sensitive}
    end
  end

  # The private value gives the point that the public half shows.
  defp fits(hsm, mechanism, curve, type, key_type) do
    template = [curve: curve] ++ @readable
    {public, private} = Cryptoki.generate_key_pair!(hsm, mechanism, template)
    assert {public.key_type, private.key_type} == {key_type, key_type}
    {{:ECPoint, point}, _parameters} = Cryptoki.public_key!(hsm, public)
    private_value = value(hsm, private)
    assert {^point, _private} = :crypto.generate_key(type, curve, private_value)
    assert %{curve: ^curve} = Cryptoki.attributes!(hsm, public, [:curve])
  end

  defp lcm(a, b), do: div(a * b, Integer.gcd(a, b))
end
