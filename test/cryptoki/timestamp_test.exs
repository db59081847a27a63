defmodule Cryptoki.TimestampTest do
  use ExUnit.Case, async: true

  # Time stamps of the token, judged by `openssl ts`, and those of OpenSSL, judged by us. OpenSSL was seen to refuse
  # another digest, another nonce, a certificate for more than this, and an authority that nobody trusts.

  import Cryptoki.Test.Stamps

  alias Cryptoki.{DER, Error, Timestamp, X509}
  alias Cryptoki.Test.{OpenSSL, Referee, Scratch, Stamps}

  @nobody :no_such_instance
  @policy Stamps.policy()
  @other {1, 3, 6, 1, 4, 1, 99_999, 2}
  @text Stamps.content()

  setup_all do: Stamps.context()

  # In OpenSSL's words.
  @failures %{
    "badAlg" => "unrecognized or unsupported algorithm identifier",
    "badRequest" => "transaction not permitted or supported",
    "badDataFormat" => "the data submitted has the wrong format",
    "unacceptedPolicy" => "the requested TSA policy is not supported by the TSA",
    "unacceptedExtension" => "the requested extension is not supported by the TSA"
  }

  describe "OpenSSL asks and takes the stamps" do
    for {hash, opts} <- [
          {"sha256", []},
          {"sha384", [hash: :sha512]},
          {"sha512", [hash: :sha384]},
          {"sha3-256", []}
        ] do
      test "of #{hash}, #{inspect(opts)}", context do
        hash = unquote(hash)
        ask = ~w(ts -query -data data -#{hash} -cert -tspolicy 1.3.6.1.4.1.99999.1 -out query.tsq)
        {_, 0} = openssl(context, ask)
        request = File.read!(Path.join(context.directory, "query.tsq"))
        accuracy = [seconds: 1, millis: 500, micros: 250]
        opts = [serial: 77, accuracy: accuracy, ordering: true, tsa: true] ++ unquote(opts)
        response = respond(context, request, opts)

        assert {text, 0} = judge(context, response, ~w(-queryfile query.tsq))
        assert text =~ "Verification: OK"
        assert {text, 0} = judge(context, response, ~w(-data data))
        assert text =~ "Verification: OK"
        assert {text, 1} = judge(context, response, ~w(-data other))
        assert text =~ "message imprint mismatch"

        text = text(context, response)
        assert text =~ "Status: Granted."
        assert text =~ "Policy OID: 1.3.6.1.4.1.99999.1"
        assert text =~ "Hash Algorithm: #{hash}"
        assert text =~ "Serial number: 0x4D"
        assert text =~ "Accuracy: 0x01 seconds, 0x01F4 millis, 0xFA micros"
        assert text =~ "Ordering: yes"
        assert text =~ "TSA: DirName:/C=DE/CN=stamps"
        assert text =~ ~r/Nonce: 0x[0-9A-F]+/

        assert {:ok, stamp} = verify(context, response, request)

        assert %{serial: 77, policy: @policy, ordering: true, tsa: {:dir_name, "/C=DE/CN=stamps"}} =
                 stamp

        assert stamp.accuracy == Map.new(accuracy)
        assert stamp.certificate == context.tsa
        assert abs(DateTime.diff(stamp.time, DateTime.utc_now())) < 60
        assert verify(context, stamp.token, {:data, @text}) == {:ok, stamp}
        assert verify(context, stamp.token, {:data, {:stream, [@text]}}) == {:ok, stamp}
        assert invalid(verify(context, response, {:data, "other"})) =~ "of other data"
      end
    end

    test "without certificates, nonce and what else may be left out", context do
      {_, 0} = openssl(context, ~w(ts -query -data data -sha256 -no_nonce -out bare.tsq))
      request = File.read!(Path.join(context.directory, "bare.tsq"))
      response = respond(context, request)
      both = File.read!(Path.join(context.directory, "tsa.pem")) <> X509.to_pem(context.between)
      Scratch.write(context.directory, "both.pem", both)
      assert {text, 0} = judge(context, response, ~w(-queryfile bare.tsq -untrusted both.pem))
      assert text =~ "Verification: OK"
      text = text(context, response)
      assert text =~ "Accuracy: unspecified" and text =~ "Ordering: no"
      assert text =~ "Nonce: unspecified" and text =~ "TSA: unspecified"

      assert invalid(verify(context, response, request)) =~
               "certificate of its signer is not there"

      assert {:ok, stamp} = verify(context, response, request, certificates: both)
      assert %{nonce: nil, accuracy: nil, ordering: false, tsa: nil} = stamp
      assert {:ok, _} = Timestamp.verify(response, request, trusted: context.tsa)
      only = Timestamp.verify(response, request, trusted: context.root, certificates: context.tsa)
      assert invalid(only) =~ "no certificate that is trusted has issued it"
    end

    test "in answer to our requests", context do
      for {opts, shown} <- [
            {[], ["sha256", "Certificate required: yes", "Policy OID: unspecified"]},
            {[hash: :sha512, certificates: false, policy: @policy, nonce: 255],
             ["sha512", "Certificate required: no", "99999.1", "Nonce: 0xFF"]},
            {[hash: :sha3_384, nonce: false], ["sha3-384", "Nonce: unspecified"]}
          ] do
        request = Timestamp.request({:stream, [@text]}, opts)
        Scratch.write(context.directory, "ours.tsq", request)
        {text, 0} = openssl(context, ~w(ts -query -in ours.tsq -text))
        for part <- shown, do: assert(text =~ part)
        if opts == [], do: assert(text =~ ~r/Nonce: 0x[0-9A-F]{32}\n/)
        response = respond(context, request)
        arguments = ~w(-queryfile ours.tsq -untrusted both.pem)
        save(context, "both.pem", [context.tsa, context.between])
        assert {text, 0} = judge(context, response, arguments)
        assert text =~ "Verification: OK"
      end
    end

    # Its `ts` reads nothing of PSS: as signed data.
    test "of EC and PSS keys", %{hsm: hsm, keys: keys, between: between} = context do
      opts = [subject: "/CN=ec", extended_key_usage: [:time_stamping]]
      ec = X509.certify!(hsm, keys.secp384r1, between, keys.secp256r1, opts)
      request = Timestamp.request(@text)
      chain = [ec, between]
      response = Timestamp.respond!(hsm, keys.secp256r1, chain, request, policy: @policy)
      assert {_, 0} = judge(context, response, ~w(-data data))
      assert {:ok, %{certificate: ^ec}} = verify(context, response, request)

      response = respond(context, request, padding: :pss, hash: :sha384)
      assert {:ok, stamp} = verify(context, response, request)
      Scratch.write(context.directory, "pss", stamp.token)

      cms =
        ~w(cms -verify -inform DER -in pss -CAfile root.pem -purpose timestampsign -out pss.out)

      assert {_, 0} = openssl(context, cms)
    end

    test "never without the policy that was asked for, and each with a number of its own",
         context do
      request = Timestamp.request(@text, policy: @other)
      assert text(context, respond(context, request)) =~ @failures["unacceptedPolicy"]
      response = respond(context, request, policies: [@other])
      assert {:ok, %{policy: @other, serial: serial}} = verify(context, response, request)

      assert {:ok, %{serial: other}} =
               verify(context, respond(context, request, policies: [@other]), request)

      assert serial != other
      time = ~U[2026-01-02 03:04:05.678901Z]
      request = Timestamp.request(@text)

      assert {:ok, %{time: ~U[2026-01-02 03:04:05Z]}} =
               verify(context, respond(context, request, time: time), request)
    end
  end

  describe "a request that is none" do
    @sha256 DER.sequence([DER.oid({2, 16, 840, 1, 101, 3, 4, 2, 1}), DER.null()])

    defp make(parts) do
      algorithm = Keyword.get(parts, :algorithm, @sha256)
      digest = Keyword.get(parts, :digest, DER.octet_string(:binary.copy("x", 32)))

      DER.sequence([
        Keyword.get(parts, :version, DER.integer(1)),
        Keyword.get(parts, :imprint, DER.sequence([algorithm, digest])),
        parts[:behind] || ""
      ])
    end

    test "is refused by name, with no word to the token", context do
      sha1 = DER.sequence([DER.oid({1, 3, 14, 3, 2, 26}), DER.null()])
      extensions = DER.value(0xA0, DER.sequence([DER.oid({1, 2, 3}), DER.octet_string("")]))

      for {request, failure} <- [
            {"", "badDataFormat"},
            {"POST / HTTP/1.1", "badDataFormat"},
            {DER.sequence([]), "badDataFormat"},
            {make(version: DER.integer(2)), "badRequest"},
            {make(version: DER.null()), "badDataFormat"},
            {make(algorithm: sha1, digest: DER.octet_string(:binary.copy("x", 20))), "badAlg"},
            {make(algorithm: DER.sequence([DER.oid({1, 2, 3})])), "badAlg"},
            {make(
               algorithm:
                 DER.sequence([DER.oid({2, 16, 840, 1, 101, 3, 4, 2, 1}), DER.integer(1)])
             ), "badDataFormat"},
            {make(digest: DER.octet_string("short")), "badDataFormat"},
            {make(digest: DER.null()), "badDataFormat"},
            {make(behind: DER.oid(@other)), "unacceptedPolicy"},
            {make(behind: extensions), "unacceptedExtension"},
            {make(behind: DER.integer(Integer.pow(2, 600))), "badDataFormat"},
            {make(behind: DER.boolean(true) <> DER.boolean(true)), "badDataFormat"},
            {make(behind: DER.value(1, [1])), "badDataFormat"},
            {make(behind: DER.octet_string(:binary.copy("x", 20_000))), "badDataFormat"}
          ] do
        assert {:ok, response} =
                 Timestamp.respond(@nobody, [label: "x"], "x", request, policy: @policy)

        text = text(context, response)
        assert text =~ "Status: Rejected." and text =~ @failures[failure]

        assert {:error, %Error{reason: reason, detail: detail}} =
                 verify(context, response, {:data, "x"})

        assert detail =~ "the time stamping authority refused"

        wanted =
          if failure in ~w(badDataFormat badRequest), do: :invalid_argument, else: :unsupported

        assert reason == wanted
      end

      assert {:error, %Error{reason: :shutdown}} =
               Timestamp.respond(@nobody, [label: "x"], [label: "x"], make([]), policy: @policy)
    end

    test "is a mistake when it is no bytes, as are options that are none" do
      for {opts, text} <- [
            {[], "policy: must be an object identifier"},
            {[policy: "1.2.3"], "policy: must be an object identifier"},
            {[policy: @policy, policies: @other], "policies: must be a list"},
            {[policy: @policy, serial: 0], "serial: must be a positive number"},
            {[policy: @policy, accuracy: [millis: 1000]], "accuracy: must be such as"},
            {[policy: @policy, accuracy: [minutes: 1]], "accuracy: must be such as"},
            {[policy: @policy, acuracy: []], "did you mean :accuracy"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn ->
          Timestamp.respond(@nobody, [label: "x"], "x", make([]), opts)
        end
      end

      for {fun, text} <- [
            {fn ->
               apply(Timestamp, :respond, [@nobody, [label: "x"], "x", nil, [policy: @policy]])
             end, "request: must be"},
            {fn -> Timestamp.request("x", hash: :sha) end, "hash: must be one of :sha256"},
            {fn -> Timestamp.request(7) end, "data"},
            {fn -> Timestamp.verify("x", "y", []) end, "trusted: must be the certificates"},
            {fn -> Timestamp.verify("x", "y", trusted: [:root]) end,
             "trusted: must be certificates"},
            {fn -> apply(Timestamp, :verify, ["x", :y, [trusted: []]]) end,
             "stamped: must be a request or"},
            {fn -> apply(Timestamp, :verify, [nil, "y", [trusted: []]]) end,
             "response: must be the bytes"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fun
      end
    end
  end

  test "who stamps has a certificate for this alone, which holds", context do
    %{hsm: hsm, keys: keys, between: between} = context
    answer = &Timestamp.respond(hsm, keys.rsa, &1, make([]), policy: @policy)
    certify = &X509.certify!(hsm, keys.secp384r1, between, keys.rsa, [subject: "/CN=x"] ++ &1)
    old = [not_before: ~U[2020-01-01 00:00:00Z], not_after: ~U[2020-01-02 00:00:00Z]]

    for {certificate, text} <- [
          {certify.([]), "not for time stamps alone"},
          {certify.(extended_key_usage: [:any]), "not for time stamps alone"},
          {between, "not for time stamps alone"},
          {X509.self_signed!(
             hsm,
             keys.rsa,
             [subject: "/CN=x", extended_key_usage: [:time_stamping]] ++ old
           ), "has ended"},
          {X509.self_signed!(hsm, keys.secp256r1,
             subject: "/CN=x",
             extended_key_usage: [:time_stamping]
           ), "of another key"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: detail}} = answer.(certificate)
      assert detail =~ text
    end
  end

  describe "a stamp of OpenSSL" do
    setup context do
      %{hsm: hsm, keys: keys, between: between, directory: directory} = context
      {_, 0} = OpenSSL.openssl(~w(genrsa -out #{directory}/own.key 2048))
      {pem, 0} = OpenSSL.openssl(~w(rsa -in #{directory}/own.key -pubout))

      [entry] =
        for {:SubjectPublicKeyInfo, _, _} = entry <- :public_key.pem_decode(pem), do: entry

      public = :public_key.pem_entry_decode(entry)
      opts = [subject: "/CN=own", extended_key_usage: [:time_stamping]]
      own = X509.certify!(hsm, keys.secp384r1, between, public, opts)
      save(context, "own.pem", own)
      %{own: own}
    end

    defp reply(context, name, config \\ "", arguments \\ []) do
      Scratch.write(context.directory, "serial", "01")

      Scratch.write(context.directory, "tsa.conf", """
      [tsa]
      serial = serial
      default_policy = 1.2.3.4
      signer_digest = sha256
      digests = sha256, sha1
      ess_cert_id_alg = sha256
      certs = between.pem
      #{config}
      """)

      reply =
        ~w(ts -reply -config tsa.conf -section tsa -queryfile #{name}.tsq -signer own.pem -inkey own.key -out own.tsr)

      {text, 0} = openssl(context, reply ++ arguments)
      _ = text
      File.read!(Path.join(context.directory, "own.tsr"))
    end

    test "is verified, whatever of it is another one", %{own: own} = context do
      request = Timestamp.request(@text)
      Scratch.write(context.directory, "own.tsq", request)

      for {config, shown} <- [
            {"", %{accuracy: nil, ordering: false, tsa: nil}},
            {"accuracy = secs:1, millisecs:500, microsecs:100\nordering = yes\ntsa_name = yes",
             %{
               accuracy: %{seconds: 1, millis: 500, micros: 100},
               ordering: true,
               tsa: {:dir_name, "/CN=own"}
             }},
            # The certificate by SHA-1, as before RFC 5816; parts of a second; other hashes.
            {"ess_cert_id_alg = sha1", %{}},
            {"ess_cert_id_alg = sha512\nsigner_digest = sha512\nclock_precision_digits = 6", %{}},
            {"ess_cert_id_chain = yes", %{}}
          ] do
        response = reply(context, "own", config)
        assert {:ok, stamp} = verify(context, response, request)
        assert Map.take(stamp, Map.keys(shown)) == shown
        assert stamp.certificate == own
        if config =~ "precision", do: assert(elem(stamp.time.microsecond, 1) in [0, 6])
      end

      response = reply(context, "own")

      assert invalid(verify(context, response, Timestamp.request(@text))) =~
               "nonce is another one"

      assert invalid(verify(context, response, Timestamp.request("x", nonce: false))) =~
               "other data"

      policy = Timestamp.request(@text, nonce: false, policy: @policy)
      assert invalid(verify(context, response, policy)) =~ "by another policy"
      hash = Timestamp.request(@text, nonce: false, hash: :sha512)
      assert invalid(verify(context, response, hash)) =~ "by another hash"

      for {trusted, text} <- [
            {[], "no certificate that is trusted has issued it"},
            {X509.self_signed!(context.hsm, context.keys.secp256r1, subject: "/CN=no", ca: true),
             "no certificate that is trusted"},
            {X509.self_signed!(context.hsm, context.keys.rsa,
               subject: "/CN=root of stamps",
               ca: true
             ), "no certificate that is trusted"}
          ] do
        assert invalid(Timestamp.verify(response, request, trusted: trusted)) =~ text
      end

      # One that is trusted itself, and one in the middle.
      for trusted <- [own, context.between, [context.root, own]],
          do: assert({:ok, _} = Timestamp.verify(response, request, trusted: trusted))
    end

    test "with SHA-1 is not believed", context do
      {_, 0} = openssl(context, ~w(ts -query -data data -sha1 -cert -out sha1.tsq))
      response = reply(context, "sha1")
      request = File.read!(Path.join(context.directory, "sha1.tsq"))

      for stamped <- [request, {:data, @text}] do
        assert {:error, %Error{reason: :unsupported, detail: text}} =
                 verify(context, response, stamped)

        assert text =~ "broken"
      end

      request = Timestamp.request(@text)
      Scratch.write(context.directory, "own.tsq", request)
      weak = reply(context, "own", "", ~w(-sha1))
      answer = verify(context, weak, request)
      assert {:error, %Error{reason: :unsupported, detail: text}} = answer
      assert text =~ "that hash is broken"
    end

    test "that was changed anywhere is none", context do
      request = Timestamp.request(@text)
      Scratch.write(context.directory, "own.tsq", request)
      response = reply(context, "own", "tsa_name = yes")
      assert {:ok, stamp} = verify(context, response, request)

      # Whatever is not signed and not needed may differ; what is said may not.
      for at <- 0..(byte_size(response) - 1)//7 do
        case verify(context, Referee.flip(response, at), request) do
          {:ok, other} ->
            assert Map.delete(other, :token) == Map.delete(stamp, :token)

          {:error, %Error{reason: reason}} ->
            assert reason in ~w(signature_invalid invalid_argument unsupported)a
        end
      end
    end
  end
end
