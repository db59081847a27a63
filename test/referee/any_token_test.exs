defmodule Cryptoki.Referee.AnyTokenTest do
  # What every token can be asked for, hardware too: keys that are made inside, stay there and are
  # used from outside. With `bin/test --tokens all` on the TPM, NSS and opencryptoki as well.
  # Not async, as Cryptoki.Referee.Pkcs11ToolTest.
  use Cryptoki.Test.Referee, async: false, tokens: :every

  alias Cryptoki.Test.{Scratch, SoftHSM, SSH, TLS}

  @rsa [
    rsa_pkcs: {:pkcs1, :none},
    sha1_rsa_pkcs: {:pkcs1, :sha},
    sha256_rsa_pkcs: {:pkcs1, :sha256},
    sha384_rsa_pkcs: {:pkcs1, :sha384},
    sha512_rsa_pkcs: {:pkcs1, :sha512},
    sha256_rsa_pkcs_pss: {:pss, :sha256},
    sha384_rsa_pkcs_pss: {:pss, :sha384}
  ]
  @ecdsa [ecdsa_sha1: :sha, ecdsa_sha256: :sha256, ecdsa_sha384: :sha384, ecdsa_sha512: :sha512]
  @hashes [sha_1: :sha, sha256: :sha256, sha384: :sha384, sha512: :sha512, md5: :md5]
  @macs [sha_1_hmac: :sha, sha256_hmac: :sha256, sha384_hmac: :sha384, sha512_hmac: :sha512]

  # One pair of each for all checks: a TPM needs seconds to make an RSA key.
  setup_all %{hsms: hsms} do
    keys(hsms, fn hsm, token ->
      %{
        rsa:
          pair(hsm, token, :rsa_pkcs_key_pair_gen, modulus_bits: 2048, sign: true, decrypt: true),
        ec: pair(hsm, token, :ec_key_pair_gen, curve: :secp256r1, sign: true)
      }
    end)
  end

  on_each_token do
    for {kind, mechanism, generation} <- [
          {:rsa, :sha256_rsa_pkcs, :rsa_pkcs_key_pair_gen},
          {:ec, :ecdsa, :ec_key_pair_gen}
        ] do
      check "CMS and SSH with #{mechanism}", [{mechanism, :sign}, generation], context do
        {public, private} = context[unquote(kind)]
        authority = TLS.authority(Path.join(SoftHSM.directory(), "any-token"))
        certificate = TLS.certificate(authority, public, "any")
        der = Cryptoki.CMS.sign!(context.hsm, private, certificate, "text")
        assert OpenSSL.cms(der, "#{authority}/ca.pem") == "text"

        opts = [type: :user, key_id: "alice", principals: ["alice"], days: 1, hash: :sha256]
        line = Cryptoki.SSH.certificate!(context.hsm, private, public, opts)
        assert SSH.show(Scratch.directory("ssh"), line) =~ Cryptoki.SSH.fingerprint!(public)
      end
    end

    # opencryptoki has it since 3.25.
    check "keys come in by rsa_aes_key_wrap",
          [{:rsa_aes_key_wrap, :unwrap}, :rsa_pkcs_key_pair_gen],
          %{hsm: hsm} do
      options = [
        modulus_bits: 2048,
        public: [encrypt: true],
        private: [unwrap: true, decrypt: true]
      ]

      {wrapping, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, options)
      {aes, value} = {bytes(32), bytes(32)}
      oaep = [rsa_padding: :rsa_pkcs1_oaep_padding, rsa_oaep_md: :sha256, rsa_mgf1_md: :sha256]
      sealed = :public_key.encrypt_public(aes, Cryptoki.public_key!(hsm, wrapping), oaep)
      blob = sealed <> Cryptoki.KeyWrap.wrap_padded(aes, value)
      mechanism = {:rsa_aes_key_wrap, aes_key_bits: 256, oaep: [hash: :sha256]}
      template = [class: :secret_key, key_type: :generic_secret, sign: true]
      key = Cryptoki.unwrap_key!(hsm, private, mechanism, blob, template)
      data = bytes(100)

      assert Cryptoki.sign!(hsm, key, :sha256_hmac, data) ==
               :crypto.mac(:hmac, :sha256, value, data)

      # What is imported so.
      pair = :public_key.generate_key({:namedCurve, :secp256r1})
      {:ok, signer} = Cryptoki.import_key(hsm, pair, [label: "wrapped", id: "w"], how: :unwrap)
      signature = Cryptoki.sign!(hsm, signer, :ecdsa, :crypto.hash(:sha256, data), format: :der)
      {:ok, %{public: public}} = Cryptoki.PrivateKey.Record.read(pair)
      assert :public_key.verify(data, :sha256, signature, public)

      {:ok, cipher} = Cryptoki.import_key(hsm, {:aes, value}, [label: "wrapped"], how: :unwrap)
      iv = bytes(16)
      sealed = :crypto.crypto_one_time(:aes_256_cbc, value, iv, :binary.copy("x", 48), true)
      assert Cryptoki.encrypt!(hsm, cipher, {:aes_cbc, iv: iv}, :binary.copy("x", 48)) == sealed
    end

    for {mechanism, {padding, hash}} <- @rsa do
      check "#{mechanism}", [{mechanism, :sign}, :rsa_pkcs_key_pair_gen], %{hsm: hsm, rsa: rsa} do
        {public, private} = rsa
        data = if unquote(hash) == :none, do: bytes(32), else: bytes(1000)
        signature = Cryptoki.sign!(hsm, private, unquote(mechanism), data)
        options = if unquote(padding) == :pss, do: [rsa_padding: :rsa_pkcs1_pss_padding], else: []
        verify = &:public_key.verify(&1, unquote(hash), signature, public, options)
        assert verify.(if(unquote(hash) == :none, do: {:digest, data}, else: data))
        refute verify.(if(unquote(hash) == :none, do: {:digest, flip(data)}, else: flip(data)))
      end
    end

    for {mechanism, hash} <- @ecdsa do
      check "#{mechanism}", [{:ecdsa, :sign}, :ec_key_pair_gen], %{
        hsm: hsm,
        ec: {public, private}
      } do
        data = bytes(1000)
        signature = Cryptoki.sign!(hsm, private, unquote(mechanism), data, format: :der)
        assert :public_key.verify(data, unquote(hash), signature, public)
        refute :public_key.verify(flip(data), unquote(hash), signature, public)
      end
    end

    check "rsa_pkcs, decrypted", [rsa_pkcs: :decrypt], %{hsm: hsm, rsa: {public, private}} do
      ciphertext = :public_key.encrypt_public(data = bytes(40), public)
      assert Cryptoki.decrypt!(hsm, private, :rsa_pkcs, ciphertext) == data
    end

    for hash <- [:sha_1, :sha256] do
      check "rsa_pkcs_oaep with #{hash}, decrypted",
            [rsa_pkcs_oaep: :decrypt],
            [refused: [softhsm2: :arguments_bad]],
            %{hsm: hsm, rsa: {public, private}} do
        name = Outside.hash_name(unquote(hash))

        options = [
          rsa_padding: :rsa_pkcs1_oaep_padding,
          rsa_oaep_md: name,
          rsa_mgf1_md: name
        ]

        ciphertext = :public_key.encrypt_public(data = bytes(40), public, options)
        mechanism = {:rsa_pkcs_oaep, hash: unquote(hash)}
        assert Cryptoki.decrypt!(hsm, private, mechanism, ciphertext) == data
      end
    end

    for {mechanism, hash} <- @hashes do
      check "#{mechanism}", [{mechanism, :digest}], %{hsm: hsm} do
        for size <- sizes(), data = bytes(size) do
          assert Cryptoki.digest!(hsm, unquote(mechanism), data) ==
                   :crypto.hash(unquote(hash), data)

          stream = {:stream, chunks(data)}

          assert Cryptoki.digest!(hsm, unquote(mechanism), stream) ==
                   :crypto.hash(unquote(hash), data)
        end
      end
    end

    for {mechanism, hash} <- @macs do
      check "#{mechanism}",
            [{mechanism, :sign}],
            [refused: [tpm2: :attribute_value_invalid]],
            %{hsm: hsm} do
        key = secret(hsm, :generic_secret, raw = bytes(64), sign: true)
        data = bytes(1000)

        assert Cryptoki.sign!(hsm, key, unquote(mechanism), data) ==
                 :crypto.mac(:hmac, unquote(hash), raw, data)
      end
    end

    for {mechanism, cipher} <- [aes_cbc: :aes_256_cbc, aes_ctr: :aes_256_ctr] do
      check "#{mechanism}",
            [{mechanism, [:encrypt, :decrypt]}],
            [refused: [tpm2: :attribute_value_invalid]],
            %{hsm: hsm} do
        key = secret(hsm, :aes, raw = bytes(32), encrypt: true, decrypt: true)
        {data, iv} = {bytes(4096), bytes(16)}
        ciphertext = Cryptoki.encrypt!(hsm, key, {unquote(mechanism), iv: iv}, data)
        assert ciphertext == :crypto.crypto_one_time(unquote(cipher), raw, iv, data, true)
        assert Cryptoki.decrypt!(hsm, key, {unquote(mechanism), iv: iv}, ciphertext) == data
      end
    end

    check "random bytes", [], %{hsm: hsm} do
      assert [32, 32] = for(_ <- 1..2, do: byte_size(Cryptoki.random!(hsm, 32)))
      assert Cryptoki.random!(hsm, 32) != Cryptoki.random!(hsm, 32)
    end

    check "keys are found by what they are called, and pkcs11-tool sees them",
          [:rsa_pkcs_key_pair_gen],
          [except: [nss: "pkcs11-tool cannot hand NSS its configuration"]],
          %{hsm: hsm, rsa: {_public, private}} do
      assert {:ok, %{id: id, token: true}} = Cryptoki.find_one(hsm, Cryptoki.Key.to_uri(private))
      assert id == private.id

      tool =
        ~w(--module #{@token.library} --token-label #{@token.label} --login --pin #{SoftHSM.pin()}) ++
          ~w(--list-objects --type privkey)

      assert {text, 0} =
               System.cmd("pkcs11-tool", tool, env: @token.environment, stderr_to_stdout: true)

      assert text =~ private.label
      # OpenSC 0.27 writes it with colons, a small one as a number.
      hex = Base.encode16(id, case: :lower)
      assert String.replace(text, ":", "") =~ ~r/ID +(\d+ \(0x)?#{hex}/
    end
  end

  # A pair on the token, or nothing where it makes none.
  defp pair(hsm, token, mechanism, template) do
    if Token.has?(token, mechanism) do
      id = <<System.unique_integer([:positive])::32>>
      common = [label: "any #{Base.encode16(id)}", id: id, token: true]

      {public, private} =
        Cryptoki.generate_key_pair!(hsm, mechanism, common ++ template, timeout: :infinity)

      {Cryptoki.public_key!(hsm, public), private}
    end
  end
end
