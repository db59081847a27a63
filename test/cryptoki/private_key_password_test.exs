defmodule Cryptoki.PrivateKeyPasswordTest do
  # Private keys in files that a password opens, as programs write them, or wrote them once, and as nobody should.
  use ExUnit.Case, async: true

  alias Cryptoki.{DER, Error, PrivateKey}
  alias Cryptoki.Test.KeyFiles

  @legacy "-provider legacy -provider default"

  setup do
    %{pem: KeyFiles.make("openssl ecparam").file}
  end

  for options <- [
        "",
        "-v2 aes-128-cbc -v2prf hmacWithSHA1",
        "-v2 aes-192-cbc -v2prf hmacWithSHA384",
        "-v2 aes256 -v2prf hmacWithSHA512 -iter 100000",
        "-v2 des3",
        "-v2 des-cbc #{@legacy}",
        "-v2 rc2-cbc #{@legacy}",
        "-v2 rc2-64-cbc #{@legacy}",
        "-v2 rc2-40-cbc #{@legacy}",
        "-v1 PBE-MD5-DES -iter 1 #{@legacy}",
        "-v1 PBE-SHA1-DES #{@legacy}",
        "-v1 PBE-MD5-RC2-64 #{@legacy}",
        "-v1 PBE-SHA1-RC2-64 #{@legacy}",
        "-outform DER"
      ] do
    test "openssl pkcs8 -topk8 #{options}", %{pem: pem} do
      {:ok, key} = PrivateKey.File.read(pem)

      commands =
        "openssl pkcs8 -topk8 -in $IN -passout pass:pässword #{unquote(options)} -out $OUT"

      file = KeyFiles.changed(pem, commands)
      opens(file, pem, key)
    end
  end

  # In PEM alone: of SEC 1 and PKCS #1.
  for form <- ["openssl ecparam", "openssl genrsa"],
      options <- ~w[-aes128 -aes192 -aes256 -des3] ++ ["-des #{@legacy}"] do
    test "#{form}, openssl pkey -traditional #{options}" do
      pem = KeyFiles.make(unquote(form)).file
      {:ok, key} = PrivateKey.File.read(pem)

      commands =
        "openssl pkey -traditional -in $IN -passout pass:pässword #{unquote(options)} -out $OUT"

      file = KeyFiles.changed(pem, commands)
      assert file =~ "DEK-Info: "
      opens(file, pem, key)
      # As editors and mails leave it.
      opens("a key\r\n" <> String.replace(file, "\n", "\r\n"), pem, key)
    end
  end

  @tag skip: !System.find_executable("ssh-keygen") && "there is no ssh-keygen"
  test "ssh-keygen -m PEM" do
    commands = "ssh-keygen -q -t ecdsa -m PEM -N pässword -f $OUT; cp $OUT $OUT.own"

    both =
      "#{commands}; openssl pkey -in $OUT -passin pass:pässword -out $OUT.p8; cat $OUT.p8 >> $OUT"

    [file, plain] = KeyFiles.changed("", both) |> String.split("-----BEGIN PRIVATE KEY")
    plain = "-----BEGIN PRIVATE KEY" <> plain
    {:ok, key} = PrivateKey.File.read(plain)
    opens(file, plain, key)
  end

  test "headers that are none" do
    pem = KeyFiles.make("openssl ecparam").file
    commands = "openssl pkey -traditional -in $IN -passout pass:abcdef -aes128 -out $OUT"
    file = KeyFiles.changed(pem, commands)
    assert {:ok, _key} = PrivateKey.File.read(file, "abcdef")

    for {from, to, reason, says} <- [
          {~r/AES-128-CBC/, "AES-128-OFB", :unsupported, "not read here"},
          {~r/CBC,[0-9A-F]+/, "CBC,0011223344556677", :unsupported, "not read here"},
          {~r/CBC,[0-9A-F]+/, "CBC", :unsupported, "not read here"},
          {~r/DEK-Info: /, "DEK-Infos: ", :unsupported, "not read here"},
          {~r/[^\n]{4}\n-----END/, "\n-----END", :invalid_argument, "does not open"},
          {~r/==*\n-----END/, "*\n-----END", :invalid_argument, "line"}
        ] do
      changed = String.replace(file, from, to)
      assert changed != file
      answer = PrivateKey.File.read(changed, "abcdef")
      assert {:error, %Error{reason: ^reason, detail: text}} = answer
      assert text =~ says
    end
  end

  # With its password, and with that alone.
  defp opens(file, pem, key) do
    assert PrivateKey.File.read(file, "pässword") == {:ok, key}
    assert PrivateKey.File.read(pem, "pässword") == {:ok, key}

    for wrong <- ["password", "", "pässword "] do
      assert {:error, %Error{reason: reason, detail: text}} = PrivateKey.File.read(file, wrong)
      assert reason == :invalid_argument
      assert text =~ "with this password"
    end

    assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(file)
    assert text =~ "say password:"
  end

  @tag skip: !System.find_executable("certtool") && "there is no certtool"
  test "certtool", %{pem: pem} do
    {:ok, key} = PrivateKey.File.read(pem)

    commands =
      "certtool --to-p8 --load-privkey $IN --pkcs-cipher aes-256 --password abcdef --outfile $OUT"

    assert PrivateKey.File.read(KeyFiles.changed(pem, commands), "abcdef") == {:ok, key}
  end

  test "what is encrypted otherwise, and what asks for years", %{pem: pem} do
    {:ok, key} = PrivateKey.File.read(pem)
    old = "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef -v1 PBE-SHA1-3DES -out $OUT"
    assert PrivateKey.File.read(KeyFiles.changed(pem, old), "abcdef") == {:ok, key}
    assert {:error, %Error{}} = PrivateKey.File.read(KeyFiles.changed(pem, old), "abcdeg")

    for options <- ["-v1 PBE-SHA1-RC4-128 #{@legacy}", "-scrypt"] do
      commands = "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef #{options} -out $OUT"

      assert {:error, %Error{reason: :unsupported, detail: text}} =
               PrivateKey.File.read(KeyFiles.changed(pem, commands), "abcdef")

      assert text =~ "openssl pkcs8 -topk8 -nocrypt"
    end

    salt = DER.octet_string("12345678")
    sha = DER.sequence([DER.oid({1, 2, 840, 113_549, 2, 9}), DER.null()])

    for count <- [2_000_001, 10_000_001, Integer.pow(2, 60)] do
      file = sealed([salt, DER.integer(count), sha], <<1::128>>, <<1::128>>)

      assert {:error, %Error{reason: :unsupported, detail: text}} =
               PrivateKey.File.read(file, "abcdef")

      assert text =~ "more than 2000000 rounds"
    end

    for {kdf, iv, data, says} <- [
          {[salt, DER.integer(0), sha], <<1::128>>, <<1::128>>, "iterationCount"},
          {[salt, DER.integer(-1), sha], <<1::128>>, <<1::128>>, "iterationCount"},
          {[salt, DER.integer(1), DER.integer(16), sha], <<1::128>>, <<1::128>>, "keyLength"},
          {[salt, DER.integer(1), sha], <<1::120>>, <<1::128>>, "no IV of 16 bytes"},
          {[salt, DER.integer(1), sha], <<1::128>>, <<1::136>>, "whole blocks"},
          {[salt, DER.integer(1), sha], <<1::128>>, "", "whole blocks"},
          {[sha, DER.integer(1)], <<1::128>>, <<1::128>>, "salt"},
          {[salt, DER.integer(1), sha, sha], <<1::128>>, <<1::128>>, "nothing should stand here"},
          {[salt, DER.integer(1), DER.integer(32)], <<1::128>>, <<1::128>>, "this password"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: text}} =
               PrivateKey.File.read(sealed(kdf, iv, data), "abcdef")

      assert text =~ says
    end
  end

  defp sealed(kdf, iv, data) do
    kdf = DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 5, 12}), DER.sequence(kdf)])
    aes = DER.sequence([DER.oid({2, 16, 840, 1, 101, 3, 4, 1, 42}), DER.octet_string(iv)])
    pbes2 = [DER.oid({1, 2, 840, 113_549, 1, 5, 13}), DER.sequence([kdf, aes])]
    DER.sequence([DER.sequence(pbes2), DER.octet_string(data)])
  end
end
