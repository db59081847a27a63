defmodule Cryptoki.PostQuantumTest do
  use ExUnit.Case, async: true

  # Certificates, requests, lists, signed data and tokens of the web by keys of ML-DSA and SLH-DSA, which never leave
  # the token. Each signature is judged by an implementation in pure Rust, pq_referee, and what stands around it by
  # Python's cryptography and jwcrypto; test/pki asks OpenSSL.

  alias Cryptoki.{CMS, DER, Error, JWK, JWS, SSH, X509}
  alias Cryptoki.SignatureAlgorithm.PostQuantum, as: Sets
  alias Cryptoki.Test.{COSE, PostQuantum, Referee, SoftHSM, Token}

  @moduletag skip:
               !Token.library(:kryoptic) && "Kryoptic is not built: bin/test --tokens kryoptic"

  @sets ~w[ml_dsa_44 ml_dsa_65 ml_dsa_87 slh_dsa_sha2_128f slh_dsa_shake_128f]a

  setup_all do
    token = Token.own_kryoptic("post-quantum")
    hsm = start_supervised!({Cryptoki, Token.options(token, sessions: 2)})

    for set <- @sets, do: pair(hsm, set)
    template = [label: "rsa", token: true, modulus_bits: 2048]
    Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
    %{hsm: hsm}
  end

  defp pair(hsm, set) do
    mechanism = :"#{Sets.mechanism(set)}_key_pair_gen"
    template = [label: "#{set}", token: true, parameter_set: set]
    Cryptoki.generate_key_pair!(hsm, mechanism, template)
  end

  defp key(set), do: [label: "#{set}"]

  # By position, as the standards have it, with nothing of ours.
  defp judged?(set, public, der) do
    {data, signature} = signed(der)
    PostQuantum.valid?(set, bytes(public), PostQuantum.message(data, ""), signature)
  end

  defp signed(der) do
    [data, _identifier, <<3, _::binary>> = bits] = parts(der)
    {_tag, <<0, signature::binary>>, ""} = value(bits)
    {data, signature}
  end

  defp parts(der) do
    {0x30, contents, ""} = value(der)
    each(contents)
  end

  defp each(""), do: []

  defp each(bytes) do
    {_tag, _contents, rest} = value(bytes)
    [binary_part(bytes, 0, byte_size(bytes) - byte_size(rest)) | each(rest)]
  end

  defp value(<<tag, 0::1, size::7, contents::binary-size(size), rest::binary>>),
    do: {tag, contents, rest}

  defp value(<<tag, 0x81, size, contents::binary-size(size), rest::binary>>),
    do: {tag, contents, rest}

  defp value(<<tag, 0x82, size::16, contents::binary-size(size), rest::binary>>),
    do: {tag, contents, rest}

  defp bytes({_record, _name_or_identifier, bytes}), do: bytes

  for set <- @sets do
    test "#{set}: its public key, a root, a request, a certificate and a list", %{hsm: hsm} do
      set = unquote(set)
      key = key(set)
      public = Cryptoki.public_key!(hsm, key)
      assert Cryptoki.public_key!(hsm, key ++ [class: :public_key]) == public
      assert {:ok, ^set, bytes} = Sets.parts(public)
      assert bytes == Cryptoki.attributes!(hsm, key ++ [class: :public_key], [:value]).value

      root = X509.self_signed!(hsm, key, subject: "/CN=root", ca: true, days: 30)
      assert judged?(set, public, root)
      read = X509.certificate!(root)
      assert read.public_key == public
      assert read.key == %{type: set}
      assert read.signature_algorithm == Sets.mechanism(set)
      assert read.key_usage == [:key_cert_sign, :crl_sign]

      csr = X509.csr!(hsm, key, subject: "/CN=www", subject_alt_name: ["www.acme.test"])
      assert judged?(set, public, csr)
      assert %{key: %{type: ^set}, subject: "/CN=www"} = X509.request!(csr, hsm: hsm)

      leaf = X509.issue!(hsm, key, root, csr, extended_key_usage: [:server_auth])
      assert judged?(set, public, leaf)
      assert X509.certificate!(leaf).key_usage == [:digital_signature]

      list = X509.crl!(hsm, key, root, [leaf])
      assert judged?(set, public, list)
      for signed <- [root, leaf, list], do: assert(:ok = X509.verify_signature(hsm, signed, root))

      next = X509.crl!(hsm, key, root, [], previous: list)
      assert X509.revocation_list!(next).number > X509.revocation_list!(list).number
    end

    test "#{set}: what is spoilt, of another key or another set is refused", %{hsm: hsm} do
      set = unquote(set)
      other = hd([:ml_dsa_44, :ml_dsa_65] -- [set])
      root = X509.self_signed!(hsm, key(set), subject: "/CN=root", ca: true)
      another = X509.self_signed!(hsm, key(other), subject: "/CN=root", ca: true)
      csr = X509.csr!(hsm, key(set), subject: "/CN=www", subject_alt_name: ["www.acme.test"])
      list = X509.crl!(hsm, key(set), root, [])

      for spoilt <- [Referee.spoilt(csr), cut(csr)] do
        assert {:error, %Error{reason: :signature_invalid}} = X509.request(spoilt, hsm: hsm)

        assert {:error, %Error{reason: :signature_invalid}} =
                 X509.issue(hsm, key(set), root, spoilt)

        assert {:error, %Error{reason: :signature_invalid}} = X509.review(hsm, root, spoilt)
      end

      for signed <- [Referee.spoilt(root), Referee.spoilt(list), cut(list)] do
        assert {:error, %Error{reason: :signature_invalid}} =
                 X509.verify_signature(hsm, signed, root)
      end

      assert {:error, %Error{reason: :signature_invalid, detail: detail}} =
               X509.verify_signature(hsm, list, another)

      assert detail =~ "does not sign with"

      named = X509.self_signed!(hsm, key(set), subject: "/CN=elsewhere", ca: true)

      assert {:error, %Error{reason: :signature_invalid, detail: "it is of another issuer"}} =
               X509.verify_signature(hsm, list, named)

      assert {:error, %Error{reason: :invalid_argument}} =
               X509.crl(hsm, key(set), root, [], previous: Referee.spoilt(list))

      assert {:error, %Error{reason: :invalid_argument}} = X509.issue(hsm, key(other), root, csr)
    end
  end

  # One byte less of the signature, and all lengths as they have to be.
  defp cut(der) do
    {data, signature} = signed(der)
    [^data, identifier, _bits] = parts(der)
    cut = binary_part(signature, 0, byte_size(signature) - 1)
    DER.sequence([data, identifier, DER.bit_string(cut)])
  end

  test "a request of such a key is not believed without who can verify it", %{hsm: hsm} do
    csr = X509.csr!(hsm, key(:ml_dsa_65), subject: "/CN=www", subject_alt_name: ["www.acme.test"])

    if :mldsa65 in :crypto.supports(:public_keys) do
      assert {:ok, _request} = X509.request(csr)
    else
      assert {:error, %Error{reason: :unsupported}} = X509.request(csr)

      other = start_supervised!({Cryptoki, SoftHSM.options(sessions: 1)}, id: :other)
      assert {:error, %Error{reason: :unsupported}} = X509.request(csr, hsm: other)
    end
  end

  test "what it takes to verify is gone after it, whatever comes of it", %{hsm: hsm} do
    csr = X509.csr!(hsm, key(:ml_dsa_44), subject: "/CN=www", subject_alt_name: ["www.acme.test"])
    %{value: value} = Cryptoki.attributes!(hsm, key(:ml_dsa_44) ++ [class: :public_key], [:value])

    mine = fn ->
      hsm |> Cryptoki.find!(class: :public_key, value: value, token: false) |> length()
    end

    before = mine.()

    for request <- [csr, Referee.spoilt(csr), csr], do: X509.request(request, hsm: hsm)
    assert mine.() == before
  end

  test "chains may be mixed", %{hsm: hsm} do
    rsa = [label: "rsa"]
    root = X509.self_signed!(hsm, rsa, subject: "/CN=root", ca: true)
    csr = X509.csr!(hsm, key(:ml_dsa_87), subject: "/CN=between")
    between = X509.issue!(hsm, rsa, root, csr, ca: true, path_len: 0)
    public = Cryptoki.public_key!(hsm, rsa)
    leaf = X509.certify!(hsm, key(:ml_dsa_87), between, public, subject: "/CN=www")
    assert judged?(:ml_dsa_87, Cryptoki.public_key!(hsm, key(:ml_dsa_87)), leaf)

    for {signed, issuer} <- [{root, root}, {between, root}, {leaf, between}],
        do: assert(X509.verify_signature(hsm, signed, issuer) == :ok)
  end

  test "a key is taken as OTP has it and as older ones write it", %{hsm: hsm} do
    root = X509.self_signed!(hsm, key(:ml_dsa_44), subject: "/CN=root", ca: true)
    public = Cryptoki.public_key!(hsm, key(:ml_dsa_44))
    {:ok, :ml_dsa_44, bytes} = Sets.parts(public)
    identifier = {:AlgorithmIdentifier, {2, 16, 840, 1, 101, 3, 4, 3, 17}, :asn1_NOVALUE}
    written = {:SubjectPublicKeyInfo, identifier, bytes}
    {:ok, info} = Sets.info(public)
    assert :public_key.der_encode(:SubjectPublicKeyInfo, written) == info

    for key <- [written, {:"ML-DSAPublicKey", :mldsa44, bytes}, info, key(:ml_dsa_44)] do
      leaf = X509.certify!(hsm, key(:ml_dsa_44), root, key, subject: "/CN=www")
      assert X509.certificate!(leaf).public_key == public
    end
  end

  test "what others write of a key is read strictly", %{hsm: hsm} do
    root = X509.self_signed!(hsm, key(:ml_dsa_44), subject: "/CN=root", ca: true)
    oid = DER.oid({2, 16, 840, 1, 101, 3, 4, 3, 17})

    for {identifier, bytes, text} <- [
          {[oid, DER.null()], :binary.copy("a", 1312), "there are no parameters of such a key"},
          {[oid], :binary.copy("a", 1311), "it is no key of ml_dsa_44, 1312 bytes"},
          {[oid], "", "it is no key of ml_dsa_44, 1312 bytes"}
        ] do
      info = DER.sequence([DER.sequence(identifier), DER.bit_string(bytes)])

      assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
               X509.certify(hsm, key(:ml_dsa_44), root, info, subject: "/CN=www")

      assert detail =~ text
    end

    assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
             X509.certify(hsm, key(:ml_dsa_44), root, key(:ml_dsa_44),
               subject: "/CN=www",
               key_usage: [:key_encipherment]
             )

    assert detail =~ "a key for signatures only cannot be for :key_encipherment"
  end

  for {set, hash} <- [ml_dsa_44: :sha512, ml_dsa_87: :sha512, slh_dsa_sha2_128f: :sha256] do
    test "#{set}: signed data", %{hsm: hsm} do
      set = unquote(set)
      own = X509.self_signed!(hsm, key(set), subject: "/CN=signer")
      der = CMS.sign!(hsm, key(set), own, "text", attributes: [{{1, 2, 3}, [DER.null()]}])
      digest = :crypto.hash(unquote(hash), "text")
      assert {_at, _size} = :binary.match(der, DER.octet_string(digest))

      # The signed attributes, whose tag is that of a SET where they are signed.
      {at, _size} = :binary.match(der, DER.oid({1, 2, 3}))
      {attributes, signature} = attributes(der, at, Sets.signature_size(set))
      public = Cryptoki.public_key!(hsm, key(set))

      assert PostQuantum.valid?(
               set,
               bytes(public),
               PostQuantum.message(attributes, ""),
               signature
             )
    end
  end

  defp attributes(der, at, size) do
    signature = binary_part(der, byte_size(der), -size)

    start =
      Enum.find((at - 1)..0//-1, fn place ->
        case binary_part(der, place, 3) do
          <<0xA0, 0x81, length>> -> place + 3 + length > at
          _other -> false
        end
      end)

    {_before, <<0xA0, 0x81, length, values::binary-size(length), _::binary>>} =
      :erlang.split_binary(der, start)

    {<<0x31, 0x81, length, values::binary>>, signature}
  end

  test "signed data is not made where its hash is missing", %{hsm: hsm} do
    own = X509.self_signed!(hsm, key(:slh_dsa_shake_128f), subject: "/CN=signer")

    assert {:error, %Error{reason: :unsupported, detail: detail}} =
             CMS.sign(hsm, key(:slh_dsa_shake_128f), own, "text")

    assert detail =~ "SHAKE"
  end

  for {set, alg} <- [ml_dsa_44: "ML-DSA-44", ml_dsa_65: "ML-DSA-65", ml_dsa_87: "ML-DSA-87"] do
    test "#{alg}: tokens of the web and their key", %{hsm: hsm} do
      {set, alg} = {unquote(set), unquote(alg)}
      jwk = JWK.public!(hsm, key(set), kid: :thumbprint, use: "sig")
      assert %{"kty" => "AKP", "alg" => ^alg, "pub" => pub, "kid" => kid} = jwk
      text = ~s({"alg":"#{alg}","kty":"AKP","pub":"#{pub}"})
      assert kid == Base.url_encode64(:crypto.hash(:sha256, text), padding: false)
      assert JWK.public!(hsm, key(set), alg: alg)["alg"] == alg
      assert {:error, %Error{reason: :invalid_argument}} = JWK.public(hsm, key(set), alg: "ES256")

      jws = JWS.sign!(hsm, key(set), "text")
      [header, payload, signature] = String.split(jws, ".")
      assert Base.url_decode64!(header, padding: false) == ~s({"alg":"#{alg}"})
      raw = Base.url_decode64!(pub, padding: false)
      message = PostQuantum.message("#{header}.#{payload}", "")
      assert PostQuantum.valid?(set, raw, message, Base.url_decode64!(signature, padding: false))
      assert JWS.verify!(hsm, key(set), jws).payload == "text"

      other = hd([:ml_dsa_44, :ml_dsa_65] -- [set])

      assert {:error, %Error{reason: :signature_invalid}} = JWS.verify(hsm, key(other), jws)

      assert {:error, %Error{reason: :key_type_inconsistent}} =
               JWS.sign(hsm, key(other), "text", alg: alg)
    end
  end

  describe "Python's" do
    test "cryptography takes certificates, requests and lists of ML-DSA, and nothing that is spoilt",
         %{hsm: hsm} do
      rsa = [label: "rsa"]
      above = X509.self_signed!(hsm, rsa, subject: "/CN=above", ca: true)

      rows =
        for set <- [:ml_dsa_44, :ml_dsa_65, :ml_dsa_87],
            key = key(set),
            root = X509.self_signed!(hsm, key, subject: "/CN=root", ca: true),
            csr = X509.csr!(hsm, key, subject: "/CN=www", subject_alt_name: ["www.acme.test"]),
            row <- [
              {"issued", root, root},
              {"issued", X509.issue!(hsm, key, root, csr), root},
              {"issued", X509.issue!(hsm, rsa, above, csr), above},
              {"request", csr, csr},
              {"list", X509.crl!(hsm, key, root, [17]), root}
            ],
            do: row

      ask = fn {what, der, issuer} ->
        %{do: what, der: COSE.hex(der), issuer: COSE.hex(issuer)}
      end

      spoilt = for {what, der, issuer} <- rows, do: {what, Referee.spoilt(der), issuer}
      answers = COSE.python(Enum.map(rows ++ spoilt, ask), "post_quantum.py")
      {taken, refused} = Enum.split(answers, length(rows))
      assert Enum.uniq(taken) == ["ok"]
      refute "ok" in refused
    end

    test "jwcrypto takes tokens of the web of ML-DSA and has the same thumbprints, and its own are taken here",
         %{hsm: hsm} do
      for {set, alg} <- [ml_dsa_44: "ML-DSA-44", ml_dsa_65: "ML-DSA-65", ml_dsa_87: "ML-DSA-87"] do
        jwk = JWK.public!(hsm, key(set), kid: "1")
        jws = JWS.sign!(hsm, key(set), "text", header: %{kid: "1"})

        assert [
                 "text",
                 "Invalid" <> _,
                 thumbprint,
                 %{"jwk" => %{"kty" => "AKP", "pub" => pub} = theirs, "jws" => signed}
               ] =
                 COSE.python(
                   [
                     %{do: "verify", jwk: jwk, jws: jws},
                     %{
                       do: "verify",
                       jwk: jwk,
                       jws: String.replace(jws, ".", ".dGV4", global: false)
                     },
                     %{do: "thumbprint", jwk: jwk},
                     %{do: "sign", alg: alg, payload: "theirs"}
                   ],
                   "post_quantum.py"
                 )

        assert thumbprint == JWK.thumbprint(jwk)
        value = Base.url_decode64!(pub, padding: false)
        kind = [class: :public_key, key_type: :ml_dsa, parameter_set: set, value: value]
        object = Cryptoki.create!(hsm, kind ++ [verify: true, token: false])
        assert JWS.verify!(hsm, object, signed).payload == "theirs"

        if :mldsa65 in :crypto.supports(:public_keys),
          do: assert(JWS.verify!({:jwks, [jwk, theirs]}, jws, alg: alg).payload == "text"),
          else: assert({:error, %Error{reason: :unsupported}} = JWS.verify({:jwks, [jwk]}, jws))
      end
    end
  end

  test "what has no such keys says so", %{hsm: hsm} do
    for {set, key} <- [ml_dsa_44: key(:ml_dsa_44), slh_dsa: key(:slh_dsa_sha2_128f)] do
      assert {:error, %Error{reason: :unsupported}} = JWK.to_jose(hsm, key), "#{set}"
      assert {:error, %Error{reason: :unsupported}} = SSH.public_key(hsm, key), "#{set}"
    end
  end

  test "SLH-DSA has no name in JOSE", %{hsm: hsm} do
    assert {:error, %Error{reason: :unsupported}} = JWK.public(hsm, key(:slh_dsa_sha2_128f))

    assert {:error, %Error{reason: :invalid_argument}} =
             JWS.sign(hsm, key(:slh_dsa_sha2_128f), "text")
  end
end
