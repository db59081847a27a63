defmodule Cryptoki.TimestampForgedTest do
  use ExUnit.Case, async: true

  # Time stamps that nobody makes, and those that stand in signed data.

  import Cryptoki.Test.Stamps

  alias Cryptoki.{CMS, DER, Error, Timestamp, X509}
  alias Cryptoki.CMS.{SignedData, Signer}
  alias Cryptoki.DER.Reader
  alias Cryptoki.Test.{OpenSSL, Scratch, Stamps}
  alias Cryptoki.Timestamp.{Info, Request, Token}

  @policy Stamps.policy()
  @text Stamps.content()

  setup_all do: Stamps.context()

  # Of the pieces, each as it should be unless the test says otherwise: `signer` changes who signs, `info` what is
  # stamped, `content` what is signed in its place.
  defp forge(context, certificate, opts \\ []) do
    %{hsm: hsm, keys: keys} = context
    source = {hsm, opts[:key] || keys.rsa, certificate, "certificate"}
    {:ok, signer} = Signer.fetch(source, [])
    signer = (opts[:signer] || (& &1)).(signer)
    {:ok, request} = Request.read(Timestamp.request(@text, nonce: false))

    info = %{
      policy: @policy,
      imprint: request.imprint,
      serial: 1,
      time: DateTime.utc_now(),
      accuracy: nil,
      ordering: false,
      nonce: nil,
      tsa: opts[:tsa]
    }

    content = Info.encode(info)
    type = opts[:type] || Token.type()
    digests = %{signer.hash => :crypto.hash(signer.hash, content)}
    {:ok, signed} = Signer.info(signer, digests, type, [signing_time: nil, attributes: []], [])
    content = (opts[:content] || (& &1)).(content)
    signed = List.duplicate(signed, opts[:signers] || 1)
    certificates = [certificate, context.between]

    data =
      SignedData.encode(
        opts[:outer] || Token.type(),
        content,
        [signer.digest_algorithm],
        certificates,
        signed
      )

    DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 7, 2}), DER.explicit(0, data)])
  end

  describe "a stamp is refused" do
    test "that is not what it seems", context do
      %{hsm: hsm, keys: keys, tsa: tsa, between: between} = context
      certify = &X509.certify!(hsm, keys.secp384r1, between, keys.rsa, [subject: "/CN=x"] ++ &1)
      check = &verify(context, &1, {:data, @text})
      assert {:ok, _} = check.(forge(context, tsa))
      assert {:ok, %{tsa: _}} = check.(forge(context, tsa, tsa: Token.tsa(fields(tsa).subject)))

      twin = certify.(extended_key_usage: [:time_stamping])
      other = &%{&1 | certificates: [twin]}

      # By a second.
      later = fn content ->
        {head, <<digit, ?Z>>} = :erlang.split_binary(content, byte_size(content) - 2)
        <<head::binary, if(digit == ?0, do: ?1, else: ?0), ?Z>>
      end

      for {der, text} <- [
            {forge(context, tsa, signer: other), "signed for another certificate"},
            {forge(context, certify.([])), "not for time stamps alone"},
            {forge(context, certify.(extended_key_usage: [:any])), "not for time stamps alone"},
            {forge(context, tsa, tsa: Token.tsa(fields(between).subject)),
             "name of another authority"},
            {forge(context, tsa, tsa: DER.value(0x82, "tsa.test")), "name of another authority"},
            {forge(context, tsa, content: later), "signed for other content"},
            {forge(context, tsa, type: {1, 2, 840, 113_549, 1, 7, 1}), "content of another type"}
          ] do
        assert invalid(check.(der)) =~ text
      end

      for {der, text} <- [
            {forge(context, tsa, signers: 2), "other than one signer"},
            {forge(context, tsa, signers: 0), "other than one signer"},
            {forge(context, tsa, content: fn _ -> nil end), "is not in it"},
            {forge(context, tsa, outer: {1, 2, 840, 113_549, 1, 7, 1}), "is no time stamp"},
            {CMS.sign!(hsm, keys.rsa, tsa, @text), "is no time stamp"},
            {DER.sequence([DER.oid({1, 2, 3}), DER.explicit(0, DER.null())]),
             "content of the type 1.2.3"},
            {"", "nothing is there"},
            {tsa, "time stamp"}
          ] do
        assert {:error, %Error{reason: :invalid_argument, detail: detail}} = check.(der)
        assert detail =~ text
      end
    end
  end

  defp fields(certificate) do
    {:ok, fields} = X509.Fields.read(certificate)
    fields
  end

  describe "signed data with a stamp" do
    setup context do
      %{hsm: hsm, keys: keys, root: root} = context
      opts = [subject: "/CN=signer"]
      certificate = X509.certify!(hsm, keys.secp256r1, root, keys.secp384r1, opts)
      other = X509.certify!(hsm, keys.secp256r1, root, keys.secp256r1, opts)
      %{certificate: certificate, other: other}
    end

    defp sign(context, stamp, opts \\ []) do
      %{hsm: hsm, keys: keys, certificate: certificate} = context
      CMS.sign(hsm, keys.secp384r1, certificate, @text, [timestamp: stamp] ++ opts)
    end

    test "is taken by OpenSSL, as the stamp of its signature is", context do
      %{directory: directory, keys: keys, other: other} = context
      stamp = &{:ok, respond(context, &1)}
      signers = [signers: [{keys.secp256r1, other}]]
      assert {:ok, der} = sign(context, stamp, signers)
      assert OpenSSL.cms(der, Path.join(directory, "root.pem"), ["-cades"]) == @text

      assert {:ok, %{signers: [_, _]}} = Reader.read(der, "", &SignedData.Read.content_info/1)
      stamps = stamps(der)
      assert length(stamps) == 2

      for {signature, token} <- stamps do
        Scratch.write(directory, "signature", signature)
        Scratch.write(directory, "token", token)
        verify = ~w(ts -verify -token_in -in token -CAfile root.pem -data)
        assert {text, 0} = openssl(context, verify ++ ["signature"])
        assert text =~ "Verification: OK"
        assert {_, 1} = openssl(context, verify ++ ["data"])
        assert {:ok, _} = verify(context, token, {:data, signature})
      end
    end

    # Of each signer the signature, and the token behind it.
    defp stamps(der) do
      {:ok, stamps} =
        Reader.read(der, "", fn info ->
          [_type, explicit] = Reader.sequence(info)
          signers = explicit |> Reader.only() |> Reader.sequence() |> List.last()

          for signer <- Reader.set(signers) do
            [_, _, _, _, _, signature, unsigned] = Reader.sequence(signer)
            [type, tokens] = unsigned |> Reader.only() |> Reader.sequence()
            assert Reader.oid(type) == {1, 2, 840, 113_549, 1, 9, 16, 2, 14}
            {Reader.octets(signature), Reader.only(tokens).der}
          end
        end)

      stamps
    end

    test "is none when the stamp is none of it", context do
      other = respond(context, Timestamp.request("another", nonce: false))

      bare = fn request ->
        {:ok, request} = Request.read(request)
        request = Request.encode(:sha256, request.digest, nil, request.nonce, false)
        {:ok, respond(context, request)}
      end

      for {stamp, reason, text} <- [
            {fn _ -> {:ok, other} end, :signature_invalid, "of other data"},
            {bare, :signature_invalid, "the certificate of its signer is not there"},
            {fn _ -> {:ok, "HTTP/1.1 500"} end, :invalid_argument, "this is no time stamp"},
            {fn _ -> {:error, :econnrefused} end, :unsupported,
             "there is no stamp: :econnrefused"},
            {fn _ -> {:error, Error.new(:timeout)} end, :timeout, nil},
            {&{:ok, respond(context, &1 <> "x")}, :invalid_argument, "refused: what it was sent"}
          ] do
        assert {:error, %Error{reason: ^reason, detail: detail}} = sign(context, stamp)
        if text, do: assert(detail =~ text)
      end

      assert_raise ArgumentError, ~r/timestamp: must answer/, fn -> sign(context, & &1) end
      assert_raise ArgumentError, ~r/timestamp: must be a function/, fn -> sign(context, :now) end
    end
  end
end
