defmodule Cryptoki.X509CertificateTest do
  use ExUnit.Case, async: true

  # Certificates of others, which stand as they are.

  import Cryptoki.Test.CertificationRequest,
    only: [alt_names: 1, extension: 2, extension: 3, name: 1]

  alias Cryptoki.{DER, Error, X509}
  alias Cryptoki.Test.{OpenSSL, Parts, Scratch}

  test "certificates are read as they are, whatever they are" do
    directory = Scratch.directory("certificates")
    file = Path.join(directory, "certificate")
    {_, 0} = OpenSSL.openssl(~w(genpkey -algorithm ed25519 -out #{file}.key))

    {_, 0} =
      OpenSSL.openssl(
        ~w(req -x509 -key #{file}.key -subj /C=DE/CN=a+OU=b -days 3 -set_serial 0x8123 -out #{file}) ++
          ["-addext", "subjectAltName=DNS:a.test,RID:1.2.3,otherName:1.2.3.4;UTF8:x"] ++
          ["-addext", "keyUsage=critical,cRLSign"]
      )

    pem = File.read!(file)
    {:ok, read} = X509.certificate(pem)

    assert %{
             version: 3,
             serial: 0x8123,
             subject: "/C=DE/CN=a+OU=b",
             issuer: "/C=DE/CN=a+OU=b",
             ca: true,
             key_usage: [:crl_sign],
             extended_key_usage: nil,
             subject_alt_name: [
               {:dns, "a.test"},
               {:rid, {1, 2, 3}},
               {:other_name, {1, 2, 3, 4}, _}
             ],
             key: %{type: :ed25519, bits: 255},
             signature_algorithm: :eddsa,
             subject_key_identifier: <<_::binary-size(20)>>
           } = read

    assert DateTime.diff(read.not_after, read.not_before) == 3 * 86_400

    # Names that nobody may have, a BOOLEAN of BER, version 1 said, a key of another kind.
    [{:Certificate, der, _}] = :public_key.pem_decode(pem)
    {:ok, [{0x30, whole, _}]} = Parts.split(der)
    {:ok, [{0x30, signed, _} | rest]} = Parts.split(whole)
    {:ok, fields} = Parts.split(signed)

    [_version, serial, algorithm, _issuer, validity, _subject, key | _] =
      for {_, _, f} <- fields, do: f

    rest = for {_, _, f} <- rest, do: f
    odd = name([[], [{{2, 5, 4, 3}, 19, "a@b\0"}], [{{2, 5, 4, 10}, 2, <<1>>}]])
    constraints = extension({2, 5, 29, 19}, <<0x30, 3, 1, 1, 1>>, [<<1, 1, 1>>])
    names = alt_names([DER.value(0x82, "a\0b"), DER.value(0x87, "x")])

    again = fn version, key, extensions ->
      extensions = if extensions, do: [DER.explicit(3, DER.sequence(extensions))], else: []
      signed = [version, serial, algorithm, odd, validity, odd, key] ++ extensions
      DER.sequence([DER.sequence(signed) | rest])
    end

    v3 = DER.explicit(0, DER.integer(2))
    assert {:ok, read} = X509.certificate(again.(v3, key, [constraints, names]))
    assert read.subject == "/" <> "/CN=#13046140" <> "6200" <> "/O=#020101"
    assert read.ca and {{2, 5, 29, 19}, <<0x30, 3, 1, 1, 1>>, critical: true} in read.extensions
    assert read.subject_alt_name == [other: DER.value(0x82, "a\0b"), other: DER.value(0x87, "x")]

    for version <- ["", DER.explicit(0, DER.integer(0))],
        do: assert({:ok, %{version: 1, ca: nil}} = X509.certificate(again.(version, key, nil)))

    other = DER.sequence([DER.sequence([DER.oid({1, 2, 3})]), DER.bit_string("x")])

    assert {:ok, %{public_key: nil, key: %{type: {1, 2, 3}}}} =
             X509.certificate(again.(v3, other, nil))

    for {der, text} <- [
          {again.(DER.explicit(0, DER.integer(3)), key, nil), "version"},
          {again.(v3, key, [constraints, constraints]), "2.5.29.19 is there twice"},
          {again.(v3, key, [extension({2, 5, 29, 15}, "x")]), "2.5.29.15"},
          {again.(v3, DER.null(), nil), "a SEQUENCE should stand here, not a NULL"},
          {der <> <<0>>, "byte #{byte_size(der)}: there are bytes behind its end"},
          {"x", "it is neither DER nor PEM"}
        ] do
      assert {:error, %Error{reason: reason, detail: detail}} = X509.certificate(der)
      assert reason in [:invalid_argument, :unsupported] and detail =~ text
    end

    assert_raise ArgumentError, ~r/certificate: must be/, fn -> X509.certificate(:der) end
  end
end
