defmodule Cryptoki.Referee.ProtocolTest do
  use Cryptoki.Test.Referee, async: true

  # The derivations of TLS (RFC 2246, 5246, 5705, 7627) and IKE (RFC 2409, 7296), computed from their texts.

  @readable [class: :secret_key, key_type: :generic_secret, sensitive: false, extractable: true]
  @hashes [sha256: :sha256_hmac, sha384: :sha384_hmac, sha512: :sha512_hmac]

  on_each_token do
    for {hash, _prf} <- @hashes, hash != :sha512 do
      check "TLS 1.2 master key with #{hash}",
            [:tls12_master_key_derive, :tls12_master_key_derive_dh],
            %{hsm: hsm} do
        {client, server} = {bytes(32), bytes(32)}
        arguments = [hash: unquote(hash), client_random: client, server_random: server]
        expected = &prf(unquote(hash), &1, "master secret" <> client <> server, 48)

        {base, raw} = base(hsm, <<3, 3>> <> bytes(46))
        key = Cryptoki.derive_key!(hsm, base, {:tls12_master_key_derive, arguments}, @readable)
        assert value(hsm, key) == expected.(raw)

        {base, raw} = base(hsm, bytes(48))
        key = Cryptoki.derive_key!(hsm, base, {:tls12_master_key_derive_dh, arguments}, @readable)
        assert value(hsm, key) == expected.(raw)
      end

      check "TLS 1.2 extended master key with #{hash}",
            [:tls12_extended_master_key_derive, :tls12_extended_master_key_derive_dh],
            %{hsm: hsm} do
        session_hash = :crypto.hash(unquote(hash), "the handshake so far")
        arguments = [hash: unquote(hash), session_hash: session_hash]
        expected = &prf(unquote(hash), &1, "extended master secret" <> session_hash, 48)

        {base, raw} = base(hsm, <<3, 3>> <> bytes(46))
        mechanism = {:tls12_extended_master_key_derive, arguments}
        assert value(hsm, Cryptoki.derive_key!(hsm, base, mechanism, @readable)) == expected.(raw)

        {base, raw} = base(hsm, bytes(48))
        mechanism = {:tls12_extended_master_key_derive_dh, arguments}
        assert value(hsm, Cryptoki.derive_key!(hsm, base, mechanism, @readable)) == expected.(raw)
      end

      check "TLS 1.2 key block with #{hash}",
            [:tls12_key_and_mac_derive, :tls12_key_safe_derive],
            %{hsm: hsm} do
        {master, raw} = base(hsm, bytes(48))
        {client, server} = {bytes(32), bytes(32)}
        sizes = [mac_bits: 256, key_bits: 128, iv_bits: 32]
        random = [client_random: client, server_random: server]
        arguments = [hash: unquote(hash)] ++ sizes ++ random
        mechanism = {:tls12_key_and_mac_derive, arguments}
        # RFC 5246, section 6.3.
        block = prf(unquote(hash), raw, "key expansion" <> server <> client, 2 * (32 + 16 + 4))

        <<client_mac::binary-32, server_mac::binary-32, client_key::binary-16,
          server_key::binary-16, client_iv::binary-4, server_iv::binary-4>> = block

        made = Cryptoki.derive_key!(hsm, master, mechanism, @readable)
        assert %{client_iv: ^client_iv, server_iv: ^server_iv} = made

        for {name, expected} <- [
              client_mac: client_mac,
              server_mac: server_mac,
              client_key: client_key,
              server_key: server_key
            ],
            do: assert({name, value(hsm, made[name])} == {name, expected})

        # The same without IVs and MAC keys.
        mechanism = {:tls12_key_safe_derive, Keyword.drop(arguments, [:mac_bits, :iv_bits])}
        block = prf(unquote(hash), raw, "key expansion" <> server <> client, 2 * 16)
        made = Cryptoki.derive_key!(hsm, master, mechanism, @readable)
        assert %{client_mac: nil, server_mac: nil, client_iv: nil, server_iv: nil} = made
        assert value(hsm, made.client_key) <> value(hsm, made.server_key) == block
      end

      check "TLS 1.2 exporter with #{hash}", [:tls_kdf, tls12_kdf: :derive], %{hsm: hsm} do
        {base, raw} = base(hsm, bytes(48))
        {client, server, context} = {bytes(32), bytes(32), bytes(10)}

        # The length in front of a context (RFC 5705, section 4) is the caller's.
        arguments = [
          prf: unquote(hash),
          label: "EXPORTER-test",
          client_random: client,
          server_random: server
        ]

        for {more, seed} <- [
              {[], client <> server},
              {[context: <<10::16>> <> context], client <> server <> <<10::16>> <> context}
            ],
            size <- [16, 100] do
          template = [value_len: size] ++ @readable
          expected = prf(unquote(hash), raw, "EXPORTER-test" <> seed, size)

          for mechanism <- [:tls12_kdf, :tls_kdf] do
            mechanism = {mechanism, arguments ++ more}
            assert value(hsm, Cryptoki.derive_key!(hsm, base, mechanism, template)) == expected
          end
        end
      end

      check "TLS 1.2 finished with #{hash}", [:tls_mac, tls12_mac: [:sign, :verify]], %{hsm: hsm} do
        {base, raw} = base(hsm, bytes(48), derive: true, sign: true, verify: true)
        handshake = :crypto.hash(unquote(hash), "the handshake")

        for {side, label} <- [client: "client finished", server: "server finished"] do
          mechanism = {:tls12_mac, prf: unquote(hash), mac_len: 12, side: side}
          mac = Cryptoki.sign!(hsm, base, mechanism, handshake)
          assert mac == prf(unquote(hash), raw, label <> handshake, 12)
          assert Cryptoki.verify(hsm, base, mechanism, handshake, mac) == :ok
          assert_refused(Cryptoki.verify(hsm, base, mechanism, handshake, flip(mac)))
          assert Cryptoki.sign!(hsm, base, put_elem(mechanism, 0, :tls_mac), handshake) == mac
        end
      end
    end

    for {hash, prf} <- @hashes do
      check "IKE 2: SKEYSEED with #{hash}", [ike_prf_derive: :derive], %{hsm: hsm} do
        {ni, nr} = {bytes(32), bytes(32)}
        {base, raw} = base(hsm, bytes(64))
        hmac = &Outside.hmac(unquote(hash), &1, &2)
        size = byte_size(hmac.("", ""))
        template = [value_len: size] ++ @readable
        arguments = [prf: unquote(prf), ni: ni, nr: nr]

        # RFC 7296, section 2.14: the nonces are the key; for a pre-shared key of IKE 1 they are not.
        mechanism = {:ike_prf_derive, [data_as_key: true] ++ arguments}
        key = Cryptoki.derive_key!(hsm, base, mechanism, template)
        assert value(hsm, key) == hmac.(ni <> nr, raw)

        {base, raw} = hmac_base(hsm, unquote(hash))
        mechanism = {:ike_prf_derive, arguments}
        key = Cryptoki.derive_key!(hsm, base, mechanism, template)
        assert value(hsm, key) == hmac.(raw, ni <> nr)

        # Section 2.18: a new key under the old one.
        {new, raw_new} = base(hsm, bytes(64))
        mechanism = {:ike_prf_derive, [new_key: new] ++ arguments}
        key = Cryptoki.derive_key!(hsm, base, mechanism, template)
        assert value(hsm, key) == hmac.(raw, raw_new <> ni <> nr)
      end

      check "IKE 2: prf+ with #{hash}", [ike2_prf_plus_derive: :derive], %{hsm: hsm} do
        {base, raw} = hmac_base(hsm, unquote(hash))
        seed = bytes(50)
        hmac = &Outside.hmac(unquote(hash), raw, &1)

        for size <- [16, 200] do
          mechanism = {:ike2_prf_plus_derive, prf: unquote(prf), seed: seed}
          key = Cryptoki.derive_key!(hsm, base, mechanism, [value_len: size] ++ @readable)
          input = fn previous, counter -> [previous, seed, counter] end
          assert value(hsm, key) == Outside.feedback_kdf(hmac, "", input, size)
        end
      end

      check "IKE 1 with #{hash}",
            [ike1_prf_derive: :derive, ike1_extended_derive: :derive],
            %{hsm: hsm} do
        hmac = &Outside.hmac(unquote(hash), &1, &2)
        size = byte_size(hmac.("", ""))
        template = [value_len: size] ++ @readable
        {skeyid, raw} = hmac_base(hsm, unquote(hash))
        {gxy, raw_gxy} = base(hsm, bytes(64))
        {cky_i, cky_r} = {bytes(8), bytes(8)}
        cookies = [prf: unquote(prf), gxy_key: gxy, cky_i: cky_i, cky_r: cky_r]

        # RFC 2409, section 5: SKEYID_d, and SKEYID_a which follows from it.
        mechanism = {:ike1_prf_derive, [key_number: 0] ++ cookies}
        d = Cryptoki.derive_key!(hsm, skeyid, mechanism, [derive: true] ++ template)
        assert value(hsm, d) == hmac.(raw, [raw_gxy, cky_i, cky_r, 0])

        mechanism = {:ike1_prf_derive, [key_number: 1, previous_key: d] ++ cookies}
        a = Cryptoki.derive_key!(hsm, skeyid, mechanism, template)
        assert value(hsm, a) == hmac.(raw, [value(hsm, d), raw_gxy, cky_i, cky_r, 1])

        # Section 5.5: keying material, as long as it takes.
        extra = bytes(20)
        mechanism = {:ike1_extended_derive, prf: unquote(prf), gxy_key: gxy, extra_data: extra}
        key = Cryptoki.derive_key!(hsm, skeyid, mechanism, [value_len: 200] ++ @readable)
        input = fn previous, _counter -> [previous, raw_gxy, extra] end
        assert value(hsm, key) == Outside.feedback_kdf(&hmac.(raw, &1), "", input, 200)
      end
    end
  end

  defp base(hsm, raw, may \\ [derive: true]), do: {secret(hsm, :generic_secret, raw, may), raw}

  # What is the key of a PRF has its type (PKCS #11 v3.2, section 6.64), and in Kryoptic its length.
  defp hmac_base(hsm, hash) do
    raw = bytes(byte_size(:crypto.hash(hash, "")))
    {secret(hsm, :"#{hash}_hmac", raw, derive: true), raw}
  end

  # RFC 5246, section 5: P_hash.
  defp prf(hash, secret, seed, size, a \\ nil, done \\ "")
  defp prf(_, _, _, size, _, done) when byte_size(done) >= size, do: binary_part(done, 0, size)

  defp prf(hash, secret, seed, size, a, done) do
    a = Outside.hmac(hash, secret, a || seed)
    prf(hash, secret, seed, size, a, done <> Outside.hmac(hash, secret, a <> seed))
  end
end
