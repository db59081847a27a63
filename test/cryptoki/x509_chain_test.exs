defmodule Cryptoki.X509ChainTest do
  use ExUnit.Case, async: true

  # Which certificates are above another, and whether they lead to one that is trusted. `openssl verify` judges the
  # same chains.

  alias Cryptoki.{Certificates, DER, SignatureAlgorithm, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken, OpenSSL, Scratch}
  alias Cryptoki.X509.Chain

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    keys = KeyPairs.make(hsm, [:secp256r1, :secp384r1, :rsa])
    root = X509.self_signed!(hsm, keys.secp256r1, subject: "/CN=root", ca: true)
    context = %{hsm: hsm, keys: keys, root: root}
    between = certify(context, :secp256r1, root, :secp384r1, subject: "/CN=between", ca: true)
    leaf = certify(context, :secp384r1, between, :rsa, subject: "/CN=leaf")
    Map.merge(context, %{between: between, leaf: leaf})
  end

  defp certify(%{hsm: hsm, keys: keys}, by, issuer, key, opts),
    do: X509.certify!(hsm, keys[by], issuer, keys[key], opts)

  # What OpenSSL says of the same.
  defp openssl?(leaf, pool, trusted) do
    Scratch.within("chain", fn directory ->
      files =
        for {name, ders} <- [leaf: [leaf], pool: pool ++ trusted, trusted: trusted],
            do: {name, Scratch.write(directory, "#{name}.pem", X509.to_pem(ders))}

      command = ~w(verify -partial_chain -CAfile #{files[:trusted]} -untrusted #{files[:pool]})
      match?({_, 0}, OpenSSL.openssl(command ++ [files[:leaf]]))
    end)
  end

  test "those above are found in any order, and no others", context do
    %{hsm: hsm, keys: keys, root: root, between: between, leaf: leaf} = context
    # The same names with other keys, and the same keys with other names.
    twin = X509.self_signed!(hsm, keys.rsa, subject: "/CN=between", ca: true)
    namesake = X509.self_signed!(hsm, keys.secp384r1, subject: "/CN=other", ca: true)
    leafy = certify(context, :secp256r1, root, :secp384r1, subject: "/CN=between")
    others = [twin, namesake, leafy, leaf, "none", <<0x30, 0>>]

    for _ <- 1..10 do
      assert Chain.above(leaf, Enum.shuffle([root, between | others])) == [between, root]
      assert Chain.above(between, Enum.shuffle([root, between | others])) == [root]
      assert Chain.above(root, Enum.shuffle([root, between | others])) == []
    end

    assert Chain.above(leaf, [root | others]) == []
    assert Chain.above(leaf, [between | others]) == [between]
  end

  # An authority with two certificates for one key, from two roots: either way may be the one that holds.
  test "of several ways one that holds is enough, in whatever order", context do
    %{hsm: hsm, keys: keys, root: root, between: between, leaf: leaf} = context
    other = X509.self_signed!(hsm, keys.rsa, subject: "/CN=other root", ca: true)
    cross = certify(context, :rsa, other, :secp384r1, subject: "/CN=between", ca: true)
    old = [not_before: ~U[2020-01-01 00:00:00Z], not_after: ~U[2020-01-02 00:00:00Z]]
    long = [not_before: ~U[2019-01-01 00:00:00Z], not_after: ~U[2040-01-01 00:00:00Z]]
    elder = X509.self_signed!(hsm, keys.secp256r1, [subject: "/CN=root", ca: true] ++ long)

    ended =
      certify(context, :secp256r1, elder, :secp384r1, [subject: "/CN=between", ca: true] ++ old)

    for pool <- [[between, cross], [cross, between], [ended, between], [between, ended]],
        trusted <- [[root], [root, other]] do
      assert Chain.trusted(leaf, pool, trusted) == :ok
      # OpenSSL goes one way, which the order of the files decides.
      assert Enum.any?([pool, Enum.reverse(pool)], &openssl?(leaf, &1, trusted))
    end

    for trusted <- [[ended, between], [between, ended]],
        do: assert(Chain.trusted(leaf, [], trusted) == :ok)

    assert Chain.trusted(leaf, [between, cross], [other]) == :ok
    assert {:error, reason} = Chain.trusted(leaf, [ended], [root])
    assert reason =~ "cert_expired"

    # The first leads nowhere from here, or further.
    for pool <- [[cross, between, root], [between, cross, root], [cross, root, between]],
        do: assert(Chain.above(leaf, pool) == [between, root])

    assert Chain.above(leaf, [cross, between]) == [cross]
    assert Chain.above(leaf, [between, cross, other]) == [cross, other]
  end

  test "a root's new key, trusted by what the old one has signed of it", context do
    %{root: root} = context
    rolled = certify(context, :secp256r1, root, :rsa, subject: "/CN=root", ca: true)
    leaf = certify(context, :rsa, rolled, :secp384r1, subject: "/CN=leaf")
    assert [true, false, false] = Enum.map([root, rolled, leaf], &Chain.root?/1)

    for {pool, trusted} <- [{[rolled], [root]}, {[], [rolled]}] do
      assert Chain.trusted(leaf, pool, trusted) == :ok
      assert openssl?(leaf, pool, trusted)
    end

    # Its policies count, as those of a root do not.
    allowed = &[subject: "/CN=root", ca: true, policies: [&1]]
    options = [subject: "/CN=leaf", policies: [{2, 999, 2}]]
    within = certify(context, :secp256r1, root, :rsa, allowed.({2, 999, 1}))
    answer = X509.certify(context.hsm, context.keys.rsa, within, context.keys.secp384r1, options)

    assert {:error, %Cryptoki.Error{reason: :invalid_argument, detail: "policies: " <> _}} =
             answer

    root = X509.self_signed!(context.hsm, context.keys.rsa, allowed.({2, 999, 1}))
    assert <<_::binary>> = certify(context, :rsa, root, :secp384r1, options)
  end

  # By the signature alone.
  test "the same where no certificate says which key it is" do
    directory = Scratch.directory("rollover")
    openssl = &({_, 0} = System.cmd("openssl", &1, cd: directory, stderr_to_stdout: true))
    none = "subjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n"
    File.write!(Path.join(directory, "ca"), "basicConstraints=critical,CA:TRUE\n" <> none)
    ec = ~w(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=root)
    for name <- ~w(old new), do: openssl.(~w(req -keyout #{name}.key -out #{name}.csr) ++ ec)

    issue = fn name, by, out ->
      openssl.(~w(x509 -req -days 2 -extfile ca -in #{name}.csr -out #{out}) ++ by)
      [{:Certificate, der, _}] = :public_key.pem_decode(File.read!(Path.join(directory, out)))
      der
    end

    root = issue.("old", ~w(-signkey old.key), "root.pem")
    rolled = issue.("new", ~w(-CA root.pem -CAkey old.key -CAcreateserial), "rolled.pem")
    new = issue.("new", ~w(-signkey new.key), "new.pem")
    assert [true, false, true] = Enum.map([root, rolled, new], &Chain.root?/1)
  end

  # Qualified authorities have such certificates. OTP verifies them from release 29 on.
  test "certificates signed with PSS, by keys for both and for PSS alone", context do
    directory = Scratch.directory("pss")
    openssl = &({_, 0} = System.cmd("openssl", &1, cd: directory, stderr_to_stdout: true))
    pss = ~w(-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32)

    der = fn name ->
      [{:Certificate, der, _}] = :public_key.pem_decode(File.read!(Path.join(directory, name)))
      der
    end

    File.write!(Path.join(directory, "ca"), "basicConstraints=critical,CA:TRUE\n")
    File.write!(Path.join(directory, "no-ca"), "basicConstraints=critical,CA:FALSE\n")

    for {name, algorithm} <- [root: "RSA", alone: "RSA-PSS", between: "RSA-PSS", leaf: "RSA"] do
      bits = ~w(-pkeyopt rsa_keygen_bits:2048)
      openssl.(~w(genpkey -algorithm #{algorithm} -out #{name}.key) ++ bits)
      openssl.(~w(req -new -key #{name}.key -subj /CN=#{name} -out #{name}.csr) ++ pss)
    end

    issue = fn name, by, extensions, out ->
      sign = ~w(x509 -req -in #{name}.csr -CA #{by}.pem -CAkey #{by}.key -CAcreateserial -days 2)
      openssl.(sign ++ ~w(-extfile #{extensions} -out #{out}) ++ pss)
      der.(out)
    end

    for name <- ~w(root alone) do
      openssl.(~w(req -x509 -key #{name}.key -subj /CN=#{name} -days 2 -out #{name}.pem) ++ pss)
      root = der.("#{name}.pem")
      between = issue.("between", name, "ca", "between.pem")
      leaf = issue.("leaf", "between", "no-ca", "leaf.pem")
      straight = issue.("leaf", name, "no-ca", "straight.pem")

      assert Chain.trusted(straight, [], [root]) == :ok
      assert Chain.trusted(leaf, [between], [root]) == :ok
      assert Chain.trusted(leaf, [], [between]) == :ok
      assert openssl?(leaf, [between], [root])

      # Another root with that name, a signature that was changed, an issuer that is no authority.
      assert {:error, _} = Chain.trusted(leaf, [between], [context.root])
      head = binary_part(leaf, 0, byte_size(leaf) - 1)
      changed = head <> <<Bitwise.bxor(:binary.last(leaf), 1)>>
      assert {:error, _} = Chain.trusted(changed, [between], [root])
      refute openssl?(changed, [between], [root])

      none = issue.("between", name, "no-ca", "between.pem")
      assert {:error, _} = Chain.trusted(leaf, [none], [root])
      refute openssl?(leaf, [none], [root])
    end
  end

  test "a signature that is not believed is why nobody has issued it" do
    directory = Scratch.directory("broken")
    openssl = &({_, 0} = System.cmd("openssl", &1, cd: directory, stderr_to_stdout: true))

    der = fn name ->
      [{:Certificate, der, _}] = :public_key.pem_decode(File.read!(Path.join(directory, name)))
      der
    end

    for name <- ~w(root twin) do
      openssl.(
        ~w(req -x509 -newkey rsa:2048 -nodes -keyout #{name}.key -subj /CN=root -days 2 -out #{name}.pem)
      )
    end

    openssl.(~w(req -new -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=leaf -out leaf.csr))
    sign = ~w(x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2)
    openssl.(sign ++ ~w(-sha1 -out broken.pem))
    openssl.(sign ++ ~w(-sha256 -out leaf.pem))

    nobody = "no certificate that is trusted has issued it, or those above it"
    assert {:error, text} = Chain.trusted(der.("broken.pem"), [], [der.("root.pem")])
    assert text == nobody <> ": it is signed with sha1_rsa_pkcs, and that hash is broken"
    assert {:error, text} = Chain.trusted(der.("leaf.pem"), [], [der.("twin.pem")])
    assert String.starts_with?(text, nobody)
    assert Chain.trusted(der.("leaf.pem"), [], [der.("leaf.pem"), der.("root.pem")]) == :ok
    assert Chain.trusted(der.("root.pem"), [], [der.("leaf.pem")]) == {:error, nobody}
  end

  # Who sends certificates may have each issue all others: so many ways that nobody goes through them.
  test "what leads round and round ends", context do
    %{hsm: hsm, keys: keys, leaf: leaf} = context

    pool =
      for n <- 1..40 do
        opts = [subject: "/CN=between", ca: true, serial: n]
        X509.self_signed!(hsm, keys.secp384r1, opts)
      end

    crossed =
      for n <- 1..40 do
        [subject: "/CN=round", ca: true, serial: n]
        |> then(&certify(context, :secp384r1, hd(pool), :secp384r1, &1))
      end

    back =
      for {one, n} <- Enum.with_index(crossed, 100) do
        certify(context, :secp384r1, one, :secp384r1, subject: "/CN=between", ca: true, serial: n)
      end

    assert {:error, "no certificate" <> _} = Chain.trusted(leaf, crossed ++ back, [context.root])
    assert is_list(Chain.above(leaf, crossed ++ back))
  end

  # The name of another, and the identifier of its key: only the signature tells.
  test "an identifier is what anybody can write", context do
    %{hsm: hsm, keys: keys, root: root, between: between, leaf: leaf} = context
    {:ok, fields} = X509.Fields.read(between)
    public = Cryptoki.public_key!(hsm, keys.rsa)
    {:ok, algorithm} = SignatureAlgorithm.choose(public, [])
    identifier = X509.certificate!(between).subject_key_identifier
    info = X509.Extensions.public_key_info(public)
    {:ok, period} = X509.Certificate.validity(fields.validity)
    authority = {{2, 5, 29, 19}, true, DER.sequence([DER.boolean(true)])}
    extensions = [authority, X509.Extensions.subject_key_identifier(identifier)]
    holder = %{subject: fields.subject, info: info, names: []}
    content = %{holder: holder, valid: period, extensions: extensions}
    signed = X509.Certificate.to_be_signed(content, fields.subject, algorithm.identifier, 1)
    {:ok, forged} = Certificates.signed(hsm, keys.rsa, public, algorithm, signed, [])
    assert X509.certificate!(forged).subject_key_identifier == identifier

    assert Chain.above(leaf, [forged, between, root]) == [between, root]
    assert Chain.above(leaf, [forged]) == []
    assert {:error, "no certificate" <> _} = Chain.trusted(leaf, [], [forged])
  end

  test "what leads to a trusted one is as OpenSSL has it", context do
    %{hsm: hsm, keys: keys, root: root, between: between, leaf: leaf} = context
    twin = X509.self_signed!(hsm, keys.rsa, subject: "/CN=root", ca: true)
    # Signed by a key that an authority does not know, and by one that is no authority.
    below =
      certify(
        context,
        :rsa,
        X509.self_signed!(hsm, keys.rsa, subject: "/CN=leaf", ca: true),
        :rsa,
        subject: "/CN=below"
      )

    for {leaf, pool, trusted, wanted} <- [
          {leaf, [between], [root], true},
          {leaf, [between, root], [root], true},
          {leaf, [], [between], true},
          {leaf, [twin, between], [twin, root], true},
          {between, [], [root], true},
          {leaf, [], [root], false},
          {leaf, [between], [twin], false},
          {leaf, [between, root], [twin], false},
          {below, [leaf, between], [root], false},
          {below, [], [leaf], false}
        ] do
      assert Chain.trusted(leaf, pool, trusted) == :ok == wanted
      assert openssl?(leaf, pool, trusted) == wanted
    end

    assert Chain.trusted(leaf, [], [leaf]) == :ok
  end

  test "what has ended, may not have issued, or does not permit the name leads nowhere",
       context do
    %{root: root, leaf: leaf, between: between} = context
    old = [not_before: ~U[2020-01-01 00:00:00Z], not_after: ~U[2020-01-02 00:00:00Z]]
    long = [not_before: ~U[2019-01-01 00:00:00Z], not_after: ~U[2040-01-01 00:00:00Z]]

    below =
      &certify(context, :secp256r1, &1, :secp384r1, [subject: "/CN=between", ca: true] ++ &2)

    self =
      &X509.self_signed!(
        context.hsm,
        context.keys.secp256r1,
        [subject: "/CN=root", ca: true] ++ &1
      )

    elder = self.(long)
    ended = below.(elder, old)
    # What these do not allow is signed with a twin that does.
    short = self.(path_len: 0)
    narrow = self.(name_constraints: [permitted: [dir_name: "/C=DE"]])

    for {leaf, pool, trusted, text} <- [
          {leaf, [ended], [elder], "cert_expired"},
          {leaf, [], [ended], "cert_expired|does not hold now"},
          {leaf, [between], [self.(old)], "cert_expired"},
          {leaf, [between], [short], "path_length"},
          {leaf, [between], [narrow], "name_not_permitted"}
        ] do
      assert {^text, {:error, reason}} = {text, Chain.trusted(leaf, pool, trusted)}
      assert reason =~ ~r/#{text}/
      refute openssl?(leaf, pool, trusted)
    end

    assert {:error, text} = Chain.trusted(leaf, [between], [])
    assert text =~ "no certificate that is trusted"
    assert Chain.trusted(leaf, [between], [root]) == :ok
    assert {:error, "the trusted one does not hold now"} = Chain.trusted(ended, [], [ended])
  end

  test "many that all have issued each other are gone through once", %{
    hsm: hsm,
    keys: keys,
    root: root
  } do
    many =
      for serial <- 1..30,
          do: X509.self_signed!(hsm, keys.rsa, subject: "/CN=x", ca: true, serial: serial)

    {:reductions, before} = Process.info(self(), :reductions)
    assert {:error, _} = Chain.trusted(hd(many), many, [root])
    assert length(Chain.above(hd(many), many)) <= 30
    {:reductions, now} = Process.info(self(), :reductions)
    assert now - before < 50_000_000
  end
end
