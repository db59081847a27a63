defmodule Cryptoki.JWETest do
  use ExUnit.Case, async: true

  # The examples of RFC 7516, 7518 and 7520, and all that is refused. test/referee/jwe_test.exs has other people's.

  alias Cryptoki.{Base64URL, Error, JSON, JWE}
  alias Cryptoki.ContentKey.Derivation
  alias Cryptoki.JWE.{Algorithm, Encryption}
  alias Cryptoki.Test.MainToken

  @nobody :no_such_instance
  @one_error "it is for another key, or was changed"
  @vectors "test/vectors/jose/rfc7520_jwe.json"

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    {:ok, examples} = @vectors |> File.read!() |> JSON.decode()
    aes = Cryptoki.create!(hsm, aes(:crypto.strong_rand_bytes(32)))
    rsa = [modulus_bits: 2048, public: [encrypt: true], private: [decrypt: true]]
    {_, rsa} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, [id: "jwe-rsa"] ++ rsa)
    ec = [id: "jwe-ec", curve: :secp256r1, private: [derive: true]]
    {_, ec} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, ec)
    %{hsm: hsm, examples: examples, aes: aes, rsa: rsa, ec: ec}
  end

  defp aes(value) do
    [class: :secret_key, key_type: :aes, value: value, token: false] ++
      [decrypt: true, encrypt: true, unwrap: true]
  end

  # A key of an example on the token.
  defp key(hsm, %{"kty" => "oct", "k" => value}) do
    {:ok, value} = Base64URL.decode(value)
    if byte_size(value) in [16, 24, 32], do: {:ok, Cryptoki.create!(hsm, aes(value))}, else: :none
  end

  defp key(hsm, %{"kty" => type} = jwk) do
    use = if type == "RSA", do: [decrypt: true], else: [derive: true]

    kind =
      if type == "OKP" and MainToken.name() == :softhsm2, do: [key_type: :ec_edwards], else: []

    text = jwk |> Map.drop(~w[use alg]) |> JSON.encode!()
    Cryptoki.import_key(hsm, text, [token: false, public: false, private: use] ++ kind)
  end

  @refused ~w[5.1 5.3 5.9]

  test "RFC 7520, section 5, and its keys on Curve25519", %{hsm: hsm, examples: examples} do
    opened =
      for %{"section" => section, "keys" => keys, "jwes" => jwes} = example <- examples,
          section not in @refused,
          jwk <- keys,
          # 4096 bits, and one with an algorithm that is not taken.
          not (section == "5.13" and jwk["kty"] == "RSA"),
          {:ok, key} <- [key(hsm, jwk)],
          jwe <- jwes do
        assert {:ok, %{plaintext: text, header: header}} = JWE.decrypt(hsm, key, jwe), section
        assert text == example["plaintext"]
        assert is_map(header)
        assert section != "5.11" or JWE.decrypt!(hsm, key, jwe).unprotected != %{}

        # Each part of it counts.
        for jwe <- changed(jwe) do
          assert {:error, %Error{reason: :encrypted_data_invalid}} = JWE.decrypt(hsm, key, jwe)
        end

        section
      end

    assert opened |> Enum.uniq() |> length() >= 10
  end

  defp changed(<<"{", _::binary>> = json) do
    {:ok, jwe} = JSON.decode(json)

    for name <- ~w[protected iv ciphertext tag aad], is_binary(jwe[name]) do
      {:ok, bytes} = Base64URL.decode(jwe[name])
      JSON.encode!(%{jwe | name => Base64URL.encode(flipped(bytes))})
    end
  end

  defp changed(compact) do
    parts = String.split(compact, ".")

    for at <- 1..4, part = Enum.at(parts, at), part != "" do
      {:ok, bytes} = Base64URL.decode(part)
      parts |> List.replace_at(at, Base64URL.encode(flipped(bytes))) |> Enum.join(".")
    end
  end

  defp flipped(bytes) do
    at = div(byte_size(bytes), 2)
    {before, <<byte, rest::binary>>} = :erlang.split_binary(bytes, at)
    <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
  end

  test "what is refused of RFC 7520, by its name", %{hsm: hsm, examples: examples} = context do
    for {section, text} <- [
          {"5.1", ~s(its algorithm is "RSA1_5", which is not here)},
          {"5.3", ~s(its algorithm is "PBES2-HS512+A256KW", which is not here)},
          {"5.9", "it is compressed (zip), which is not here"}
        ] do
      %{"jwes" => jwes} = Enum.find(examples, &(&1["section"] == section))

      for jwe <- jwes do
        assert {:error, %Error{reason: :encrypted_data_invalid, detail: detail}} =
                 JWE.decrypt(hsm, context.rsa, jwe)

        assert detail == text
      end
    end
  end

  test "RFC 7516, appendix A.3", %{hsm: hsm} do
    {:ok, key} = key(hsm, %{"kty" => "oct", "k" => "GawgguFyGrWKav7AX4VKUg"})

    jwe =
      "eyJhbGciOiJBMTI4S1ciLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.6KB707dM9YTIgHtLvtgWQ8mKwboJW3of9locizkDTHzBC2IlrT1oOQ." <>
        "AxY8DCtDaGlsbGljb3RoZQ.KDlTtXchhZTGufMYmOYGS4HffxPSUrfmqCHXaI9wOGY.U0m_YmjN04DJvceFICbCVQ"

    assert {:ok, %{plaintext: "Live long and prosper."}} = JWE.decrypt(hsm, key, jwe)
  end

  test "RFC 7518, appendix C: what is agreed on" do
    [x, y, d] =
      for text <-
            ~w[gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0 SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps
                     VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw],
          do: text |> Base64URL.decode() |> elem(1)

    secret = :crypto.compute_key(:ecdh, <<4>> <> x <> y, d, :secp256r1)
    {:ok, encryption} = Encryption.fetch("A128GCM")
    info = Algorithm.info("ECDH-ES", :direct, encryption, "Alice", "Bob")
    key = Derivation.derive({:concat, :sha256}, secret, info, 16)
    assert Base64URL.encode(key) == "VqqN6vgjbSBcIijNcacQGg"
  end

  describe "one error" do
    test "whatever is wrong with the keys in it", %{hsm: hsm} = context do
      {:ok, public} = Cryptoki.JWK.public(hsm, context.rsa)
      {:RSAPublicKey, modulus, exponent} = Cryptoki.public_key!(hsm, context.rsa)

      for alg <- ["RSA-OAEP", "RSA-OAEP-256"], enc <- ["A256GCM", "A128CBC-HS256"] do
        jwe = JWE.encrypt!(public, "text", alg: alg, enc: enc)
        [header, _key, iv, ciphertext, tag] = String.split(jwe, ".")

        pad = [
          rsa_padding: :rsa_pkcs1_oaep_padding,
          rsa_oaep_md: hash(alg),
          rsa_mgf1_md: hash(alg)
        ]

        sealed = &:public_key.encrypt_public(&1, {:RSAPublicKey, modulus, exponent}, pad)
        raw = &:crypto.mod_pow(&1, exponent, modulus)

        for encrypted <- [
              "",
              sealed.(<<7::256>>),
              sealed.(<<7::128>>),
              sealed.(""),
              raw.(<<0, 2, 1::2032>>),
              raw.(<<1, 7::2040>>),
              :crypto.strong_rand_bytes(300)
            ] do
          jwe = Enum.join([header, Base64URL.encode(encrypted), iv, ciphertext, tag], ".")
          assert {:error, error} = JWE.decrypt(hsm, context.rsa, jwe)
          assert error == Error.new(:encrypted_data_invalid, @one_error)
        end
      end

      {:ok, public} = Cryptoki.JWK.public(hsm, context.ec)
      jwe = JWE.encrypt!(public, "text")

      for changed <- changed(jwe) do
        assert {:error, error} = JWE.decrypt(hsm, context.ec, changed)
        assert error == Error.new(:encrypted_data_invalid, @one_error)
      end
    end

    defp hash("RSA-OAEP"), do: :sha
    defp hash("RSA-OAEP-256"), do: :sha256

    test "secret keys", %{hsm: hsm, aes: key} do
      for {header, encrypted} <- [
            {%{"alg" => "A256KW"}, <<7::320>>},
            {%{"alg" => "A256KW"}, <<7::192>>},
            {%{"alg" => "A256KW"}, <<7::8>>},
            {%{"alg" => "A256GCMKW", "iv" => encode(<<1::96>>), "tag" => encode(<<1::128>>)},
             <<7::256>>},
            {%{"alg" => "A256GCMKW", "iv" => encode(<<1::96>>), "tag" => encode(<<1::128>>)}, ""},
            {%{"alg" => "dir"}, ""}
          ] do
        assert {:error, error} = JWE.decrypt(hsm, key, jwe(header, encrypted))
        assert error == Error.new(:encrypted_data_invalid, @one_error)
      end
    end
  end

  defp encode(bytes), do: Base64URL.encode(bytes)

  defp jwe(header, encrypted, opts \\ []) do
    header = Map.merge(%{"enc" => "A256GCM"}, header)
    header = if is_binary(opts[:header]), do: opts[:header], else: JSON.encode!(header)
    iv = opts[:iv] || <<1::96>>
    parts = [header, encrypted, iv, opts[:ciphertext] || "text", opts[:tag] || <<1::128>>]
    Enum.map_join(parts, ".", &encode/1)
  end

  test "what all can see is told", %{hsm: hsm, ec: ec, aes: aes} do
    {public, _} = :crypto.generate_key(:ecdh, :secp256r1)
    <<4, x::binary-32, y::binary-32>> = public
    epk = %{"kty" => "EC", "crv" => "P-256", "x" => encode(x), "y" => encode(y)}
    {p384, _} = :crypto.generate_key(:ecdh, :secp384r1)
    <<4, x384::binary-48, y384::binary-48>> = p384
    other = %{"kty" => "EC", "crv" => "P-384", "x" => encode(x384), "y" => encode(y384)}
    es = &Map.merge(%{"alg" => "ECDH-ES", "epk" => epk}, &1)

    for {key, jwe, text} <- [
          {ec, "", "neither five parts"},
          {ec, "a.b.c.d", "neither five parts"},
          {ec, "a.b.c.d.e.f", "neither five parts"},
          {ec, "e30=.b.c.d.e", "not a JSON object in base64url"},
          {ec, jwe(%{}, "", header: ~s({"alg":"dir","alg":"dir"})), "not a JSON object"},
          {ec, jwe(%{}, ""), "names no algorithm"},
          {ec, jwe(%{"alg" => 1}, ""), "names no algorithm"},
          {ec, jwe(%{"alg" => "dir", "enc" => 1}, ""), "names no encryption"},
          {ec, jwe(%{"alg" => "dir", "enc" => "A128CBC"}, ""), "its encryption is none"},
          {ec, jwe(%{"alg" => "RSA-OAEP"}, "x"), "for keys of another kind: RSA-OAEP"},
          {ec, jwe(%{"alg" => "RSA1_5"}, "x"), ~s("RSA1_5", which is not here)},
          {ec, jwe(%{"alg" => "ECDH-ES"}, ""), "has no epk"},
          {ec, jwe(es.(%{"epk" => other}), ""),
           "its epk is no public key of the curve secp256r1"},
          {ec, jwe(es.(%{"epk" => %{epk | "y" => epk["x"]}}), ""), "its epk is no public key"},
          {ec, jwe(es.(%{"epk" => Map.put(epk, "d", "AQ")}), ""), "its epk is no public key"},
          {ec, jwe(es.(%{"epk" => %{epk | "x" => 1}}), ""), "its epk is no public key"},
          {ec, jwe(es.(%{}), "x"), "has an encrypted key and needs none"},
          {ec, jwe(es.(%{"apu" => "="}), ""), "apu or apv"},
          {ec, jwe(es.(%{"apv" => String.duplicate("A", 700)}), ""), "apu or apv"},
          {ec, jwe(es.(%{"zip" => "DEF"}), ""), "zip"},
          {ec, jwe(es.(%{"crit" => ["exp"], "exp" => 1}), ""), "crit"},
          {ec, jwe(es.(%{"crit" => []}), ""), "crit"},
          {ec, jwe(es.(%{"crit" => "exp"}), ""), "crit"},
          {ec, jwe(es.(%{"crit" => ["epk"]}), ""), "crit"},
          {ec, jwe(es.(%{}), "", iv: <<1::64>>), "have not the length"},
          {ec, jwe(es.(%{}), "", tag: <<1::96>>), "have not the length"},
          {ec, jwe(es.(%{"enc" => "A128CBC-HS256"}), ""), "have not the length"},
          {aes, jwe(%{"alg" => "dir"}, "x"), "has an encrypted key and needs none"},
          {aes, jwe(%{"alg" => "dir", "enc" => "A128GCM"}, ""), "a key of another length"},
          {aes, jwe(%{"alg" => "A128KW"}, <<1::320>>), "for keys of another kind"},
          {aes, jwe(%{"alg" => "A256GCMKW"}, <<1::320>>), "no iv and tag"},
          {aes,
           jwe(%{"alg" => "dir", "enc" => "A128CBC-HS256"}, "",
             iv: <<1::128>>,
             ciphertext: <<1::128>>
           ), "two keys in one"},
          {aes, "{", "not that of a JWE"},
          {aes, ~s({"ciphertext":1}), "not that of a JWE"},
          {aes, ~s({"ciphertext":"","recipients":[]}), "1 to 100 recipients"},
          {aes, ~s({"ciphertext":"","recipients":{}}), "are no list"},
          {aes, ~s({"ciphertext":"","recipients":[1]}), "is no JSON object"},
          {aes, ~s({"ciphertext":"","recipients":[{}],"encrypted_key":""}), "one besides them"},
          {aes, ~s({"ciphertext":"","unprotected":{"alg":"dir"},"header":{"alg":"dir"}}),
           "as it should have"},
          {aes, ~s({"ciphertext":"","header":{"crit":["x"],"x":1,"alg":"dir","enc":"A256GCM"}}),
           "crit"},
          {aes, ~s({"ciphertext":"","header":{"alg":"dir","enc":"A256GCM"},"iv":"*"}),
           "iv is not base64url"}
        ] do
      assert {:error, %Error{reason: :encrypted_data_invalid} = error} =
               JWE.decrypt(hsm, key, jwe)

      assert error.detail =~ text, "#{error.detail}, not #{text}"
    end
  end

  test "names of headers are no more than are compared with each recipient", %{hsm: hsm, aes: aes} do
    many = fn count ->
      for n <- 1..count, into: %{"alg" => "dir", "enc" => "A256GCM"}, do: {"x#{n}", n}
    end

    parts = %{iv: encode(<<1::96>>), ciphertext: "", tag: encode(<<1::128>>)}
    jwe = &JSON.encode!(Map.merge(parts, %{recipients: [%{}, %{}], unprotected: many.(&1)}))
    assert {:error, %Error{detail: @one_error}} = JWE.decrypt(hsm, aes, jwe.(98))

    assert {:error, %Error{detail: "this is no JWE: a recipient" <> _}} =
             JWE.decrypt(hsm, aes, jwe.(99))
  end

  test "an extension that is understood, where it is protected", %{hsm: hsm, aes: aes} do
    encode = &(&1 |> JSON.encode!() |> Base64URL.encode())
    header = %{"alg" => "dir", "enc" => "A256GCM", "x" => 1}
    parts = %{iv: encode(<<1::96>>), ciphertext: "", tag: encode(<<1::128>>)}

    for {protected, header, detail} <- [
          {Map.put(header, "crit", ["x"]), %{}, @one_error},
          {header, %{"crit" => ["x"]}, "crit is wrong or names what is not understood"},
          {%{"crit" => ["x"]}, header, "crit is wrong or names what is not understood"}
        ] do
      jwe = JSON.encode!(Map.merge(parts, %{protected: encode.(protected), header: header}))
      assert {:error, %Error{detail: ^detail}} = JWE.decrypt(hsm, aes, jwe, crit: "x")
    end
  end

  test "what is expected", %{hsm: hsm, ec: ec} do
    {:ok, public} = Cryptoki.JWK.public(hsm, ec)
    jwe = JWE.encrypt!(public, "text", header: %{typ: "x", apu: "QWxpY2U", apv: "Qm9i"})

    assert {:ok, %{plaintext: "text", header: %{"typ" => "x"}}} =
             JWE.decrypt(hsm, ec, jwe, alg: ["ECDH-ES+A256KW", "dir"], enc: "A256GCM")

    for {opts, text} <- [
          {[alg: "ECDH-ES"], "its algorithm is ECDH-ES+A256KW, which is not expected"},
          {[enc: ["A128GCM"]], ~s(its encryption is "A256GCM", which is not expected)}
        ] do
      assert {:error, %Error{detail: ^text}} = JWE.decrypt(hsm, ec, jwe, opts)
    end

    for {arguments, text} <- [
          {[[label: "x"], :jwe], "jwe: must be a string"},
          {[[label: "x"], "", [al: "x"]], "did you mean :alg"},
          {[[label: "x"], "", [alg: []]], "alg: must be a string"},
          {[[label: "x"], "", [crit: "epk"]], "crit: must be names"},
          {[:x, ""], "key: "}
        ] do
      error = assert_raise ArgumentError, fn -> apply(JWE, :decrypt, [@nobody | arguments]) end
      assert Exception.message(error) =~ text
    end
  end

  test "encrypting refuses", %{hsm: hsm, ec: ec} do
    {:ok, public} = Cryptoki.JWK.public(hsm, ec)

    for {key, opts, reason} <- [
          {public, [alg: "RSA-OAEP"], :unsupported},
          {public, [alg: "dir"], :unsupported},
          {public, [alg: "RSA1_5"], :unsupported},
          {{:RSAPublicKey, 0xC0FFEE, 65_537}, [], :key_size_range},
          {{{:ECPoint, <<4, 1::512>>}, {:namedCurve, {1, 2, 840, 10_045, 3, 1, 7}}}, [],
           :unsupported},
          {{{:ECPoint, <<7::256>>}, {:namedCurve, {1, 3, 101, 112}}}, [], :unsupported},
          {Map.put(public, "d", "AQ"), [], :invalid_argument},
          {%{"kty" => "EC"}, [], :unsupported},
          {public, [header: %{apu: "="}], :invalid_argument}
        ],
        do: assert({:error, %Error{reason: ^reason}} = JWE.encrypt(key, "text", opts))

    for {arguments, text} <- [
          {[public, :text], "data must be iodata"},
          {["pem", "text"], "public_key: must be a JWK"},
          {[public, "", [enc: "A128CBC"]], "enc: must be one of"},
          {[public, "", [header: %{alg: "dir"}]], "alg is set here"},
          {[public, "", [header: %{zip: "DEF"}]], "zip is set here, or is not here"}
        ] do
      error = assert_raise ArgumentError, fn -> apply(JWE, :encrypt, arguments) end
      assert Exception.message(error) =~ text
    end
  end
end
