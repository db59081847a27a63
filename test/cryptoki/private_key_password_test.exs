defmodule Cryptoki.PrivateKeyPasswordTest do
  # Private keys in files that a password opens (PBES2 of RFC 8018), as programs write them and as nobody should.
  use ExUnit.Case, async: true

  alias Cryptoki.{DER, Error, PrivateKey}
  alias Cryptoki.Test.KeyFiles

  setup do
    %{pem: KeyFiles.make("openssl ecparam").file}
  end

  for options <- [
        "",
        "-v2 aes-128-cbc -v2prf hmacWithSHA1",
        "-v2 aes-192-cbc -v2prf hmacWithSHA384",
        "-v2 aes256 -v2prf hmacWithSHA512 -iter 100000",
        "-v2 des3",
        "-outform DER"
      ] do
    test "openssl pkcs8 -topk8 #{options}", %{pem: pem} do
      {:ok, key} = PrivateKey.File.read(pem)

      commands =
        "openssl pkcs8 -topk8 -in $IN -passout pass:pässword #{unquote(options)} -out $OUT"

      file = KeyFiles.changed(pem, commands)
      assert PrivateKey.File.read(file, "pässword") == {:ok, key}
      assert PrivateKey.File.read(pem, "pässword") == {:ok, key}

      for wrong <- ["password", "", "pässword "] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(file, wrong)

        assert text =~ "with this password"
      end

      assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(file)
      assert text =~ "say password:"
    end
  end

  @tag skip: !System.find_executable("certtool") && "there is no certtool"
  test "certtool", %{pem: pem} do
    {:ok, key} = PrivateKey.File.read(pem)

    commands =
      "certtool --to-p8 --load-privkey $IN --pkcs-cipher aes-256 --password abcdef --outfile $OUT"

    assert PrivateKey.File.read(KeyFiles.changed(pem, commands), "abcdef") == {:ok, key}
  end

  test "what is not PBES2, and what asks for years", %{pem: pem} do
    {:ok, key} = PrivateKey.File.read(pem)
    old = "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef -v1 PBE-SHA1-3DES -out $OUT"
    assert PrivateKey.File.read(KeyFiles.changed(pem, old), "abcdef") == {:ok, key}
    assert {:error, %Error{}} = PrivateKey.File.read(KeyFiles.changed(pem, old), "abcdeg")

    for options <- ["-v1 PBE-MD5-DES -provider legacy -provider default", "-scrypt"] do
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
