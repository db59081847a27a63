defmodule Cryptoki.Referee.JwsTest do
  use Cryptoki.Test.Referee, async: true

  # Cryptoki.JWS and JWK: jwcrypto and PyJWT verify what the token signed, and the token verifies what
  # jwcrypto signed; node's jose and erlang-jose where they are.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.{JWK, JWS}
  alias Cryptoki.Test.Jose

  @secret [class: :secret_key, key_type: :generic_secret]
  @hashes [256, 384, 512]
  # {algorithm, what the token has to have, key}
  @algorithms for(h <- @hashes, do: {"RS#{h}", :"sha#{h}_rsa_pkcs", :rsa}) ++
                for(h <- @hashes, do: {"PS#{h}", :"sha#{h}_rsa_pkcs_pss", :rsa}) ++
                [
                  {"ES256", :ecdsa, :secp256r1},
                  {"ES384", :ecdsa, :secp384r1},
                  {"ES512", :ecdsa, :secp521r1},
                  {"ES256K", :ecdsa, :secp256k1},
                  {"EdDSA", :eddsa, :ed25519},
                  {"EdDSA", :eddsa, :ed448}
                ] ++ for(h <- @hashes, do: {"HS#{h}", :"sha#{h}_hmac", :secret})

  # Curves that a token has not got though it has their mechanism.
  @refused %{
    secp256k1: [kryoptic: [:curve_not_supported, :general_error, :attribute_value_invalid]]
  }

  setup_all %{hsms: hsms} do
    keys(hsms, fn hsm, _token ->
      rsa =
        Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, id: "rsa", modulus_bits: 2048)

      secret = bytes(64)
      %{rsa: rsa, secret: {create(hsm, [value: secret, sign: true] ++ @secret), secret}}
    end)
  end

  defp pair(%{rsa: pair}, :rsa), do: pair
  defp pair(%{secret: pair}, :secret), do: pair

  defp pair(%{hsm: hsm}, curve) do
    edwards? = curve in [:ed25519, :ed448]
    mechanism = if edwards?, do: :ec_edwards_key_pair_gen, else: :ec_key_pair_gen
    Cryptoki.generate_key_pair!(hsm, mechanism, id: "#{curve}", curve: curve)
  end

  on_each_token do
    for {alg, mechanism, kind} <- @algorithms do
      check "#{alg} with #{kind}",
            [{mechanism, [:sign, :verify]}],
            [refused: @refused[kind]],
            %{hsm: hsm} = context do
        alg = unquote(alg)
        {private, public, jwk} = halves(hsm, pair(context, unquote(kind)))
        payload = ~S({"sub":"alice"})
        sign = &JWS.sign!(hsm, private, payload, [alg: alg] ++ &1)

        compact = sign.(header: %{typ: "JWT", kid: "é\"1\""})
        detached = sign.(detached: true)
        unencoded = sign.(b64: false, detached: true)
        unencoded_shown = JWS.sign!(hsm, private, "$02", alg: alg, b64: false)

        {:ok, streamed} =
          JWS.sign(hsm, private, {:stream, ["some ", ["payload."]]},
            alg: alg,
            b64: false,
            detached: true
          )

        requests = [
          %{jws: compact},
          %{jws: detached, payload: payload},
          %{jws: unencoded, payload: payload},
          %{jws: unencoded_shown},
          %{jws: streamed, payload: "some payload."},
          %{jws: compact |> String.split(".") |> List.replace_at(1, "e30") |> Enum.join(".")}
        ]

        requests =
          for request <- requests, do: Map.merge(request, %{do: "verify", jwk: jwk, alg: alg})

        assert [true, true, true, true, true, "InvalidJWSSignature" <> _] = Jose.python(requests)

        if Jose.node_folder() && alg != "ES256K" && unquote(kind) != :ed448 do
          requests = for request <- requests, not String.contains?(request.jws, "$"), do: request

          assert [true, true, true, true, "JWSSignatureVerificationFailed" <> _] =
                   Jose.node_jose(requests)
        end

        # And the token itself.
        assert {:ok, %{payload: ^payload, header: %{"kid" => "é\"1\""}}} =
                 JWS.verify(hsm, public, compact)

        assert {:ok, %{payload: ^payload}} = JWS.verify(hsm, public, detached, payload: payload)

        assert {:ok, %{payload: ^payload}} =
                 JWS.verify(hsm, public, unencoded, payload: payload, alg: alg)

        assert {:ok, %{payload: "$02"}} = JWS.verify(hsm, public, unencoded_shown)

        assert {:ok, _} =
                 JWS.verify(hsm, public, streamed, payload: {:stream, ["some payload", "."]})

        assert_refused(JWS.verify(hsm, public, detached, payload: payload <> " "))
        [header, body, signature] = String.split(compact, ".")

        wrong =
          Enum.join(
            [
              header,
              body,
              signature
              |> Base.url_decode64!(padding: false)
              |> flip()
              |> Base.url_encode64(padding: false)
            ],
            "."
          )

        assert_refused(JWS.verify(hsm, public, wrong))
        assert_refused(JWS.verify(hsm, public, Enum.join([header, body, "AAAA"], ".")))
      end
    end

    check "keys of jwcrypto verify on the token",
          [:ecdsa, :eddsa, :sha256_rsa_pkcs, :sha256_hmac],
          %{hsm: hsm} do
      requests = [
        %{alg: "ES256", key: %{kty: "EC", crv: "P-256"}},
        %{alg: "ES512", key: %{kty: "EC", crv: "P-521"}},
        %{alg: "EdDSA", key: %{kty: "OKP", crv: "Ed25519"}},
        %{alg: "PS256", key: %{kty: "RSA", size: 2048}},
        %{alg: "HS384", key: %{kty: "oct", size: 512}}
      ]

      requests =
        for request <- requests, do: Map.merge(request, %{do: "sign", payload: "some text"})

      for {%{alg: alg}, %{"jwk" => jwk, "private" => private, "jws" => jws}} <-
            Enum.zip(requests, Jose.python(requests)) do
        key = import_key(hsm, jwk || private)

        assert {:ok, %{payload: "some text", header: %{"alg" => ^alg}}} =
                 JWS.verify(hsm, key, jws)

        assert {:error, %Error{reason: :unsupported}} =
                 JWS.verify(hsm, key, jws, alg: ["none", "RS512"])

        # What is published of it is what jwcrypto publishes.
        if jwk,
          do:
            assert(
              JWK.thumbprint(elem(JWK.public(hsm, key), 1)) ==
                hd(Jose.python([%{do: "thumbprint", jwk: jwk}]))
            )
      end
    end

    check "erlang-jose signs with keys of the token", [:ecdsa, :sha256_rsa_pkcs], %{
      hsm: hsm,
      made: made
    } do
      if Jose.erlang_jose?() do
        for {kind, alg} <- [secp256r1: "ES256", rsa: "PS256", rsa: "RS256", ed25519: "EdDSA"],
            made[kind] do
          {_public, private} = made[kind]
          {:ok, jwk} = JWK.to_jose(hsm, private, kid: "1")
          claims = %{"sub" => "alice"}
          {_, jwt} = jwk |> :jose_jwt.sign(%{"alg" => alg}, claims) |> :jose_jws.compact()
          public = :jose_jwk.to_public(jwk)

          assert {true, {:jose_jwt, ^claims}, _} = :jose_jwt.verify_strict(public, [alg], jwt)
          assert {true, {:jose_jwt, ^claims}, _} = :jose_jwt.verify_strict(jwk, [alg], jwt)
          {:ok, %{"kid" => "1"} = map} = JWK.public(hsm, private, kid: "1")
          assert {_, ^map} = :jose_jwk.to_public_map(jwk)
          assert :jose_jwk.thumbprint(jwk) == JWK.thumbprint(map)
          assert [true] = Jose.python([%{do: "verify", jwk: map, jws: jwt, alg: alg}])
        end

        # The algorithm that goes with the key, when nobody says.
        {public, private} = pair(context, :secp256r1)
        {:ok, jwk} = JWK.to_jose(hsm, private)
        assert {_, jws} = "text" |> then(&:jose_jwk.sign(&1, jwk)) |> :jose_jws.compact()

        assert {:ok, %{payload: "text"}} = JWS.verify(hsm, public, jws, alg: "ES256")
      end
    end
  end

  defp halves(hsm, {%{class: :public_key} = public, private}) do
    {:ok, jwk} = JWK.public(hsm, public)
    assert JWK.public(hsm, private) == {:ok, jwk}
    {private, public, jwk}
  end

  defp halves(_hsm, {key, secret}),
    do: {key, key, %{"kty" => "oct", "k" => Base.url_encode64(secret, padding: false)}}

  defp import_key(hsm, %{"kty" => "oct", "k" => k}),
    do: create(hsm, [value: base64(k), sign: true] ++ @secret)

  defp import_key(hsm, %{"kty" => "RSA", "n" => n, "e" => e}),
    do:
      create(hsm,
        class: :public_key,
        key_type: :rsa,
        modulus: base64(n),
        public_exponent: base64(e)
      )

  defp import_key(hsm, %{"kty" => "EC", "crv" => crv, "x" => x, "y" => y}) do
    curve = %{"P-256" => :secp256r1, "P-521" => :secp521r1}[crv]
    point = Curve.wrap_point(<<4, base64(x)::binary, base64(y)::binary>>)
    create(hsm, class: :public_key, key_type: :ec, curve: curve, ec_point: point)
  end

  defp import_key(hsm, %{"kty" => "OKP", "x" => x}),
    do:
      create(hsm,
        class: :public_key,
        key_type: :ec_edwards,
        curve: :ed25519,
        ec_point: Curve.wrap_point(base64(x))
      )

  defp create(hsm, template), do: Cryptoki.create!(hsm, template ++ [verify: true])
  defp base64(text), do: Base.url_decode64!(text, padding: false)
end
