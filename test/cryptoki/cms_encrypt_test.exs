defmodule Cryptoki.CMSEncryptTest do
  use ExUnit.Case, async: true

  # Messages made here, before `openssl cms -decrypt` and keys of the token.

  alias Cryptoki.{CMS, DER, Error, PEM}
  alias Cryptoki.Test.{COSE, Enveloped, MainToken, OpenSSL, Scratch, SoftHSM, TLS}

  @text Enveloped.text()

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})
    directory = TLS.authority(Path.join(SoftHSM.directory(), "cms-encrypt"))
    names = ~w(rsa secp256r1 secp521r1)a
    %{hsm: hsm, keys: Enveloped.keys(hsm, directory, names), directory: directory}
  end

  defp opened(der, key, arguments) do
    Scratch.within("cms", fn scratch ->
      file = Scratch.write(scratch, "message", der)
      inkey = Scratch.write(scratch, "key.pem", key)
      out = Path.join(scratch, "out")
      command = ~w(cms -decrypt -binary -inform DER -in #{file} -inkey #{inkey} -out #{out})
      {text, status} = OpenSSL.openssl(command ++ arguments)
      if status == 0, do: File.read!(out), else: text
    end)
  end

  defp outside(directory, arguments) do
    key = Path.join(directory, "#{System.unique_integer([:positive])}.key")

    {_, 0} =
      OpenSSL.openssl(
        ~w(req -x509 -nodes -subj /CN=x -days 2 -keyout #{key} -out #{key}.pem -newkey) ++
          arguments
      )

    {File.read!(key), File.read!(key <> ".pem")}
  end

  test "for everybody: OpenSSL reads it, and so does the token",
       %{directory: directory} = context do
    rsa = outside(directory, ~w(rsa:2048))

    curves =
      for curve <- ~w(P-256 P-384 P-521 brainpoolP384r1),
          do: outside(directory, ~w(ec -pkeyopt ec_paramgen_curve:#{curve}))

    own = for {_name, key} <- context.keys, do: key

    for cipher <- ~w(aes_128_cbc aes_192_cbc aes_256_cbc aes_128_gcm aes_192_gcm aes_256_gcm)a,
        padding <- [:oaep, :pkcs1] do
      certificates = for({_key, pem} <- [rsa | curves], do: pem) ++ for(key <- own, do: key.pem)
      der = CMS.encrypt!(certificates, @text, cipher: cipher, padding: padding)

      for {key, pem} <- [rsa | curves] do
        file = Path.join(directory, "recip-#{System.unique_integer([:positive])}")
        File.write!(file, pem)
        assert opened(der, key, ["-recip", file]) == @text
      end

      for key <- own,
          do:
            assert(
              CMS.decrypt(context.hsm, key.private, der, certificate: key.pem) == {:ok, @text}
            )
    end
  end

  test "of nothing, and of much", context do
    %{private: key, pem: pem} = context.keys.rsa

    for size <- [0, 1, 15, 16, 17, 100_000], cipher <- [:aes_256_cbc, :aes_256_gcm] do
      data = :crypto.strong_rand_bytes(size)
      der = CMS.encrypt!(pem, [data], cipher: cipher)
      assert CMS.decrypt(context.hsm, key, der) == {:ok, data}
    end
  end

  test "is refused for keys that nothing is encrypted for", %{directory: directory} do
    {_key, ed25519} = outside(directory, ~w(ed25519))
    assert {:error, %Error{reason: :unsupported}} = CMS.encrypt(ed25519, @text)
    assert {:error, %Error{reason: :invalid_argument}} = CMS.encrypt("no certificate", @text)

    for wrong <- [[], :pem, [[label: "x"]]],
        do: assert_raise(ArgumentError, fn -> CMS.encrypt(wrong, @text) end)

    assert_raise ArgumentError, ~r/cipher: must be one of/, fn ->
      CMS.encrypt(ed25519, @text, cipher: :des_ede3_cbc)
    end
  end

  # OpenSSL 3.5 does not have it in CMS: asn1crypto and cryptography read and write it, see cms.py.
  test "X25519 (RFC 8418)", %{hsm: hsm, directory: directory} do
    {public, secret} = :crypto.generate_key(:ecdh, :x25519)

    # OTP 25 writes such keys as those of other curves.
    info = DER.sequence([DER.sequence([DER.oid({1, 3, 101, 110})]), DER.bit_string(public)])
    pem = TLS.certificate(directory, PEM.encode(info, "PUBLIC KEY"), "x25519")
    [certificate] = TLS.der(pem)
    der = CMS.encrypt!(pem, @text, cipher: :aes_256_cbc)
    open = %{do: "open", cms: hex(der), secret: hex(secret)}
    seal = %{do: "seal", certificate: hex(certificate), content: hex(@text)}
    assert [opened, sealed] = COSE.python([open, seal], "cms.py")
    assert COSE.bytes(opened) == @text

    kind = if MainToken.name() == :softhsm2, do: [key_type: :ec_edwards], else: []

    scalar = [
      class: :private_key,
      key_type: :ec_montgomery,
      curve: :x25519,
      value: secret,
      derive: true
    ]

    key = Cryptoki.create!(hsm, Keyword.merge(scalar, kind))

    for theirs_or_ours <- [der, COSE.bytes(sealed)],
        do: assert(CMS.decrypt(hsm, key, theirs_or_ours, certificate: pem) == {:ok, @text})
  end

  defp hex(bytes), do: bytes |> IO.iodata_to_binary() |> COSE.hex()
end
