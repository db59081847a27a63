defmodule Cryptoki.CMSEncryptTest do
  use ExUnit.Case, async: true

  # Messages made here, before `openssl cms -decrypt` and keys of the token.

  alias Cryptoki.{CMS, DER, Error, PEM}
  alias Cryptoki.Test.{Enveloped, MainToken, OpenSSL, Outside, Scratch, SoftHSM, TLS}

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

  # No program here writes or reads it: what is agreed on, and made of that, is computed once more.
  test "X25519 (RFC 8418)", %{hsm: hsm, directory: directory} do
    {public, secret} = :crypto.generate_key(:ecdh, :x25519)

    # OTP 25 writes such keys as those of other curves.
    info = DER.sequence([DER.sequence([DER.oid({1, 3, 101, 110})]), DER.bit_string(public)])
    pem = TLS.certificate(directory, PEM.encode(info, "PUBLIC KEY"), "x25519")
    der = CMS.encrypt!(pem, @text, cipher: :aes_256_cbc)
    {at, 3} = :binary.match(der, <<3, 33, 0>>)
    ephemeral = binary_part(der, at + 3, 32)
    agreed = :crypto.compute_key(:ecdh, ephemeral, secret, :x25519)

    # RFC 5753, section 7.2: id-aes256-wrap, 256 bits.
    info =
      <<0x30, 0x15, 0x30, 0x0B, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 45, 0xA2, 6, 4, 4,
        256::32>>

    kek = Outside.hkdf(:sha256, agreed, "", info, 32)
    {at, 2} = :binary.match(der, <<4, 40>>)
    assert {:ok, key} = Outside.key_unwrap(kek, binary_part(der, at + 2, 40))
    {at, 2} = :binary.match(der, <<4, 16>>, scope: {at, byte_size(der) - at})
    iv = binary_part(der, at + 2, 16)
    ciphertext = binary_part(der, byte_size(der) - 32, 32)
    text = :crypto.crypto_one_time(:aes_256_cbc, key, iv, ciphertext, encrypt: false)
    assert binary_part(text, 0, byte_size(@text)) == @text

    kind = if MainToken.name() == :softhsm2, do: [key_type: :ec_edwards], else: []

    scalar = [
      class: :private_key,
      key_type: :ec_montgomery,
      curve: :x25519,
      value: secret,
      derive: true
    ]

    key = Cryptoki.create!(hsm, Keyword.merge(scalar, kind))
    assert CMS.decrypt(hsm, key, der, certificate: pem) == {:ok, @text}
  end
end
