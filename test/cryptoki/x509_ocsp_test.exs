defmodule Cryptoki.X509OCSPTest do
  use ExUnit.Case, async: true

  # Answers whether certificates are revoked, judged by `openssl ocsp`, GnuTLS' `ocsptool` and OTP: requests are
  # theirs, too. OpenSSL was seen to refuse an answer by another key, and one by a certificate that is for nothing.

  import Cryptoki.Test.CertificationRequest, only: [extension: 2, extension: 3]

  alias Cryptoki.{Certificates, DER, Error, SignatureAlgorithm, X509}
  alias Cryptoki.Test.{HTTPOnce, KeyPairs, MainToken, Parts, Referee, Scratch}
  alias Cryptoki.X509.OCSP

  @nobody :no_such_instance
  @malformed <<0x30, 3, 0x0A, 1, 1>>
  @try_later <<0x30, 3, 0x0A, 1, 3>>
  @unauthorized <<0x30, 3, 0x0A, 1, 6>>

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :secp384r1, :ed25519])
    directory = Scratch.directory("ocsp")
    context = %{hsm: hsm, keys: keys, ca: keys.secp256r1, directory: directory}
    root = X509.self_signed!(hsm, context.ca, subject: "/C=DE/CN=OCSP root", ca: true)
    context = Map.put(context, :root, root)
    save(context, "root.pem", root)

    for serial <- 1..4,
        do: save(context, "leaf#{serial}.pem", certify(context, :rsa, "leaf", serial: serial))

    Map.put(context, :responder, responder(context, []))
  end

  defp save(%{directory: directory}, name, certificates),
    do: Scratch.write(directory, name, X509.to_pem(certificates))

  defp certify(context, key, name, opts) do
    opts = [subject: "/CN=#{name}"] ++ opts
    X509.certify!(context.hsm, context.ca, context.root, context.keys[key], opts)
  end

  # Of the key with another curve.
  defp responder(context, opts) do
    opts =
      Keyword.merge([extended_key_usage: [:ocsp_signing], ocsp_nocheck: true, days: 30], opts)

    certify(context, :secp384r1, "responder", opts)
  end

  # The request that OpenSSL makes.
  defp ask(context, name, options, serials) do
    arguments = ~w(ocsp -reqout #{name}.req -issuer root.pem) ++ options ++ leaves(serials)
    {_, 0} = openssl(context, arguments)
    File.read!(Path.join(context.directory, "#{name}.req"))
  end

  defp leaves(serials), do: Enum.flat_map(serials, &["-cert", "leaf#{&1}.pem"])

  defp openssl(%{directory: directory}, arguments),
    do: System.cmd("openssl", arguments, cd: directory, stderr_to_stdout: true)

  # What OpenSSL says of the answer to a request that it sends itself.
  defp client(context, options, serials, respond) do
    HTTPOnce.serve("application/ocsp-response", respond, fn url ->
      url = ~w(-url #{url} -CAfile root.pem -issuer root.pem)
      {text, 0} = openssl(context, ["ocsp"] ++ options ++ url ++ leaves(serials))
      text
    end)
  end

  defp known(1), do: :good
  defp known(2), do: {:revoked, ~U[2026-01-02 03:04:05Z], :key_compromise}
  defp known(3), do: {:revoked, ~U[2026-01-02 03:04:05.5Z]}
  defp known(_serial), do: :unknown

  defp respond(context, request, opts \\ []),
    do: X509.ocsp_response!(context.hsm, context.ca, context.root, request, &known/1, opts)

  # With the responder's key, whose certificate is for something else; made of the pieces, since none is made
  # of it in one.
  defp forged(context) do
    %{hsm: hsm, keys: %{secp384r1: key}} = context
    {:ok, request} = OCSP.Request.read(ask(context, "forged", ["-no_nonce"], [1]))
    certificate = certify(context, :secp384r1, "x", [])
    now = DateTime.utc_now()
    times = %{produced_at: now, this_update: now, next_update: nil}
    identifier = X509.certificate!(certificate).subject_key_identifier
    answers = for id <- request.ids, do: {id, :good}
    signed = OCSP.Response.to_be_signed(answers, nil, identifier, times)
    {:ok, public} = Certificates.public_key(certificate, "certificate")
    {:ok, algorithm} = SignatureAlgorithm.choose(public, [])
    {:ok, signature} = Certificates.sign(hsm, key, public, algorithm, signed, [])
    OCSP.Response.signed(signed, algorithm.identifier, signature, certificate)
  end

  describe "OpenSSL takes the answers" do
    test "of the authority, for several certificates, with and without a nonce", context do
      for {options, nonce?} <- [{[], true}, {["-no_nonce"], false}] do
        text =
          client(context, ["-text" | options], 1..4, fn request ->
            assert {:ok, asked} = X509.ocsp_request(request)
            assert for(one <- asked.certificates, do: one.serial) == [1, 2, 3, 4]
            assert is_binary(asked.nonce) == nonce?
            respond(context, request, next_update: DateTime.add(DateTime.utc_now(), 3600))
          end)

        assert text =~ "Response verify OK"
        assert text =~ "leaf1.pem: good"
        assert text =~ ~r/leaf2.pem: revoked\n.*\n.*\n\s+Reason: keyCompromise/
        assert text =~ "Revocation Time: Jan  2 03:04:05 2026 GMT"
        assert text =~ ~r/leaf3.pem: revoked\n/
        assert text =~ "leaf4.pem: unknown"
        assert text =~ ~r/Responder Id: [0-9A-F]{40}\n/
        assert length(Regex.scan(~r/\tNext Update: /, text)) == 4
        assert length(Regex.scan(~r/OCSP Nonce/, text)) == if(nonce?, do: 2, else: 0)
        refute text =~ ~r/nonce (verify error|in request)/i
      end
    end

    test "of whom it lets answer, who goes along", context do
      %{hsm: hsm, keys: keys, root: root, responder: responder} = context
      key = keys.secp384r1

      for chain <- [[responder, root], X509.to_pem([responder, root])] do
        text =
          client(
            context,
            ["-text"],
            [1, 2],
            &X509.ocsp_response!(hsm, key, chain, &1, fn n -> known(n) end, hash: :sha512)
          )

        assert text =~ "Response verify OK"
        assert text =~ "leaf1.pem: good" and text =~ "leaf2.pem: revoked"
        assert text =~ "Signature Algorithm: ecdsa-with-SHA512"
        assert [_] = Regex.scan(~r/BEGIN CERTIFICATE/, text)
      end

      # It sees who is not let, and what was changed.
      for der <- [
            forged(context),
            Referee.flip(respond(context, ask(context, "x", [], [1])), 100)
          ] do
        Scratch.write(context.directory, "forged.der", der)
        arguments = ~w(ocsp -no_nonce -respin forged.der -CAfile root.pem -issuer root.pem)
        assert {text, _status} = openssl(context, arguments ++ leaves([1]))
        refute text =~ "Response verify OK"
      end
    end

    for {key, opts, algorithm} <- [
          {:rsa, [], "sha256WithRSAEncryption"},
          {:rsa, [padding: :pss, hash: :sha384], "rsassaPss"},
          {:secp384r1, [], "ecdsa-with-SHA384"},
          {:ed25519, [], "ED25519"}
        ] do
      @tag skip: MainToken.lacks_key(key)
      test "signed with #{key} #{inspect(opts)}", %{hsm: hsm, keys: keys} = context do
        {key, opts} = unquote(Macro.escape({key, opts}))
        certificate = certify(context, key, "of #{key}", extended_key_usage: [:ocsp_signing])
        chain = [certificate, context.root]
        respond = &X509.ocsp_response!(hsm, keys[key], chain, &1, fn n -> known(n) end, opts)
        text = client(context, ["-text"], [1], respond)
        assert text =~ "Response verify OK"
        assert text =~ "leaf1.pem: good"
        assert text =~ "Signature Algorithm: #{unquote(algorithm)}"
      end
    end

    test "whatever hash names the issuer", context do
      for hash <- ~w(sha1 sha256 sha384 sha512) do
        named = if hash == "sha1", do: :sha, else: String.to_atom(hash)

        text =
          client(context, ["-#{hash}"], [1, 2], fn request ->
            assert %{certificates: [%{hash: ^named, serial: 1} | _]} = X509.ocsp_request!(request)
            respond(context, request)
          end)

        assert text =~ "leaf1.pem: good" and text =~ "leaf2.pem: revoked"
      end

      # What nobody knows the hash of is of nobody.
      request = ask(context, "sha3", ["-sha3-256"], [1])
      assert %{certificates: [%{hash: nil}]} = X509.ocsp_request!(request)
      assert respond(context, request) == @unauthorized
    end

    test "to signed requests", context do
      new = ~w(req -x509 -newkey rsa:2048 -nodes -keyout client.key -out client.pem -subj /CN=me)
      {_, 0} = openssl(context, new)
      options = ~w(-signer client.pem -signkey client.key)
      assert client(context, options, [1], &respond(context, &1)) =~ "leaf1.pem: good"
    end
  end

  @ocsptool System.find_executable("ocsptool")
  @tag skip: !@ocsptool && "there is no ocsptool (Debian's gnutls-bin)"
  test "GnuTLS asks, and takes the answers", %{directory: directory} = context do
    tool = &System.cmd("ocsptool", &1, cd: directory, stderr_to_stdout: true)
    pair = ~w(--load-issuer root.pem --load-cert leaf1.pem)
    {_, 0} = tool.(~w(--generate-request --nonce --outfile gnutls.req) ++ pair)
    request = File.read!(Path.join(directory, "gnutls.req"))
    next = DateTime.add(DateTime.utc_now(), 3600)
    Scratch.write(directory, "gnutls.der", respond(context, request, next_update: next))
    verify = ~w(--verify-response --load-response gnutls.der --load-trust root.pem)
    assert {text, 0} = tool.(verify ++ pair)
    assert text =~ "Verifying OCSP Response: Success"
    assert {text, 0} = tool.(~w(--response-info --load-response gnutls.der))
    assert text =~ "Certificate Status: good"
  end

  # Earlier ones read no answer of an EC key.
  @otp String.to_integer(System.otp_release())
  @tag skip: @otp < 27 && "OTP reads answers since release 27"
  test "OTP takes them", %{hsm: hsm, keys: keys, root: root, responder: responder} = context do
    [leaf, revoked] =
      for serial <- [1, 2] do
        pem = File.read!(Path.join(context.directory, "leaf#{serial}.pem"))
        [{:Certificate, der, :not_encrypted}] = :public_key.pem_decode(pem)
        der
      end

    request = ask(context, "otp", [], [1, 2])
    nonce = X509.ocsp_request!(request).nonce

    for der <- [
          respond(context, request),
          X509.ocsp_response!(hsm, keys.secp384r1, [responder, root], request, &known/1)
        ] do
      validate = &apply(:public_key, :pkix_ocsp_validate, [&1, root, der, &2, []])
      assert {:ok, _} = validate.(leaf, DER.octet_string(nonce))
      assert {:error, {:bad_cert, {:revoked, _}}} = validate.(revoked, DER.octet_string(nonce))
      assert {:error, {:bad_cert, _}} = validate.(leaf, DER.octet_string("another"))
    end
  end

  ## Requests by hand

  defp id(parts) do
    name = Keyword.get(parts, :name, "n")
    key = Keyword.get(parts, :key, "k")
    algorithm = Keyword.get(parts, :algorithm, DER.sequence([DER.oid({1, 3, 14, 3, 2, 26})]))
    serial = Keyword.get(parts, :serial, DER.integer(1))
    DER.sequence([algorithm, DER.octet_string(name), DER.octet_string(key), serial])
  end

  defp one(id, extensions \\ ""), do: DER.sequence([id, extensions])

  defp make(list, parts \\ []) do
    extensions = parts[:extensions]
    extensions = if extensions, do: DER.explicit(2, DER.sequence(extensions)), else: ""
    before = parts[:before] || ""
    DER.sequence([DER.sequence([before, DER.sequence(list), extensions]), parts[:behind] || ""])
  end

  # About number 1 of an authority.
  defp bare(certificate), do: make([one(id(of(certificate)))])

  defp of(certificate) do
    {:ok, fields} = X509.Fields.read(certificate)
    key = X509.Extensions.key_identifier(fields.public_key_info)
    [name: :crypto.hash(:sha, fields.subject), key: key]
  end

  @nonce {1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

  describe "a request that is none" do
    defp nonce(bytes), do: extension(@nonce, DER.octet_string(bytes))

    test "is answered so, with no word to the token, and said to be none" do
      critical = extension({1, 2, 3}, DER.null(), [DER.boolean(true)])
      ours = one(id([]))
      explicit = &DER.explicit/2

      for {request, text} <- [
            {make([ours]), nil},
            {make([ours], before: explicit.(0, DER.integer(0))), nil},
            {make([ours], before: explicit.(1, DER.value(0x82, "me"))), nil},
            {make([ours], behind: explicit.(0, DER.sequence([DER.null()]))), nil},
            {make([ours], extensions: [nonce("x")]), nil},
            {make([ours], extensions: [nonce(:binary.copy("x", 128))]), nil},
            {make([ours], extensions: [extension({1, 2, 3}, DER.null())]), nil},
            {make(List.duplicate(ours, 100)), nil},
            {"", "nothing is there"},
            {"GET / HTTP/1.1", "it is text, and DER is wanted"},
            {DER.null(), "a SEQUENCE should stand"},
            {make([]), "asks about no certificate"},
            {make(List.duplicate(ours, 101)), "more than 100 parts"},
            {make([ours], before: explicit.(0, DER.integer(1))), "version, .*not known"},
            {make([ours], behind: DER.null()), "nothing should stand here"},
            {make([ours]) <> <<0>>, "bytes behind its end|cut off"},
            {make([ours], extensions: [nonce("")]), "1 to 128 bytes"},
            {make([ours], extensions: [nonce(:binary.copy("x", 129))]), "1 to 128 bytes"},
            {make([ours], extensions: [extension(@nonce, DER.null())]), "OCTET STRING"},
            {make([ours], extensions: [nonce("x"), nonce("y")]), "is there twice"},
            {make([ours], extensions: [critical]), "1.2.3, .*critical"},
            {make([one(id([]), explicit.(0, DER.sequence([critical])))]), "1.2.3, .*critical"},
            {make([DER.null()]), "request 1, .*SEQUENCE"},
            {make([ours, one(id(serial: DER.null()))]), "request 2, serial number"},
            {make([one(id(serial: DER.integer(Integer.pow(2, 520))))]), "more than 64 bytes"},
            {make([one(id(algorithm: DER.sequence([])))]), "no identifier of an algorithm"},
            {make([one(id(algorithm: DER.sequence([DER.oid({1, 2}), DER.integer(1)])))]), "NULL"},
            {make([one(id(name: :binary.copy("x", 65_536)))]), "longer than 65536 bytes"}
          ] do
        answer = X509.ocsp_request(request)

        if text do
          assert {:error, %Error{reason: reason, detail: detail}} = answer
          assert reason in [:invalid_argument, :unsupported]
          assert detail =~ ~r/#{text}/
          none = X509.ocsp_response(@nobody, [label: "x"], "x", request, &known/1)
          assert none == {:ok, @malformed}
        else
          assert {:ok, _request} = answer
        end
      end
    end

    test "of another authority is refused without a signature, beside others unknown", context do
      asked = &make([one(id(Keyword.merge(of(context.root), &1)))])
      fun = fn serial -> flunk("asked for #{serial}") end
      respond = &X509.ocsp_response!(context.hsm, context.ca, context.root, &1, &2)

      for parts <- [[name: "another"], [key: "another"], [name: "", key: ""]],
          do: assert(respond.(asked.(parts), fun) == @unauthorized)

      # Number 2 of theirs is not ours.
      ours = one(id(of(context.root)))
      theirs = one(id(Keyword.merge(of(context.root), key: "x", serial: DER.integer(2))))
      der = respond.(make([ours, theirs]), &known/1)
      Scratch.write(context.directory, "both.der", der)
      {text, 0} = openssl(context, ~w(ocsp -respin both.der -noverify -resp_text))
      assert [["good"], ["unknown"]] = Regex.scan(~r/Cert Status: \K\w+/, text)
    end

    test "that nobody can answer just now is told so", context do
      request =
        make(for serial <- 1..2, do: one(id(of(context.root) ++ [serial: DER.integer(serial)])))

      fun = fn serial -> if serial == 2, do: :try_later, else: :good end

      assert X509.ocsp_response(context.hsm, context.ca, context.root, request, fun) ==
               {:ok, @try_later}
    end
  end

  # Ours are refused to those who ask for it.
  defp other_usage(context) do
    usage = [{{2, 5, 29, 15}, DER.named_bits([4]), [critical: true]}]
    extensions = for {oid, der, critical: critical} <- usage, do: {oid, critical, der}
    purpose = {{2, 5, 29, 37}, false, DER.sequence([DER.oid({1, 3, 6, 1, 5, 5, 7, 3, 9})])}
    issued(context, [purpose | extensions])
  end

  # With just these extensions.
  defp issued(context, extensions) do
    {:ok, public} = Cryptoki.public_key(context.hsm, context.ca)
    {:ok, algorithm} = SignatureAlgorithm.choose(public, [])
    {:ok, %{subject: issuer}} = X509.Fields.read(context.root)

    info =
      X509.Extensions.public_key_info(Cryptoki.public_key!(context.hsm, context.keys.secp384r1))

    now = DateTime.utc_now()

    signed =
      X509.Certificate.to_be_signed(
        %{
          holder: %{subject: issuer, names: [], info: info},
          valid: {DateTime.add(now, -60), DateTime.add(now, 60)},
          extensions: extensions
        },
        issuer,
        algorithm.identifier,
        nil
      )

    {:ok, der} = Certificates.signed(context.hsm, context.ca, public, algorithm, signed, [])
    der
  end

  describe "who answers" do
    test "is an authority, or whom it lets", %{hsm: hsm, keys: keys, root: root} = context do
      request = bare(root)
      answer = &X509.ocsp_response(hsm, &1, &2, request, fn _ -> :good end)
      other = X509.self_signed!(hsm, keys.rsa, subject: "/CN=other", ca: true)
      twin = X509.self_signed!(hsm, keys.rsa, subject: "/C=DE/CN=OCSP root", ca: true)
      day = [not_before: ~U[2020-01-01 00:00:00Z], not_after: ~U[2020-01-02 00:00:00Z]]
      old = X509.self_signed!(hsm, context.ca, [subject: "/CN=old", ca: true] ++ day)
      key = keys.secp384r1

      # Signed by the root in the past, whose own certificate began then.
      past =
        X509.self_signed!(hsm, context.ca,
          subject: "/C=DE/CN=OCSP root",
          ca: true,
          not_before: ~U[2020-01-01 00:00:00Z],
          not_after: ~U[2040-01-01 00:00:00Z]
        )

      ended =
        X509.certify!(
          hsm,
          context.ca,
          past,
          key,
          [subject: "/CN=responder", extended_key_usage: [:ocsp_signing]] ++ day
        )

      later =
        responder(context,
          not_before: DateTime.add(DateTime.utc_now(), 86_400),
          days: 2
        )

      for {key, certificates, text} <- [
            {key, root, "of another key"},
            {context.ca, old, "has ended, at 2020-01-02"},
            {key, context.responder, "it is not that of an authority; with that of its issuer"},
            {key, [context.responder, other], "it is of another issuer"},
            {key, [context.responder, twin], "not sign with ecdsa_sha256"},
            {key, [ended, past], "has ended"},
            {key, [later, root], "begins later"},
            {key, [certify(context, :secp384r1, "x", []), root], "not for answers"},
            {key, [responder(context, ocsp_nocheck: false, extended_key_usage: [:any]), root],
             "not for answers"},
            {key, [other_usage(context), root], "not for signatures"},
            {keys.rsa, [context.responder, root], "of another key"},
            {key, "x", "certificate: "},
            {key, [context.responder, "x"], "certificate: "}
          ] do
        assert {:error, %Error{reason: :invalid_argument, detail: detail}} =
                 answer.(key, certificates)

        assert detail =~ text
      end

      assert {:ok, _} = answer.(key, [context.responder, past])
    end

    test "says what it knows, in times that fit", %{root: root} = context do
      respond = &X509.ocsp_response(@nobody, [label: "x"], root, bare(root), &1, &2)
      now = DateTime.utc_now()

      for {fun, opts, text} <- [
            {:good, [], "fun: must be a function of a serial number"},
            {fn -> :good end, [], "fun: must be a function"},
            {&known/1, [next_update: DateTime.add(now, -5)], "next_update: was at"},
            {&known/1, [this_update: DateTime.add(now, 60), next_update: DateTime.add(now, 9)],
             "next_update: must be later than this_update:"},
            {&known/1, [next_update: 7], "next_update: must be a DateTime"},
            {&known/1, [nextupdate: now], "did you mean :next_update"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn -> respond.(fun, opts) end
      end

      for wrong <- [
            nil,
            :revoked,
            {:revoked, 7},
            {:revoked, now, :lost},
            {:revoked, now, :remove_from_crl}
          ] do
        assert_raise ArgumentError, ~r/fun: must answer :good/, fn ->
          X509.ocsp_response(context.hsm, context.ca, root, bare(root), fn _ -> wrong end)
        end
      end

      assert_raise ArgumentError, ~r/request: must be the bytes/, fn ->
        X509.ocsp_response(@nobody, [label: "x"], root, nil, &known/1)
      end

      assert_raise ArgumentError, ~r/request: must be the bytes/, fn -> X509.ocsp_request(7) end

      # Also where the request is none, and nothing is asked.
      for {key, certificate, text} <- [
            {[lable: "x"], root, "key: .*did you mean :label"},
            {[label: "x"], [lable: "x"], "certificate: .*did you mean :label"},
            {[label: "x"], [], "certificate: is empty"},
            {7, root, "key: "}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn ->
          X509.ocsp_response(@nobody, key, certificate, "none", &known/1)
        end
      end

      assert {:error, %Error{}} = respond.(&known/1, [])
    end
  end

  # Of the nonce and of what is asked there is no more in an answer than was asked.
  test "an answer has the request's own words", context do
    request = make([one(id(of(context.root)))], extensions: [nonce("0123456789")])
    {:ok, [{0x30, whole, _}]} = Parts.split(respond(context, request))
    {:ok, [_, {0xA0, bytes, _}]} = Parts.split(whole)
    assert {_, _} = :binary.match(bytes, nonce("0123456789"))
    assert {_, _} = :binary.match(bytes, id(of(context.root)))
  end
end
