defmodule Cryptoki.Referee.JweTest do
  use Cryptoki.Test.Referee, async: true

  # Cryptoki.JWE: what jwcrypto, and node's jose where it is, have encrypted, is decrypted by keys of the token, and
  # jwcrypto decrypts what is encrypted here.

  alias Cryptoki.{Base64URL, JWE, JWK}
  alias Cryptoki.Test.Jose

  @text "some text: \"é\" and more of it"
  @contents ~w[A128GCM A192GCM A256GCM A128CBC-HS256 A192CBC-HS384 A256CBC-HS512]
  @curves ~w[secp256r1 secp384r1 secp521r1]a
  @agreements ~w[ECDH-ES ECDH-ES+A128KW ECDH-ES+A192KW ECDH-ES+A256KW]
  @wraps for size <- [128, 192, 256], form <- ["KW", "GCMKW"], do: {"A#{size}#{form}", size}

  defp secret(hsm, bits) do
    value = bytes(div(bits, 8))

    key =
      Cryptoki.create!(hsm,
        class: :secret_key,
        key_type: :aes,
        value: value,
        decrypt: true,
        unwrap: true
      )

    {key, %{"kty" => "oct", "k" => Base64URL.encode(value)}}
  end

  defp pair(hsm, mechanism, template) do
    {_public, key} = Cryptoki.generate_key_pair!(hsm, mechanism, [id: bytes(8)] ++ template)
    {key, JWK.public!(hsm, key)}
  end

  # {key, JWK for others, algorithm, contents}
  defp keys(hsm) do
    rsa = [modulus_bits: 2048, public: [encrypt: true], private: [decrypt: true]]
    {rsa, rsa_jwk} = pair(hsm, :rsa_pkcs_key_pair_gen, rsa)

    on_curves =
      for curve <- @curves,
          {key, jwk} = pair(hsm, :ec_key_pair_gen, curve: curve, private: [derive: true]),
          alg <- @agreements,
          do: {key, jwk, alg, @contents}

    secrets =
      for {alg, bits} <- @wraps, {key, jwk} = secret(hsm, bits), do: {key, jwk, alg, @contents}

    direct =
      for bits <- [128, 192, 256],
          {key, jwk} = secret(hsm, bits),
          do: {key, jwk, "dir", ["A#{bits}GCM"]}

    for(alg <- ~w[RSA-OAEP RSA-OAEP-256], do: {rsa, rsa_jwk, alg, @contents}) ++
      on_curves ++ secrets ++ direct
  end

  on_each_token do
    check "what others have encrypted",
          [rsa_x_509: :decrypt, ecdh1_derive: :derive, aes_key_wrap: :unwrap, aes_gcm: :decrypt],
          %{hsm: hsm} do
      cases =
        for {key, jwk, alg, contents} <- keys(hsm), enc <- contents, do: {key, jwk, alg, enc}

      requests =
        for {_key, jwk, alg, enc} <- cases, form <- ["compact", "json"] do
          header = %{"alg" => alg, "enc" => enc}
          %{do: "encrypt", jwk: jwk, header: header, plaintext: @text, form: form}
        end

      for {{key, _jwk, alg, enc}, jwes} <-
            Enum.zip(cases, Enum.chunk_every(Jose.python(requests), 2)),
          jwe <- jwes do
        assert {:ok, %{plaintext: @text, header: header}} = JWE.decrypt(hsm, key, jwe),
               "#{alg} #{enc} #{jwe}"

        assert %{"alg" => ^alg, "enc" => ^enc} = header
      end
    end

    # It wraps with AES for its own curves and for secrets alike.
    @tag skip: Jose.lacks_node()
    check "what node's jose has encrypted",
          [rsa_x_509: :decrypt, ecdh1_derive: :derive, aes_key_wrap: :unwrap, aes_gcm: :decrypt],
          %{hsm: hsm} do
      cases =
        for {key, jwk, alg, contents} <- keys(hsm), enc <- contents, do: {key, jwk, alg, enc}

      requests =
        for {_key, jwk, alg, enc} <- cases, do: %{jwk: jwk, alg: alg, enc: enc, plaintext: @text}

      for {{key, _jwk, alg, enc}, answer} <- Enum.zip(cases, Jose.node_jose(requests)) do
        assert %{"jwe" => jwe} = answer
        assert {:ok, %{plaintext: @text}} = JWE.decrypt(hsm, key, jwe), "#{alg} #{enc}"
      end
    end

    check "several recipients, attached data, unprotected headers",
          [rsa_x_509: :decrypt, ecdh1_derive: :derive, aes_key_wrap: :unwrap],
          %{hsm: hsm} do
      wanted = ["RSA-OAEP-256", "ECDH-ES+A128KW", "A256KW", "A128GCMKW"]

      keys =
        for {key, jwk, alg, _} <- Enum.uniq_by(keys(hsm), &elem(&1, 2)),
            alg in wanted,
            do: {key, jwk, alg}

      headers = for {_key, _jwk, alg} <- keys, do: %{"alg" => alg}
      jwks = for {_key, jwk, _alg} <- keys, do: jwk

      request = %{
        do: "encrypt",
        jwks: jwks,
        headers: headers,
        header: %{"enc" => "A128CBC-HS256"}
      }

      more = %{aad: "attached", unprotected: ~s({"jku":"https://acme.test"})}
      [jwe] = Jose.python([Map.merge(request, %{plaintext: @text, form: "json", more: more})])

      for {key, _jwk, alg} <- keys do
        assert {:ok, decrypted} = JWE.decrypt(hsm, key, jwe), alg
        assert decrypted.plaintext == @text
        assert decrypted.header == %{"enc" => "A128CBC-HS256"}
        assert decrypted.unprotected == %{"jku" => "https://acme.test"}

        assert {:error, _} =
                 JWE.decrypt(hsm, key, String.replace(jwe, Base64URL.encode("attached"), "AAAA"))
      end
    end
  end

  test "what is encrypted here, decrypted by others" do
    kinds =
      for(alg <- ~w[RSA-OAEP RSA-OAEP-256], do: {%{kty: "RSA", size: 2048}, alg}) ++
        for crv <- ~w[P-256 P-384 P-521], alg <- @agreements, do: {%{kty: "EC", crv: crv}, alg}

    kinds = kinds ++ for alg <- @agreements, do: {%{kty: "OKP", crv: "X25519"}, alg}
    private = Jose.python(for {key, _alg} <- kinds, do: %{do: "generate", key: key})

    requests =
      for {{_key, alg}, jwk} <- Enum.zip(kinds, private), enc <- @contents do
        public = Map.drop(jwk, ~w[d p q dp dq qi])
        %{do: "decrypt", jwk: jwk, jwe: JWE.encrypt!(public, @text, alg: alg, enc: enc)}
      end

    for {request, answer} <- Enum.zip(requests, Jose.python(requests)),
        do: assert(answer == @text, request.jwe)
  end
end
