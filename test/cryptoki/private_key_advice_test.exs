defmodule Cryptoki.PrivateKeyAdviceTest do
  # What is said of a file that is not read does what it says; and what one program wrote in a way of its own.
  use ExUnit.Case, async: true

  @compile {:no_warn_undefined, :ssh_file}

  alias Cryptoki.{DER, Error, PEM, PKCS12, PrivateKey}
  alias Cryptoki.Test.{KeyFiles, TLS}

  setup_all do: TLS.start(:ssh)

  test "what the sentence about PSS says does it" do
    for options <- [
          "",
          "-pkeyopt rsa_pss_keygen_md:sha256 -pkeyopt rsa_pss_keygen_mgf1_md:sha256"
        ] do
      made = "openssl genpkey -algorithm RSA-PSS #{options} -out $OUT.pss"
      commands = made <> "; openssl rsa -in $OUT.pss -traditional -outform DER -out $OUT"
      assert {:ok, %{type: :rsa}} = PrivateKey.File.read(KeyFiles.changed("", commands))
    end

    file = KeyFiles.changed("", "openssl genpkey -algorithm RSA-PSS -out $OUT")
    assert {:error, %Error{detail: text}} = PrivateKey.File.read(file)
    assert text =~ "`openssl rsa -in FILE -traditional -outform DER -out PLAIN`"
  end

  test "what the sentences about other encryption say does it" do
    key = "openssl genpkey -algorithm RSA -out $OUT.key"
    sealed = "#{key}; openssl pkcs8 -topk8 -scrypt -in $OUT.key -passout pass:geheim"

    for form <- ~w(PEM DER) do
      file = KeyFiles.changed("", "#{sealed} -outform #{form} -out $OUT")

      assert {:error, %Error{reason: :unsupported, detail: text}} =
               PrivateKey.File.read(file, "geheim")

      [command | _] = said(text)
      command = changed(command, FILE: "$IN -passin pass:geheim", PLAIN: "$OUT")
      assert {:ok, %{type: :rsa}} = PrivateKey.File.read(KeyFiles.changed(file, command))
    end

    rc4 = "-legacy -keypbe PBE-SHA1-RC4-128 -certpbe PBE-SHA1-RC4-128 -passout pass:geheim"

    certificate =
      "openssl req -x509 -newkey rsa:2048 -nodes -keyout $OUT.key -out $OUT.crt -subj /CN=a"

    made = "#{certificate}; openssl pkcs12 -export #{rc4} -inkey $OUT.key -in $OUT.crt -out $OUT"
    file = KeyFiles.changed("", made)
    assert {:error, %Error{reason: :unsupported, detail: text}} = PKCS12.read(file, "geheim")
    [first, second, legacy] = said(text)
    first = changed(first, FILE: "$IN -passin pass:geheim", PEM: "$OUT.pem #{legacy}")
    second = changed(second, PEM: "$OUT.pem -passout pass:geheim", NEW: "$OUT")
    file = KeyFiles.changed(file, "#{first}; #{second}")
    assert {:ok, {%{type: :rsa}, [_certificate]}} = PKCS12.read(file, "geheim")
  end

  defp said(text), do: for([_, command] <- Regex.scan(~r/`([^`]+)`/, text), do: command)

  defp changed(command, places) do
    for {place, file} <- places, reduce: command do
      command -> String.replace(command, ~r/\b#{place}\b/, file)
    end
  end

  test "public keys of PKCS #1, and what is said of their DER" do
    pem =
      KeyFiles.changed(
        "",
        "openssl genrsa -out $OUT.key; openssl rsa -in $OUT.key -pubout -out $OUT"
      )

    {:ok, key} = PrivateKey.File.read(pem)

    pkcs1 = KeyFiles.changed(pem, "openssl rsa -pubin -in $IN -RSAPublicKey_out -out $OUT")
    assert pkcs1 =~ "BEGIN RSA PUBLIC KEY"
    assert PrivateKey.File.read(pkcs1) == {:ok, key}
    assert PrivateKey.File.read("a key\n" <> pkcs1) == {:ok, key}

    commands = "openssl rsa -pubin -in $IN -RSAPublicKey_out -outform DER -out $OUT"
    der = KeyFiles.changed(pem, commands)
    assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(der)
    assert text =~ "`openssl rsa -RSAPublicKey_in -inform DER -in FILE -pubout -out PEM`"
    back = "openssl rsa -RSAPublicKey_in -inform DER -in $IN -pubout -out $OUT"
    assert PrivateKey.File.read(KeyFiles.changed(der, back)) == {:ok, key}

    for {changed, says} <- [
          {PEM.encode(DER.sequence([DER.integer(7)]), "RSA PUBLIC KEY"), "no RSA key"},
          {PEM.encode(der <> <<0>>, "RSA PUBLIC KEY"), "no RSA key"},
          {PEM.encode(
             DER.sequence([DER.integer(2 ** 1024 - 1), DER.integer(3)]),
             "RSA PUBLIC KEY"
           ), "too weak"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: text}} =
               PrivateKey.File.read(changed)

      assert text =~ says
    end
  end

  test "a line of OpenSSH" do
    for {type, curve, kind} <- [{:ecdh, :secp256r1, :ec}, {:eddsa, :ed25519, :ed25519}] do
      {point, _secret} = :crypto.generate_key(type, curve)
      parameters = {:namedCurve, :pubkey_cert_records.namedCurves(curve)}
      line = :ssh_file.encode([{{{:ECPoint, point}, parameters}, comment: "a"}], :openssh_key)

      assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(line)
      assert text =~ ":ssh_file.decode(text, :public_key)"
      [{key, _} | _] = :ssh_file.decode(line, :public_key)
      assert {:ok, %{type: ^kind}} = PrivateKey.Record.read(key)
    end
  end

  test "a path, which is not the file" do
    for path <- ["/etc/keys/payments.pem", "payments.der", "a key.pem"] do
      assert {:error, %Error{reason: :invalid_argument, detail: text}} =
               PrivateKey.File.read(path)

      assert text =~ "File.read!/1"
      refute text =~ "payments"
    end

    for text <- ["", "two\nlines", String.duplicate("x", 5000), <<1, 2>>] do
      assert {:error, %Error{detail: text}} = PrivateKey.File.read(text)
      refute text =~ "File.read!/1"
    end
  end

  describe "PKCS #8 as ring wrote it, with the public key in a tag of its own around a BIT STRING," do
    setup do
      {point, secret} = :crypto.generate_key(:eddsa, :ed25519)
      head = [DER.integer(1), DER.sequence([DER.oid({1, 3, 101, 112})])]
      %{head: head ++ [DER.octet_string(DER.octet_string(secret))], point: point}
    end

    defp file(head, more), do: IO.iodata_to_binary(DER.sequence(head ++ more))

    test "is read", %{head: head, point: point} do
      ring = <<0xA1, 35, 3, 33, 0>> <> point
      assert {:ok, key} = PrivateKey.File.read(file(head, [ring]))
      assert {:ok, ^key} = PrivateKey.File.read(file(head, [<<0x81, 33, 0>> <> point]))
      assert {{:ECPoint, ^point}, _curve} = key.public
    end

    test "and is held to what it says", %{head: head, point: point} do
      for {more, says} <- [
            {[<<0xA1, 35, 3, 33, 0, 9::256>>], "public key of another"},
            {[<<0xA1, 35, 4, 33, 0>> <> point], "BIT STRING"},
            {[<<0xA1, 0>>], "publicKey"},
            {[<<0x81, 33, 0>> <> point, <<0xA1, 35, 3, 33, 0>> <> point], "before"}
          ] do
        answer = PrivateKey.File.read(file(head, more))
        assert {:error, %Error{reason: :invalid_argument, detail: text}} = answer
        assert text =~ says
      end
    end
  end
end
