defmodule Cryptoki.Referee.AgreementTest do
  use Cryptoki.Test.Referee, async: true

  # Key agreement: token and :crypto come to the same secret; RFC 7748.

  alias Cryptoki.Attribute.Curve

  # RFC 7748, section 6: Alice's private key, Bob's public key, what they share.
  @examples %{
    x25519:
      {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
       "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
       "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"},
    x448:
      {"9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28d" <>
         "d9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
       "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b430" <>
         "27d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
       "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282b" <>
         "b60c0b56fd2464c335543936521c24403085d59a449a5037514a879d"}
  }

  @kdfs [
    sha1_kdf: :sha_1,
    sha224_kdf: :sha224,
    sha256_kdf: :sha256,
    sha384_kdf: :sha384,
    sha512_kdf: :sha512,
    sha3_224_kdf: :sha3_224,
    sha3_256_kdf: :sha3_256,
    sha3_384_kdf: :sha3_384,
    sha3_512_kdf: :sha3_512
  ]

  @readable [class: :secret_key, key_type: :generic_secret, sensitive: false, extractable: true]

  on_each_token do
    for mechanism <- [:ecdh1_derive, :ecdh1_cofactor_derive],
        curve <- [:secp256r1, :secp384r1, :secp521r1] do
      check "#{mechanism} on #{curve}", [:ec_key_pair_gen, {mechanism, :derive}], %{hsm: hsm} do
        agree(hsm, unquote(mechanism), unquote(curve), :ec_key_pair_gen)
      end
    end

    for curve <- [:x25519, :x448] do
      # SoftHSM 2.6 has no mechanism for these, and makes the keys with the one for EdDSA.
      generate =
        if Token.has?(@token, :ec_montgomery_key_pair_gen),
          do: :ec_montgomery_key_pair_gen,
          else: :ec_edwards_key_pair_gen

      check "ecdh1_derive on #{curve}", [generate, ecdh1_derive: :derive], %{hsm: hsm} do
        agree(hsm, :ecdh1_derive, unquote(curve), unquote(generate))
      end

      check "RFC 7748: #{curve}", [ecdh1_derive: :derive], %{hsm: hsm} do
        {alice, bob, shared} = @examples[unquote(curve)]

        type =
          if unquote(generate) == :ec_edwards_key_pair_gen, do: :ec_edwards, else: :ec_montgomery

        private =
          Cryptoki.create!(hsm,
            class: :private_key,
            key_type: type,
            curve: unquote(curve),
            value: hex(alice),
            derive: true
          )

        key = Cryptoki.derive_key!(hsm, private, {:ecdh1_derive, public: hex(bob)}, @readable)
        assert value(hsm, key) == hex(shared)
      end
    end

    for {kdf, hash} <- @kdfs do
      check "ecdh1_derive with #{kdf}",
            [ecdh1_derive: :derive],
            [refused: [softhsm2: :mechanism_param_invalid]],
            %{hsm: hsm} do
        {private, point} = pair(hsm, :ec_key_pair_gen, :secp256r1)
        {peer, scalar} = :crypto.generate_key(:ecdh, :secp256r1)
        secret = :crypto.compute_key(:ecdh, point, scalar, :secp256r1)

        for shared <- ["", "shared by both"], size <- [16, 32, 100] do
          mechanism = {:ecdh1_derive, public: peer, kdf: unquote(kdf), shared_data: shared}
          key = Cryptoki.derive_key!(hsm, private, mechanism, [value_len: size] ++ @readable)
          assert value(hsm, key) == Outside.x963(unquote(hash), secret, shared, size)
        end
      end
    end

    # SP 800-56A puts the counter first.
    check "ecdh1_derive with the KDF of SP 800-56A",
          [ecdh1_derive: :derive],
          [refused: [softhsm2: :mechanism_param_invalid]],
          %{hsm: hsm} do
      {private, point} = pair(hsm, :ec_key_pair_gen, :secp256r1)
      {peer, scalar} = :crypto.generate_key(:ecdh, :secp256r1)
      secret = :crypto.compute_key(:ecdh, point, scalar, :secp256r1)
      mechanism = {:ecdh1_derive, public: peer, kdf: :sha256_kdf_sp800, shared_data: "shared"}
      key = Cryptoki.derive_key!(hsm, private, mechanism, [value_len: 50] ++ @readable)
      assert value(hsm, key) == Outside.concat_kdf(:sha256, secret, "shared", 50)
    end

    check "dh_pkcs_derive", [:dh_pkcs_key_pair_gen, dh_pkcs_derive: :derive], %{hsm: hsm} do
      agree_dh(hsm, Outside.dh_group(), 128)
    end

    check "dh_pkcs_derive with parameters of the token",
          [:dh_pkcs_key_pair_gen, :dh_pkcs_derive, dh_pkcs_parameter_gen: :generate],
          %{hsm: hsm} do
      parameters = Cryptoki.generate_key!(hsm, :dh_pkcs_parameter_gen, prime_bits: 512)
      %{prime: prime, base: base} = Cryptoki.attributes!(hsm, parameters, [:prime, :base])
      assert byte_size(prime) == 64
      agree_dh(hsm, {prime, base}, 32)
    end
  end

  # SoftHSM wants a length; Kryoptic and :crypto drop leading zeros of the secret.
  defp agree_dh(hsm, {prime, base}, size) do
    template = [prime: prime, base: base, derive: true]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :dh_pkcs_key_pair_gen, template)
    {peer, x} = :crypto.generate_key(:dh, [prime, base])

    template = [value_len: size] ++ @readable
    key = Cryptoki.derive_key!(hsm, private, {:dh_pkcs_derive, public: peer}, template)
    secret = :crypto.compute_key(:dh, value(hsm, public), x, [prime, base])
    assert value(hsm, key) == binary_part(secret, byte_size(secret), -size)
  end

  defp agree(hsm, mechanism, curve, generate) do
    {private, point} = pair(hsm, generate, curve)

    for _ <- 1..5 do
      {peer, scalar} = :crypto.generate_key(:ecdh, curve)
      secret = :crypto.compute_key(:ecdh, point, scalar, curve)
      size = byte_size(secret)

      key = Cryptoki.derive_key!(hsm, private, {mechanism, public: peer, kdf: :null}, @readable)
      assert value(hsm, key) == secret

      # What is too much is taken away from the beginning (PKCS #11 v3.2, section 6.3.17).
      template = [class: :secret_key, key_type: :aes, value_len: 16, encrypt: true]
      template = template ++ [sensitive: false, extractable: true]
      key = Cryptoki.derive_key!(hsm, private, {mechanism, public: peer}, template)
      assert value(hsm, key) == binary_part(secret, size, -16)
      ciphertext = Cryptoki.encrypt!(hsm, key, :aes_ecb, <<7::128>>)
      key = binary_part(secret, size, -16)
      assert ciphertext == :crypto.crypto_one_time(:aes_128_ecb, key, <<7::128>>, true)

      bad = binary_part(peer, 0, byte_size(peer) - 1)
      assert_refused(Cryptoki.derive_key(hsm, private, {mechanism, public: bad}, @readable))
    end

    # Short Weierstrass points may come in an OCTET STRING (section 6.3.17).
    if generate == :ec_key_pair_gen do
      {peer, scalar} = :crypto.generate_key(:ecdh, curve)
      mechanism = {mechanism, public: Curve.wrap_point(peer)}
      key = Cryptoki.derive_key!(hsm, private, mechanism, @readable)
      assert value(hsm, key) == :crypto.compute_key(:ecdh, point, scalar, curve)
    end
  end

  defp pair(hsm, generate, curve) do
    template = [curve: curve, derive: true]
    {public, private} = Cryptoki.generate_key_pair!(hsm, generate, template)
    {{:ECPoint, point}, _parameters} = Cryptoki.public_key!(hsm, public)
    {private, point}
  end
end
