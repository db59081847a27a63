defmodule Cryptoki.Referee.DerivationTest do
  use Cryptoki.Test.Referee, async: true

  # Key derivation functions against an independent computation, RFC 5869 and RFC 6070.

  @hashes [
    sha_1: :sha_1_hmac,
    sha224: :sha224_hmac,
    sha256: :sha256_hmac,
    sha384: :sha384_hmac,
    sha512: :sha512_hmac,
    sha3_256: :sha3_256_hmac
  ]

  # RFC 5869, appendix A: hash, secret, salt, info, output. An empty salt is one that is not given.
  @hkdf_examples [
    {:sha256, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
     "f0f1f2f3f4f5f6f7f8f9",
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
    {:sha256, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
     "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
    {:sha_1, "0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
     "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896"}
  ]

  @readable [class: :secret_key, key_type: :generic_secret, sensitive: false, extractable: true]

  on_each_token do
    check "HKDF: RFC 5869", [hkdf_derive: :derive], %{hsm: hsm} do
      for {hash, secret, salt, info, output} <- @hkdf_examples do
        base = secret(hsm, :generic_secret, hex(secret), derive: true)
        arguments = if salt == "", do: [], else: [salt: hex(salt)]
        mechanism = {:hkdf_derive, [hash: hash, info: hex(info)] ++ arguments}
        template = [value_len: div(byte_size(output), 2)] ++ @readable
        assert value(hsm, Cryptoki.derive_key!(hsm, base, mechanism, template)) == hex(output)
      end
    end

    for {hash, _prf} <- @hashes do
      check "HKDF with #{hash}", [:hkdf_data, hkdf_derive: :derive], %{hsm: hsm} do
        hash = unquote(hash)
        {secret, salt, info} = {bytes(40), bytes(20), bytes(30)}
        base = secret(hsm, :hkdf, secret, derive: true)
        size = byte_size(Outside.hash(hash, ""))

        both = {:hkdf_derive, hash: hash, salt: salt, info: info}

        for size <- [1, size, size + 1, 200] do
          key = Cryptoki.derive_key!(hsm, base, both, [value_len: size] ++ @readable)
          assert value(hsm, key) == Outside.hkdf(hash, secret, salt, info, size)
        end

        extract = {:hkdf_derive, hash: hash, salt: salt, expand: false}
        template = [class: :secret_key, key_type: :hkdf, derive: true, value_len: size]
        template = template ++ [sensitive: false, extractable: true]
        extracted = Cryptoki.derive_key!(hsm, base, extract, template)
        assert value(hsm, extracted) == Outside.hkdf_extract(hash, secret, salt)

        expand = {:hkdf_derive, hash: hash, extract: false, info: info}
        key = Cryptoki.derive_key!(hsm, extracted, expand, [value_len: 50] ++ @readable)
        assert value(hsm, key) == Outside.hkdf(hash, secret, salt, info, 50)

        salt_key = secret(hsm, :generic_secret, salt, derive: true)
        with_key = {:hkdf_derive, hash: hash, salt_key: salt_key, info: info}
        key = Cryptoki.derive_key!(hsm, base, with_key, [value_len: 50] ++ @readable)
        assert value(hsm, key) == Outside.hkdf(hash, secret, salt, info, 50)

        data = {:hkdf_data, hash: hash, salt: salt, info: info}
        object = Cryptoki.derive_key!(hsm, base, data, class: :data, value_len: 50)
        assert value(hsm, object) == Outside.hkdf(hash, secret, salt, info, 50)
      end
    end

    for {hash, prf} <- @hashes do
      check "SP 800-108 with #{prf}",
            [sp800_108_counter_kdf: :derive, sp800_108_feedback_kdf: :derive],
            %{hsm: hsm} do
        raw = bytes(32)
        base = secret(hsm, :generic_secret, raw, derive: true)
        sp800_108(hsm, base, unquote(prf), &Outside.hmac(unquote(hash), raw, &1))
      end
    end

    check "SP 800-108 with aes_cmac",
          [sp800_108_counter_kdf: :derive, sp800_108_feedback_kdf: :derive],
          %{hsm: hsm} do
      raw = bytes(32)
      base = secret(hsm, :aes, raw, derive: true)
      sp800_108(hsm, base, :aes_cmac, &Outside.aes_cmac(raw, &1))
    end

    check "SP 800-108 with additional keys",
          [sp800_108_counter_kdf: :derive, sp800_108_feedback_kdf: :derive],
          %{hsm: hsm} do
      raw = bytes(32)
      base = secret(hsm, :generic_secret, raw, derive: true)
      outside = &Outside.hmac(:sha256, raw, &1)
      templates = for size <- [16, 20], do: [value_len: size] ++ @readable
      [first | additional_keys] = [[value_len: 32] ++ @readable | templates]
      # Each key begins with an output of the PRF of its own.
      cut = fn stream ->
        for at <- [{0, 32}, {32, 16}, {64, 20}],
            {from, size} = at,
            do: binary_part(stream, from, size)
      end

      fixed = [byte_array: "all three of one stream"]
      same = [prf: :sha256_hmac, additional_keys: additional_keys]

      data = [iteration_variable: [width_in_bits: 32]] ++ fixed
      mechanism = {:sp800_108_counter_kdf, [data: data] ++ same}
      keys = Cryptoki.derive_key!(hsm, base, mechanism, first)
      input = fn counter -> [<<counter::32>>, fixed[:byte_array]] end
      assert Enum.map(keys, &value(hsm, &1)) == cut.(Outside.counter_kdf(outside, input, 96))

      iv = bytes(32)
      data = [:iteration_variable] ++ fixed
      mechanism = {:sp800_108_feedback_kdf, [data: data, iv: iv] ++ same}
      keys = Cryptoki.derive_key!(hsm, base, mechanism, first)
      input = fn previous, _counter -> [previous, fixed[:byte_array]] end
      assert Enum.map(keys, &value(hsm, &1)) == cut.(Outside.feedback_kdf(outside, iv, input, 96))

      # Without more templates it is one key, as ever.
      mechanism =
        {:sp800_108_counter_kdf,
         prf: :sha256_hmac, data: fixed ++ [iteration_variable: [width_in_bits: 8]]}

      assert %Cryptoki.Key{} = Cryptoki.derive_key!(hsm, base, mechanism, first)
    end

    check "PBKDF2: RFC 6070", [pkcs5_pbkd2: :generate], %{hsm: hsm} do
      for {password, salt, iterations, output} <- [
            {"password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"},
            {"password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"},
            {"pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"}
          ] do
        mechanism =
          {:pkcs5_pbkd2,
           password: password, salt: salt, iterations: iterations, prf: :pkcs5_pbkd2_hmac_sha1}

        size = div(byte_size(output), 2)
        key = Cryptoki.generate_key!(hsm, mechanism, [value_len: size] ++ @readable)
        assert value(hsm, key) == hex(output)
      end
    end

    for hash <- [:sha1, :sha224, :sha256, :sha384, :sha512] do
      check "PBKDF2 with #{hash}", [pkcs5_pbkd2: :generate], %{hsm: hsm} do
        {password, salt, size} = {bytes(12), bytes(16), 100}

        mechanism =
          {:pkcs5_pbkd2,
           password: password,
           salt: salt,
           iterations: 1000,
           prf: unquote(:"pkcs5_pbkd2_hmac_#{hash}")}

        key = Cryptoki.generate_key!(hsm, mechanism, [value_len: size] ++ @readable)
        hash = Outside.hash_name(unquote(hash))
        assert value(hsm, key) == :crypto.pbkdf2_hmac(hash, password, salt, 1000, size)
      end
    end

    check "concatenation and XOR",
          [
            :concatenate_base_and_key,
            :concatenate_base_and_data,
            :concatenate_data_and_base,
            :xor_base_and_data
          ],
          %{hsm: hsm} do
      {raw, other} = {bytes(20), bytes(20)}
      base = secret(hsm, :generic_secret, raw, derive: true)
      key = secret(hsm, :generic_secret, other, derive: true)

      for {mechanism, expected} <- [
            {{:concatenate_base_and_key, key: key}, raw <> other},
            {{:concatenate_base_and_data, data: other}, raw <> other},
            {{:concatenate_data_and_base, data: other}, other <> raw},
            {{:xor_base_and_data, data: other}, :crypto.exor(raw, other)}
          ] do
        assert value(hsm, Cryptoki.derive_key!(hsm, base, mechanism, @readable)) == expected

        template = [value_len: 16] ++ @readable
        derived = Cryptoki.derive_key!(hsm, base, mechanism, template)
        assert value(hsm, derived) == binary_part(expected, 0, 16)
      end
    end

    check "bits of a key", [:extract_key_from_key], %{hsm: hsm} do
      raw = bytes(32)
      base = secret(hsm, :generic_secret, raw, derive: true)

      for bit <- [0, 8, 13, 101] do
        template = [value_len: 16] ++ @readable
        key = Cryptoki.derive_key!(hsm, base, {:extract_key_from_key, bit: bit}, template)
        <<number::256>> = raw
        assert value(hsm, key) == <<number >>> (128 - bit)::128>>
      end
    end

    for hash <- ~w[sha1 sha224 sha256 sha384 sha512 sha512_224 sha512_256
                   sha3_224 sha3_256 sha3_384 sha3_512]a do
      mechanism = :"#{hash}_key_derivation"

      check "#{mechanism}", [{mechanism, :derive}], %{hsm: hsm} do
        raw = bytes(50)
        base = secret(hsm, :generic_secret, raw, derive: true)
        digest = Outside.hash(unquote(hash), raw)
        key = Cryptoki.derive_key!(hsm, base, unquote(mechanism), @readable)
        assert value(hsm, key) == digest

        template = [value_len: 16] ++ @readable
        key = Cryptoki.derive_key!(hsm, base, unquote(mechanism), template)
        assert value(hsm, key) == binary_part(digest, 0, 16)
      end
    end

    # Section 6.17: the ciphertext is the key.
    for {cipher, block, size} <- [{:aes, 16, 32}, {:des3, 8, 24}, {:des, 8, 8}],
        mode <- [:ecb, :cbc] do
      mechanism = :"#{cipher}_#{mode}_encrypt_data"

      check "#{mechanism}", [{mechanism, :derive}], %{hsm: hsm} do
        raw = bytes(unquote(size))
        raw = if unquote(cipher) == :aes, do: raw, else: odd_parity(raw)
        base = secret(hsm, unquote(cipher), raw, derive: true)
        {iv, data} = {bytes(unquote(block)), bytes(48)}
        arguments = if unquote(mode) == :ecb, do: [data: data], else: [iv: iv, data: data]
        template = [value_len: 48] ++ @readable
        key = Cryptoki.derive_key!(hsm, base, {unquote(mechanism), arguments}, template)
        assert value(hsm, key) == encrypt_data(unquote(cipher), unquote(mode), raw, iv, data)
      end
    end

    # Kryoptic does it for RSA; for EC it wants OpenSSL 4 below it.
    check "the public key of a private key", [:pub_key_from_priv_key], %{hsm: hsm} do
      rsa = :public_key.generate_key({:rsa, 2048, 65_537})
      private = Cryptoki.create!(hsm, rsa_private(rsa) ++ [sign: true, extractable: true])
      template = [class: :public_key, key_type: :rsa, verify: true]
      public = Cryptoki.derive_key!(hsm, private, :pub_key_from_priv_key, template)
      assert Cryptoki.public_key!(hsm, public) == {:RSAPublicKey, elem(rsa, 2), elem(rsa, 3)}
    end
  end

  # Label, a zero byte, context and the length in bits: what section 4 of SP 800-108 recommends.
  defp sp800_108(hsm, base, prf, outside) do
    {label, context} = {"a label", bytes(10)}
    rest = [byte_array: label, byte_array: <<0>>, byte_array: context]
    length = {:dkm_length, width_in_bits: 32}

    for size <- [16, 32, 100] do
      fixed = [label, 0, context, <<8 * size::32>>]
      template = [value_len: size] ++ @readable

      for width <- [8, 16, 32] do
        data = [iteration_variable: [width_in_bits: width]] ++ rest ++ [length]
        mechanism = {:sp800_108_counter_kdf, prf: prf, data: data}
        key = Cryptoki.derive_key!(hsm, base, mechanism, template)
        input = fn counter -> [<<counter::size(width)>>, fixed] end
        assert value(hsm, key) == Outside.counter_kdf(outside, input, size)
      end

      iv = bytes(32)
      data = [:iteration_variable, {:counter, width_in_bits: 8}] ++ rest ++ [length]
      mechanism = {:sp800_108_feedback_kdf, prf: prf, data: data, iv: iv}
      key = Cryptoki.derive_key!(hsm, base, mechanism, template)
      input = fn previous, counter -> [previous, counter, fixed] end
      assert value(hsm, key) == Outside.feedback_kdf(outside, iv, input, size)
    end
  end

  defp encrypt_data(:aes, :cbc, key, iv, data),
    do: :crypto.crypto_one_time(:aes_256_cbc, key, iv, data, true)

  defp encrypt_data(:aes, :ecb, key, _iv, data),
    do: :crypto.crypto_one_time(:aes_256_ecb, key, data, true)

  defp encrypt_data(:des, mode, key, iv, data),
    do: encrypt_data(:des3, mode, :binary.copy(key, 3), iv, data)

  defp encrypt_data(:des3, :cbc, key, iv, data),
    do: :crypto.crypto_one_time(:des_ede3_cbc, key, iv, data, true)

  defp encrypt_data(:des3, :ecb, key, _iv, data) do
    for <<block::binary-8 <- data>>, into: "" do
      :crypto.crypto_one_time(:des_ede3_cbc, key, <<0::64>>, block, true)
    end
  end
end
