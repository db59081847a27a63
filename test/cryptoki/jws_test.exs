defmodule Cryptoki.JWSTest do
  use ExUnit.Case, async: true

  # The examples of the RFCs, and all that is refused. test/referee/jws_test.exs has the algorithms.

  alias Cryptoki.{Error, JWK, JWS}
  alias Cryptoki.Test.MainToken

  # RFC 7515, appendix A.1, also the key of RFC 7797.
  @secret "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
  # RFC 8037, appendix A.1.
  @seed "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"

  @id :crypto.hash(:md5, "#{__MODULE__}")

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    may = [sign: true, verify: true]
    secret = [class: :secret_key, key_type: :generic_secret, value: base64(@secret)] ++ may

    ed25519 = [
      class: :private_key,
      key_type: :ec_edwards,
      curve: :ed25519,
      value: base64(@seed),
      sign: true
    ]

    {public, private} =
      Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, id: @id, curve: :secp256r1)

    %{
      hsm: hsm,
      secret: Cryptoki.create!(hsm, secret),
      ed25519: Cryptoki.create!(hsm, ed25519),
      public: public,
      private: private
    }
  end

  describe "the examples of" do
    test "RFC 7515, appendix A.1: its header has line breaks", %{hsm: hsm, secret: key} do
      jws =
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" <>
          ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ" <>
          ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

      assert {:ok, %{header: %{"typ" => "JWT", "alg" => "HS256"}, payload: "{\"iss\"" <> _}} =
               JWS.verify(hsm, key, jws)
    end

    test "RFC 7797, section 4", %{hsm: hsm, secret: key} do
      assert JWS.sign!(hsm, key, "$.02", alg: "HS256") ==
               "eyJhbGciOiJIUzI1NiJ9.JC4wMg.5mvfOroL-g7HyqJoozehmsaqmvTYGEq5jTI1gVvoEoQ"

      assert JWS.sign!(hsm, key, "$.02", alg: "HS256", b64: false, detached: true) ==
               "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19" <>
                 "..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"
    end

    test "RFC 8037, appendix A.4", %{hsm: hsm, ed25519: key} do
      assert JWS.sign!(hsm, key, "Example of Ed25519 signing") ==
               "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc" <>
                 ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    end

    test "RFC 7638, section 3.1" do
      n =
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB" <>
          "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8" <>
          "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_" <>
          "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"

      jwk = %{"kty" => "RSA", "n" => n, "e" => "AQAB", "alg" => "RS256", "kid" => "2011-04-29"}
      assert JWK.thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    end
  end

  describe "signing refuses" do
    test "an algorithm that does not go with the key", %{hsm: hsm} = context do
      for {key, alg, reason, text} <- [
            {:private, "ES384", :key_type_inconsistent,
             "ES384 is for keys of secp384r1, this is one of secp256r1"},
            {:private, "RS256", :key_type_inconsistent, "RS256 is for RSA keys"},
            {:private, "HS256", :key_type_inconsistent, "HS256 is for secret keys"},
            {:private, "none", :unsupported, "there is no algorithm \"none\""},
            {:secret, "ES256", :key_type_inconsistent, "this is one of type generic_secret"},
            {:secret, nil, :invalid_argument, "alg: has to say"},
            {:ed25519, "Ed448", :key_type_inconsistent, "Ed448 is for keys of ed448"}
          ] do
        assert {:error, %Error{reason: ^reason} = error} =
                 JWS.sign(hsm, context[key], "", alg: alg)

        assert Exception.message(error) =~ text
      end
    end

    test "keys that are too short", %{hsm: hsm} do
      {_public, rsa} =
        Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, modulus_bits: 1024)

      assert {:error, %Error{reason: :key_size_range}} = JWS.sign(hsm, rsa, "", alg: "PS256")
      short = [class: :secret_key, key_type: :generic_secret, value: <<1::256>>, sign: true]
      short = Cryptoki.create!(hsm, short)
      assert {:ok, _} = JWS.sign(hsm, short, "", alg: "HS256")

      assert {:error, %Error{reason: :key_size_range} = error} =
               JWS.sign(hsm, short, "", alg: "HS384")

      assert Exception.message(error) =~ "HS384 wants a key of 384 bits at least, this has 256"
    end

    test "what is wrong in the call, before anything is sent" do
      for {payload, opts, text} <- [
            {"", [detach: true], "did you mean :detached"},
            {"", [alg: :ES256], "alg: must be a string"},
            {"", [header: [typ: "JWT"]], "header: must be a map"},
            {"", [header: %{alg: "ES256"}], "header: alg is set by the option alg:"},
            {"", [header: %{"b64" => false}], "header: b64 is set"},
            {"", [header: %{crit: ["exp"]}], "crit lists extensions that are in the header"},
            {"", [header: %{crit: ["typ"], typ: "JWT"}], "crit lists extensions"},
            {"", [header: %{x: {1}}], "JSON has no form"},
            {"a.b", [b64: false], "printable ASCII without a dot"},
            {"é", [b64: false], "printable ASCII without a dot"},
            {{:stream, []}, [], "a stream is signed with"},
            {:text, [], "a payload is iodata, a map"}
          ],
          do:
            assert_raise(ArgumentError, ~r/#{text}/, fn ->
              JWS.sign(:no_such_instance, [label: "x"], payload, opts) |> header_is_built!()
            end)
    end

    # What cannot be encoded shows when the algorithm is known.
    defp header_is_built!({:error, %Error{reason: :shutdown}}),
      do: raise(ArgumentError, "JSON has no form")
  end

  describe "verifying refuses" do
    setup %{hsm: hsm, private: private} do
      %{
        jws: JWS.sign!(hsm, private, "text"),
        detached: JWS.sign!(hsm, private, "text", detached: true)
      }
    end

    test "texts that are none", %{hsm: hsm, public: public, jws: jws} do
      [header, payload, signature] = String.split(jws, ".")

      for text <- [
            "",
            "..",
            "a.b",
            "#{jws}.",
            jws <> "=",
            jws <> " ",
            "#{header}=.#{payload}.#{signature}",
            "#{header}.#{payload}!.#{signature}",
            "#{header}.#{payload}.#{not_canonical(signature)}",
            "#{url64("[]")}.#{payload}.#{signature}",
            "#{url64(~S({"alg":"ES256","alg":"ES256"}))}.#{payload}.#{signature}",
            "#{url64(~S({"typ":"JWT"}))}.#{payload}.#{signature}",
            "#{url64(~S({"alg":1}))}.#{payload}.#{signature}"
          ],
          do:
            assert(
              {:error, %Error{detail: "this is no compact JWS" <> _}} =
                JWS.verify(hsm, public, text),
              text
            )
    end

    test "what is larger than any of them, without a word to the token", %{jws: jws} do
      [header, payload, signature] = String.split(jws, ".")
      long = fn bytes -> url64(~s({"alg":"ES256","x":"#{String.duplicate("x", bytes)}"})) end
      deep = String.duplicate("[", 100) <> String.duplicate("]", 100)

      for {text, said} <- [
            {"#{long.(48 * 1024)}.#{payload}.#{signature}",
             "its header has more than 49152 bytes"},
            {"#{header}.#{payload}.#{url64(:binary.copy("x", 70_000))}",
             "its signature has more than"},
            {String.duplicate(".", 5_000_000), "three parts of base64url"},
            {"#{url64(~s({"alg":"ES256","x":#{deep}}))}.#{payload}.#{signature}",
             "not a JSON object"}
          ] do
        assert {:error, %Error{reason: :signature_invalid} = error} =
                 JWS.verify(:no_such_instance, [label: "x"], text)

        assert Exception.message(error) =~ said
      end

      # The largest that is read asks for the token.
      assert {:error, %Error{reason: :shutdown}} =
               JWS.verify(
                 :no_such_instance,
                 [label: "x"],
                 "#{long.(48_000)}.#{payload}.#{signature}"
               )
    end

    test "with a sentence of some length only", %{hsm: hsm, public: public} do
      name = String.duplicate("x", 30_000)
      text = "#{url64(~s({"alg":"#{name}"}))}.."

      for opts <- [[], [alg: "ES256"]] do
        assert {:error, error} = JWS.verify(hsm, public, text, opts)
        assert byte_size(Exception.message(error)) < 300
      end
    end

    test "by an error, whatever comes", %{hsm: hsm, public: public, private: private} do
      header = %{typ: "JWT", exp: 1, crit: ["exp"]}
      jws = JWS.sign!(hsm, private, "text", header: header)
      assert {:ok, _verified} = JWS.verify(hsm, public, jws, crit: ["exp"])

      for n <- 1..400 do
        at = :rand.uniform(byte_size(jws)) - 1
        {head, <<byte, rest::binary>>} = :erlang.split_binary(jws, at)
        other = Enum.random([:rand.bytes(1), "", "..", "=", "A", <<Bitwise.bxor(byte, 1)>>, head])
        text = if other == <<byte>>, do: "", else: head <> other <> rest
        hsm = if rem(n, 8) == 0, do: hsm, else: :no_such_instance

        assert {:error, %Error{reason: reason}} = JWS.verify(hsm, public, text, crit: ["exp"])

        assert reason in if(hsm == :no_such_instance,
                 do: [:signature_invalid, :shutdown],
                 else: [:signature_invalid]
               )
      end

      assert_raise ArgumentError, "jws: must be a string", fn ->
        # Elixir 1.20 would warn of the call itself.
        apply(JWS, :verify, [hsm, public, nil])
      end
    end

    test "algorithms", %{hsm: hsm, public: public, secret: secret, jws: jws} do
      [_header, payload, _signature] = String.split(jws, ".")
      unsecured = "#{url64(~S({"alg":"none"}))}.#{payload}."

      assert {:error, %Error{detail: "there is no algorithm" <> _}} =
               JWS.verify(hsm, public, unsecured)

      assert {:error, %Error{reason: :signature_invalid}} =
               JWS.verify(hsm, public, jws, alg: "ES384")

      # A public key as a secret, the oldest of all tricks.
      trick = "#{url64(~S({"alg":"HS256"}))}.#{payload}.AAAA"

      assert {:error, %Error{detail: "HS256 is for secret keys" <> _}} =
               JWS.verify(hsm, public, trick)

      assert {:error, %Error{reason: :signature_invalid}} = JWS.verify(hsm, secret, jws)
    end

    test "critical extensions that nobody understands", %{
      hsm: hsm,
      private: private,
      public: public
    } do
      jws = JWS.sign!(hsm, private, "text", header: %{exp: 1, crit: ["exp"]})
      assert {:error, %Error{reason: :signature_invalid}} = JWS.verify(hsm, public, jws)
      assert {:ok, %{header: %{"exp" => 1}}} = JWS.verify(hsm, public, jws, crit: ["exp"])

      for header <- [
            ~S({"alg":"ES256","crit":[]}),
            ~S({"alg":"ES256","crit":["b64"]}),
            ~S({"alg":"ES256","crit":"b64","b64":false}),
            ~S({"alg":"ES256","crit":["b64","b64"],"b64":false}),
            ~S({"alg":"ES256","crit":["b64"],"b64":0}),
            ~S({"alg":"ES256","b64":false}),
            ~S({"alg":"ES256","exp":1,"crit":["exp"],"b64":false})
          ] do
        assert {:error, %Error{reason: :signature_invalid} = error} =
                 JWS.verify(hsm, public, "#{url64(header)}.x.AAAA", crit: ["exp"])

        assert Exception.message(error) =~ "crit"
      end
    end

    test "another payload", %{hsm: hsm, public: public, jws: jws, detached: detached} do
      assert {:ok, %{payload: "text"}} = JWS.verify(hsm, public, detached, payload: ["te", "xt"])
      assert {:error, %Error{reason: :signature_invalid}} = JWS.verify(hsm, public, detached)

      assert {:error, %Error{reason: :signature_invalid}} =
               JWS.verify(hsm, public, detached, payload: "")

      assert {:error, %Error{reason: :invalid_argument}} =
               JWS.verify(hsm, public, jws, payload: "text")

      assert {:error, %Error{reason: :invalid_argument}} =
               JWS.verify(hsm, public, detached, payload: {:stream, ["text"]})

      assert_raise Error, fn -> JWS.verify!(hsm, public, detached) end
    end
  end

  describe "a JWK" do
    test "has the members that were asked for", %{hsm: hsm, public: public, private: private} do
      {:ok, jwk} = JWK.public(hsm, private, kid: :thumbprint, use: "sig", alg: "ES256")
      assert %{"use" => "sig", "alg" => "ES256", "kty" => "EC", "crv" => "P-256"} = jwk
      assert jwk["kid"] == JWK.thumbprint(jwk)

      assert {:ok, %{"keys" => [^jwk, _]}} =
               JWK.set(hsm, [public, private], use: "sig", alg: "ES256")

      assert JWK.to_json(jwk) =~ ~r/^{"alg":"ES256","crv":"P-256","kid":/

      assert_raise ArgumentError, ~r/kid: must be a string/, fn ->
        JWK.public(hsm, public, kid: 1)
      end

      assert_raise ArgumentError, ~r/did you mean :use\?/, fn ->
        JWK.public(hsm, public, usr: "")
      end
    end

    @tag skip: MainToken.lacks(:kryoptic, "no brainpool")
    test "is not made of secrets, nor of what JOSE has no name for", %{hsm: hsm, secret: secret} do
      assert {:error, %Error{reason: :unsupported}} = JWK.public(hsm, secret)
      {public, _} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, curve: :brainpoolP256r1)
      assert {:error, %Error{reason: :unsupported}} = JWK.public(hsm, public)
      assert {:error, %Error{reason: :unsupported}} = JWK.set(hsm, [public])

      for jwk <- [
            %{"kty" => "oct", "k" => ""},
            %{"kty" => "EC", "crv" => "P-256", "x" => "AA"},
            %{"kty" => "EC", "crv" => "P-256", "x" => "AA", "y" => nil},
            %{"kty" => "EC", "crv" => "P-256", "x" => "AA", "y" => ["AA"]},
            %{"kty" => "OKP", "crv" => "Ed25519", "x" => "A=A"},
            %{"kty" => "OKP", "crv" => "Ed25519", "x" => ""},
            %{"kty" => "OKP", "crv" => "", "x" => "AA"},
            %{"kty" => "RSA", "e" => "AQAB", "n" => "AR"},
            %{kty: "RSA", e: "AQAB", n: "AQ"},
            "{}",
            nil
          ],
          do: assert_raise(ArgumentError, ~r/thumbprint/, fn -> JWK.thumbprint(jwk) end)

      jwk = %{"kty" => "RSA", "e" => "AQAB", "n" => "AQ"}
      assert byte_size(JWK.thumbprint(jwk, :sha512)) == 86

      for hash <- [:md5, :sha, "sha256", nil],
          do: assert_raise(ArgumentError, ~r/hash/, fn -> JWK.thumbprint(jwk, hash) end)
    end
  end

  # The last character of 64 bytes has four bits that mean nothing.
  defp not_canonical(signature) do
    {start, last} = String.split_at(signature, -1)
    start <> if(last == "A", do: "B", else: <<hd(String.to_charlist(last)) + 1>>)
  end

  defp url64(text), do: Base.url_encode64(text, padding: false)
  defp base64(text), do: Base.url_decode64!(text, padding: false)
end
