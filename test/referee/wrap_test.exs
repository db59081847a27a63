defmodule Cryptoki.Referee.WrapTest do
  use Cryptoki.Test.Referee, async: true

  # Keys that go out are unwrapped outside, keys wrapped outside come in; RFC 3394 and RFC 5649.

  @kw_examples [
    {"000102030405060708090A0B0C0D0E0F", "00112233445566778899AABBCCDDEEFF",
     "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"},
    {"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
     "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
     "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"}
  ]
  @kwp_key "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"
  @kwp_examples [
    {"c37b7e6492584340bed12207808941155068f738",
     "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
    {"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"}
  ]

  @wrapping [wrap: true, unwrap: true]

  setup_all %{hsms: hsms} do
    rsa = :public_key.generate_key({:rsa, 2048, 65_537})

    keys(hsms, fn hsm, _token ->
      %{
        outside: rsa,
        rsa_public: Cryptoki.create!(hsm, rsa_public(rsa) ++ [wrap: true]),
        rsa_private: Cryptoki.create!(hsm, rsa_private(rsa) ++ [unwrap: true, token: false])
      }
    end)
  end

  on_each_token do
    check "aes_key_wrap", [aes_key_wrap: [:wrap, :unwrap]], %{hsm: hsm} do
      for {kek, key, wrapped} <- @kw_examples do
        kek = secret(hsm, :aes, hex(kek), @wrapping)
        key = secret(hsm, :aes, hex(key), encrypt: true)
        assert Cryptoki.wrap_key!(hsm, kek, :aes_key_wrap, key) == hex(wrapped)
      end

      for size <- [16, 24, 32],
          raw_kek = bytes(size),
          kek = secret(hsm, :aes, raw_kek, @wrapping) do
        raw = bytes(Enum.random([16, 24, 32]))
        blob = Cryptoki.wrap_key!(hsm, kek, :aes_key_wrap, secret(hsm, :aes, raw, encrypt: true))
        assert Outside.key_unwrap(raw_kek, blob) == {:ok, raw}
        comes_in(hsm, kek, :aes_key_wrap, Outside.key_wrap(raw_kek, raw), :aes, raw)

        raw = bytes(64)
        comes_in(hsm, kek, :aes_key_wrap, Outside.key_wrap(raw_kek, raw), :generic_secret, raw)
      end
    end

    # SoftHSM and Kryoptic name the same thing differently (PKCS #11 v3.2, section 6.16.3).
    for mechanism <- [:aes_key_wrap_kwp, :aes_key_wrap_pad] do
      check "#{mechanism}", [{mechanism, [:wrap, :unwrap]}], %{hsm: hsm} do
        for size <- [8, 16, 104, 512],
            {raw_kek, raw} = {bytes(Enum.random([16, 24, 32])), bytes(size)} do
          kwp_both_ways(hsm, unquote(mechanism), raw_kek, raw)
        end
      end

      check "#{mechanism} of any length",
            [{mechanism, [:wrap, :unwrap]}],
            [except: [softhsm2: "makes the key longer, by zeros up to a multiple of 8 bytes"]],
            %{hsm: hsm} do
        kek = secret(hsm, :aes, hex(@kwp_key), @wrapping)

        for {raw, wrapped} <- @kwp_examples do
          key = secret(hsm, :generic_secret, hex(raw), sign: true)
          assert Cryptoki.wrap_key!(hsm, kek, unquote(mechanism), key) == hex(wrapped)
        end

        for size <- [1, 7, 9, 100, 513],
            do: kwp_both_ways(hsm, unquote(mechanism), bytes(32), bytes(size))
      end

      check "#{mechanism} of private keys", [{mechanism, [:wrap, :unwrap]}], %{hsm: hsm} = keys do
        raw_kek = bytes(32)
        kek = secret(hsm, :aes, raw_kek, @wrapping)

        private_keys(hsm, keys.outside, kek, unquote(mechanism), fn
          :wrap, bytes -> Outside.key_wrap_pad(raw_kek, bytes)
          :unwrap, blob -> elem(Outside.key_unwrap_pad(raw_kek, blob), 1)
        end)
      end
    end

    # Kryoptic's and NSS's own: PKCS #7 padding, then RFC 3394.
    check "aes_key_wrap_pkcs7", [aes_key_wrap_pkcs7: [:wrap, :unwrap]], %{hsm: hsm} do
      raw_kek = bytes(32)
      kek = secret(hsm, :aes, raw_kek, @wrapping)

      # Less would be one half block when padded, and RFC 3394 begins with two.
      for size <- [8, 9, 15, 16, 100], raw = bytes(size) do
        key = secret(hsm, :generic_secret, raw, sign: true)
        blob = Cryptoki.wrap_key!(hsm, kek, :aes_key_wrap_pkcs7, key)
        assert Outside.key_unwrap(raw_kek, blob) == {:ok, Outside.pkcs7(raw, 8)}
        wrapped = Outside.key_wrap(raw_kek, Outside.pkcs7(raw, 8))
        comes_in(hsm, kek, :aes_key_wrap_pkcs7, wrapped, :generic_secret, raw)
      end
    end

    check "aes_cbc_pad", [aes_cbc_pad: [:wrap, :unwrap]], %{hsm: hsm} = keys do
      {raw_kek, iv} = {bytes(32), bytes(16)}
      kek = secret(hsm, :aes, raw_kek, @wrapping)
      mechanism = {:aes_cbc_pad, iv: iv}

      outside = fn
        :wrap, raw ->
          :crypto.crypto_one_time(:aes_256_cbc, raw_kek, iv, Outside.pkcs7(raw, 16), true)

        :unwrap, blob ->
          padded = :crypto.crypto_one_time(:aes_256_cbc, raw_kek, iv, blob, false)
          binary_part(padded, 0, byte_size(padded) - :binary.last(padded))
      end

      for size <- [1, 15, 16, 17, 100], raw = bytes(size) do
        blob =
          Cryptoki.wrap_key!(hsm, kek, mechanism, secret(hsm, :generic_secret, raw, sign: true))

        assert outside.(:unwrap, blob) == raw
        comes_in(hsm, kek, mechanism, outside.(:wrap, raw), :generic_secret, raw)
      end

      private_keys(hsm, keys.outside, kek, mechanism, outside)
    end

    for mode <- [:ecb, :cbc, :ctr] do
      check "aes_#{mode}", [{:"aes_#{mode}", [:wrap, :unwrap]}], %{hsm: hsm} do
        {raw_kek, iv, raw} = {bytes(16), bytes(16), bytes(32)}
        kek = secret(hsm, :aes, raw_kek, @wrapping)
        key = secret(hsm, :aes, raw, encrypt: true)

        mechanism =
          if unquote(mode) == :ecb, do: :aes_ecb, else: {:"aes_#{unquote(mode)}", iv: iv}

        iv = if unquote(mode) == :ecb, do: "", else: iv

        wrapped = :crypto.crypto_one_time(:"aes_128_#{unquote(mode)}", raw_kek, iv, raw, true)
        assert Cryptoki.wrap_key!(hsm, kek, mechanism, key) == wrapped
        comes_in(hsm, kek, mechanism, wrapped, :aes, raw)
      end
    end

    for mode <- [:gcm, :ccm] do
      check "aes_#{mode}", [{:"aes_#{mode}", [:wrap, :unwrap]}], %{hsm: hsm} do
        {raw_kek, iv, aad, raw} = {bytes(32), bytes(12), bytes(20), bytes(32)}
        kek = secret(hsm, :aes, raw_kek, @wrapping)
        key = secret(hsm, :aes, raw, encrypt: true)
        cipher = :"aes_256_#{unquote(mode)}"
        {text, tag} = :crypto.crypto_one_time_aead(cipher, raw_kek, iv, raw, aad, 16, true)

        mechanism =
          if unquote(mode) == :gcm,
            do: {:aes_gcm, iv: iv, aad: aad},
            else: {:aes_ccm, nonce: iv, aad: aad, data_len: 32}

        assert Cryptoki.wrap_key!(hsm, kek, mechanism, key) == text <> tag
        comes_in(hsm, kek, mechanism, text <> tag, :aes, raw)
        template = [class: :secret_key, key_type: :aes]
        assert_refused(Cryptoki.unwrap_key(hsm, kek, mechanism, flip(text <> tag), template))
      end
    end

    check "rsa_pkcs", [rsa_pkcs: [:wrap, :unwrap]], %{hsm: hsm} = keys do
      for size <- [16, 24, 32], raw = bytes(size), key = secret(hsm, :aes, raw, encrypt: true) do
        blob = Cryptoki.wrap_key!(hsm, keys.rsa_public, :rsa_pkcs, key)
        assert :public_key.decrypt_private(blob, keys.outside) == raw
        wrapped = :public_key.encrypt_public(raw, outside_public(keys.outside))
        comes_in(hsm, keys.rsa_private, :rsa_pkcs, wrapped, :aes, raw)
      end
    end

    for {hash, name} <- [sha_1: :sha, sha256: :sha256, sha512: :sha512] do
      check "rsa_pkcs_oaep with #{hash}",
            [rsa_pkcs_oaep: [:wrap, :unwrap]],
            [refused: [softhsm2: [:arguments_bad, :mechanism_param_invalid]]],
            %{hsm: hsm} = keys do
        mechanism = {:rsa_pkcs_oaep, hash: unquote(hash)}

        options = [
          rsa_padding: :rsa_pkcs1_oaep_padding,
          rsa_oaep_md: unquote(name),
          rsa_mgf1_md: unquote(name)
        ]

        for size <- [16, 32], raw = bytes(size), key = secret(hsm, :aes, raw, encrypt: true) do
          blob = Cryptoki.wrap_key!(hsm, keys.rsa_public, mechanism, key)
          assert :public_key.decrypt_private(blob, keys.outside, options) == raw
          wrapped = :public_key.encrypt_public(raw, outside_public(keys.outside), options)
          comes_in(hsm, keys.rsa_private, mechanism, wrapped, :aes, raw)
        end
      end
    end

    check "what may not leave stays", [aes_key_wrap: :wrap], %{hsm: hsm} do
      kek = secret(hsm, :aes, bytes(32), @wrapping)
      stays = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 32)

      assert {:error, %Error{reason: :key_unextractable}} =
               Cryptoki.wrap_key(hsm, kek, :aes_key_wrap, stays)

      no_kek = secret(hsm, :aes, bytes(32), wrap: false, encrypt: true)
      key = secret(hsm, :aes, bytes(32), encrypt: true)
      assert_refused(Cryptoki.wrap_key(hsm, no_kek, :aes_key_wrap, key))
    end
  end

  # What was wrapped outside is the same key in the token; with a byte changed it is none, or another.
  defp comes_in(hsm, kek, mechanism, wrapped, key_type, raw) do
    template = [class: :secret_key, key_type: key_type, sensitive: false, extractable: true]
    key = Cryptoki.unwrap_key!(hsm, kek, mechanism, wrapped, [label: "came in"] ++ template)
    assert value(hsm, key) == raw
    assert {key.label, key.key_type} == {"came in", key_type}

    case Cryptoki.unwrap_key(hsm, kek, mechanism, flip(wrapped), template) do
      {:ok, another} -> assert value(hsm, another) != raw
      {:error, error} -> assert error.code != nil
    end
  end

  defp kwp_both_ways(hsm, mechanism, raw_kek, raw) do
    kek = secret(hsm, :aes, raw_kek, @wrapping)
    key = secret(hsm, :generic_secret, raw, sign: true)
    blob = Cryptoki.wrap_key!(hsm, kek, mechanism, key)
    assert Outside.key_unwrap_pad(raw_kek, blob) == {:ok, raw}
    comes_in(hsm, kek, mechanism, Outside.key_wrap_pad(raw_kek, raw), :generic_secret, raw)
  end

  # Private keys are wrapped as PrivateKeyInfo (PKCS #8).
  defp private_keys(hsm, rsa, kek, mechanism, outside) do
    ec = :public_key.generate_key({:namedCurve, :secp256r1})
    {scalar, point} = {elem(ec, 2), elem(ec, 4)}
    leaves = [sign: true, sensitive: false, extractable: true]

    ec_private =
      Cryptoki.create!(
        hsm,
        [class: :private_key, key_type: :ec, curve: :secp256r1, value: scalar] ++ leaves
      )

    rsa_private = Cryptoki.create!(hsm, rsa_private(rsa) ++ leaves)

    blob = Cryptoki.wrap_key!(hsm, kek, mechanism, rsa_private)
    assert pkcs8(outside.(:unwrap, blob)) == rsa

    blob = Cryptoki.wrap_key!(hsm, kek, mechanism, ec_private)
    assert elem(pkcs8(outside.(:unwrap, blob)), 2) == scalar

    template = [class: :private_key, key_type: :rsa, sign: true, label: "rsa"]
    blob = outside.(:wrap, der(rsa))
    key = Cryptoki.unwrap_key!(hsm, kek, mechanism, blob, template)
    signature = Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, "data")
    assert signature == :public_key.sign("data", :sha256, rsa)

    template = [class: :private_key, key_type: :ec, sign: true, label: "ec"]
    blob = outside.(:wrap, der(ec))
    key = Cryptoki.unwrap_key!(hsm, kek, mechanism, blob, template)
    digest = :crypto.hash(:sha256, "data")
    der = Cryptoki.sign!(hsm, key, :ecdsa, digest, format: :der)
    assert :crypto.verify(:ecdsa, :sha256, "data", der, [point, :secp256r1])
  end

  defp pkcs8(der), do: :public_key.pem_entry_decode({:PrivateKeyInfo, der, :not_encrypted})

  defp der(private_key) do
    {:PrivateKeyInfo, der, :not_encrypted} =
      :public_key.pem_entry_encode(:PrivateKeyInfo, private_key)

    der
  end

  defp outside_public({:RSAPrivateKey, _version, n, e, _d, _p, _q, _dp, _dq, _qi, _others}),
    do: {:RSAPublicKey, n, e}
end
