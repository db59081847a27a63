defmodule Cryptoki.X509AuthorityTest do
  use ExUnit.Case, async: true

  # An authority signs for itself only, and for whom its own certificate lets it. OpenSSL judges what it
  # must not sign, made by a twin of the authority: the same name and key, and a certificate that allows all.

  alias Cryptoki.{DER, Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Parts, Scratch}
  alias Cryptoki.X509.RevocationList

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:secp256r1, :secp384r1])
    %{hsm: hsm, ca: keys.secp256r1, key: keys.secp384r1}
  end

  defp authority(%{hsm: hsm, ca: ca}, opts \\ []),
    do:
      X509.self_signed!(
        hsm,
        ca,
        Keyword.merge([subject: "/C=DE/O=Acme/CN=Acme CA", ca: true], opts)
      )

  defp refused({:error, %Error{reason: :invalid_argument, detail: detail}}), do: detail

  describe "who is no authority signs nothing:" do
    # What is wrong, what makes it so, and the sentences of a certificate and of a list.
    @none "not that of an authority"
    @old [not_before: ~U[2020-01-01 00:00:00Z], not_after: ~U[2020-02-01 00:00:00Z]]
    @strange {{1, 3, 6, 1, 4, 1, 99_999, 7}, <<5, 0>>, critical: true}

    for {name, opts, issues, lists} <- [
          {"a leaf", [ca: false], @none, @none},
          {"a leaf whose key may sign lists",
           [ca: false, key_usage: [:digital_signature, :crl_sign]], @none, @none},
          {"an authority for lists only", [key_usage: [:crl_sign]], @none, nil},
          {"an authority for certificates only", [key_usage: [:key_cert_sign]], nil, "crl_sign"},
          {"one that has ended", @old, "has ended, at 2020-02-01", "has ended, at 2020-02-01"},
          {"one with a critical extension that nobody knows", [extensions: [@strange]],
           "1.3.6.1.4.1.99999.7", "1.3.6.1.4.1.99999.7"}
        ] do
      test name, context do
        issuer = authority(context, unquote(Macro.escape(opts)))
        csr = X509.csr!(context.hsm, context.key, subject: "/CN=leaf")

        for {answer, text} <- [
              {X509.issue(context.hsm, context.ca, issuer, csr), unquote(issues)},
              {X509.review(context.hsm, issuer, csr), unquote(issues)},
              {X509.certify(context.hsm, context.ca, issuer, context.key, subject: "/CN=leaf"),
               unquote(issues)},
              {X509.crl(context.hsm, context.ca, issuer, []), unquote(lists)}
            ] do
          if text, do: assert(refused(answer) =~ text), else: assert({:ok, _} = answer)
        end
      end
    end

    test "one without a name", %{hsm: hsm, ca: ca} = context do
      {:ok, [{0x30, whole, _}]} = Parts.split(authority(context))
      {:ok, [{0x30, signed, _} | rest]} = Parts.split(whole)
      {:ok, fields} = Parts.split(signed)
      fields = fields |> Enum.map(&elem(&1, 2)) |> List.replace_at(5, DER.sequence([]))
      nameless = DER.sequence([DER.sequence(fields) | Enum.map(rest, &elem(&1, 2))])
      csr = X509.csr!(hsm, context.key, subject: "/CN=leaf")
      assert refused(X509.issue(hsm, ca, nameless, csr)) =~ "no subject"
      assert refused(X509.crl(hsm, ca, nameless, [])) =~ "no subject"
    end
  end

  describe "name constraints" do
    @permitted [
      permitted: [
        {:dns, "acme.test"},
        {:email, "acme.test"},
        {:email, ".mail.acme.test"},
        {:email, "Boss@other.test"},
        {:uri, ".acme.test"},
        {:ip, "10.0.0.0/8"},
        {:ip, "2001:db8::/32"},
        {:dir_name, "/C=DE/O=Acme"}
      ],
      excluded: [
        {:dns, "secret.acme.test"},
        {:ip, "10.9.0.0/16"},
        {:dir_name, "/C=DE/O=Acme/OU=Board"}
      ]
    ]

    @acme "/C=DE/O=Acme/CN=x"
    @cases [
      {@acme, ["acme.test"]},
      {@acme, ["www.Acme.TEST"]},
      {@acme, ["*.www.acme.test"]},
      {@acme, ["notacme.test"]},
      {@acme, ["acme.test.evil.test"]},
      {@acme, ["secret.acme.test"]},
      {@acme, ["very.secret.acme.test"]},
      {@acme, ["topsecret.acme.test"]},
      {@acme, ["www.acme.test", "evil.test"]},
      {@acme, [email: "a@acme.test"]},
      {@acme, [email: "a@ACME.test"]},
      {@acme, [email: "a@www.acme.test"]},
      {@acme, [email: "a@x.mail.acme.test"]},
      {@acme, [email: "a@mail.acme.test"]},
      {@acme, [email: "Boss@other.test"]},
      {@acme, [email: "boss@other.test"]},
      {@acme, [uri: "https://www.acme.test/x"]},
      {@acme, [uri: "https://www.acme.test:8443"]},
      {@acme, [uri: "https://acme.test/x"]},
      {@acme, [uri: "https://evil.test/.acme.test"]},
      {@acme, [uri: "urn:isbn:0451450523"]},
      {@acme, [uri: "https://10.0.0.1/"]},
      {@acme, [ip: "10.1.2.3"]},
      {@acme, [ip: "11.1.2.3"]},
      {@acme, [ip: "10.9.2.3"]},
      {@acme, [ip: "2001:db8::1"]},
      {@acme, [ip: "2001:db9::1"]},
      {"/C=DE/O=acme/CN=x", []},
      {"/C=DE/O=Acme", []},
      {"/C=DE/O=ACME  /CN=x", []},
      {"/C=DE/CN=x/O=Acme", []},
      {"/C=DE/O=Other/CN=x", []},
      {"/C=DE/O=Acme/OU=Board/CN=x", []},
      {"/C=DE/O=Acme/CN=evil.test", []},
      {"/C=DE/O=Acme/CN=www.acme.test", []},
      {"/C=DE/O=Acme/CN=evil.test", ["www.acme.test"]},
      {"/C=DE/O=Acme/CN=evil", []},
      {"/C=DE/O=Acme/emailAddress=a@evil.test", []},
      {"/C=DE/O=Acme/emailAddress=a@acme.test", []}
    ]

    test "hold for all names of a certificate, as OpenSSL sees it", context do
      %{hsm: hsm, ca: ca, key: key} = context
      twin = authority(context, subject: "/C=DE/O=Acme/CN=CA")
      # The authority is not its own subject.
      constrained =
        authority(context, subject: "/C=DE/O=Acme/CN=CA", name_constraints: @permitted)

      Scratch.within("authority", fn directory ->
        root = Scratch.write(directory, "root.pem", X509.to_pem(constrained))

        answers =
          for {subject, names} <- @cases do
            opts = [subject: subject, subject_alt_name: names]
            leaf = X509.certify!(hsm, ca, twin, key, opts)
            file = Scratch.write(directory, "leaf.pem", X509.to_pem(leaf))
            {text, status} = OpenSSL.openssl(~w(verify -x509_strict -CAfile #{root} #{file}))

            case X509.certify(hsm, ca, constrained, key, opts) do
              {:ok, _der} ->
                assert status == 0, "#{inspect(opts)}: #{text}"
                :ok

              error ->
                assert refused(error) =~ "name constraints"
                assert status != 0, "#{inspect(opts)} is refused, and OpenSSL takes it"
                :refused
            end
          end

        assert Enum.count(answers, &(&1 == :ok)) == 19
      end)
    end

    # OpenSSL takes these: a wildcard that covers an excluded host, a host that ends with a question mark.
    test "hold for what a name stands for, and for kinds that are not understood", context do
      %{hsm: hsm, ca: ca, key: key} = context
      constrained = authority(context, name_constraints: [excluded: [dns: "secret.acme.test"]])
      certify = &X509.certify(hsm, ca, constrained, key, subject: "/CN=x", subject_alt_name: &1)
      assert refused(certify.("*.acme.test")) =~ "exclude"
      assert {:ok, _} = certify.("*.www.acme.test")

      permitted = authority(context, name_constraints: [permitted: [uri: ".acme.test"]])
      uri = [uri: "https://evil.test?x.acme.test"]
      opts = [subject: "/CN=x", subject_alt_name: uri]
      assert refused(X509.certify(hsm, ca, permitted, key, opts)) =~ "do not permit"

      # The name stands in the sentence as it was given.
      constraints = [permitted: [ip: "10.0.0.0/8", ip: "2001:db8::/32"]]
      permitted = authority(context, name_constraints: constraints)

      for address <- ["192.0.2.1", "2001:db9::1"] do
        opts = [subject: "/CN=x", subject_alt_name: address]
        text = refused(X509.certify(hsm, ca, permitted, key, opts))
        assert text == ~s(the issuer's name constraints do not permit {:ip, "#{address}"})
      end

      # registeredID 1.2.3, with which nothing begins here.
      rid = DER.sequence([DER.value(0xA1, DER.sequence([DER.value(0x88, <<42, 3>>)]))])
      strange = authority(context, extensions: [{{2, 5, 29, 30}, rid, critical: true}])
      assert {:ok, _} = X509.certify(hsm, ca, strange, key, subject: "/CN=x")

      # A maximum, which nobody may write.
      subtree = DER.sequence([DER.value(0x82, "acme.test"), DER.value(0x81, <<1>>)])
      strange = DER.sequence([DER.value(0xA0, subtree)])
      strange = authority(context, extensions: [{{2, 5, 29, 30}, strange, critical: true}])
      assert refused(X509.certify(hsm, ca, strange, key, subject: "/CN=x")) =~ "cannot be read"
    end
  end

  test "purposes that the issuer is not for are refused, as OpenSSL does", context do
    %{hsm: hsm, ca: ca, key: key} = context
    only_clients = authority(context, extended_key_usage: [:client_auth])
    twin = authority(context)

    for {purposes, purpose, ok?} <- [
          {[:client_auth], "sslclient", true},
          {[:server_auth], "sslserver", false},
          {[:server_auth, :client_auth], "sslserver", false}
        ] do
      opts = [subject: "/CN=x", subject_alt_name: "x.test", extended_key_usage: purposes]
      leaf = X509.certify!(hsm, ca, twin, key, opts)
      assert verified?(only_clients, leaf, ~w(-purpose #{purpose})) == ok?

      case X509.certify(hsm, ca, only_clients, key, opts) do
        {:ok, _der} -> assert ok?
        error -> assert refused(error) =~ ":server_auth" and not ok?
      end
    end

    # An authority below it, and any purpose, are more than it has.
    opts = [subject: "/CN=x", ca: true, path_len: 0]
    assert {:ok, _} = X509.certify(hsm, ca, only_clients, key, opts)
    opts = opts ++ [extended_key_usage: [:any]]
    assert refused(X509.certify(hsm, ca, only_clients, key, opts)) =~ ":any"
    any = authority(context, extended_key_usage: [:any])
    assert {:ok, _} = X509.certify(hsm, ca, any, key, opts)
    # Those who answer for it need not be for what it is.
    opts = [subject: "/CN=x", extended_key_usage: [:ocsp_signing]]
    assert {:ok, _} = X509.certify(hsm, ca, only_clients, key, opts)
  end

  test "policies that the issuer has not are refused, as OpenSSL does", context do
    %{hsm: hsm, ca: ca, key: key} = context
    {one, other, below} = {{1, 2, 3, 1}, {1, 2, 3, 2}, {1, 2, 3, 3}}
    twin = X509.certify!(hsm, ca, authority(context), ca, subject: "/CN=between", ca: true)

    between =
      &X509.certify!(hsm, ca, authority(context), ca, [subject: "/CN=between", ca: true] ++ &1)

    constraints = &{{2, 5, 29, 36}, DER.sequence([DER.value(0x80, <<&1>>)]), critical: true}
    inhibited = {{2, 5, 29, 54}, DER.integer(0), critical: true}

    mapped =
      {{2, 5, 29, 33}, DER.sequence([DER.sequence([DER.oid(one), DER.oid(below)])]),
       critical: true}

    for {opts, policies, ok?} <- [
          {[policies: [one]], [one], true},
          {[policies: [one]], [other], false},
          {[policies: [one, other]], [other], true},
          {[policies: [:any]], [other], true},
          {[policies: [one], extensions: [mapped]], [below], true},
          {[policies: [one], extensions: [mapped]], [one], false},
          {[policies: [one], extensions: [constraints.(0)]], nil, false},
          {[policies: [one], extensions: [constraints.(1)]], nil, false},
          {[policies: [one], extensions: [constraints.(2)]], nil, true},
          {[policies: [:any], extensions: [inhibited]], [:any], false}
        ] do
      issuer = between.(opts)
      leaf = if policies, do: [policies: policies], else: []
      answer = X509.certify(hsm, ca, issuer, key, [subject: "/CN=x"] ++ leaf)
      forced = X509.certify!(hsm, ca, twin, key, [subject: "/CN=x"] ++ leaf)
      # Who verifies asks for one by the name that it has above.
      wanted = if policies == [below], do: one, else: policies && hd(policies)
      wanted = if is_tuple(wanted), do: ~w(-policy #{dots(wanted)}), else: []
      explicit = if policies, do: ~w(-explicit_policy), else: []
      flags = ~w(-policy_check) ++ wanted ++ explicit

      assert verified?(authority(context), forced, flags, issuer) == ok?,
             inspect({opts, policies})

      if ok?,
        do: assert({:ok, _} = answer),
        else: assert(refused(answer) =~ "policies: the issuer's certificate")
    end
  end

  test "policies that cannot be read are refused", %{hsm: hsm, ca: ca, key: key} = context do
    root = authority(context)
    one = DER.sequence([DER.oid({1, 2, 3})])

    for {arc, der} <- [
          {32, DER.sequence([DER.oid({1, 2, 3})])},
          {32, DER.sequence([DER.sequence([])])},
          {33, DER.sequence([one])},
          {36, DER.sequence([DER.value(0x80, "")])},
          {36, DER.sequence([DER.value(0x80, <<255>>)])},
          {54, DER.integer(-1)},
          {54, DER.boolean(true)}
        ] do
      own = [
        subject: "/CN=between",
        ca: true,
        extensions: [{{2, 5, 29, arc}, der, critical: true}]
      ]

      between = X509.certify!(hsm, ca, root, ca, own)
      answer = X509.certify(hsm, ca, between, key, subject: "/CN=x", policies: [{1, 2, 3}])
      assert refused(answer) =~ "policies that cannot be read", inspect({arc, der})
    end
  end

  test "a certificate begins with its issuer's, unless it is said", context do
    %{hsm: hsm, ca: ca, key: key} = context
    later = DateTime.utc_now() |> DateTime.add(86_400, :second) |> DateTime.truncate(:second)
    issuer = authority(context, not_before: later)
    der = X509.certify!(hsm, ca, issuer, key, subject: "/CN=x")
    assert %{not_before: ^later} = X509.certificate!(der)

    csr = X509.csr!(hsm, key, subject: "/CN=x")
    opts = [not_before: DateTime.utc_now(), days: 30]
    assert {:ok, %{warnings: [begins_early: text]}} = X509.review(hsm, issuer, csr, opts)
    assert text =~ to_string(later)
    ends = DateTime.add(later, -60, :second)

    assert refused(X509.certify(hsm, ca, issuer, key, subject: "/CN=x", not_after: ends)) =~
             "begins after"
  end

  describe "a list of what is revoked" do
    test "has no certificates of others, whom it names", %{hsm: hsm, ca: ca} = context do
      own = authority(context)
      # Another way to write the same name is the same issuer.
      twin = authority(context, subject: "/C=DE/O=ACME/CN=acme  CA")
      other = X509.self_signed!(hsm, ca, subject: "/CN=other", ca: true)
      issued = &X509.certify!(hsm, ca, &1, context.key, subject: "/CN=x", serial: &2)
      at = DateTime.utc_now()

      assert {:ok, _} = X509.crl(hsm, ca, own, [issued.(own, 5), {issued.(twin, 6), at}, 7])

      for revoked <- [
            [issued.(other, 0x1F)],
            [{issued.(other, 0x1F), at}],
            [5, {X509.to_pem(issued.(other, 0x1F)), at, :superseded}]
          ] do
        text = refused(X509.crl(hsm, ca, own, revoked))
        assert text =~ ~s(serial number 0x1F is of another issuer, "/CN=other")
      end
    end

    test "has a number that grows, however close two are", %{hsm: hsm, ca: ca} = context do
      numbers = for _ <- 1..2_000, do: elem(RevocationList.new([], []), 1).number
      assert numbers == Enum.sort(Enum.uniq(numbers))
      # More than lists had before, and no more bytes than a number may have.
      assert hd(numbers) > System.os_time(:second) and List.last(numbers) < Integer.pow(2, 127)

      at_once =
        1..8
        |> Task.async_stream(fn _ ->
          for _ <- 1..500, do: elem(RevocationList.new([], []), 1).number
        end)
        |> Enum.flat_map(&elem(&1, 1))

      assert length(Enum.uniq(at_once)) == 4_000

      [one, other] = for _ <- 1..2, do: number(X509.crl!(hsm, ca, authority(context), []))
      assert one < other
      # In another life of the VM, which counts from the start again.
      count = "<<n::128>> = <<System.system_time(:nanosecond)::64, 1::64>>; IO.write(n)"
      {text, 0} = System.cmd("elixir", ["-e", count])
      assert String.to_integer(text) > other
    end

    test "is of now, and what is on it was revoked before", %{hsm: hsm, ca: ca} = context do
      root = authority(context)
      day = fn days -> DateTime.add(DateTime.utc_now(), days * 86_400, :second) end

      for {revoked, opts, text} <- [
            {[], [this_update: day.(-9)], "days: ended at"},
            {[], [this_update: day.(-9), next_update: day.(-1)], "next_update: ended at"},
            {[{1, day.(1)}], [], "is later than now"},
            {[{1, day.(2), :superseded}], [this_update: day.(1)],
             "is later than now, and than this"}
          ] do
        assert_raise ArgumentError, ~r/#{text}/, fn -> X509.crl(hsm, ca, root, revoked, opts) end
      end

      # What lies in a file as a certificate and is none is no mistake of the program.
      for none <- ["no certificate", <<0x30, 0>>, root <> <<0>>] do
        assert {:error, %Error{reason: :invalid_argument, detail: "revoked" <> _}} =
                 X509.crl(hsm, ca, root, [none])
      end

      # Made before and after its time; the time of an entry that has none is not after the list's.
      assert {:ok, _} = X509.crl(hsm, ca, root, [1, {2, day.(0)}], this_update: day.(-1))
      assert {:ok, _} = X509.crl(hsm, ca, root, [1, {2, day.(0)}], this_update: day.(5))

      early =
        X509.crl!(hsm, ca, root, [1], this_update: ~U[2026-01-02 03:04:05Z], next_update: day.(1))

      Scratch.within("authority", fn directory ->
        file = Scratch.write(directory, "crl", early)
        {text, 0} = OpenSSL.openssl(~w(crl -inform DER -noout -text -in #{file}))
        assert text =~ "Revocation Date: Jan  2 03:04:05 2026 GMT"
      end)
    end

    test "says where it is found, as certificates do", %{hsm: hsm, ca: ca} = context do
      root = authority(context)
      urls = ["http://crl.acme.test/ca.crl", "ldap://ldap.acme.test/cn=ca"]
      csr = X509.csr!(hsm, context.key, subject: "/CN=x")

      for {mine, its, ok?} <- [
            {urls, urls, true},
            {hd(urls), urls, true},
            {"http://other.test/x", urls, false},
            {[], urls, true}
          ] do
        leaf = X509.issue!(hsm, ca, root, csr, crl_urls: mine)

        list =
          X509.crl!(hsm, ca, root, [], crl_urls: its, ca_issuers_url: "http://acme.test/ca.der")

        # A list with its place in it is for those that say so.
        ok? = ok? and mine != []

        Scratch.within("authority", fn directory ->
          crl = Scratch.write(directory, "crl.pem", X509.to_pem(list))
          assert verified?(root, leaf, ~w(-crl_check -CRLfile #{crl})) == ok?
          {text, 0} = OpenSSL.openssl(~w(crl -noout -text -in #{crl}))
          assert text =~ ~r/Issuing Distribution Point: critical\s+Full Name:\s+URI:#{hd(urls)}/
          assert text =~ "CA Issuers - URI:http://acme.test/ca.der"
        end)
      end
    end
  end

  defp number(list) do
    Scratch.within("authority", fn directory ->
      file = Scratch.write(directory, "crl", list)
      {text, 0} = OpenSSL.openssl(~w(crl -inform DER -noout -crlnumber -in #{file}))
      "crlNumber=" <> hexadecimal = String.trim(text)
      hexadecimal |> String.replace_prefix("0x", "") |> String.to_integer(16)
    end)
  end

  defp verified?(root, leaf, arguments, between \\ nil) do
    Scratch.within("authority", fn directory ->
      root = Scratch.write(directory, "root.pem", X509.to_pem(root))
      leaf = Scratch.write(directory, "leaf.pem", X509.to_pem(leaf))
      chain = if between, do: Scratch.write(directory, "between.pem", X509.to_pem(between))
      chain = if chain, do: ~w(-untrusted #{chain}), else: []
      verify = ~w(verify -x509_strict -CAfile #{root}) ++ chain ++ arguments ++ [leaf]
      elem(OpenSSL.openssl(verify), 1) == 0
    end)
  end

  defp dots(oid), do: Enum.join(Tuple.to_list(oid), ".")
end
