defmodule Cryptoki.CMSDecryptTest do
  use ExUnit.Case, async: true

  # Messages of `openssl cms -encrypt` for keys of the token, and ours before `openssl cms -decrypt`.

  alias Cryptoki.{CMS, DER, Error}
  alias Cryptoki.Test.Enveloped
  alias Cryptoki.Test.{MainToken, OpenSSL, Scratch, SoftHSM, TLS}

  @nobody :no_such_instance
  @text Enveloped.text()

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    directory = TLS.authority(Path.join(SoftHSM.directory(), "cms-decrypt"))

    names = ~w(rsa other_rsa secp256r1 secp384r1 secp521r1)a
    %{hsm: hsm, keys: Enveloped.keys(hsm, directory, names), directory: directory}
  end

  defp encrypted(%{keys: keys}, names, arguments) do
    recipients = for {name, options} <- names, do: {keys[name].pem, options}
    Enveloped.by_openssl(recipients, arguments)
  end

  @oaep ~w(-keyopt rsa_padding_mode:oaep)
  @ciphers ~w(aes-128-cbc aes-192-cbc aes-256-cbc des3 aes-128-gcm aes-192-gcm aes-256-gcm)
  @rsa [
    {"PKCS #1 v1.5", []},
    {"OAEP with SHA-1", @oaep},
    {"OAEP with SHA-256", @oaep ++ ~w(-keyopt rsa_oaep_md:sha256)},
    {"OAEP with SHA-512 and MGF1 with SHA-384",
     @oaep ++ ~w(-keyopt rsa_oaep_md:sha512 -keyopt rsa_mgf1_md:sha384)},
    {"OAEP with a label", @oaep ++ ~w(-keyopt rsa_oaep_label:00ff61)}
  ]

  for {words, options} <- @rsa, cipher <- @ciphers do
    test "RSA, #{words}, #{cipher}", context do
      der = encrypted(context, [rsa: unquote(options)], ["-" <> unquote(cipher)])
      %{private: key, pem: pem} = context.keys.rsa
      assert CMS.decrypt(context.hsm, key, der) == {:ok, @text}
      assert CMS.decrypt(context.hsm, key, der, certificate: pem) == {:ok, @text}
    end
  end

  @agreements for kdf <- ~w(sha1 sha256 sha384 sha512),
                  options <- [[], ~w(-keyopt ecdh_cofactor_mode:1)],
                  do: ~w(-keyopt ecdh_kdf_md:#{kdf}) ++ options

  for curve <- ~w(secp256r1 secp384r1 secp521r1)a, options <- @agreements do
    test "#{curve} #{Enum.join(options, " ")}", context do
      %{private: key, pem: pem} = context.keys[unquote(curve)]

      # OpenSSL 3.0 takes triple DES if it is not told otherwise, also to wrap the key.
      for cipher <- ~w(-aes-128-cbc -aes-192-cbc -aes-256-gcm -des3) do
        der = encrypted(context, [{unquote(curve), unquote(options)}], [cipher])
        assert CMS.decrypt(context.hsm, key, der) == {:ok, @text}
        assert CMS.decrypt(context.hsm, key, der, certificate: pem) == {:ok, @text}
      end
    end
  end

  test "several recipients, each of whom reads it, by issuer and by identifier", context do
    names = ~w(rsa other_rsa secp256r1 secp384r1)a

    for arguments <- [["-aes-256-gcm"], ~w(-aes-128-cbc -keyid), ~w(-aes-256-cbc -stream)] do
      context = %{context | keys: with_identifiers(context)}
      der = encrypted(context, for(name <- names, do: {name, []}), arguments)

      for name <- names, %{private: key, pem: pem} = context.keys[name] do
        assert CMS.decrypt(context.hsm, key, der, certificate: pem) == {:ok, @text}
        assert CMS.decrypt(context.hsm, key, der) == {:ok, @text}
      end

      %{private: key, pem: pem} = context.keys.secp521r1

      assert {:error, %Error{reason: :invalid_argument} = error} =
               CMS.decrypt(context.hsm, key, der, certificate: pem)

      assert Exception.message(error) =~ "none of its 4 recipients is that of certificate:"
    end
  end

  defp with_identifiers(%{keys: keys, directory: directory}) do
    Map.new(keys, fn {name, key} ->
      file = Path.join(directory, "#{name}-skid")
      File.write!(file <> ".pub", OpenSSL.pem(key.public))
      File.write!(file <> ".ext", "subjectKeyIdentifier=hash\n")

      {_, 0} =
        OpenSSL.openssl(
          ~w(x509 -new -force_pubkey #{file}.pub -subj /CN=#{name} -days 2 -CA #{directory}/ca.pem) ++
            ~w(-CAkey #{directory}/ca.key -CAcreateserial -extfile #{file}.ext -out #{file}.pem)
        )

      {name, %{key | pem: File.read!(file <> ".pem")}}
    end)
  end

  test "BER, PEM, and authenticated attributes", context do
    %{private: key, pem: pem} = context.keys.rsa
    stream = encrypted(context, [rsa: []], ~w(-aes-256-cbc -stream))
    assert <<0x30, 0x80, _::binary>> = stream
    assert CMS.decrypt(context.hsm, key, stream) == {:ok, @text}
    assert CMS.decrypt(context.hsm, key, CMS.to_pem(stream), certificate: pem) == {:ok, @text}

    # RFC 5083, section 2.2; what OpenSSL does not write.
    content = :crypto.strong_rand_bytes(32)
    encrypted = :public_key.encrypt_public(content, context.keys.rsa.public)
    attribute = DER.sequence([DER.oid({1, 2, 3}), DER.set_of([DER.null()])])

    for {tag, right?} <- [{0x31, true}, {0xA1, false}] do
      options = [attributes: DER.value(0xA1, attribute), aad: DER.value(tag, attribute)]
      der = Enveloped.by_hand(encrypted, :gcm, content, options)
      assert match?({:ok, @text}, CMS.decrypt(context.hsm, key, der)) == right?
    end
  end

  # GnuPG writes BER, and CBC as it is asked here; for keys on curves it encrypts from 2.4 on.
  @tag skip: System.find_executable("gpgsm") == nil && "gpgsm is not there"
  test "GnuPG encrypts, the token decrypts", %{directory: authority} = context do
    directory = Scratch.directory("gpgsm")
    File.chmod!(directory, 0o700)
    on_exit(fn -> System.cmd("gpgconf", ["--homedir", directory, "--kill", "all"]) end)
    [root] = TLS.der(File.read!(Path.join(authority, "ca.pem")))

    Scratch.write(
      directory,
      "trustlist.txt",
      "#{Base.encode16(:crypto.hash(:sha, root))} S relax\n"
    )

    gpgsm = &System.cmd("gpgsm", ["--homedir", directory, "--batch" | &1], stderr_to_stdout: true)
    {_, 0} = gpgsm.(["--import", Path.join(authority, "ca.pem")])

    {version, 0} = gpgsm.(["--version"])
    [release] = Regex.run(~r/\d+\.\d+\.\d+/, version)
    on_curves = if Version.match?(release, ">= 2.4.0"), do: ~w(secp256r1 secp384r1 secp521r1)a
    names = ~w(rsa other_rsa)a ++ List.wrap(on_curves)

    for name <- names, %{private: key, pem: pem} = context.keys[name] do
      {_, 0} = gpgsm.(["--import", Scratch.write(directory, "#{name}.pem", pem)])

      for size <- [10, 100_000], cipher <- ~w(AES AES256) do
        data = :crypto.strong_rand_bytes(size)
        file = Scratch.write(directory, "text", data)
        out = Path.join(directory, "#{name}-#{size}-#{cipher}")
        command = ~w(--disable-crl-checks --cipher-algo #{cipher} -r /CN=#{name} -o #{out})
        assert {_, 0} = gpgsm.(command ++ ["--encrypt", file])
        assert CMS.decrypt(context.hsm, key, File.read!(out), certificate: pem) == {:ok, data}
      end
    end
  end

  test "without a certificate no more than 16 recipients are tried", context do
    %{private: private, public: public} = context.keys.rsa
    content = :crypto.strong_rand_bytes(32)
    encrypted = :public_key.encrypt_public(content, public)
    der = &Enveloped.by_hand(encrypted, :gcm, content, recipients: &1)
    assert CMS.decrypt(context.hsm, private, der.(16)) == {:ok, @text}

    assert {:error, %Error{reason: :invalid_argument} = error} =
             CMS.decrypt(context.hsm, private, der.(17))

    assert Exception.message(error) =~ "17 recipients may be meant: give certificate:"
    # As they may stand in it at all.
    assert {:error, %Error{reason: :invalid_argument}} =
             CMS.decrypt(context.hsm, private, der.(1001))
  end

  test "what has no tag is refused where that is asked for", context do
    %{private: private} = context.keys.rsa
    cbc = encrypted(context, [rsa: []], ["-aes-256-cbc"])
    gcm = encrypted(context, [rsa: []], ["-aes-256-gcm"])
    assert CMS.decrypt(context.hsm, private, gcm, authenticated: true) == {:ok, @text}

    assert {:error, %Error{reason: :unsupported}} =
             CMS.decrypt(@nobody, private, cbc, authenticated: true)
  end

  # All of it is there for everybody to see, and costs no call of the token.
  test "what is no message for a key, by an error, before the token is asked", context do
    rsa = encrypted(context, [rsa: []], ["-aes-256-gcm"])

    file = Path.join(context.directory, "signed")
    ca = ~w(-signer #{context.directory}/ca.pem -inkey #{context.directory}/ca.key)

    {"", 0} =
      OpenSSL.openssl(
        ~w(cms -sign -in #{context.directory}/ca.pem -outform DER -out #{file}) ++ ca
      )

    for {message, reason, text} <- [
          {"", :invalid_argument, "nothing is there"},
          {CMS.to_pem(""), :invalid_argument, "line 1: nothing stands here"},
          {File.read!(file), :invalid_argument,
           "it is signed data, which is not encrypted for a key"},
          {rsa <> <<5, 0>>, :invalid_argument, "behind its end"},
          {binary_part(rsa, 0, 300), :invalid_argument, "it is cut off"},
          {<<0x30, 0x80>>, :invalid_argument, "it has no end"},
          {String.duplicate(<<0x30, 0x80>>, 100), :invalid_argument, "more than 32 levels deep"},
          # id-aes256-CCM, which nobody writes.
          {:binary.replace(
             rsa,
             <<0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 46>>,
             <<0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 47>>
           ), :unsupported, "2.16.840.1.101.3.4.1.47"}
        ] do
      assert {:error, %Error{reason: ^reason} = error} =
               CMS.decrypt(@nobody, [label: "x"], message)

      assert Exception.message(error) =~ text
    end

    for {arguments, text} <- [
          {[[label: "x"], :der], "message: must be DER or PEM"},
          {[[label: "x"], rsa, [certificat: "x"]], "did you mean :certificate"},
          {[[label: "x"], rsa, [certificate: []]], "certificate: is empty"},
          {[:x, rsa], "key: "}
        ] do
      error = assert_raise ArgumentError, fn -> apply(CMS, :decrypt, [@nobody | arguments]) end
      assert Exception.message(error) =~ text
    end
  end

  # A point that is on no curve, or on another: the token is not asked.
  test "another's public key is one of the curve", context do
    %{private: private, public: {{:ECPoint, point}, _}} = context.keys.secp256r1
    der = encrypted(context, [secp256r1: []], ["-aes-256-gcm"])
    at = elem(:binary.match(der, <<3, 66, 0, 4>>), 0)
    ephemeral = binary_part(der, at + 3, 65)
    assert ephemeral != point

    for {wrong, n} <-
          Enum.with_index([<<4, 1::512>>, <<4, 0::512>>, <<4, -1::512>>, <<5, 0::512>>]) do
      answer = CMS.decrypt(context.hsm, private, :binary.replace(der, ephemeral, wrong))
      assert {:error, %Error{reason: :unsupported}} = answer, "#{n}"
    end

    for name <- [:secp384r1, :secp521r1] do
      assert {:error, %Error{reason: :unsupported}} =
               CMS.decrypt(context.hsm, context.keys[name].private, der)
    end
  end
end
