defmodule Cryptoki.ForeignTest do
  use ExUnit.Case, async: true

  # Signed data and time stamps of other programs, and what people have in hand in their place: test/vectors/dss/README.md.

  alias Cryptoki.{CMS, DER, Error, Timestamp, X509}
  alias Cryptoki.CMS.{SignedData, Signer}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch}
  alias Cryptoki.Timestamp.{Request, Token}

  @vectors "test/vectors/dss"
  @data {1, 2, 840, 113_549, 1, 7, 1}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    %{rsa: key} = KeyPairs.make(hsm, [:rsa])
    %{hsm: hsm, key: key, root: X509.self_signed!(hsm, key, subject: "/CN=root")}
  end

  defp vector(name), do: File.read!(Path.join(@vectors, name))

  defp openssl(directory, arguments) do
    {output, 0} = System.cmd("openssl", arguments, cd: directory, stderr_to_stdout: true)
    output
  end

  test "a time stamp in BER is one, of the time that OpenSSL says" do
    bytes = vector("sk_2019.tst")
    assert <<0x30, 0x80, _rest::binary>> = bytes
    assert {:ok, %{info: info} = token} = Token.read(bytes)
    assert {:ok, certificate} = Token.signed(token, [])
    asked = Request.encode(info.hash, info.digest, nil, nil, true)
    opts = [trusted: certificate]

    # All of it is well but for the day of today.
    assert {:error, error} = Timestamp.verify(bytes, asked, opts)
    assert error.detail =~ "the certificate of its signer: "

    file = Path.expand(Path.join(@vectors, "sk_2019.tst"))
    text = openssl(File.cwd!(), ~w(ts -reply -token_in -text -in #{file}))
    assert text =~ "Time stamp: " <> Calendar.strftime(info.time, "%b %d %H:%M:%S %Y GMT")
    assert text =~ "Policy OID: " <> DER.dotted(info.policy)
    assert text =~ "CN=SK TIMESTAMPING AUTHORITY"
    assert {:dir_name, name} = Token.shown(token, certificate).tsa
    assert name =~ "CN=SK TIMESTAMPING AUTHORITY"

    # What is kept of it is DER, and the same stamp.
    assert <<0x30, 0x82, _rest::binary>> = token.der
    assert {:ok, ^token} = Token.read(token.der)

    other = Request.encode(info.hash, :crypto.hash(info.hash, "other"), nil, nil, true)
    assert {:error, error} = Timestamp.verify(bytes, other, opts)
    assert error.detail == "the time stamp: it is of other data, or by another hash"
  end

  test "signed attributes may be several of one type, but for those that say what is signed" do
    signed = vector("content_stamps.p7m")
    assert {:ok, %{content: content, signers: [signer]}} = CMS.verify(signed, :any)
    file = Path.expand(Path.join(@vectors, "content_stamps.p7m"))

    assert Scratch.within("foreign", fn scratch ->
             out = Path.join(scratch, "out")
             command = ~w(cms -verify -noverify -binary -inform DER -in #{file} -out #{out})
             {_, 0} = OpenSSL.openssl(command)
             File.read!(out)
           end) == content

    stamps = signer.attributes[{1, 2, 840, 113_549, 1, 9, 16, 2, 20}]
    assert length(stamps) == 2
    for stamp <- stamps, do: assert({:ok, %{info: %{hash: :sha256}}} = Token.read(stamp))
  end

  test "attributes that say what is signed, and when, are there once", %{
    hsm: hsm,
    key: key,
    root: root
  } do
    {:ok, signer} = Signer.fetch({hsm, key, root, "certificate"}, [])
    digests = %{signer.hash => :crypto.hash(signer.hash, "text")}

    signed = fn attributes ->
      options = [signing_time: DateTime.utc_now(), attributes: attributes]
      {:ok, info} = Signer.info(signer, digests, @data, options, [])
      data = SignedData.encode(@data, "text", [signer.digest_algorithm], [root], [info])

      CMS.verify(
        DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 7, 2}), DER.explicit(0, data)]),
        root
      )
    end

    assert {:ok, %{signers: [%{attributes: attributes}]}} =
             signed.([{{1, 2, 3}, [DER.null()]}, {{1, 2, 3}, [DER.integer(1)]}])

    assert Enum.sort(attributes[{1, 2, 3}]) == [DER.integer(1), DER.null()]

    for number <- 3..5, oid = {1, 2, 840, 113_549, 1, 9, number} do
      again = {oid, attributes[oid]}
      assert {:error, %Error{reason: :invalid_argument} = error} = signed.([again])
      assert error.detail =~ ~r/signed attributes, byte \d+: one of them is there twice/
    end
  end

  describe "what people have in hand" do
    setup %{hsm: hsm, key: key, root: root} do
      directory = Scratch.directory("in-hand")
      {:ok, signed} = CMS.sign(hsm, key, root, "text")
      {:ok, encrypted} = CMS.encrypt(root, "text")
      Scratch.write(directory, "root.pem", X509.to_pem(root))
      Scratch.write(directory, "signed", signed)
      Scratch.write(directory, "encrypted", encrypted)
      convert = ~w(cms -cmsout -inform DER -outform SMIME)
      openssl(directory, convert ++ ~w(-in signed -out signed.eml))
      openssl(directory, convert ++ ~w(-in encrypted -out encrypted.eml))
      mail = &File.read!(Path.join(directory, &1))

      %{
        signed: signed,
        encrypted: encrypted,
        mail: %{signed: mail.("signed.eml"), encrypted: mail.("encrypted.eml")}
      }
    end

    test "in place of a message", %{root: root, signed: signed, encrypted: encrypted, mail: mail} do
      der = X509.to_pem(root) |> then(&:public_key.pem_decode/1) |> hd() |> elem(1)

      verify = &CMS.verify(&1, root)
      decrypt = &CMS.decrypt_with_password(&1, fn -> "a password" end)
      stamp = &Timestamp.verify(&1, {:data, "text"}, trusted: root)

      for {reader, bytes, text} <- [
            {verify, mail.signed, "it is a mail: its part of the type application/pkcs7-mime"},
            {decrypt, mail.encrypted, "it is a mail: its part of the type"},
            {verify, Base.encode64(signed), "it is base64: it has to be decoded"},
            {decrypt, encrypted |> CMS.to_pem() |> String.replace(~r/-----.*\n/, ""),
             "it is base64: it has to be decoded"},
            {stamp, Base.encode64(signed), "it is base64: it has to be decoded"},
            {verify, X509.to_pem(root), "it has no \"CMS\", but \"CERTIFICATE\""},
            {verify, der, "it has no \"CMS\", but \"CERTIFICATE\""},
            {decrypt, der, "it has no \"CMS\", but \"CERTIFICATE\""},
            {stamp, der, "it has no \"CMS\", but \"CERTIFICATE\""},
            {verify, encrypted, "it is data that is encrypted for a key"},
            {decrypt, signed, "it is signed data, which is not encrypted for a key"},
            {stamp, Timestamp.request("text"), "it is a request for one"},
            {stamp, "<html><body>502</body></html>", "it is neither DER nor PEM"},
            {verify, signed <> "\n", "byte #{byte_size(signed)}: there are bytes behind its end"},
            {verify, signed <> <<0::800, 1>>,
             "byte #{byte_size(signed)}: there are bytes behind its end"},
            {verify, "Subject: no mail", "it is neither DER nor PEM"},
            {verify, "", "nothing is there"}
          ] do
        assert {:error, %Error{reason: :invalid_argument} = error} = reader.(bytes)
        assert error.detail =~ text
      end
    end

    # /Contents of a PDF.
    test "with zeros behind its end", %{root: root, signed: signed} do
      padded = signed <> <<0::unit(8)-size(5001)>>
      assert CMS.verify(padded, root) == CMS.verify(signed, root)
      assert {:ok, token} = Token.read(vector("sk_2019.tst"))
      assert Token.read(vector("sk_2019.tst") <> <<0::24>>) == {:ok, token}
    end

    test "in place of a request" do
      for {bytes, text} <- [
            {<<0x30, 3, 10, 1, 6>>, "it is an answer to one"},
            {Base.encode64(Timestamp.request("text")), "it is text, and DER is wanted"},
            {"-----BEGIN OCSP REQUEST-----", "it is PEM, and DER is wanted"}
          ] do
        assert {:error, %Error{reason: :invalid_argument} = error} = X509.ocsp_request(bytes)
        assert error.detail =~ text
      end
    end
  end
end
