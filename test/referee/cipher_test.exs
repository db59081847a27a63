defmodule Cryptoki.Referee.CipherTest do
  use Cryptoki.Test.Referee, async: true

  # Ciphers without authentication, against :crypto, OpenSSL and the examples of SP 800-38A.

  # Mechanism, its cipher in :crypto or (a string) OpenSSL, what the length must be a multiple of, and the
  # first bytes of the example in SP 800-38A, appendix F (128-bit keys).
  @aes [
    {:aes_ecb, :ecb, 16, "3ad77bb40d7a3660a89ecaf32466ef97"},
    {:aes_cbc, :cbc, 16, "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"},
    {:aes_cbc_pad, :cbc, 1, "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"},
    {:aes_ctr, :ctr, 1, nil},
    {:aes_ofb, :ofb, 1, "3b3fd92eb72dad20333449f8e83cfb4a7789508d16918f03f53c52dac54ed825"},
    {:aes_cfb8, :cfb8, 1, "3b79424c9c0dd436bace9e0ed4586a4f32b9"},
    {:aes_cfb128, :cfb128, 1, "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b"},
    {:aes_cfb1, "cfb1", 1, nil}
  ]

  @key "2b7e151628aed2a6abf7158809cf4f3c"
  @iv "000102030405060708090a0b0c0d0e0f"
  @plaintext "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"

  on_each_token do
    for {mechanism, cipher, multiple, _example} <- @aes do
      check "#{mechanism}", [{mechanism, [:encrypt, :decrypt]}], %{hsm: hsm} do
        if example = example(unquote(mechanism)) do
          key = secret(hsm, :aes, hex(@key), encrypt: true)

          ciphertext =
            Cryptoki.encrypt!(hsm, key, with_iv(unquote(mechanism), hex(@iv)), hex(@plaintext))

          size = div(byte_size(example), 2)
          assert binary_part(ciphertext, 0, size) == hex(example)
        end

        for key_size <- [16, 24, 32], iv = bytes(16) do
          raw = bytes(key_size)
          key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)
          mechanism = with_iv(unquote(mechanism), iv)

          for size <- sizes(), size = size - rem(size, unquote(multiple)), data = bytes(size) do
            padded =
              if unquote(mechanism) == :aes_cbc_pad, do: Outside.pkcs7(data, 16), else: data

            ciphertext = aes(unquote(cipher), raw, iv, padded)
            there_and_back(hsm, key, mechanism, data, ciphertext)
          end
        end
      end
    end

    for mechanism <- [:aes_ecb, :aes_cbc] do
      check "#{mechanism} of part of a block is refused", [mechanism], %{hsm: hsm} do
        key = secret(hsm, :aes, bytes(16), encrypt: true, decrypt: true)
        mechanism = with_iv(unquote(mechanism), bytes(16))
        error = assert_refused(Cryptoki.encrypt(hsm, key, mechanism, bytes(17)))
        assert error.reason == :data_len_range

        assert {:error, %Error{reason: :encrypted_data_len_range, code: nil}} =
                 Cryptoki.decrypt(hsm, key, mechanism, bytes(17))
      end
    end

    check "aes_cbc_pad of a ciphertext that was changed", [:aes_cbc_pad], %{hsm: hsm} do
      raw = bytes(32)
      key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)
      mechanism = {:aes_cbc_pad, iv: bytes(16)}
      ciphertext = Cryptoki.encrypt!(hsm, key, mechanism, bytes(16))
      # The padding is sixteen bytes of 16: changing the block before it spoils the last of them.
      assert_refused(Cryptoki.decrypt(hsm, key, mechanism, flip(ciphertext, 15)))
    end

    check "aes_ctr with a short counter that overflows", [:aes_ctr], %{hsm: hsm} do
      raw = bytes(16)
      key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)
      data = bytes(64)
      ciphertext = :crypto.crypto_one_time(:aes_128_ctr, raw, <<7::96, 0::32>>, data, true)
      mechanism = {:aes_ctr, iv: <<7::96, 0::32>>, counter_bits: 32}
      there_and_back(hsm, key, mechanism, data, ciphertext)

      # Four blocks are left of a counter of 8 bits at 252: more would repeat the key stream.
      mechanism = {:aes_ctr, iv: <<7::120, 252>>, counter_bits: 8}
      assert {:ok, _} = Cryptoki.encrypt(hsm, key, mechanism, bytes(32))
      assert_refused(Cryptoki.encrypt(hsm, key, mechanism, bytes(65)))
    end

    # SP 800-38A, addendum: CBC-CS1, the whole blocks first and the short one before the last.
    check "aes_cts", [aes_cts: [:encrypt, :decrypt]], %{hsm: hsm} do
      raw = bytes(32)
      iv = bytes(16)
      key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)

      for size <- [16, 17, 31, 32, 33, 47, 48, 4096, 5001], data = bytes(size) do
        there_and_back(hsm, key, {:aes_cts, iv: iv}, data, cts(raw, iv, data))
      end
    end

    # DES is DES3 with one key three times, which :crypto has everywhere.
    for {key_type, repeat} <- [des: 3, des3: 1],
        {mode, multiple} <- [ecb: 8, cbc: 8, cbc_pad: 1],
        mechanism = :"#{key_type}_#{mode}" do
      check "#{mechanism}", [{mechanism, [:encrypt, :decrypt]}], %{hsm: hsm} do
        raw = odd_parity(bytes(div(24, unquote(repeat))))
        iv = if unquote(mode) == :ecb, do: nil, else: bytes(8)
        key = secret(hsm, unquote(key_type), raw, encrypt: true, decrypt: true)
        mechanism = if iv, do: {unquote(mechanism), iv: iv}, else: unquote(mechanism)

        for size <- sizes(), size = size - rem(size, unquote(multiple)), data = bytes(size) do
          padded = if unquote(mode) == :cbc_pad, do: Outside.pkcs7(data, 8), else: data
          ciphertext = des3(:binary.copy(raw, unquote(repeat)), iv, padded)
          there_and_back(hsm, key, mechanism, data, ciphertext)
        end
      end
    end

    check "chacha20", [chacha20: [:encrypt, :decrypt]], %{hsm: hsm} do
      # RFC 8439, section 2.4.2.
      key = secret(hsm, :chacha20, :binary.list_to_bin(Enum.to_list(0..31)), encrypt: true)

      mechanism =
        {:chacha20, nonce: hex("000000000000004a00000000"), block_counter: <<1::little-32>>}

      text =
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, " <>
          "sunscreen would be it."

      ciphertext = Cryptoki.encrypt!(hsm, key, mechanism, text)
      assert <<0x6E2E359A2568F98041BA0728DD0D6981::128, _::binary>> = ciphertext

      raw = bytes(32)
      nonce = bytes(12)
      key = secret(hsm, :chacha20, raw, encrypt: true, decrypt: true)

      for size <- sizes(), data = bytes(size) do
        ciphertext = :crypto.crypto_one_time(:chacha20, raw, <<0::32, nonce::binary>>, data, true)
        there_and_back(hsm, key, {:chacha20, nonce: nonce}, data, ciphertext)
      end
    end
  end

  defp there_and_back(hsm, key, mechanism, data, ciphertext) do
    assert Cryptoki.encrypt!(hsm, key, mechanism, data) == ciphertext
    assert Cryptoki.encrypt!(hsm, key, mechanism, {:stream, chunks(data)}) == ciphertext
    assert Cryptoki.decrypt!(hsm, key, mechanism, ciphertext) == data
    assert Cryptoki.decrypt!(hsm, key, mechanism, {:stream, chunks(ciphertext)}) == data
  end

  defp with_iv(:aes_ecb, _iv), do: :aes_ecb
  defp with_iv(mechanism, iv), do: {mechanism, iv: iv}

  defp aes(mode, key, iv, data) when is_atom(mode) do
    cipher = :"aes_#{bit_size(key)}_#{mode}"

    if mode == :ecb,
      do: :crypto.crypto_one_time(cipher, key, data, true),
      else: :crypto.crypto_one_time(cipher, key, iv, data, true)
  end

  defp aes(mode, key, iv, data),
    do: Outside.encrypt("aes-#{bit_size(key)}-#{mode}", key, iv, data)

  defp des3(<<a::binary-8, b::binary-8, c::binary-8>>, nil, data) do
    for <<block::binary-8 <- data>>, into: "" do
      :crypto.crypto_one_time(:des_ede3_cbc, a <> b <> c, <<0::64>>, block, true)
    end
  end

  defp des3(key, iv, data), do: :crypto.crypto_one_time(:des_ede3_cbc, key, iv, data, true)

  defp example(mechanism), do: @aes |> List.keyfind(mechanism, 0) |> elem(3)

  # Public, since no token of a run may have it.
  def cts(key, iv, data) do
    short = rem(byte_size(data), 16)

    if short == 0 do
      aes(:cbc, key, iv, data)
    else
      ciphertext = aes(:cbc, key, iv, data <> :binary.copy(<<0>>, 16 - short))
      whole = byte_size(ciphertext) - 32

      binary_part(ciphertext, 0, whole + short) <> binary_part(ciphertext, whole + 16, 16)
    end
  end
end
