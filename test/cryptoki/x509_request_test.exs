defmodule Cryptoki.X509RequestTest do
  use ExUnit.Case, async: true

  # Requests of strangers, a part of each written by hand and signed as it stands: what is read of it, and
  # what is refused with the part that is to blame.

  import Cryptoki.Test.CertificationRequest, except: [key: 1]

  alias Cryptoki.{DER, Error, PEM, X509}
  alias Cryptoki.Test.{CertificationRequest, OpenSSL, Scratch}

  @common_name {2, 5, 4, 3}
  @organization {2, 5, 4, 10}
  @microsoft {1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
  @pkcs9 {1, 2, 840, 113_549, 1, 9, 14}
  @rsa {1, 2, 840, 113_549, 1, 1, 1}
  @ec {1, 2, 840, 10_045, 2, 1}
  @p256 {1, 2, 840, 10_045, 3, 1, 7}
  @ed25519 {1, 3, 101, 112}
  @sha256_rsa {1, 2, 840, 113_549, 1, 1, 11}
  @pss {1, 2, 840, 113_549, 1, 1, 10}

  setup_all do
    %{key: CertificationRequest.key(:secp256r1), rsa: CertificationRequest.key(:rsa)}
  end

  test "all that is asked for is said", %{key: key} do
    usage = extension({2, 5, 29, 15}, DER.named_bits([0, 5]), [DER.boolean(true)])
    constraints = DER.sequence([DER.boolean(true), DER.integer(2)])
    purposes = DER.sequence([DER.oid({1, 3, 6, 1, 5, 5, 7, 3, 1}), DER.oid({1, 2, 3})])
    names = alt_names([DER.value(0x82, "a.test"), DER.value(0x87, <<192, 0, 2, 1>>)])
    password = attribute({1, 2, 840, 113_549, 1, 9, 7}, [DER.value(19, "secret")])

    asked = [usage, extension({2, 5, 29, 19}, constraints), extension({2, 5, 29, 37}, purposes)]
    asked = asked ++ [names, extension({1, 2, 3}, DER.null())]
    asking = attribute(@pkcs9, [DER.sequence(asked)])
    der = make(key: key, attributes: DER.value(0xA0, [password, asking]))
    {:ok, request} = X509.request(der)

    assert %{
             subject: "/CN=www",
             subject_alt_name: [dns: "a.test", ip: "192.0.2.1"],
             key: %{type: :ec, bits: 256, curve: :secp256r1},
             signature_algorithm: :ecdsa_sha256,
             ca: true,
             path_len: 2,
             key_usage: [:digital_signature, :key_cert_sign],
             extended_key_usage: [:server_auth, {1, 2, 3}],
             attributes: [{{1, 2, 840, 113_549, 1, 9, 7}, [<<19, 6, "secret">>]}]
           } = request

    assert request.public_key == public(key)
    assert {{2, 5, 29, 15}, DER.named_bits([0, 5]), critical: true} in request.extensions
    assert {{1, 2, 3}, DER.null(), critical: false} in request.extensions
    assert length(request.extensions) == 5

    assert {:ok, %{ca: nil, path_len: nil, key_usage: nil, extensions: [], attributes: []}} =
             X509.request(make(key: key))
  end

  test "Microsoft asks for extensions under a number of its own", %{key: key} do
    names = alt_names([DER.value(0x82, "a.test")])

    assert {:ok, %{subject_alt_name: [dns: "a.test"], attributes: []}} =
             X509.request(make(key: key, attributes: asking([names], [@microsoft])))

    for oids <- [[@microsoft, @pkcs9], [@pkcs9, @pkcs9], [@microsoft, @microsoft]],
        do: refused(make(key: key, attributes: asking([names], oids)), "more than once")

    for values <- [[], [DER.sequence([names]), DER.sequence([])]] do
      attributes = DER.value(0xA0, attribute(@pkcs9, values))
      refused(make(key: key, attributes: attributes), "in more lists than one, or in none")
    end

    refused(make(key: key, attributes: asking([names, names])), "2.5.29.17 is there twice")
    # What is there and says nothing is read; so is a request without the field.
    assert {:ok, %{extensions: []}} = X509.request(make(key: key, attributes: asking([])))
    assert {:ok, %{attributes: []}} = X509.request(make(key: key, attributes: ""))
  end

  test "algorithms count by what they say", %{rsa: key} do
    for parameters <- [[], [DER.null()]] do
      algorithm = DER.sequence([DER.oid(@sha256_rsa) | parameters])

      assert {:ok, %{signature_algorithm: :sha256_rsa_pkcs, key: %{type: :rsa, bits: 2048}}} =
               X509.request(make(key: key, algorithm: algorithm))

      # Written anew in the one form that there is.
      info = DER.sequence([DER.sequence([DER.oid(@rsa) | parameters]), bits(rsa_bits(key))])

      {:ok, request} =
        Cryptoki.X509.Request.read(make(key: key, info: info, algorithm: algorithm))

      assert request.public_key_info == info(key)
    end

    refused(
      make(key: key, algorithm: DER.sequence([DER.oid(@sha256_rsa), DER.integer(0)])),
      "signature algorithm, byte"
    )

    for {fields, salt} <- [
          {[], 20},
          {[DER.explicit(2, DER.integer(20))], 20},
          {[DER.explicit(2, DER.integer(32)), DER.explicit(3, DER.integer(1))], 32},
          {[DER.explicit(2, DER.integer(0))], 0}
        ],
        null <- [[], [DER.null()]] do
      assert {:ok, %{signature_algorithm: :sha256_rsa_pkcs_pss}} =
               X509.request(signed_pss(key, pss(fields, null), salt))
    end

    for {parameters, text} <- [
          {[DER.sequence([])], "signed with sha1_rsa_pkcs_pss, and that hash is broken"},
          {[pss([DER.explicit(3, DER.integer(2))], [])], "the trailer"},
          {[pss([DER.explicit(2, DER.integer(-1))], [])], "less than no bytes"},
          {[pss([DER.explicit(2, DER.integer(Integer.pow(2, 64)))], [])], "more than 2 bytes"},
          {[pss([DER.explicit(4, DER.null())], [])], "nothing should stand here"},
          {[DER.null()], "a SEQUENCE should stand here, not a NULL"},
          {[], "no parameters of PSS"}
        ] do
      algorithm = DER.sequence([DER.oid(@pss) | parameters])
      assert {:error, error} = X509.request(make(key: key, algorithm: algorithm))
      assert error.reason in [:invalid_argument, :unsupported] and error.detail =~ text
    end

    for {salt, said} <- [{32, 20}, {20, 32}, {32, 30_000}] do
      parameters = pss([DER.explicit(2, DER.integer(said))], [])

      assert {:error, %Error{reason: :signature_invalid}} =
               X509.request(signed_pss(key, parameters, salt))
    end
  end

  test "an algorithm that does not go with the key, or is not to be believed, is none", context do
    %{key: key, rsa: rsa} = context
    foreign = DER.sequence([DER.oid(@sha256_rsa), DER.null()])

    assert {:error, %Error{reason: :signature_invalid, detail: text}} =
             X509.request(make(key: key, algorithm: foreign))

    assert text =~ "does not sign with sha256_rsa_pkcs"

    for {name, hash, oid} <- [{"md5", :md5, 4}, {"sha1", :sha, 5}] do
      algorithm = DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 1, oid}), DER.null()])
      sign = &:public_key.sign(&1, hash, rsa)

      assert {:error, %Error{reason: :unsupported, detail: text}} =
               X509.request(make(key: rsa, algorithm: algorithm, sign: sign))

      assert text =~ "#{name}_rsa_pkcs"
    end

    for {sign, text} <- [
          {&:public_key.sign(&1 <> "x", :sha256, key), "not signed by its own key"},
          {fn _ -> "" end, "not signed by its own key"},
          {fn _ -> <<48, 0>> end, "not signed by its own key"}
        ] do
      assert {:error, %Error{reason: :signature_invalid, detail: detail}} =
               X509.request(make(key: key, sign: sign))

      assert detail =~ text
    end
  end

  test "what is no request is refused with the part", %{key: key} do
    good = make(key: key)

    for {der, text} <- [
          {good <> "x", "byte #{byte_size(good)}: there are bytes behind its end"},
          {good <> DER.null(), "byte #{byte_size(good)}: there are bytes behind its end"},
          {binary_part(good, 0, 100), "byte 0: it is cut off"},
          {make(key: key, version: ""), "byte 5: an INTEGER should stand here, not a SEQUENCE"},
          {make(key: key, version: <<2, 2, 0, 0>>), "written longer than it is"},
          {make(key: key, attributes: DER.value(0xA1, "")), "nothing should stand here"},
          {make(key: key, attributes: DER.value(0xA0, DER.null())), "attribute 1, byte"},
          {make(key: key, attributes: asking([extension({2, 5, 29, 15}, "x")])),
           "extensions, extension 1, 2.5.29.15, byte"},
          {make(key: key, attributes: asking([extension({1, 2, 3}, <<4, 0x81, 1, 0>>)])),
           "1.2.3, byte"},
          {PEM.encode(good, "CERTIFICATE"), "it has no certification request, but"}
        ] do
      refused(der, text)
      refused(der, "this is no certification request: ")
    end

    assert {:error, %Error{reason: :unsupported}} =
             X509.request(make(key: key, version: DER.integer(2)))

    pem = PEM.encode(good, "NEW CERTIFICATE REQUEST")
    assert {:ok, _} = X509.request("\uFEFF" <> pem)
    refused(pem <> pem, "more than one request")
  end

  test "names of nobody are refused, and named", %{key: key} do
    part = fn oid, tag, value -> name([[{oid, tag, value}]]) end
    long = String.duplicate("x", 65)

    for {subject, text} <- [
          {subject("a\0b"), "CN is text of UTF-8 without control characters"},
          {subject(<<"a", 0xC2, 0x85>>), "CN is text of UTF-8 without control characters"},
          {subject(""), "CN is text"},
          {subject(long), "1 to 64 characters"},
          {subject(<<0xC3>>), "CN is text"},
          {subject(<<5>>, 2), "not an INTEGER"},
          {subject("www", 4), "not an OCTET STRING"},
          {subject("w@w", 19), "PrintableString"},
          {subject("abc", 30), "a BMPString without control characters"},
          {part.({2, 5, 4, 6}, 19, "DEU"), "C is text"},
          {part.({2, 5, 4, 6}, 19, "de"), "C is a country's two letters"},
          {part.({2, 5, 4, 6}, 12, "DE"), "C is a PrintableString, not a UTF8String"},
          {part.({1, 2, 840, 113_549, 1, 9, 1}, 12, "a@b.test"), "emailAddress is an IA5String"},
          {part.({1, 2, 3}, 1, <<255>>), "1.2.3 is "},
          {name([[]]), "a part of it is empty"},
          {name([[{@common_name, 12, "a"}, {@common_name, 12, "b"}]]), "CN is there twice"},
          {name([[{@organization, 12, "abc"}, {@common_name, 12, "b"}]]),
           "O and CN are not in the order of DER"}
        ] do
      refused(make(key: key, subject: subject), "subject: ")
      refused(make(key: key, subject: subject), text)
    end

    for tag <- [12, 19, 20],
        do: assert({:ok, _} = X509.request(make(key: key, subject: subject("w", tag))))

    assert {:ok, %{subject: ""}} = X509.request(make(key: key, subject: name([])))

    bits = part.({2, 5, 4, 45}, 3, <<0, 1, 2>>)

    assert {:ok, %{subject: "/2.5.4.45=#0303000102"}} =
             X509.request(make(key: key, subject: bits))
  end

  test "alternative names of nobody are refused, and named", %{key: key} do
    upn = fn value ->
      DER.value(0xA0, [DER.oid({1, 3, 6, 1, 4, 1, 311, 20, 2, 3}), DER.explicit(0, value)])
    end

    for {der, text} <- [
          {DER.value(0x82, ""), ~s("" is no name of a host)},
          {DER.value(0x82, "a\0b.test"), "is no name of a host"},
          {DER.value(0x82, "a.test\n"), ~S("a.test\n" is no name of a host)},
          {DER.value(0x82, "a b.test"), ~s("a b.test" is no name of a host)},
          {DER.value(0x82, "192.0.2.1"), "an address is {:ip, text}"},
          {DER.value(0x82, <<"b", 252, "cher.test">>), "is no name of a host"},
          {DER.value(0x87, <<1, 2, 3>>), "an address has 3 bytes, not 4 or 16"},
          # As text it would be an address.
          {DER.value(0x87, "::1"), "an address has 3 bytes, not 4 or 16"},
          {DER.value(0x87, <<192, 0, 2, 0, 255, 255, 255, 0>>), "an address has 8 bytes"},
          {DER.value(0x81, "a"), "is no e-mail address"},
          {DER.value(0x86, "a.test"), "is no URI"},
          {DER.value(0x88, <<0x2A, 0x80>>), "it is no object identifier"},
          {DER.value(0x89, "a"), "is neither text nor"},
          {DER.value(0xA4, subject("a\0")), "in a {:dir_name, name}: CN is text"},
          {DER.value(0xA4, name([])), "a {:dir_name, name} is empty"},
          {upn.(DER.value(12, "a\0@b.test")), "is no user principal name"},
          {upn.(DER.value(22, "a@b.test")), "a user principal name is a UTF8String"}
        ] do
      refused(make(key: key, attributes: asking([alt_names([der])])), text)
      # Whichever stands before it.
      good = DER.value(0x82, "a.test")
      refused(make(key: key, attributes: asking([alt_names([good, der])])), text)
    end

    long = DER.value(0x82, String.duplicate("\0", 500_000))

    assert {:error, %Error{detail: detail}} =
             X509.request(make(key: key, attributes: asking([alt_names([long])])))

    assert byte_size(detail) < 3000
    refused(make(key: key, attributes: asking([alt_names([])])), "alternative names, but none")

    refused(
      make(key: key, attributes: asking([extension({2, 5, 29, 17}, "")])),
      "2.5.29.17, byte"
    )
  end

  test "keys that no certificate may be made of are refused", %{key: key, rsa: rsa} do
    ec = fn point -> DER.sequence([DER.sequence([DER.oid(@ec), DER.oid(@p256)]), bits(point)]) end
    {{:ECPoint, <<4, x::binary-size(32), y::binary-size(32)>> = point}, _} = public(key)
    <<head::binary-size(64), last>> = point
    edwards = fn oid, bytes -> DER.sequence([DER.sequence([DER.oid(oid)]), bits(bytes)]) end
    n = elem(rsa, 2)

    for {info, text} <- [
          {rsa_info(n, 1), "exponent of RSA is less than 3"},
          {rsa_info(n, -3), "exponent of RSA is less than 3"},
          {rsa_info(n, 65_536), "exponent of RSA is even"},
          {rsa_info(n, n - 2), "more than 256 bits"},
          {rsa_info(-n, 3), "not positive"},
          {rsa_info(Bitwise.bsr(n, 1024), 3), "RSA of 1024 bits is too weak"},
          {rsa_info(Bitwise.bsl(n, 15_000) + 1, 3), "RSA of 17048 bits is too long"},
          {rsa_info(Bitwise.bsl(n, 1), 3), "small factor"},
          {rsa_info(n * 743, 3), "small factor"},
          {rsa_info(Integer.pow(2, 1_000_000), 3), "public key, byte"},
          {ec.(head <> <<Bitwise.bxor(last, 1)>>), "none of the curve secp256r1"},
          {ec.(<<4, 0::512>>), "none of the curve secp256r1"},
          {ec.(<<0>>), "none of the curve secp256r1"},
          {ec.(<<6 + rem(last, 2)>> <> x <> y), "none of the curve secp256r1"},
          {ec.(""), "none of the curve secp256r1"},
          {edwards.(@ed25519, <<1, 0::248>>), "whose signatures prove nothing"},
          {edwards.(@ed25519, <<0::256>>), "whose signatures prove nothing"},
          {edwards.(@ed25519, <<1, 0::240, 128>>), "whose signatures prove nothing"},
          {edwards.(@ed25519, <<0xEC, -1::240, 0x7F>>), "whose signatures prove nothing"},
          {edwards.(@ed25519, order_8()), "whose signatures prove nothing"},
          {edwards.(@ed25519, <<2, 0::248>>), "none of the curve of ed25519"},
          {edwards.(@ed25519, <<-1::256>>), "none of the curve of ed25519"},
          {edwards.({1, 3, 101, 113}, <<1, 0::448>>), "whose signatures prove nothing"},
          {edwards.({1, 3, 101, 113}, <<0::456>>), "whose signatures prove nothing"},
          {edwards.(@ed25519, <<1>>), "no key of ed25519, 32 bytes"},
          {edwards.({2, 16, 840, 1, 101, 3, 4, 3, 17}, "x"), "no key of ml_dsa_44, 1312 bytes"},
          {edwards.({2, 16, 840, 1, 101, 3, 4, 3, 21}, <<0::264>>),
           "no key of slh_dsa_sha2_128f, 32 bytes"}
        ] do
      refused(make(key: key, info: info), text)
    end

    for {info, text} <- [
          {DER.sequence([
             DER.sequence([DER.oid(@ec), DER.sequence([DER.integer(1)])]),
             bits(point)
           ]), "a curve by its parameters"},
          {DER.sequence([DER.sequence([DER.oid(@ec), DER.oid({1, 2, 3})]), bits(point)]),
           "the curve 1.2.3 is not known"},
          {edwards.({1, 3, 101, 110}, <<9, 0::248>>), "x25519 keys do not sign"},
          {edwards.({1, 2, 840, 10_040, 4, 1}, <<2, 1, 2>>), "DSA is not known here"},
          {edwards.({2, 16, 840, 1, 101, 3, 4, 4, 1}, "x"), "2.16.840.1.101.3.4.4.1"}
        ] do
      assert {:error, %Error{reason: :unsupported, detail: detail}} =
               X509.request(make(key: key, info: info))

      assert detail =~ text
    end

    # Compressed is a form that there is.
    compressed = <<2 + rem(last, 2)>> <> x

    assert {:ok, %{public_key: {{:ECPoint, ^compressed}, _}}} =
             X509.request(make(key: key, info: ec.(compressed)))

    for curve <- [:secp112r1, :secp192r1, :sect163k1], curve in :crypto.ec_curves() do
      weak = CertificationRequest.key(curve)
      refused(make(key: weak), "#{curve} is too weak a curve")
    end
  end

  test "a key for PSS only signs as it is for" do
    directory = Scratch.directory("request-pss")
    options = "rsa_keygen_bits:2048,rsa_pss_keygen_md:sha256,rsa_pss_keygen_mgf1_md:sha256"
    options = String.split(options <> ",rsa_pss_keygen_saltlen:20", ",")
    key = Path.join(directory, "key")

    {_, 0} =
      OpenSSL.openssl(
        ~w(genpkey -algorithm rsa-pss -out #{key}) ++ Enum.flat_map(options, &["-pkeyopt", &1])
      )

    file = Path.join(directory, "request")

    for salt <- ["20", "32"] do
      {_, 0} =
        OpenSSL.openssl(
          ~w(req -new -key #{key} -subj /CN=a -sigopt rsa_pss_saltlen:#{salt} -out #{file})
        )

      assert {:ok, %{key: %{type: :rsa_pss, bits: 2048}, public_key: {:RSAPublicKey, _, _}}} =
               X509.request(File.read!(file))
    end
  end

  # The referee of what is good is the sort of error: nothing else may come out.
  test "what is changed by chance is read or is an error", %{key: key} do
    :rand.seed(:exsss, ExUnit.configuration()[:seed])

    upn =
      DER.value(0xA0, [
        DER.oid({1, 3, 6, 1, 4, 1, 311, 20, 2, 3}),
        DER.explicit(0, DER.value(12, "a@b"))
      ])

    names = [
      DER.value(0x82, "a.test"),
      DER.value(0x87, <<1, 2, 3, 4>>),
      DER.value(0xA4, subject("x")),
      upn
    ]

    good =
      make(
        key: key,
        attributes: asking([alt_names(names), extension({2, 5, 29, 15}, DER.named_bits([0]))])
      )

    certificate = :public_key.pkix_test_root_cert(~c"root", []).cert

    for _ <- 1..2000 do
      der = change(Enum.random([good, certificate]))
      der = if :rand.uniform(10) == 1, do: PEM.encode(der, "CERTIFICATE REQUEST"), else: der
      for read <- [&X509.request/1, &X509.certificate/1], do: settled!(read.(der))
    end
  end

  defp settled!({:ok, %{subject: subject}}), do: assert(String.valid?(subject))

  defp settled!({:error, %Error{reason: reason} = error}) do
    assert reason in [:invalid_argument, :unsupported, :signature_invalid]
    assert String.valid?(Exception.message(error))
  end

  defp change(der) do
    at = :rand.uniform(byte_size(der)) - 1
    {head, <<byte, rest::binary>>} = :erlang.split_binary(der, at)

    case :rand.uniform(5) do
      1 -> head <> <<:rand.uniform(256) - 1>> <> rest
      2 -> head <> <<Bitwise.bxor(byte, Bitwise.bsl(1, :rand.uniform(8) - 1))>> <> rest
      3 -> head <> rest
      4 -> head <> <<byte, byte>> <> rest
      5 -> head
    end
  end

  defp refused(der, text) do
    assert {:error, %Error{reason: :invalid_argument, detail: detail}} = X509.request(der)
    assert detail =~ text
  end

  defp bits(bytes), do: DER.bit_string(bytes)

  defp rsa_bits(key), do: DER.sequence([DER.integer(elem(key, 2)), DER.integer(elem(key, 3))])

  defp rsa_info(n, e) do
    algorithm = DER.sequence([DER.oid(@rsa), DER.null()])
    DER.sequence([algorithm, bits(DER.sequence([DER.integer(n), DER.integer(e)]))])
  end

  defp pss(fields, null) do
    sha256 = DER.sequence([DER.oid({2, 16, 840, 1, 101, 3, 4, 2, 1}) | null])
    mgf = DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 1, 8}), sha256])
    DER.sequence([DER.explicit(0, sha256), DER.explicit(1, mgf) | fields])
  end

  defp signed_pss(key, parameters, salt) do
    options = [rsa_padding: :rsa_pkcs1_pss_padding, rsa_pss_saltlen: salt, rsa_mgf1_md: :sha256]
    sign = &:public_key.sign(&1, :sha256, key, options)
    make(key: key, algorithm: DER.sequence([DER.oid(@pss), parameters]), sign: sign)
  end

  # One of the four whose double has order 4.
  defp order_8,
    do: Base.decode16!("26E8958FC2B227B045C3F489F2EF98F0D5DFAC05D3C63339B13802886D53FC05")
end
