defmodule Cryptoki.PKCS12WindowsTest do
  # PKCS #12 that Windows wrote, out of the tests of two packages of Go: test/vectors/windows/README.md.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, PKCS12, X509}
  alias Cryptoki.Test.{MainToken, OpenSSL}

  @windows "test/vectors/windows"

  test "no password, which is written as nothing and not as two zeros; attributes of Microsoft's" do
    der = File.read!("#{@windows}/azure_tools.p12")
    assert {:ok, {%{type: :rsa} = key, [certificate]}} = PKCS12.read(der, "")
    assert %{public_key: public, subject: subject} = X509.certificate!(certificate)
    assert public == key.public
    assert subject =~ "Windows Azure Tools"
    assert {:error, %Error{detail: text}} = PKCS12.read(der, "x")
    assert text =~ "not authentic with this password"
  end

  describe "the key of one on a token signs as its certificate says:" do
    for {name, password} <- [{"azure_tools", nil}, {"aes256_sha256", "password"}] do
      test name do
        hsm = start_supervised!({Cryptoki, MainToken.own(sessions: 1)})
        file = {:pkcs12, File.read!("#{@windows}/#{unquote(name)}.p12")}
        password = unquote(password)
        opts = if password, do: [password: password], else: []
        template = [label: unquote(name), token: true]

        assert {:ok, {key, [certificate]}} = Cryptoki.import_key(hsm, file, template, opts)
        public = X509.certificate!(certificate).public_key
        assert Cryptoki.public_key(hsm, key) == {:ok, public}
        signature = Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, "a text")

        pem =
          :public_key.pem_encode([:public_key.pem_entry_encode(:SubjectPublicKeyInfo, public)])

        assert OpenSSL.valid?(pem, signature, {:rsa_pkcs1, :sha256}, "a text")

        if password,
          do: assert({:error, %Error{reason: :unsupported}} = Cryptoki.import_key(hsm, file, []))
      end
    end
  end

  test "no password, written as two zeros" do
    der = File.read!("#{@windows}/empty_password.p12")
    assert {:ok, {%{type: :rsa} = key, [certificate]}} = PKCS12.read(der, "")
    assert X509.certificate!(certificate).public_key == key.public
  end

  test "a certificate store's: it is its key that is too weak, and not another password that is meant" do
    der = File.read!("#{@windows}/ias_peap.p12")
    assert {:error, %Error{reason: :invalid_argument, detail: text}} = PKCS12.read(der, "")
    assert text =~ "no key that is read here: privateKey, byte 26: public key: RSA of 1024 bits"
  end
end
