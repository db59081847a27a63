defmodule Cryptoki.Referee.RsaEncryptionTest do
  use Cryptoki.Test.Referee, async: true

  # RSA encryption: what the token encrypts :public_key decrypts with the same private key, and what
  # :public_key and OpenSSL encrypt the token decrypts.

  @hashes ~w[sha_1 sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512]a
  @size 256

  setup_all %{hsms: hsms} do
    otp = :public_key.generate_key({:rsa, 8 * @size, 65_537})

    keys(hsms, fn hsm, _token ->
      template = [modulus_bits: 8 * @size, encrypt: true, decrypt: true]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)

      %{
        public: public,
        private: private,
        public_key: Cryptoki.public_key!(hsm, public),
        otp: otp,
        imported: Cryptoki.create!(hsm, rsa_private(otp) ++ [decrypt: true]),
        imported_public: Cryptoki.create!(hsm, rsa_public(otp) ++ [encrypt: true])
      }
    end)
  end

  on_each_token do
    check "rsa_pkcs", [rsa_pkcs: [:encrypt, :decrypt]], %{hsm: hsm} = keys do
      most = @size - 11

      for size <- [0, 1, 15, 16, 17, most, :rand.uniform(most)], data = bytes(size) do
        ciphertext = Cryptoki.encrypt!(hsm, keys.imported_public, :rsa_pkcs, data)
        assert :public_key.decrypt_private(ciphertext, keys.otp) == data
        assert Cryptoki.decrypt!(hsm, keys.imported, :rsa_pkcs, ciphertext) == data

        ciphertext = :public_key.encrypt_public(data, keys.public_key)
        assert Cryptoki.decrypt!(hsm, keys.private, :rsa_pkcs, ciphertext) == data
      end

      ciphertext = OpenSSL.encrypt(keys.public_key, :rsa_pkcs1, "text")
      assert Cryptoki.decrypt!(hsm, keys.private, :rsa_pkcs, ciphertext) == "text"

      assert {:error, %Error{reason: :data_len_range}} =
               Cryptoki.encrypt(hsm, keys.public, :rsa_pkcs, bytes(most + 1))

      # A library may answer other bytes instead of an error, against Bleichenbacher's attack.
      assert Cryptoki.decrypt(hsm, keys.private, :rsa_pkcs, flip(ciphertext)) != {:ok, "text"}
    end

    for hash <- @hashes do
      check "rsa_pkcs_oaep with #{hash}",
            [rsa_pkcs_oaep: [:encrypt, :decrypt]],
            [refused: [softhsm2: :arguments_bad]],
            %{hsm: hsm} = keys do
        hash = Outside.hash_name(unquote(hash))
        most = @size - 2 * byte_size(:crypto.hash(hash, "")) - 2
        both_ways(hsm, keys, {:rsa_pkcs_oaep, hash: unquote(hash)}, oaep(hash), [0, 1, 16, most])

        assert {:error, %Error{reason: :data_len_range}} =
                 Cryptoki.encrypt(
                   hsm,
                   keys.public,
                   {:rsa_pkcs_oaep, hash: unquote(hash)},
                   bytes(most + 1)
                 )
      end
    end

    check "rsa_pkcs_oaep with a label",
          [rsa_pkcs_oaep: [:encrypt, :decrypt]],
          [refused: [softhsm2: :arguments_bad]],
          %{hsm: hsm} = keys do
      mechanism = {:rsa_pkcs_oaep, hash: :sha256, label: "a label"}
      both_ways(hsm, keys, mechanism, oaep(:sha256, label: "a label"), [0, 16])

      ciphertext = Cryptoki.encrypt!(hsm, keys.public, mechanism, "text")
      another = {:rsa_pkcs_oaep, hash: :sha256, label: "another"}
      assert_refused(Cryptoki.decrypt(hsm, keys.private, another, ciphertext))
    end

    check "rsa_pkcs_oaep with another hash in MGF1",
          [rsa_pkcs_oaep: [:encrypt, :decrypt]],
          [refused: [softhsm2: :arguments_bad]],
          %{hsm: hsm} = keys do
      mechanism = {:rsa_pkcs_oaep, hash: :sha256, mgf: :mgf1_sha1}
      both_ways(hsm, keys, mechanism, oaep(:sha256, mgf: :sha), [0, 16])
    end

    check "rsa_x_509", [rsa_x_509: [:encrypt, :decrypt]], %{hsm: hsm} = keys do
      data = <<0, bytes(@size - 1)::binary>>
      raw = [rsa_padding: :rsa_no_padding]

      ciphertext = Cryptoki.encrypt!(hsm, keys.imported_public, :rsa_x_509, data)
      assert :public_key.decrypt_private(ciphertext, keys.otp, raw) == data
      ciphertext = :public_key.encrypt_public(data, keys.public_key, raw)
      assert Cryptoki.decrypt!(hsm, keys.private, :rsa_x_509, ciphertext) == data
    end
  end

  defp both_ways(hsm, keys, mechanism, options, sizes) do
    for size <- sizes, data = bytes(size) do
      ciphertext = Cryptoki.encrypt!(hsm, keys.imported_public, mechanism, data)
      assert :public_key.decrypt_private(ciphertext, keys.otp, options) == data
      assert Cryptoki.decrypt!(hsm, keys.imported, mechanism, ciphertext) == data

      ciphertext = :public_key.encrypt_public(data, keys.public_key, options)
      assert Cryptoki.decrypt!(hsm, keys.private, mechanism, ciphertext) == data
      assert_refused(Cryptoki.decrypt(hsm, keys.private, mechanism, flip(ciphertext)))
    end
  end

  defp oaep(hash, more \\ []) do
    [
      rsa_padding: :rsa_pkcs1_oaep_padding,
      rsa_oaep_md: hash,
      rsa_mgf1_md: more[:mgf] || hash,
      rsa_oaep_label: more[:label] || ""
    ]
  end
end
