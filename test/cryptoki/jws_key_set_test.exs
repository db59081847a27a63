defmodule Cryptoki.JWSKeySetTest do
  use ExUnit.Case, async: true

  # Tokens of the web against sets of public keys, without a token of PKCS #11: what others have signed is taken, and what
  # attackers send is not. Each of them has a key of the set as far as that is public.

  alias Cryptoki.{Base64URL, Error, JSON, JWK, JWS}
  alias Cryptoki.Test.Jose

  @algorithms [
    {"RS256", %{kty: "RSA", size: 2048}},
    {"PS384", %{kty: "RSA", size: 2048}},
    {"RS512", %{kty: "RSA", size: 2048}},
    {"ES256", %{kty: "EC", crv: "P-256"}},
    {"ES384", %{kty: "EC", crv: "P-384"}},
    {"ES512", %{kty: "EC", crv: "P-521"}},
    {"ES256K", %{kty: "EC", crv: "secp256k1"}},
    {"EdDSA", %{kty: "OKP", crv: "Ed25519"}},
    {"EdDSA", %{kty: "OKP", crv: "Ed448"}}
  ]

  setup_all do
    requests =
      for {alg, key} <- @algorithms,
          do: %{do: "sign", key: key, alg: alg, payload: ~s({"sub":"alice"})}

    made = Jose.python(requests)

    signed =
      for {{%{"jwk" => jwk, "jws" => jws}, {alg, _key}}, n} <-
            Enum.with_index(Enum.zip(made, @algorithms)),
          do: %{jwk: Map.put(jwk, "kid", "#{n}"), alg: alg, jws: jws}

    %{signed: signed, set: Enum.map(signed, & &1.jwk)}
  end

  defp refused(set, jws, opts \\ []) do
    assert {:error, %Error{} = error} = JWS.verify({:jwks, set}, jws, opts)
    assert String.valid?(Exception.message(error))
    {error.reason, error.detail}
  end

  # A key of ours, which signs in this VM.
  defp key(curve \\ :secp256r1, kid \\ "1") do
    private = :public_key.generate_key({:namedCurve, curve})
    {:ok, jwk} = JWK.from_public_key({{:ECPoint, elem(private, 4)}, elem(private, 3)})
    {private, Map.put(jwk, "kid", kid)}
  end

  defp rsa do
    private = :public_key.generate_key({:rsa, 2048, 65_537})
    {:ok, jwk} = JWK.from_public_key({:RSAPublicKey, elem(private, 2), elem(private, 3)})
    {private, Map.put(jwk, "kid", "rsa")}
  end

  defp made(header, payload \\ "text", sign) do
    text = if is_binary(header), do: header, else: JSON.encode!(header)
    input = "#{Base64URL.encode(text)}.#{Base64URL.encode(payload)}"
    input <> "." <> Base64URL.encode(sign.(input))
  end

  defp es256(private) do
    fn input ->
      {:"ECDSA-Sig-Value", r, s} =
        :public_key.der_decode(:"ECDSA-Sig-Value", :public_key.sign(input, :sha256, private))

      <<r::256, s::256>>
    end
  end

  test "what others sign is taken: by the only key, by its kid, as a map and as a text", %{
    signed: signed,
    set: set
  } do
    for %{jwk: jwk, alg: alg, jws: jws} <- signed do
      for keys <- [[jwk], %{"keys" => [jwk]}, JSON.encode!(%{keys: [jwk]})] do
        assert {:ok, %{payload: ~s({"sub":"alice"}), header: %{"alg" => ^alg}}} =
                 JWS.verify({:jwks, keys}, jws)

        assert {:ok, _verified} = JWS.verify({:jwks, keys}, jws, alg: [alg, "none"])
        assert {:signature_invalid, _} = refused(keys, jws, alg: "HS256")
      end

      others = set -- [jwk]
      assert {:signature_invalid, _detail} = refused(others, jws)
      [header, payload, signature] = String.split(jws, ".")
      spoilt = Base64URL.encode("x") <> String.slice(payload, 2..-1//1)
      assert {:signature_invalid, _} = refused([jwk], "#{header}.#{spoilt}.#{signature}")
      <<first, rest::binary>> = Base.url_decode64!(signature, padding: false)
      spoilt = Base64URL.encode(<<Bitwise.bxor(first, 1)>> <> rest)
      assert {:signature_invalid, _} = refused([jwk], "#{header}.#{payload}.#{spoilt}")

      assert {:signature_invalid, _} =
               refused([jwk], "#{header}.#{payload}.#{Base64URL.encode(rest)}")

      assert {:signature_invalid, _} = refused([jwk], "#{header}.#{payload}.")
    end
  end

  test "the kid of the header names the key" do
    {private, jwk} = key()
    {_other, other} = key(:secp256r1, "2")
    jws = made(%{alg: "ES256", kid: "1"}, es256(private))
    assert {:ok, %{payload: "text"}} = JWS.verify({:jwks, [other, jwk]}, jws)
    assert JWS.verify!({:jwks, [other, jwk]}, jws).payload == "text"
    assert JWS.verify!({:jwks, [other, jwk]}, jws, alg: "ES256").payload == "text"
    assert {:signature_invalid, _} = refused([%{other | "kid" => "1"}], jws)
    assert {:key_not_found, detail} = refused([other], jws)
    assert detail =~ ~s(no key with the kid "1")
    assert {:key_not_found, _} = refused([], jws)
    assert_raise Error, fn -> JWS.verify!({:jwks, [other]}, jws) end

    # Which of both is not said, although one of them has signed it.
    assert {:signature_invalid, detail} =
             refused([jwk, other], made(%{alg: "ES256"}, es256(private)))

    assert detail =~ "it has no kid"
    assert {:ok, _} = JWS.verify({:jwks, [jwk]}, made(%{alg: "ES256"}, es256(private)))
  end

  test "a kid that several keys have is none, unless their types tell them apart" do
    {private, jwk} = key()
    {_private, twin} = key()
    {_private, rsa} = rsa()
    jws = made(%{alg: "ES256", kid: "1"}, es256(private))
    assert {:key_ambiguous, _} = refused([jwk, twin], jws)
    assert {:key_ambiguous, _} = refused([twin, jwk], jws)
    assert {:ok, _} = JWS.verify({:jwks, [jwk, jwk]}, jws)
    assert {:ok, _} = JWS.verify({:jwks, [%{rsa | "kid" => "1"}, jwk]}, jws)

    for kid <- [nil, 1, ["1"], %{}],
        do:
          assert(
            {:signature_invalid, _} =
              refused([jwk], made(%{alg: "ES256", kid: kid}, es256(private)))
          )
  end

  test "none is no algorithm, in whichever letters" do
    {_private, jwk} = key()

    for alg <- ~w[none None NONE nOnE] ++ ["", nil, 0, ["ES256"]],
        header <- [%{alg: alg}, %{alg: alg, kid: "1"}] do
      assert {:signature_invalid, _} = refused([jwk], made(header, fn _ -> "" end))
      assert {:signature_invalid, _} = refused([jwk], made(header, fn _ -> "" end), alg: "none")
    end
  end

  test "a public key is never taken for a secret" do
    {_private, jwk} = rsa()
    {:ok, key} = JWK.to_public_key(jwk)
    entry = :public_key.pem_entry_encode(:SubjectPublicKeyInfo, key)
    pem = :public_key.pem_encode([entry])
    n = Base.url_decode64!(jwk["n"], padding: false)

    for secret <- [pem, String.trim(pem), elem(entry, 1), n, jwk["n"], JSON.encode!(jwk), ""],
        {alg, hash} <- [{"HS256", :sha256}, {"HS384", :sha384}, {"HS512", :sha512}] do
      jws = made(%{alg: alg, kid: "rsa"}, &:crypto.mac(:hmac, hash, secret, &1))
      assert {:signature_invalid, detail} = refused([jwk], jws)
      assert detail =~ "is for secret keys"
      assert {:signature_invalid, _} = refused([jwk], jws, alg: alg)
    end
  end

  test "a secret key in a set is none of it" do
    secret = String.duplicate("s", 32)
    oct = %{"kty" => "oct", "k" => Base64URL.encode(secret), "kid" => "1"}
    hs256 = &:crypto.mac(:hmac, :sha256, secret, &1)
    jws = made(%{alg: "HS256", kid: "1"}, hs256)
    assert {:signature_invalid, _} = refused([oct], jws)
    assert {:signature_invalid, _} = refused([oct], jws, alg: "HS256")
    assert {:signature_invalid, _} = refused([oct], made(%{alg: "ES256", kid: "1"}, hs256))
    assert {:error, %Error{reason: :unsupported}} = JWK.to_public_key(oct)

    {private, jwk} = key()

    assert {:ok, _} =
             JWS.verify({:jwks, [oct, jwk]}, made(%{alg: "ES256", kid: "1"}, es256(private)))
  end

  test "the key says what it is for, whatever the header says" do
    {private, jwk} = rsa()
    pkcs1 = &:public_key.sign(&1, :sha256, private)
    jws = made(%{alg: "RS256", kid: "rsa"}, pkcs1)
    assert {:ok, _} = JWS.verify({:jwks, [jwk]}, jws)

    for member <- [
          %{"alg" => "PS256"},
          %{"alg" => nil},
          %{"use" => "enc"},
          %{"use" => nil},
          %{"key_ops" => ["sign"]},
          %{"key_ops" => []},
          %{"key_ops" => "verify"},
          %{"key_ops" => nil},
          %{"kty" => "EC"},
          %{"kty" => "oct"},
          %{"kty" => nil}
        ],
        do: assert({:signature_invalid, _} = refused([Map.merge(jwk, member)], jws))

    fits = %{"alg" => "RS256", "use" => "sig", "key_ops" => ["verify"]}
    assert {:ok, _} = JWS.verify({:jwks, [Map.merge(jwk, fits)]}, jws)

    for alg <- ~w[RS384 RS512 PS256 ES256 EdDSA Ed25519 ML-DSA-44],
        do: assert({:signature_invalid, _} = refused([jwk], made(%{alg: alg, kid: "rsa"}, pkcs1)))

    # A curve is that of the algorithm.
    {private, p384} = key(:secp384r1)
    sign = &:public_key.sign(&1, :sha256, private)

    for alg <- ~w[ES256 ES512 ES256K],
        do: assert({:signature_invalid, _} = refused([p384], made(%{alg: alg}, sign)))
  end

  test "keys in the header are not looked at" do
    {private, evil} = key()
    {_private, jwk} = key()

    for header <- [
          %{jwk: evil},
          %{jku: "https://evil.test"},
          %{x5c: ["AA=="]},
          %{jwk: evil, kid: "1"}
        ] do
      jws = made(Map.put(header, :alg, "ES256"), es256(private))
      assert {:signature_invalid, _} = refused([jwk], jws)
    end
  end

  test "critical extensions, names twice and other forms are refused" do
    {private, jwk} = key()
    sign = es256(private)

    for header <- [
          %{alg: "ES256", crit: ["x"], x: 1},
          %{alg: "ES256", crit: []},
          %{alg: "ES256", b64: false},
          ~s({"alg":"none","alg":"ES256"}),
          ~s({"alg":"ES256"} ),
          "[]",
          ""
        ],
        header != ~s({"alg":"ES256"} ),
        do: assert({:signature_invalid, _} = refused([jwk], made(header, sign)))

    jws = made(%{alg: "ES256"}, sign)

    for bad <- [
          "",
          ".",
          "..",
          "...",
          jws <> ".",
          jws <> "=",
          " " <> jws,
          jws <> "\n",
          String.replace(jws, ".", ","),
          "é"
        ],
        do: assert({:signature_invalid, _} = refused([jwk], bad))

    assert {:ok, %{header: %{"x" => 1}}} =
             JWS.verify({:jwks, [jwk]}, made(%{alg: "ES256", crit: ["x"], x: 1}, sign), crit: "x")
  end

  test "r and s have their length, and DER is no signature" do
    {private, jwk} = key()
    der = &:public_key.sign(&1, :sha256, private)
    assert {:signature_invalid, _} = refused([jwk], made(%{alg: "ES256"}, der))

    # The same numbers in another length.
    longer = fn input ->
      <<r::256, s::256>> = es256(private).(input)
      <<r::264, s::264>>
    end

    assert {:signature_invalid, detail} = refused([jwk], made(%{alg: "ES256"}, longer))
    assert detail =~ "has 66 bytes, not 64"

    for bytes <- [<<0::512>>, <<0::504>>, <<0::520>>, <<1::256, 0::256>>, <<-1::512>>],
        do:
          assert(
            {:signature_invalid, _} = refused([jwk], made(%{alg: "ES256"}, fn _ -> bytes end))
          )
  end

  test "detached payloads, and streams where they are unencoded" do
    {private, jwk} = key()
    [header, payload, signature] = String.split(made(%{alg: "ES256"}, es256(private)), ".")
    assert payload == Base64URL.encode("text")

    assert {:ok, %{payload: "text"}} =
             JWS.verify({:jwks, [jwk]}, "#{header}..#{signature}", payload: "text")

    assert {:signature_invalid, _} = refused([jwk], "#{header}..#{signature}", payload: "other")

    protected = Base64URL.encode(~s({"alg":"ES256","b64":false,"crit":["b64"]}))
    signature = Base64URL.encode(es256(private).(protected <> "." <> "some text"))
    stream = {:stream, ["some", " text"]}

    assert {:ok, %{payload: ^stream}} =
             JWS.verify({:jwks, [jwk]}, "#{protected}..#{signature}", payload: stream)

    other = {:stream, ["some", "text"]}
    assert {:signature_invalid, _} = refused([jwk], "#{protected}..#{signature}", payload: other)
  end

  test "keys that nobody may use" do
    {private, jwk} = key()
    jws = made(%{alg: "ES256", kid: "1"}, es256(private))
    <<x::256>> = Base.url_decode64!(jwk["x"], padding: false)

    for {member, text} <- [
          {%{"x" => Base64URL.encode(<<Bitwise.bxor(x, 1)::256>>)}, "none of the curve"},
          {%{"x" => Base64URL.encode(<<0, x::256>>)}, ~s(its "x" is not of 32 bytes)},
          {%{"x" => jwk["x"] <> "="}, ~s(it has no "x" in base64url)},
          {%{"x" => nil}, ~s(it has no "x" in base64url)},
          {%{"y" => 5}, ~s(it has no "y" in base64url)},
          {%{"d" => "AQAB"}, "the member d of a private key"}
        ] do
      assert {:invalid_argument, detail} = refused([Map.merge(jwk, member)], jws)
      assert detail =~ text
      assert detail =~ ~s(the key with the kid "1")
    end

    {private, rsa} = rsa()
    jws = made(%{alg: "RS256"}, &:public_key.sign(&1, :sha256, private))
    weak = :public_key.generate_key({:rsa, 1024, 65_537})
    {:ok, weak} = JWK.from_public_key({:RSAPublicKey, elem(weak, 2), 65_537})
    assert {:invalid_argument, detail} = refused([weak], jws)
    assert detail =~ "too weak"
    assert {:invalid_argument, _} = refused([%{rsa | "e" => "AQ"}], jws)

    assert {:invalid_argument, _} =
             refused([%{rsa | "n" => String.duplicate("AAAA", 10_000)}], jws)

    # Signatures of everybody verify with it.
    small = %{"kty" => "OKP", "crv" => "Ed25519", "x" => Base64URL.encode(<<1, 0::248>>)}

    assert {:invalid_argument, detail} =
             refused([small], made(%{alg: "EdDSA"}, fn _ -> <<1, 0::504>> end))

    assert detail =~ "prove nothing"
    # These are for agreement.
    x25519 = %{"kty" => "OKP", "crv" => "X25519", "x" => Base64URL.encode(<<9, 0::248>>)}

    assert {:signature_invalid, _} =
             refused([x25519], made(%{alg: "EdDSA"}, fn _ -> <<0::512>> end))
  end

  test "sets that are none, and keys of kinds that are not known" do
    {private, jwk} = key()
    jws = made(%{alg: "ES256", kid: "1"}, es256(private))

    for set <- [
          "",
          "[]",
          "{}",
          "null",
          ~s({"keys":1}),
          ~s({"keys":[1]}),
          %{},
          %{"keys" => %{}},
          [1],
          [jwk | jwk],
          <<255>>,
          String.duplicate(" ", 1_048_577)
        ],
        do: assert({:invalid_argument, _} = refused(set, jws))

    odd = [
      %{},
      %{"kty" => "new", "kid" => "1"},
      %{"kty" => 1},
      %{"kty" => "EC", "crv" => "P-192", "kid" => "1"}
    ]

    assert {:ok, _} = JWS.verify({:jwks, odd ++ [jwk]}, jws)
    assert {:signature_invalid, _} = refused(odd, jws)

    assert_raise ArgumentError, fn -> JWS.verify({:jwks, [jwk]}, 5) end
    assert_raise ArgumentError, fn -> JWS.verify({:jwks, [jwk]}, jws, algo: "ES256") end
    assert_raise ArgumentError, fn -> JWS.verify({:jwks, [jwk]}, jws, timeout: 5) end
  end

  test "keys both ways", %{set: set} do
    for jwk <- set do
      assert {:ok, key} = JWK.to_public_key(jwk)
      assert JWK.from_public_key(key) == {:ok, Map.delete(jwk, "kid")}
    end

    for name <- ["X25519", "X448"], size = if(name == "X448", do: 56, else: 32) do
      jwk = %{
        "kty" => "OKP",
        "crv" => name,
        "x" => Base64URL.encode(<<9, 0::unit(8)-size(size - 1)>>)
      }

      assert {:ok, key} = JWK.to_public_key(jwk)
      assert JWK.from_public_key(key) == {:ok, jwk}
    end

    pub = Base64URL.encode(String.duplicate("p", 1952))
    akp = %{"kty" => "AKP", "alg" => "ML-DSA-65", "pub" => pub}
    assert {:ok, key} = JWK.to_public_key(akp)
    assert JWK.from_public_key(key) == {:ok, akp}

    for member <- [
          %{"alg" => "ML-DSA-44"},
          %{"alg" => "ES256"},
          %{"alg" => nil},
          %{"pub" => "AA"},
          %{"priv" => "AA"}
        ],
        do: assert({:error, %Error{}} = JWK.to_public_key(Map.merge(akp, member)))

    assert_raise ArgumentError, fn -> JWK.to_public_key([]) end
  end
end
