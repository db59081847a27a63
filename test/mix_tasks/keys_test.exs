defmodule Cryptoki.MixTasks.KeysTest do
  # Keys, certificates and other objects by the Mix tasks: made, taken in, looked at, destroyed. OpenSSL and OpenSC's
  # pkcs11-tool judge.
  use ExUnit.Case, async: true

  import Cryptoki.Test.MixTasks, except: [run: 3]

  alias Cryptoki.PEM
  alias Cryptoki.Test.{MixTasks, SoftHSM, Terminal}

  @token "pkcs11:token=payments"

  setup_all do
    context = MixTasks.new(~w[payments])
    {_, 0, _} = mix(context, ["keygen", @token <> ";object=invoice;id=%01", "-t", "ec"])
    context
  end

  test "public_key writes what OpenSSL reads, and pkcs11-tool finds on the token", context do
    out = file(context, "invoice.pub")
    key = @token <> ";object=invoice"
    assert {"", 0, ""} = mix(context, ["public_key", key, "--out", out])
    assert {text, 0} = openssl(context, ~w[pkey -pubin -in #{out} -noout -text])
    assert text =~ "NIST CURVE: P-256"

    assert {der, 0, ""} = mix(context, ["public_key", key <> ";type=public", "--der", "--public"])
    [{:SubjectPublicKeyInfo, ^der, _}] = :public_key.pem_decode(File.read!(out))

    assert {^der, 0} = pkcs11_tool(context, "payments", ~w[--read-object --type pubkey --id 01])
  end

  test "keygen writes the public key: in place of the URIs, or beside them into a file",
       context do
    key = @token <> ";object=pem"
    assert {pem, 0, ""} = mix(context, ["keygen", key, "-t", "ec", "--pem"])
    assert {^pem, 0, ""} = mix(context, ["public_key", key])

    out = file(context, "beside.pub")
    key = @token <> ";object=beside;id=%02"
    assert {uris, 0, ""} = mix(context, ["keygen", key, "-t", "ec", "--out", out])
    assert [_private, _public] = String.split(uris, "\n", trim: true)
    assert {pem, 0, ""} = mix(context, ["public_key", key])
    assert File.read!(out) == pem

    # The key is there, whatever became of the file.
    key = @token <> ";object=lost;id=%04"
    made = ["keygen", key, "-t", "ec", "-a", "extractable=true", "--out", "/nonexistent/key.pub"]
    assert {uris, 2, said} = mix(context, made)
    assert said == "/nonexistent/key.pub cannot be written: no such file or directory\n"
    assert [private, _public] = String.split(uris, "\n", trim: true)
    assert {"extractable  true\n", 0, ""} = mix(context, ["attributes", private, "extractable"])
  end

  test "attributes shows, changes, and never has the value of a key", context do
    key = @token <> ";object=changed"
    assert {_, 0, _} = mix(context, ["keygen", key, "-t", "aes", "-b", "128"])

    assert {"value  attribute_sensitive\n", 1, said} = mix(context, ["attributes", key, "value"])
    assert said == "nothing of it can be read\n"

    assert {"value  attribute_sensitive\nlabel  changed\n", 0, ""} =
             mix(context, ["attributes", key, "value", "label"])

    assert {"", 1, "value: attribute_sensitive\n"} =
             mix(context, ["attributes", key, "value", "--raw"])

    change = ["--set", "label=12", "--set", "id=0x0aff"]
    assert {"", 0, ""} = mix(context, ["attributes", key | change])
    assert {text, 0, ""} = mix(context, ["attributes", @token <> ";object=12"])
    assert text =~ ~r/^type +aes 128$/m
    assert text =~ ~r/^id +0aff$/m

    assert {listed, 0} =
             pkcs11_tool(context, "payments", ~w[--list-objects --login --pin #{SoftHSM.pin()}])

    assert listed =~ ~r/label: +12\n +ID: +(2815 \(0x)?0a:?ff/

    assert {"", 3, said} = mix(context, ["attributes", key])
    assert said =~ "nothing matches the selector"
  end

  test "import takes a private key, encrypted too, that signs the same as its file", context do
    key = @token <> ";object=legacy;id=%07"
    public = file(context, "legacy.pub")

    make =
      "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass env:PW -out legacy.pem && " <>
        "openssl pkey -in legacy.pem -passin env:PW -pubout -out legacy.pub"

    with_password = with_environment(context, [{"PW", "geheim"}])
    assert {_, 0} = shell(with_password, make <> " 2>/dev/null")

    import = ["import", key, "--in", "legacy.pem"]
    assert {"", 3, said} = mix(context, import)
    assert said =~ "there is no terminal to ask for it"
    assert {uri, 0, ""} = mix(with_password, import ++ ["--password-env", "PW"])
    assert Cryptoki.URI.parse!(String.trim(uri)).type == :private
    assert {"", 3, said} = mix(with_password, import ++ ["--password-env", "PW"])
    assert said =~ ~r/the token has #Cryptoki.Key<\w+ ec "legacy" id=07> already/

    data = file(context, "legacy.data", "data")
    sign = ["sign", key, "-i", data, "-o", "legacy.sig", "-f", "der"]
    assert {"", 0, ""} = mix(context, sign)
    verify = ~w[dgst -sha256 -verify #{public} -signature legacy.sig #{data}]
    assert {"Verified OK\n", 0} = openssl(context, verify)
  end

  test "import takes a certificate, and certificate writes it, also of its key", context do
    key = @token <> ";object=www"
    assert {_, 0, _} = mix(context, ["keygen", key, "-t", "ec"])
    assert {"", 0, ""} = mix(context, ["csr", key, "-s", "/CN=www.acme.test", "-o", "www.csr"])

    authority =
      ~w[req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=ca -out ca.pem]

    assert {_, 0} = openssl(context, authority)

    assert {_, 0} =
             openssl(context, ~w[x509 -req -in www.csr -CA ca.pem -CAkey ca.key -out www.pem])

    stored = @token <> ";object=its%20certificate;id=%09"
    assert {uri, 0, ""} = mix(context, ["import", stored, "-i", "www.pem"])
    assert Cryptoki.URI.parse!(String.trim(uri)).type == :cert

    assert {pem, 0, ""} = mix(context, ["certificate", stored])

    # Releases of OpenSSL write it with spaces or without.
    assert {subject, 0} =
             openssl(context, ~w[x509 -noout -subject -in #{file(context, "out.pem", pem)}])

    assert subject =~ ~r/\Asubject=CN ?= ?www\.acme\.test\n\z/

    assert {^pem, 0, ""} = mix(context, ["certificate", key <> ";type=private"])
    assert {der, 0, ""} = mix(context, ["certificate", stored, "--der", "--public"])
    assert {^der, 0} = pkcs11_tool(context, "payments", ~w[--read-object --type cert --id 09])
    assert {"", 3, said} = mix(context, ["certificate", @token <> ";object=invoice"])
    assert said =~ "nothing matches the selector"

    both = file(context, "both.pem", [pem, File.read!(file(context, "ca.pem"))])
    assert {"", 2, said} = mix(context, ["import", stored <> "x", "-i", both])
    assert said =~ "the file has several certificates"

    assert {"", 2, said} =
             mix(context, ["import", stored <> "x", "-i", both <> "?", "-t", "cert"])

    assert said =~ "no such file"
    assert {"", 2, said} = mix(context, ["import", stored <> "x", "-i", "ca.key", "-t", "cert"])
    assert said =~ "ca.key: it has no certificate"
  end

  test "import takes a PKCS #12, and certificate writes the chain of its key", context do
    key = @token <> ";object=p12;id=%0B"
    ec = ~w[-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes]

    for name <- ~w[root issuing leaf] do
      make = ~w[req -new -keyout #{name}.key -out #{name}.csr -subj /CN=#{name}] ++ ec
      assert {_, 0} = openssl(context, make)
    end

    file(context, "ca.ext", "basicConstraints=critical,CA:true\n")
    ca = ~w[-extfile ca.ext -CAcreateserial]

    assert {_, 0} =
             openssl(
               context,
               ~w[x509 -req -in root.csr -key root.key -extfile ca.ext -out root.crt]
             )

    assert {_, 0} =
             openssl(
               context,
               ~w[x509 -req -in issuing.csr -CA root.crt -CAkey root.key -out issuing.crt] ++ ca
             )

    assert {_, 0} =
             openssl(
               context,
               ~w[x509 -req -in leaf.csr -CA issuing.crt -CAkey issuing.key -CAcreateserial -out leaf.crt]
             )

    assert {_, 0} =
             openssl(
               context,
               ~w[pkcs12 -export -inkey leaf.key -in leaf.crt -certfile issuing.crt -passout pass:geheim -out leaf.p12]
             )

    password = with_environment(context, [{"CRYPTOKI_PASSWORD", "geheim"}])
    assert {uris, 0, said} = mix(password, ["import", key, "-i", "leaf.p12"])
    assert said == "certificates of the file that are not stored: 1\n"
    types = for uri <- String.split(uris, "\n", trim: true), do: Cryptoki.URI.parse!(uri).type
    assert types == [:private, :cert]

    # As GnuTLS writes it.
    text = PEM.encode(File.read!(file(context, "leaf.p12")), "PKCS12")
    File.write!(file(context, "leaf.txt"), text)
    assert {_, 0, _said} = mix(password, ["import", key <> "%20again", "-i", "leaf.txt"])

    leaf = File.read!(file(context, "leaf.crt"))
    assert {^leaf, 0, ""} = mix(context, ["certificate", key])
    authority = @token <> ";object=issuing"
    assert {_, 0, ""} = mix(context, ["import", authority, "-i", "issuing.crt"])
    assert {"", 0, ""} = mix(context, ["certificate", key, "--chain", "-o", "chain.pem"])

    assert File.read!(file(context, "chain.pem")) ==
             leaf <> File.read!(file(context, "issuing.crt"))

    assert {"leaf.crt: OK\n", 0} =
             openssl(context, ~w[verify -CAfile root.crt -untrusted chain.pem leaf.crt])

    wrong = with_environment(context, [{"CRYPTOKI_PASSWORD", "falsch"}])
    assert {"", 3, _said} = mix(wrong, ["import", @token <> ";object=wrong", "-i", "leaf.p12"])
    assert {"", 1, "no object fits\n"} = mix(context, ["objects", @token <> ";object=wrong"])
  end

  test "import takes a key and its certificate of one PEM, and no other certificate as its own",
       context do
    make =
      "openssl req -x509 -newkey rsa:2048 -nodes -keyout both.key -subj /CN=both -out both.crt && " <>
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout above.key -subj /CN=above -out above.crt && " <>
        "cat above.crt both.key both.crt >both.pem && cat above.crt both.key >without.pem && " <>
        "openssl pkcs12 -export -nocerts -inkey both.key -certfile above.crt -passout pass:geheim -out without.p12"

    assert {_, 0} = shell(context, "(#{make}) 2>/dev/null")
    types = fn uris -> for uri <- String.split(uris), do: Cryptoki.URI.parse!(uri).type end

    key = @token <> ";object=both;id=%0C"
    assert {uris, 0, said} = mix(context, ["import", key, "-i", "both.pem"])
    assert types.(uris) == [:private, :cert]
    assert said == "certificates of the file that are not stored: 1\n"
    certificate = File.read!(file(context, "both.crt"))
    assert {^certificate, 0, ""} = mix(context, ["certificate", key])

    alone = @token <> ";object=alone;id=%0D"
    assert {uris, 0, ""} = mix(context, ["import", alone, "-i", "both.pem", "-t", "key"])
    assert types.(uris) == [:private]

    password = with_environment(context, [{"CRYPTOKI_PASSWORD", "geheim"}])

    for {name, number} <- [{"without.pem", "%0E"}, {"without.p12", "%0F"}] do
      key = @token <> ";object=#{name};id=#{number}"
      assert {uris, 0, said} = mix(password, ["import", key, "-i", name])
      assert types.(uris) == [:private]
      assert said == "certificates of the file that are not stored: 1\n"
    end
  end

  test "import asks for the password of whatever is encrypted, whether the file says so or not",
       context do
    make =
      "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | " <>
        "openssl pkcs8 -topk8 -outform DER -passout pass:geheim -out sealed.der && " <>
        "ssh-keygen -q -t ecdsa -N geheim -f sealed.ssh"

    assert {_, 0} = shell(context, "(#{make}) 2>/dev/null")

    for name <- ~w[sealed.der sealed.ssh] do
      key = @token <> ";object=#{name}"
      line = "#{command()} cryptoki.import '#{key}' -i #{name}; echo status $?; cat"
      terminal = Terminal.start(context.directory, line, 100, context.environment)
      Terminal.await(terminal, ~r/Password of the file:\z/)
      Terminal.type(terminal, "geheim")
      assert Terminal.await(terminal, ~r/^status \d$/m) =~ ~r/;type=private.*^status 0$/ms
    end
  end

  test "import takes a public key, which verifies what its private one has signed", context do
    key = @token <> ";object=theirs;id=%03"

    assert {_, 0} =
             openssl(
               context,
               ~w[genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out theirs.key]
             )

    assert {"", 0} = openssl(context, ~w[pkey -in theirs.key -pubout -out theirs.pub])
    file(context, "letter", "letter")
    assert {"", 0} = openssl(context, ~w[dgst -sha256 -sign theirs.key -out letter.sig letter])

    assert {uri, 0, ""} = mix(context, ["import", key, "-i", "theirs.pub"])
    verify = ["verify", String.trim(uri), "-s", "letter.sig", "-f", "der", "-i"]
    assert {"valid\n", 0, ""} = mix(context, verify ++ ["letter"])
    assert {"", 1, "not valid\n"} = mix(context, verify ++ ["theirs.pub"])
  end

  test "import takes data, which attributes gives back", context do
    bytes = :crypto.strong_rand_bytes(100)
    note = @token <> ";object=note"
    path = file(context, "note", bytes)
    assert {uri, 0, ""} = mix(context, ["import", note, "-t", "data", "-i", path])
    assert Cryptoki.URI.parse!(String.trim(uri)).type == :data
    assert {^bytes, 0, ""} = mix(context, ["attributes", note <> ";type=data", "value", "--raw"])
  end

  test "delete asks, and destroys no more than is said", context do
    key = @token <> ";object=old"
    assert {_, 0, _} = mix(context, ["keygen", key, "-t", "ec"])
    assert {"", 2, said} = mix(context, ["delete", key, "--yes"])
    assert said =~ ~r/^private +ec secp256r1 +old .*2 objects fit, nothing is destroyed/ms
    assert {"", 2, said} = mix(context, ["delete", key <> ";type=public"])
    assert said =~ "Destroy this object for ever? Nobody is there to be asked: say --yes"

    terminal = fn answer ->
      line = "#{command()} cryptoki.delete '#{key};type=public' </dev/null; echo status $?; cat"
      terminal = Terminal.start(context.directory, line, 100, context.environment)
      Terminal.await(terminal, ~r/Destroy this object for ever\? Type yes:\z/)
      Terminal.type(terminal, answer)
      Terminal.await(terminal, ~r/^status \d$/m)
    end

    assert terminal.("y") =~ ~r/nothing has been done\nstatus 2/
    assert {_, 0, ""} = mix(context, ["objects", key <> ";type=public"])
    assert terminal.("yes") =~ "status 0"
    assert {"", 1, "no object fits\n"} = mix(context, ["objects", key <> ";type=public"])

    assert {"", 0, _} = mix(context, ["delete", key, "--all", "--yes"])
    assert {"", 1, "no object fits\n"} = mix(context, ["delete", key, "--yes"])
    login = ~w[--list-objects --login --pin #{SoftHSM.pin()}]
    assert {listed, 0} = pkcs11_tool(context, "payments", login)
    assert listed =~ ~r/label: +invoice/
    refute listed =~ ~r/label: +old/
  end
end
