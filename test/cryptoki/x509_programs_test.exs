defmodule Cryptoki.X509ProgramsTest do
  use ExUnit.Case, async: true

  # Certificates that programs accept: judged by OpenSSL (`verify`, `ts`, `ocsp`) and OTP.

  alias Cryptoki.{DER, Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch}

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:rsa, :secp256r1, :secp384r1, :ed25519])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)
    directory = Scratch.directory("programs")
    Scratch.write(directory, "root.pem", X509.to_pem(root))
    %{hsm: hsm, keys: keys, ca: keys.secp256r1, root: root, directory: directory}
  end

  # By the authority, for a key on the token or outside.
  defp certify(context, key, opts),
    do: X509.certify!(context.hsm, context.ca, context.root, key, opts)

  defp show(context, der) do
    file = Scratch.write(context.directory, "#{System.unique_integer([:positive])}", der)
    {text, 0} = OpenSSL.openssl(~w(x509 -noout -text -inform DER -in #{file}))
    text
  end

  defp openssl(context, arguments),
    do: System.cmd("openssl", arguments, cd: context.directory, stderr_to_stdout: true)

  describe "without a request" do
    test "a public key is taken in each of its forms", %{hsm: hsm, keys: keys} = context do
      public_key = Cryptoki.public_key!(hsm, keys.rsa)
      entry = :public_key.pem_entry_encode(:SubjectPublicKeyInfo, public_key)
      {:SubjectPublicKeyInfo, der, _} = entry
      forms = [public_key, der, :public_key.pem_encode([entry]), keys.rsa, [id: keys.rsa.id]]

      for form <- forms do
        der = certify(context, form, subject: "/CN=x")
        assert X509.certificate!(der).public_key == public_key
        assert :public_key.pkix_is_issuer(der, context.root)
      end

      assert {:error, %Error{reason: :key_not_found}} =
               X509.certify(hsm, context.ca, context.root, [label: "no such key"],
                 subject: "/CN=x"
               )

      for none <- ["", "no key", context.root, DER.sequence([]), X509.to_pem(context.root)] do
        assert {:error, %Error{reason: :invalid_argument, detail: "public_key: " <> _}} =
                 X509.certify(hsm, context.ca, context.root, none, subject: "/CN=x")
      end

      for none <- [nil, :key, {:RSAPublicKey, 1}, {1, 2, 3}] do
        assert_raise ArgumentError, ~r/public_key: is PEM, DER/, fn ->
          X509.certify(hsm, context.ca, context.root, none, subject: "/CN=x")
        end
      end
    end

    test "as PEM, which OpenSSL reads and writes the same", context do
      %{hsm: hsm, keys: keys} = context

      agreeing =
        for {curve, arc} <- [x25519: 110, x448: 111],
            {point, _private} = :crypto.generate_key(:ecdh, curve),
            do: {{:ECPoint, point}, {:namedCurve, {1, 3, 101, arc}}}

      public_keys = for {_kind, key} <- keys, do: Cryptoki.public_key!(hsm, key)

      for public_key <- public_keys ++ agreeing do
        pem = X509.to_pem(public_key)
        file = Scratch.write(context.directory, "key.pub", pem)
        assert OpenSSL.openssl(~w(pkey -pubin -in #{file})) == {pem, 0}
        [{:SubjectPublicKeyInfo, der, _}] = :public_key.pem_decode(pem)
        assert X509.to_pem([der, public_key]) == pem <> pem
      end

      for none <- [{:RSAPublicKey, 1}, {}, DER.sequence([]), "", nil, DER.sequence([<<3, 1, 0>>])],
          do: assert_raise(ArgumentError, ~r/or public key$/, fn -> X509.to_pem(none) end)
    end

    test "a key that everybody could have is none that is certified", context do
      for {curve, arc, size} <- [{:x25519, 110, 32}, {:x448, 111, 56}], point <- [<<>>, <<1>>] do
        zeros = :binary.copy(<<0>>, size - byte_size(point))
        key = {{:ECPoint, point <> zeros}, {:namedCurve, {1, 3, 101, arc}}}
        answer = X509.certify(context.hsm, context.ca, context.root, key, subject: "/CN=x")
        assert {:error, %Error{reason: :invalid_argument, detail: text}} = answer
        assert text =~ "one of the few of #{curve}"
      end

      # RSA of 1024 bits, and with an exponent of 1, from the token and from elsewhere.
      weak = [
        {:RSAPublicKey, Integer.pow(2, 2047) + 1, 1},
        {:RSAPublicKey, Integer.pow(2, 511) + 1, 65_537}
      ]

      for key <- weak do
        answer = X509.certify(context.hsm, context.ca, context.root, key, subject: "/CN=x")
        assert {:error, %Error{reason: :invalid_argument, detail: "public key: " <> _}} = answer
      end
    end

    test "a weak key of the token asks for nothing, and signs none for itself", %{hsm: hsm} do
      template = [curve: :secp192r1, id: <<1, 9, 2>>]

      with {:ok, {_public, private}} <-
             Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, template) do
        for answer <- [
              X509.csr(hsm, private, subject: "/CN=x"),
              X509.self_signed(hsm, private, subject: "/CN=x")
            ] do
          assert {:error, %Error{reason: :invalid_argument, detail: text}} = answer
          assert text =~ "secp192r1 is too weak a curve"
        end
      end
    end

    test "keys that cannot ask are certified for what they can do", context do
      for {curve, arc} <- [x25519: 110, x448: 111] do
        {public, _private} = :crypto.generate_key(:ecdh, curve)
        key = {{:ECPoint, public}, {:namedCurve, {1, 3, 101, arc}}}
        text = show(context, certify(context, key, subject: "/CN=mail"))
        assert text =~ ~r/X509v3 Key Usage: critical\s+Key Agreement\n/
        assert text =~ String.upcase(to_string(curve))

        for opts <- [
              [key_usage: [:digital_signature]],
              [ca: true],
              [extended_key_usage: [:code_signing]]
            ] do
          opts = [subject: "/CN=x"] ++ opts
          answer = X509.certify(context.hsm, context.ca, context.root, key, opts)
          assert {:error, %Error{reason: :invalid_argument, detail: "key_usage: " <> _}} = answer
        end
      end
    end
  end

  describe "key usage" do
    @both "Digital Signature, Key Encipherment"
    @server [extended_key_usage: [:server_auth]]
    @mail [extended_key_usage: [:email_protection]]

    for {key, opts, usage} <- [
          {:rsa, @server, @both},
          {:rsa, [subject_alt_name: "x.test"], @both},
          {:rsa, [subject_alt_name: {:ip, "192.0.2.1"}], @both},
          {:rsa, @mail, @both},
          {:rsa, [], "Digital Signature"},
          {:rsa, [extended_key_usage: [:client_auth]], "Digital Signature"},
          {:rsa, [extended_key_usage: [:code_signing]], "Digital Signature"},
          {:rsa, [extended_key_usage: [:time_stamping]], "Digital Signature"},
          {:rsa, [ca: true] ++ @server, "Certificate Sign, CRL Sign"},
          {:secp384r1, @server, "Digital Signature"},
          {:secp384r1, @mail, "Digital Signature, Key Agreement"},
          {:ed25519, @server, "Digital Signature"},
          {:ed25519, @mail, "Digital Signature"},
          {:ed25519, [ca: true], "Certificate Sign, CRL Sign"}
        ] do
      @tag skip: MainToken.lacks_key(key)
      test "of #{key} for #{inspect(opts)}", context do
        opts = [subject: "/CN=x"] ++ unquote(Macro.escape(opts))
        der = certify(context, context.keys[unquote(key)], opts)
        assert show(context, der) =~ ~r/Key Usage: critical\n +#{unquote(usage)}\n/

        der = X509.self_signed!(context.hsm, context.keys[unquote(key)], opts)
        assert show(context, der) =~ ~r/Key Usage: critical\n +#{unquote(usage)}\n/
      end
    end

    for {key, usage} <- [
          secp384r1: :key_encipherment,
          secp384r1: :data_encipherment,
          rsa: :key_agreement,
          ed25519: :key_agreement,
          ed25519: :key_encipherment
        ] do
      @tag skip: MainToken.lacks_key(key)
      test "#{usage} is not of #{key}", context do
        key = context.keys[unquote(key)]
        opts = [subject: "/CN=x", key_usage: [unquote(usage)]]

        for answer <- [
              X509.csr(context.hsm, key, opts),
              X509.self_signed(context.hsm, key, opts),
              X509.certify(context.hsm, context.ca, context.root, key, opts)
            ] do
          assert {:error, %Error{reason: :invalid_argument, detail: text}} = answer
          assert text =~ "cannot be for #{inspect(unquote(usage))}"
        end
      end
    end
  end

  test "all options are extensions as OpenSSL has them", context do
    opts = [
      subject: "/CN=x",
      ca: true,
      path_len: 3,
      extended_key_usage: {[:server_auth, {1, 2, 3, 4}], critical: true},
      crl_urls: ["http://acme.test/a.crl", "ldap://acme.test/cn=a"],
      ocsp_url: "http://ocsp.acme.test",
      ca_issuers_url: ["http://acme.test/ca.der"],
      policies:
        {[{1, 2, 3, 5}, {{1, 2, 3, 6}, cps: "https://acme.test/cps", notice: "Grüße"}, :any],
         critical: true},
      name_constraints: [
        permitted: [dns: "acme.test", ip: "10.0.0.0/8", ip: "2001:db8::/32", email: ".acme.test"],
        excluded: [uri: "www.acme.test", dir_name: "/C=DE"]
      ]
    ]

    text = show(context, certify(context, context.keys.rsa, opts))

    for part <- [
          ~r/Basic Constraints: critical\n +CA:TRUE, pathlen:3\n/,
          ~r/Extended Key Usage: critical\n +TLS Web Server Authentication, 1.2.3.4\n/,
          ~r/CRL Distribution Points: ?\n +Full Name:\n +URI:http:\/\/acme.test\/a.crl\n? *URI:ldap:/,
          ~r/OCSP - URI:http:\/\/ocsp.acme.test\n +CA Issuers - URI:http:\/\/acme.test\/ca.der\n/,
          ~r/Certificate Policies: critical\n +Policy: 1.2.3.5\n +Policy: 1.2.3.6\n +CPS: https:\/\/acme.test\/cps\n/,
          ~r/Explicit Text: /,
          ~r/Policy: X509v3 Any Policy/,
          ~r/Name Constraints: critical\n +Permitted:\n +DNS:acme.test\n +IP:10.0.0.0\/255.0.0.0\n/,
          ~r/Excluded:\n +URI:www.acme.test\n +DirName:C ?= ?DE/
        ] do
      assert text =~ part
    end

    text =
      show(context, certify(context, context.keys.rsa, subject: "/CN=x", policies: [{1, 2, 3}]))

    assert text =~ ~r/Certificate Policies: ?\n/
    constraints = {[permitted: [dns: ""]], critical: false}

    assert_raise ArgumentError, fn ->
      certify(context, context.keys.rsa, subject: "/CN=x", ca: true, name_constraints: constraints)
    end

    constraints = {[permitted: [dns: "a.test"]], critical: false}

    text =
      show(
        context,
        certify(context, context.keys.rsa,
          subject: "/CN=x",
          ca: true,
          name_constraints: constraints
        )
      )

    assert text =~ ~r/Name Constraints: ?\n/
  end

  test "a self-signed leaf names its own key as its issuer's, and programs take it", context do
    opts = [subject: "/CN=www.acme.test", subject_alt_name: "www.acme.test"]

    for {name, key} <- context.keys do
      der = X509.self_signed!(context.hsm, key, opts)
      text = show(context, der)

      [own] =
        Regex.run(~r/Subject Key Identifier: ?\n +([0-9A-F:]+)/, text, capture: :all_but_first)

      assert text =~ ~r/Authority Key Identifier: ?\n +(keyid:)?#{own}\n/
      Scratch.write(context.directory, "self-#{name}.pem", X509.to_pem(der))

      verify =
        ~w(verify -x509_strict -check_ss_sig -purpose sslserver -verify_hostname www.acme.test)

      self = "self-#{name}.pem"
      assert {_, 0} = openssl(context, verify ++ ["-CAfile", self, self])
    end

    refute show(context, context.root) =~ "Authority Key Identifier"
  end

  describe "programs accept" do
    # A key outside, which the authority certifies.
    defp outside(context, name, opts) do
      {_, 0} =
        openssl(
          context,
          ~w(ecparam -name prime256v1 -genkey -noout -out #{name}.key)
        )

      {pem, 0} = openssl(context, ~w(pkey -in #{name}.key -pubout))
      der = certify(context, pem, [subject: "/C=DE/CN=#{name}"] ++ opts)
      Scratch.write(context.directory, "#{name}.pem", X509.to_pem(der))
      der
    end

    test "stamps of time", context do
      assert show(context, outside(context, "tsa", extended_key_usage: [:time_stamping])) =~
               ~r/Extended Key Usage: critical\n +Time Stamping\n/

      Scratch.write(context.directory, "data", "what was there")
      Scratch.write(context.directory, "serial", "01")

      Scratch.write(context.directory, "tsa.conf", """
      [tsa]
      serial = serial
      default_policy = 1.2.3.4
      signer_digest = sha256
      digests = sha256
      ess_cert_id_alg = sha256
      """)

      assert {_, 0} = openssl(context, ~w(ts -query -data data -sha256 -cert -out query.tsq))

      reply =
        ~w(ts -reply -config tsa.conf -section tsa -queryfile query.tsq -signer tsa.pem -inkey tsa.key -out reply.tsr)

      assert {_, 0} = openssl(context, reply)
      verify = ~w(ts -verify -data data -in reply.tsr -CAfile root.pem)
      assert {text, 0} = openssl(context, verify)
      assert text =~ "Verification: OK"

      # One that says it is for more is none: OpenSSL refuses to sign with it, so it is not made.
      for opts <- [
            [extended_key_usage: [:time_stamping, :server_auth]],
            [extended_key_usage: {[:time_stamping], critical: false}],
            [
              extended_key_usage: [:time_stamping],
              key_usage: [:digital_signature, :key_encipherment]
            ],
            [extended_key_usage: [:time_stamping], key_usage: [:key_encipherment]]
          ] do
        assert_raise ArgumentError, ~r/time_stamping/, fn ->
          certify(context, context.keys.rsa, [subject: "/CN=x"] ++ opts)
        end
      end

      # Authorities say it of those below them.
      opts = [subject: "/CN=x", ca: true, extended_key_usage: [:time_stamping, :code_signing]]

      assert show(context, certify(context, context.keys.rsa, opts)) =~
               ~r/Extended Key Usage: ?\n/
    end

    test "answers of OCSP", context do
      opts = [extended_key_usage: [:ocsp_signing], ocsp_nocheck: true]
      assert show(context, outside(context, "ocsp", opts)) =~ "OCSP No Check"
      leaf = certify(context, context.keys.rsa, subject: "/CN=leaf", serial: 0x1234)
      Scratch.write(context.directory, "leaf.pem", X509.to_pem(leaf))

      Scratch.write(
        context.directory,
        "index.txt",
        "V\t991231235959Z\t\t1234\tunknown\t/CN=leaf\n"
      )

      issuer = ~w(-issuer root.pem)

      assert {_, 0} =
               openssl(
                 context,
                 ~w(ocsp -no_nonce -reqout ocsp.req) ++ issuer ++ ~w(-cert leaf.pem)
               )

      responder = ~w(ocsp -index index.txt -rsigner ocsp.pem -rkey ocsp.key -CA root.pem)

      assert {_, 0} =
               openssl(context, responder ++ ~w(-reqin ocsp.req -respout ocsp.der -ndays 1))

      check = ~w(ocsp -no_nonce -respin ocsp.der -CAfile root.pem) ++ issuer ++ ~w(-cert leaf.pem)
      assert {text, 0} = openssl(context, check)
      assert text =~ "Response verify OK" and text =~ "leaf.pem: good"

      # A certificate for another purpose answers for nobody.
      outside(context, "other", extended_key_usage: [:server_auth])
      responder = ~w(ocsp -index index.txt -rsigner other.pem -rkey other.key -CA root.pem)

      assert {_, 0} =
               openssl(context, responder ++ ~w(-reqin ocsp.req -respout ocsp.der -ndays 1))

      assert {text, _} = openssl(context, check)
      assert text =~ "Response Verify Failure"

      assert_raise ArgumentError, ~r/ocsp_nocheck: is for/, fn ->
        certify(context, context.keys.rsa, subject: "/CN=x", ocsp_nocheck: true)
      end
    end

    test "signed code, servers, clients and mail", context do
      for {purposes, names, purpose} <- [
            {[:code_signing], [], "any"},
            {[:server_auth], ["x.test"], "sslserver"},
            {[:client_auth], [], "sslclient"},
            {[:email_protection], ["a@b.test"], "smimesign"}
          ],
          {name, key} <- context.keys do
        opts = [subject: "/C=DE/CN=x", subject_alt_name: names, extended_key_usage: purposes]
        der = certify(context, key, opts)
        Scratch.write(context.directory, "#{name}.pem", X509.to_pem(der))
        verify = ~w(verify -x509_strict -policy_check -purpose #{purpose} -CAfile root.pem)
        assert {_, 0} = openssl(context, verify ++ ["#{name}.pem"])
        assert {:ok, _} = :public_key.pkix_path_validation(context.root, [der], [])
      end
    end
  end

  test "what does not go together is a mistake, with the near miss", context do
    for {opts, text} <- [
          {[day: 1], "unknown option :day, did you mean :days?"},
          {[crl_url: "http://a.test"], "unknown option :crl_url, did you mean :crl_urls?"},
          {[days: "90"], "days: must be 1 to 3652059, got: \"90\""},
          {[days: 1, days: 2], "days: is given twice"},
          {[not_after: "2030"], "not_after: must be a DateTime"},
          {[serial: -1], "serial: must be a positive number"},
          {[crl_urls: "crl.acme.test"], "crl_urls: \"crl.acme.test\" is no URL"},
          {[crl_urls: "http://a b"], "is no URL"},
          {[ocsp_url: :ocsp], "ocsp_url: must be a URL"},
          {[ca_issuers_url: ["http://ü.test"]], "is no URL"},
          {[policies: ["1.2.3"]], "policies: \"1.2.3\" is no object identifier"},
          {[policies: [{1, 2, 3}, {1, 2, 3}]], "is there twice"},
          {[policies: [{{1, 2, 3}, cps: "x"}]], "cps: \"x\" is no URL"},
          {[policies: [{{1, 2, 3}, note: "x"}]], "there is no qualifier"},
          {[policies: []], "policies: must be a list"},
          {[ca: true, name_constraints: [dns: "a"]], "name_constraints: must be such as"},
          {[ca: true, name_constraints: []], "name_constraints: must be such as"},
          {[ca: true, name_constraints: [permitted: [ip: "10.0.0.1/8"]]], "is no network"},
          {[ca: true, name_constraints: [permitted: [ip: "10.0.0.0/33"]]], "is no network"},
          {[ca: true, name_constraints: [permitted: [dns: "a b"]]], "no name or domain"},
          {[ca: true, name_constraints: [permitted: ["a.test"]]], "is none of"},
          {[name_constraints: [permitted: [dns: "a.test"]]],
           "name_constraints: are for authorities"},
          {[ca: true, key_usage: [:crl_sign], path_len: 0], "path_len: is for those who sign"},
          {[key_usage: [:encipher_only]], ":encipher_only and :decipher_only say more of"},
          {[key_usage: [:key_agreement], extended_key_usage: [:code_signing]],
           ":code_signing needs :digital_signature"},
          {[extended_key_usage: [:server]], "there is no :server"},
          {[extended_key_usage: {[:server_auth], critical: 1}],
           "extended_key_usage: must be a list"},
          {[ocsp_nocheck: :yes], "ocsp_nocheck: must be true or false"},
          {[policies: [{1, 2}], extensions: [{{2, 5, 29, 32}, <<5, 0>>}]],
           "has {2, 5, 29, 32} twice, or"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn ->
        X509.certify(
          :no_such_instance,
          [label: "x"],
          context.root,
          context.ca,
          [subject: "/CN=x"] ++ opts
        )
      end
    end

    for {opts, text} <- [
          {[copy: :dns], "copy: must be true, false, or a list"},
          {[copy: [:emial]], "unknown kind of copy: :emial, did you mean :email?"},
          {[copy: [:dns], subject_alt_name: "a.test"], "copy: is for the names of the request"},
          {[coppy: true], "unknown option :coppy, did you mean :copy?"}
        ],
        call <- [
          &X509.issue(:no_such_instance, [label: "x"], context.root, "", &1),
          &X509.review(:no_such_instance, context.root, "", &1)
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn -> call.(opts) end
    end
  end
end
