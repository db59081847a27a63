defmodule Cryptoki.X509OnTokenTest do
  use ExUnit.Case, async: true

  # What lies on a token, and what a stranger sends, end no process: CMS, X509 and SSL answer an error
  # that says what is wrong.

  alias Cryptoki.{CMS, DER, Error, PEM, SSL, X509}
  alias Cryptoki.Test.{CertificationRequest, KeyPairs, MainToken, Parts}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    %{rsa: key} = KeyPairs.make(hsm, [:rsa])
    root = X509.self_signed!(hsm, key, subject: "/CN=root", ca: true)
    %{hsm: hsm, key: key, root: root}
  end

  test "a certificate that is none, on the token", %{hsm: hsm, key: key, root: root} do
    for {value, text} <- [
          {root <> <<0>>, "there are bytes behind its end"},
          {root <> DER.null(), "there are bytes behind its end"},
          {PEM.encode(root, "CERTIFICATE"), "this is no certificate"},
          {binary_part(root, 0, 200), "it is cut off"},
          {DER.null(), "a SEQUENCE should stand here, not a NULL"}
        ] do
      label = "odd #{System.unique_integer([:positive])}"
      kind = [class: :certificate, certificate_type: :x_509, token: false, subject: "x"]
      {:ok, _} = Cryptoki.create(hsm, kind ++ [value: value, label: label])
      csr = X509.csr!(hsm, key, subject: "/CN=www")

      calls = [
        {"certificate", &CMS.sign(hsm, key, &1, "text")},
        {"chain", &CMS.sign(hsm, key, root, "text", chain: &1)},
        {"ca_certificate", &X509.issue(hsm, key, &1, csr)},
        {"ca_certificate", &X509.crl(hsm, key, &1, [])}
      ]

      tls = {"certificate_chain", &SSL.certs_keys(hsm, key, &1)}
      otp = String.to_integer(System.otp_release())

      for {argument, call} <- calls ++ if(otp >= 27, do: [tls], else: []) do
        assert {:error, %Error{reason: :invalid_argument, detail: detail}} = call.(label: label)
        assert detail =~ "#{argument}, as it lies on the token: " and detail =~ text
      end
    end
  end

  # Fields that nobody needs here are not looked at: the times, the extensions, the names.
  test "a certificate is used by what it is needed for", %{hsm: hsm, key: key, root: root} do
    {:ok, [{0x30, whole, _}]} = Parts.split(root)
    {:ok, [{0x30, signed, _} | rest]} = Parts.split(whole)
    {:ok, fields} = Parts.split(signed)
    rest = for {_, _, field} <- rest, do: field
    [version, serial, algorithm, _, _, subject, info | _] = for {_, _, field} <- fields, do: field
    never = DER.sequence([DER.value(23, "2601020304Z"), DER.value(23, "never")])
    nobody = DER.sequence([DER.value(0x31, "")])
    odd = DER.explicit(3, DER.sequence([DER.sequence([DER.null()])]))
    signed = [version, serial, algorithm, nobody, never, subject, info, odd]
    certificate = DER.sequence([DER.sequence(signed) | rest])

    assert {:ok, _} = CMS.sign(hsm, key, certificate, "text")
    assert {:ok, stored} = X509.store(hsm, certificate, token: false)
    assert {:ok, ^certificate} = Cryptoki.certificate(hsm, stored)
    csr = X509.csr!(hsm, key, subject: "/CN=www")

    assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
             X509.issue(hsm, key, certificate, csr)

    assert detail =~ "validity: byte 2"
    assert {:error, %Error{reason: :invalid_argument}} = X509.certificate(certificate)
  end

  test "a request that names nobody, or has no key, is not issued", context do
    %{hsm: hsm, key: key, root: root} = context
    strange = CertificationRequest.key(:secp256r1)

    for {options, text} <- [
          {[attributes: names("a\0.test")], "subject_alt_name: "},
          {[subject: CertificationRequest.subject("a\n")], "subject: CN"},
          {[info: DER.null()], "public key"}
        ] do
      der = CertificationRequest.make([key: strange] ++ options)

      for csr <- [der, "\uFEFF" <> PEM.encode(der, "NEW CERTIFICATE REQUEST")] do
        assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
                 X509.issue(hsm, key, root, csr, subject: "/CN=another")

        assert detail =~ text
      end
    end

    assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
             X509.store(hsm, "no certificate", token: false)

    assert detail == "certificate: it is neither DER nor PEM"
  end

  # BER has more than one byte for true, and some authorities' certificates are old.
  test "an authority is one for certificates and lists alike", context do
    %{hsm: hsm, key: key, root: root} = context
    old = :binary.replace(root, <<0x30, 3, 1, 1, 0xFF>>, <<0x30, 3, 1, 1, 1>>)
    none = :binary.replace(root, <<0x30, 3, 1, 1, 0xFF>>, <<0x30, 3, 1, 1, 0>>)
    assert old != root
    csr = X509.csr!(hsm, key, subject: "/CN=www")
    assert {:ok, _} = X509.issue(hsm, key, old, csr)
    assert {:ok, _} = X509.crl(hsm, key, old, [])
    assert {:ok, %{ca: true}} = X509.certificate(old)
    assert {:error, %Error{reason: :invalid_argument}} = X509.issue(hsm, key, none, csr)
    assert {:error, %Error{reason: :invalid_argument}} = X509.crl(hsm, key, none, [])
  end

  # What is asked for by another is what is issued, whatever kind of name it is.
  test "what is read can be asked for, and is issued", %{hsm: hsm, key: key, root: root} do
    names = [
      dns: "a.test",
      ip: "2001:db8::1",
      upn: "a@acme.test",
      rid: {1, 2, 3},
      dir_name: "/C=DE/OU=z+CN=x\\+y"
    ]

    names = names ++ [{:other_name, {1, 2, 3, 4}, DER.value(12, "x")}]
    subject = "/businessCategory=Private Organization/jurisdictionC=DE/1.2.3.4=x/CN=www+OU=a\\/b"
    csr = X509.csr!(hsm, key, subject: subject, subject_alt_name: names)
    request = X509.request!(csr)
    assert {request.subject, request.subject_alt_name} == {subject, names}
    read = Map.take(request, [:subject, :subject_alt_name])

    again = X509.csr!(hsm, key, Map.to_list(read))

    assert Map.take(X509.request!(again), [:subject, :subject_alt_name, :extensions]) ==
             Map.take(request, [:subject, :subject_alt_name, :extensions])

    issued = hsm |> X509.issue!(key, root, csr) |> X509.certificate!()
    assert Map.take(issued, [:subject, :subject_alt_name]) == read
  end

  defp names(text) do
    name = CertificationRequest.alt_names([DER.value(0x82, text)])
    CertificationRequest.asking([name])
  end
end
