defmodule Cryptoki.Referee.EcdsaTest do
  use Cryptoki.Test.Referee, async: true

  # ECDSA: what the token signs :crypto and OpenSSL verify, what they sign the token verifies. A token that
  # lacks the mechanism with a hash gets the digest: those checks need :ecdsa alone.

  alias Cryptoki.Attribute.Curve

  @curves ~w[secp256r1 secp384r1 secp521r1]a
  @more_curves ~w[secp192r1 secp224r1 secp256k1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1]a
  @hashes ~w[sha1 sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512]a

  setup_all %{hsms: hsms} do
    keys(hsms, fn hsm, _token ->
      for curve <- @curves, into: %{}, do: {curve, pair(hsm, curve)}
    end)
  end

  on_each_token do
    for curve <- @curves do
      for hash <- @hashes do
        mechanism = :"ecdsa_#{hash}"
        needs = if Token.has?(@token, mechanism), do: [mechanism], else: [:ecdsa]

        check "#{mechanism} on #{curve}", needs, %{hsm: hsm} = keys do
          hash = Outside.hash_name(unquote(hash))
          pair = keys[unquote(curve)]

          for size <- [0, 1, 4096, :rand.uniform(70_000)], data = bytes(size) do
            against_crypto(hsm, pair, unquote(mechanism), unquote(curve), hash, data)
          end
        end
      end

      check "ecdsa on #{curve}", [ecdsa: [:sign, :verify]], %{hsm: hsm} = keys do
        pair = keys[unquote(curve)]

        for hash <- [:sha256, :sha384, :sha512], digest = :crypto.hash(hash, "data") do
          raw = Cryptoki.sign!(hsm, pair.private, :ecdsa, digest)
          assert OpenSSL.valid?(pair.public_key, raw, {:ecdsa, hash}, "data")
          refute OpenSSL.valid?(pair.public_key, spoilt(raw), {:ecdsa, hash}, "data")
          assert Cryptoki.verify(hsm, pair.public, :ecdsa, digest, raw) == :ok
          assert_refused(Cryptoki.verify(hsm, pair.public, :ecdsa, flip(digest, 0), raw))
        end
      end

      check "r and s of every length on #{curve}, in DER", [ecdsa: :sign], %{hsm: hsm} = keys do
        pair = keys[unquote(curve)]
        digest = :crypto.hash(:sha256, "data")

        # One in 128 has an r or s that starts with a zero byte, which DER drops.
        for _ <- 1..150 do
          der = Cryptoki.sign!(hsm, pair.private, :ecdsa, digest, format: :der)
          assert :public_key.verify({:digest, digest}, :sha256, der, pair.public_key)
          assert Cryptoki.verify(hsm, pair.public, :ecdsa, digest, der, format: :der) == :ok
        end
      end
    end

    for curve <- @more_curves do
      check "ecdsa on #{curve}",
            [:ec_key_pair_gen, :ecdsa],
            [refused: [kryoptic: :general_error]],
            %{hsm: hsm} do
        pair = pair(hsm, unquote(curve))
        against_crypto(hsm, pair, :ecdsa_sha256, unquote(curve), :sha256, bytes(100))
      end
    end
  end

  defp pair(hsm, curve) do
    {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, curve: curve)
    {:ok, curve_der} = Curve.encode(curve)
    {point, scalar} = :crypto.generate_key(:ecdh, curve)
    may = [key_type: :ec, ec_params: curve_der]

    %{
      public: public,
      private: private,
      public_key: Cryptoki.public_key!(hsm, public),
      outside: scalar,
      imported: Cryptoki.create!(hsm, [class: :private_key, value: scalar, sign: true] ++ may),
      imported_public:
        Cryptoki.create!(
          hsm,
          [class: :public_key, ec_point: Curve.wrap_point(point), verify: true] ++ may
        ),
      point: point
    }
  end

  defp against_crypto(hsm, pair, mechanism, curve, hash, data) do
    {{:ECPoint, point}, _parameters} = pair.public_key

    der = Cryptoki.sign!(hsm, pair.private, mechanism, data, format: :der)
    assert :crypto.verify(:ecdsa, hash, data, der, [point, curve])
    refute :crypto.verify(:ecdsa, hash, data <> "x", der, [point, curve])
    assert Cryptoki.verify(hsm, pair.public, mechanism, data, der, format: :der) == :ok

    raw = Cryptoki.sign!(hsm, pair.private, mechanism, {:stream, chunks(data)})
    assert :crypto.verify(:ecdsa, hash, data, OpenSSL.ecdsa_der(raw), [point, curve])
    assert Cryptoki.verify(hsm, pair.public, mechanism, {:stream, chunks(data)}, raw) == :ok
    assert_refused(Cryptoki.verify(hsm, pair.public, mechanism, data, flip(raw)))

    der = :crypto.sign(:ecdsa, hash, data, [pair.outside, curve])
    assert Cryptoki.verify(hsm, pair.imported_public, mechanism, data, der, format: :der) == :ok
    refute Cryptoki.valid?(hsm, pair.imported_public, mechanism, [data, 0], der, format: :der)

    der = Cryptoki.sign!(hsm, pair.imported, mechanism, data, format: :der)
    assert :crypto.verify(:ecdsa, hash, data, der, [pair.point, curve])
  end
end
