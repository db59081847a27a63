defmodule Cryptoki.Referee.RsaSignatureTest do
  use Cryptoki.Test.Referee, async: true

  # RSA signatures: what the token signs :crypto and OpenSSL verify, what they sign the token verifies,
  # and with the same private key on both sides PKCS #1 v1.5 gives the same bytes.

  @hashes ~w[md5 sha_1 sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512]a

  setup_all %{hsms: hsms} do
    otp = :public_key.generate_key({:rsa, 2048, 65_537})

    keys(hsms, fn hsm, _token ->
      template = [modulus_bits: 2048, sign: true, verify: true]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)

      %{
        public: public,
        private: private,
        public_key: Cryptoki.public_key!(hsm, public),
        otp: otp,
        imported: Cryptoki.create!(hsm, rsa_private(otp) ++ [sign: true]),
        imported_public: Cryptoki.create!(hsm, rsa_public(otp) ++ [verify: true])
      }
    end)
  end

  on_each_token do
    for hash <- @hashes do
      spelt = hash |> to_string() |> String.replace("sha_1", "sha1")
      v1_5 = :"#{spelt}_rsa_pkcs"
      pss = :"#{spelt}_rsa_pkcs_pss"

      check "#{v1_5}", [{v1_5, [:sign, :verify]}], %{hsm: hsm} = keys do
        mechanism = unquote(v1_5)
        hash = Outside.hash_name(unquote(hash))

        for size <- sizes() do
          data = bytes(size)
          signature = Cryptoki.sign!(hsm, keys.private, mechanism, data)
          assert :public_key.verify(data, hash, signature, keys.public_key)

          assert Cryptoki.sign!(hsm, keys.private, mechanism, {:stream, chunks(data)}) ==
                   signature

          assert Cryptoki.verify(hsm, keys.public, mechanism, data, signature) == :ok

          assert Cryptoki.verify(hsm, keys.public, mechanism, {:stream, chunks(data)}, signature) ==
                   :ok

          assert_refused(Cryptoki.verify(hsm, keys.public, mechanism, data, flip(signature)))
          refute Cryptoki.valid?(hsm, keys.public, mechanism, [data, 0], signature)
        end

        data = bytes(1000)
        signature = :public_key.sign(data, hash, keys.otp)
        assert Cryptoki.sign!(hsm, keys.imported, mechanism, data) == signature
        assert Cryptoki.verify(hsm, keys.imported_public, mechanism, data, signature) == :ok
        refute Cryptoki.valid?(hsm, keys.imported_public, mechanism, flip(data), signature)

        signature = Cryptoki.sign!(hsm, keys.private, mechanism, data)

        assert OpenSSL.valid?(
                 keys.public_key,
                 signature,
                 {:rsa_pkcs1, hash_for_openssl(hash)},
                 data
               )

        refute OpenSSL.valid?(
                 keys.public_key,
                 signature,
                 {:rsa_pkcs1, hash_for_openssl(hash)},
                 flip(data)
               )
      end

      check "#{pss}", [{pss, [:sign, :verify]}], %{hsm: hsm} = keys do
        hash = Outside.hash_name(unquote(hash))
        size = byte_size(:crypto.hash(hash, ""))

        for salt_len <- [size, 0, 10], data = bytes(:rand.uniform(5000)) do
          mechanism = {unquote(pss), salt_len: salt_len}
          options = pss(hash, salt_len)

          signature = Cryptoki.sign!(hsm, keys.private, mechanism, data)
          assert :public_key.verify(data, hash, signature, keys.public_key, options)
          refute :public_key.verify(flip(data), hash, signature, keys.public_key, options)
          assert Cryptoki.verify(hsm, keys.public, mechanism, data, signature) == :ok
          assert_refused(Cryptoki.verify(hsm, keys.public, mechanism, data, flip(signature)))

          signature = :public_key.sign(data, hash, keys.otp, options)
          assert Cryptoki.verify(hsm, keys.imported_public, mechanism, data, signature) == :ok
          stream = {:stream, chunks(data)}
          assert Cryptoki.verify(hsm, keys.imported_public, mechanism, stream, signature) == :ok
          refute Cryptoki.valid?(hsm, keys.imported_public, mechanism, flip(data), signature)
        end

        # What is not said: hash and MGF1 of the mechanism's hash, a salt as long as its digest.
        data = bytes(100)
        signature = Cryptoki.sign!(hsm, keys.private, unquote(pss), data)

        assert OpenSSL.valid?(
                 keys.public_key,
                 signature,
                 {:rsa_pss, hash_for_openssl(hash)},
                 data
               )
      end

      check "rsa_pkcs_pss on a digest of #{hash}",
            [{pss, :sign}, rsa_pkcs_pss: [:sign, :verify]],
            %{hsm: hsm} = keys do
        hash = Outside.hash_name(unquote(hash))
        data = bytes(100)
        digest = :crypto.hash(hash, data)
        mechanism = {:rsa_pkcs_pss, hash: unquote(hash)}

        signature = Cryptoki.sign!(hsm, keys.private, mechanism, digest)
        options = pss(hash, byte_size(digest))
        assert :public_key.verify(data, hash, signature, keys.public_key, options)
        assert Cryptoki.verify(hsm, keys.public, mechanism, digest, signature) == :ok
        assert_refused(Cryptoki.verify(hsm, keys.public, mechanism, flip(digest), signature))
        assert_refused(Cryptoki.sign(hsm, keys.private, mechanism, digest <> "x"))
      end
    end

    check "PSS with another hash in MGF1",
          [:sha256_rsa_pkcs_pss],
          [refused: [softhsm2: :arguments_bad]],
          %{hsm: hsm} = keys do
      mechanism = {:sha256_rsa_pkcs_pss, mgf: :mgf1_sha512, salt_len: 20}
      options = pss(:sha256, 20, :sha512)
      data = bytes(100)
      signature = Cryptoki.sign!(hsm, keys.private, mechanism, data)
      assert :public_key.verify(data, :sha256, signature, keys.public_key, options)
    end

    check "rsa_pkcs, on whatever it is given", [rsa_pkcs: [:sign, :verify]], %{hsm: hsm} = keys do
      # Not 0 bytes: Kryoptic signs them, but OpenSSL below it never finds such a signature good.
      for size <- [1, 16, 245], data = bytes(size) do
        signature = Cryptoki.sign!(hsm, keys.private, :rsa_pkcs, data)
        assert :public_key.decrypt_public(signature, keys.public_key) == data
        assert Cryptoki.verify(hsm, keys.public, :rsa_pkcs, data, signature) == :ok
        assert_refused(Cryptoki.verify(hsm, keys.public, :rsa_pkcs, data, flip(signature)))
      end

      assert {:error, %Error{reason: :data_len_range}} =
               Cryptoki.sign(hsm, keys.private, :rsa_pkcs, bytes(246))

      # A DigestInfo made by us is the mechanism with the hash.
      data = bytes(100)
      info = hex("3031300d060960864801650304020105000420") <> :crypto.hash(:sha256, data)
      signature = Cryptoki.sign!(hsm, keys.private, :rsa_pkcs, info)
      assert :public_key.verify(data, :sha256, signature, keys.public_key)
    end

    check "rsa_x_509", [rsa_x_509: [:sign, :verify]], %{hsm: hsm} = keys do
      data = <<0, bytes(255)::binary>>
      signature = Cryptoki.sign!(hsm, keys.private, :rsa_x_509, data)
      padding = [rsa_padding: :rsa_no_padding]
      assert :public_key.decrypt_public(signature, keys.public_key, padding) == data
      assert Cryptoki.verify(hsm, keys.public, :rsa_x_509, data, signature) == :ok
      assert_refused(Cryptoki.verify(hsm, keys.public, :rsa_x_509, data, flip(signature)))

      signature = Cryptoki.sign!(hsm, keys.imported, :rsa_x_509, data)
      assert :public_key.encrypt_private(data, keys.otp, padding) == signature
    end
  end

  defp pss(hash, salt_len, mgf \\ nil),
    do: [rsa_padding: :rsa_pkcs1_pss_padding, rsa_pss_saltlen: salt_len, rsa_mgf1_md: mgf || hash]

  defp hash_for_openssl(:sha), do: :sha1
  defp hash_for_openssl(hash), do: hash
end
