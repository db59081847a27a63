defmodule Cryptoki.Referee.AeadTest do
  use Cryptoki.Test.Referee, async: true

  # Authenticated encryption against :crypto and published examples.

  # The specification of GCM by McGrew and Viega, test cases 4 and 6 (an IV of 60 bytes).
  @gcm_key "feffe9928665731c6d6a8f9467308308"
  @gcm_aad "feedfacedeadbeeffeedfacedeadbeefabaddad2"
  @gcm_plaintext "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" <>
                   "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
  @gcm_examples [
    {"cafebabefacedbaddecaf888",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e" <>
       "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091" <>
       "5bc94fbc3221a5db94fae95ae7121a47"},
    {"9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728" <>
       "c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b",
     "8ce24998625615b603a033aca13fb894be9112a5c3a211a8ba262a3cca7e2ca7" <>
       "01e4a9a4fba43c90ccdcb281d48c7c6fd62875d2aca417034c34aee5" <>
       "619cc5aefffe0bfa462af43c1699d050"}
  ]

  # SP 800-38C, appendix C: nonce, lengths of the associated data (0, 1 ...), the text (0x20 ...), the MAC.
  @ccm_key "404142434445464748494a4b4c4d4e4f"
  @ccm_examples [
    {"10111213141516", 8, 4, 4, "7162015b4dac255d"},
    {"1011121314151617", 16, 16, 6, "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd"},
    {"101112131415161718191a1b", 20, 24, 8,
     "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951"}
  ]

  on_each_token do
    check "AES-GCM", [aes_gcm: [:encrypt, :decrypt]], %{hsm: hsm} do
      key = secret(hsm, :aes, hex(@gcm_key), encrypt: true, decrypt: true)

      for {iv, ciphertext} <- @gcm_examples do
        mechanism = {:aes_gcm, iv: hex(iv), aad: hex(@gcm_aad)}
        assert Cryptoki.encrypt!(hsm, key, mechanism, hex(@gcm_plaintext)) == hex(ciphertext)
      end

      for key_size <- [16, 24, 32], aad_size <- [0, 1, 16, 5000], size <- sizes() do
        {raw, iv, aad, data} = {bytes(key_size), bytes(12), bytes(aad_size), bytes(size)}
        tag_size = Enum.random([12, 13, 14, 15, 16])
        key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)
        expected = outside(:"aes_#{8 * key_size}_gcm", raw, iv, data, aad, tag_size)
        mechanism = {:aes_gcm, iv: iv, aad: aad, tag_bits: 8 * tag_size}
        there_and_back(hsm, key, mechanism, data, expected)
        refuses_changes(hsm, key, mechanism, expected)

        another = {:aes_gcm, iv: iv, aad: aad <> "x", tag_bits: 8 * tag_size}
        assert_refused(Cryptoki.decrypt(hsm, key, another, expected))
      end
    end

    check "AES-GCM with IVs of other lengths", [aes_gcm: [:encrypt, :decrypt]], %{hsm: hsm} do
      for iv_size <- [1, 8, 13, 16, 64, 128],
          {raw, iv, data} = {bytes(32), bytes(iv_size), bytes(100)} do
        key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)
        expected = outside(:aes_256_gcm, raw, iv, data, "", 16)
        there_and_back(hsm, key, {:aes_gcm, iv: iv}, data, expected)
      end
    end

    check "AES-CCM", [aes_ccm: [:encrypt, :decrypt]], %{hsm: hsm} do
      key = secret(hsm, :aes, hex(@ccm_key), encrypt: true, decrypt: true)

      for {nonce, aad_size, size, mac_len, ciphertext} <- @ccm_examples do
        {aad, data} = {counting(0, aad_size), counting(0x20, size)}
        mechanism = {:aes_ccm, nonce: hex(nonce), aad: aad, mac_len: mac_len}
        assert Cryptoki.encrypt!(hsm, key, mechanism, data) == hex(ciphertext)
        assert Cryptoki.decrypt!(hsm, key, mechanism, hex(ciphertext)) == data
      end

      for key_size <- [16, 24, 32], nonce_size <- 7..13, size <- [0, 1, 16, 17, 4096] do
        {raw, nonce, aad, data} = {bytes(key_size), bytes(nonce_size), bytes(20), bytes(size)}
        mac_len = Enum.random([4, 6, 8, 10, 12, 14, 16])
        key = secret(hsm, :aes, raw, encrypt: true, decrypt: true)
        expected = outside(:"aes_#{8 * key_size}_ccm", raw, nonce, data, aad, mac_len)
        mechanism = {:aes_ccm, nonce: nonce, aad: aad, mac_len: mac_len}
        assert Cryptoki.encrypt!(hsm, key, mechanism, data) == expected
        assert Cryptoki.decrypt!(hsm, key, mechanism, expected) == data

        # A stream does not know its length: it has to be told.
        mechanism = {:aes_ccm, nonce: nonce, aad: aad, mac_len: mac_len, data_len: size}
        there_and_back(hsm, key, mechanism, data, expected)
        refuses_changes(hsm, key, mechanism, expected)
      end
    end

    check "ChaCha20-Poly1305", [chacha20_poly1305: [:encrypt, :decrypt]], %{hsm: hsm} do
      # RFC 8439, section 2.8.2.
      key = secret(hsm, :chacha20, counting(0x80, 32), encrypt: true)

      mechanism =
        {:chacha20_poly1305,
         nonce: hex("070000004041424344454647"), aad: hex("50515253c0c1c2c3c4c5c6c7")}

      text =
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, " <>
          "sunscreen would be it."

      ciphertext = Cryptoki.encrypt!(hsm, key, mechanism, text)
      assert binary_part(ciphertext, 0, 16) == hex("d31a8d34648e60db7b86afbc53ef7ec2")

      assert binary_part(ciphertext, byte_size(text), 16) ==
               hex("1ae10b594f09e26a7e902ecbd0600691")

      for aad_size <- [0, 1, 16, 5000], size <- sizes() do
        {raw, nonce, aad, data} = {bytes(32), bytes(12), bytes(aad_size), bytes(size)}
        key = secret(hsm, :chacha20, raw, encrypt: true, decrypt: true)
        expected = outside(:chacha20_poly1305, raw, nonce, data, aad, 16)
        mechanism = {:chacha20_poly1305, nonce: nonce, aad: aad}
        assert Cryptoki.encrypt!(hsm, key, mechanism, data) == expected
        assert Cryptoki.encrypt!(hsm, key, mechanism, {:stream, chunks(data)}) == expected
        assert Cryptoki.decrypt!(hsm, key, mechanism, expected) == data
        refuses_changes(hsm, key, mechanism, expected)
      end
    end

    check "ChaCha20-Poly1305, decrypted in pieces",
          [:chacha20_poly1305],
          [except: [kryoptic: "1.5.4 loses what it is given after the first piece"]],
          %{hsm: hsm} do
      key = secret(hsm, :chacha20, bytes(32), encrypt: true, decrypt: true)
      mechanism = {:chacha20_poly1305, nonce: bytes(12)}
      ciphertext = Cryptoki.encrypt!(hsm, key, mechanism, data = bytes(100_000))
      assert Cryptoki.decrypt!(hsm, key, mechanism, {:stream, chunks(ciphertext)}) == data
    end
  end

  defp there_and_back(hsm, key, mechanism, data, ciphertext) do
    assert Cryptoki.encrypt!(hsm, key, mechanism, data) == ciphertext
    assert Cryptoki.encrypt!(hsm, key, mechanism, {:stream, chunks(data)}) == ciphertext
    assert Cryptoki.decrypt!(hsm, key, mechanism, ciphertext) == data
    assert Cryptoki.decrypt!(hsm, key, mechanism, {:stream, chunks(ciphertext)}) == data
  end

  defp refuses_changes(hsm, key, mechanism, ciphertext) do
    assert_refused(Cryptoki.decrypt(hsm, key, mechanism, flip(ciphertext)))

    assert_refused(
      Cryptoki.decrypt(hsm, key, mechanism, flip(ciphertext, byte_size(ciphertext) - 1))
    )

    assert_refused(Cryptoki.decrypt(hsm, key, mechanism, {:stream, chunks(flip(ciphertext))}))

    # Shorter than its tag: that is not left to the token.
    assert {:error, %Error{reason: :encrypted_data_len_range, code: nil}} =
             Cryptoki.decrypt(hsm, key, mechanism, binary_part(ciphertext, 0, 3))
  end

  defp outside(cipher, key, iv, data, aad, tag_size) do
    {ciphertext, tag} = :crypto.crypto_one_time_aead(cipher, key, iv, data, aad, tag_size, true)
    ciphertext <> tag
  end

  defp counting(from, count), do: for(n <- from..(from + count - 1), into: "", do: <<n>>)
end
