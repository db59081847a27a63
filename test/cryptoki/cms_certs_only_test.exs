defmodule Cryptoki.CMSCertsOnlyTest do
  use ExUnit.Case, async: true

  # Certificates without a signature, as OpenSSL, GnuTLS and Java take them.

  alias Cryptoki.{CMS, Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    %{secp256r1: key} = KeyPairs.make(hsm, [:secp256r1])
    root = X509.self_signed!(hsm, key, subject: "/CN=first", ca: true)
    other = X509.self_signed!(hsm, key, subject: "/CN=second", ca: true)
    %{root: root, other: other, crl: X509.crl!(hsm, key, root, [17])}
  end

  defp within(der, fun) do
    Scratch.within("certs", fn directory -> fun.(Scratch.write(directory, "certs.p7b", der)) end)
  end

  test "OpenSSL reads them, and lists that go along", %{root: root, other: other, crl: crl} do
    for certificates <- [
          [root, other],
          X509.to_pem([root, other]),
          [X509.to_pem(root), other, root]
        ] do
      assert {:ok, der} = CMS.certs_only(certificates, crls: [crl, X509.to_pem(crl)])

      within(der, fn file ->
        {text, 0} = OpenSSL.openssl(~w(pkcs7 -inform DER -in #{file} -print_certs))
        pem = for {:Certificate, der, _} <- :public_key.pem_decode(text), do: der
        assert Enum.sort(pem) == Enum.sort([root, other])
        {text, 0} = OpenSSL.openssl(~w(pkcs7 -inform DER -in #{file} -print_certs -noout))
        assert text =~ ~r{CN ?= ?first} and text =~ ~r{CN ?= ?second}
        {text, 0} = OpenSSL.openssl(~w(cms -cmsout -print -inform DER -in #{file}))
        assert text =~ ~r/crls:.*serialNumber: 0x?17|serialNumber: 17/s
        assert text =~ ~r/signerInfos:\n\s+<(EMPTY|ABSENT)>/
      end)

      assert {:ok, bare} = CMS.certs_only(certificates)
      assert byte_size(bare) < byte_size(der)
    end
  end

  test "nobody has signed them, and no content is asked for", %{root: root, other: other} do
    der = CMS.certs_only!([root, other])

    for opts <- [[], [content: "text"]] do
      assert {:error, %Error{reason: :signature_invalid, detail: text}} =
               CMS.verify(der, :any, opts)

      assert text == "it has no signer"
    end
  end

  @certtool System.find_executable("certtool")
  @tag skip: !@certtool && "there is no certtool (Debian's gnutls-bin)"
  test "GnuTLS reads them", %{root: root, other: other, crl: crl} do
    within(CMS.certs_only!([root, other], crls: crl), fn file ->
      {text, 0} =
        System.cmd("certtool", ~w(--p7-info --inder --infile #{file}), stderr_to_stdout: true)

      assert text =~ "Number of certificates: 2"
      assert text =~ "Number of CRLs: 1"
    end)
  end

  @keytool System.find_executable("keytool")
  @tag skip: !@keytool && "there is no keytool (a JDK)"
  test "Java reads them", %{root: root, other: other} do
    within(CMS.certs_only!([root, other]), fn file ->
      {text, 0} = System.cmd("keytool", ~w(-printcert -file #{file}), stderr_to_stdout: true)
      assert text =~ "CN=first" and text =~ "CN=second"
    end)
  end

  test "what is none is an error", %{root: root, crl: crl} do
    for {certificates, opts, text} <- [
          {"none", [], "certificates: "},
          {crl, [], "certificates: "},
          {[root, ""], [], "certificates: "},
          {root, [crls: root], "crls: "},
          {root, [crls: ["none"]], "crls: it is neither DER nor PEM"},
          {root, [crls: X509.to_pem(root)], "crls: it has no revocation list"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
               CMS.certs_only(certificates, opts)

      assert String.starts_with?(detail, text)
    end

    for {certificates, opts, text} <- [
          {[], [], "certificates: must be DER or PEM"},
          {[label: "x"], [], "certificates: must be DER or PEM"},
          {root, [crls: :none], "crls: must be DER or PEM"},
          {root, [crl: crl], "did you mean :crls"}
        ] do
      assert_raise ArgumentError, ~r/#{text}/, fn -> CMS.certs_only(certificates, opts) end
    end
  end
end
