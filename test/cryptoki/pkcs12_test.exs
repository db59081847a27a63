defmodule Cryptoki.PKCS12Test do
  # PKCS #12 of OpenSSL, Java and GnuTLS, new and old, and as nobody should write it.
  use ExUnit.Case, async: false

  alias Cryptoki.{DER, Error, Key, PKCS12, X509}
  alias Cryptoki.DER.Reader
  alias Cryptoki.Test.{MainToken, OpenSSL, Scratch}

  @data DER.oid({1, 2, 840, 113_549, 1, 7, 1})
  @export "openssl pkcs12 -export -inkey $D/key -in $D/chain -passout pass:geheim -out $OUT"

  @nss "openssl pkcs12 -export -inkey $D/key -in $D/chain -name k -passout pass:geheim -out $OUT.p12; " <>
         "mkdir $D/nss; certutil -N -d sql:$D/nss --empty-password; pk12util -i $OUT.p12 -d sql:$D/nss -W geheim; " <>
         "pk12util -o $OUT -n k -d sql:$D/nss -W geheim"

  setup_all do
    Scratch.within("pkcs12", fn directory ->
      script = """
      cd #{directory}
      openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2
      for n in mid leaf; do
        openssl ecparam -name prime256v1 -genkey -noout -out $n.key
        openssl req -new -key $n.key -subj /CN=$n -out $n.csr
      done
      printf basicConstraints=CA:TRUE > ext
      openssl x509 -req -in mid.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out mid.pem -extfile ext
      openssl x509 -req -in leaf.csr -CA mid.pem -CAkey mid.key -CAcreateserial -out leaf.pem
      openssl x509 -in leaf.pem -outform DER -out leaf.der
      openssl x509 -in mid.pem -outform DER -out mid.der
      openssl x509 -in ca.pem -outform DER -out ca.der
      cp leaf.key key
      cat ca.pem leaf.pem mid.pem > chain
      """

      {_, 0} = System.cmd("sh", ["-ec", script], stderr_to_stdout: true)

      files =
        for name <- ~w[key chain leaf.der mid.der ca.der],
            do: {name, File.read!(Path.join(directory, name))}

      files = Map.new(files)
      {:ok, key} = Cryptoki.PrivateKey.File.read(files["key"])
      %{files: files, key: key, chain: for(n <- ~w[leaf mid ca], do: files[n <> ".der"])}
    end)
  end

  defp made(files, commands) do
    Scratch.within("pkcs12", fn directory ->
      for {name, bytes} <- files, do: File.write!(Path.join(directory, name), bytes)
      out = Path.join(directory, "out")
      env = [{"D", directory}, {"OUT", out}]
      {text, status} = System.cmd("sh", ["-ec", commands], env: env, stderr_to_stdout: true)
      assert status == 0, text
      File.read!(out)
    end)
  end

  # What this OpenSSL can write.
  @can %{
    legacy:
      match?(
        {_, 0},
        System.cmd("sh", ["-c", "echo | openssl rc2 -provider legacy -provider default -k x 2>&1"])
      ),
    pbmac1:
      match?({_, 0}, System.cmd("sh", ["-c", "openssl pkcs12 -help 2>&1 | grep pbmac1_pbkdf2"]))
  }

  describe "what is read is what is in it:" do
    for made <- [
          {"OpenSSL 3", "openssl", @export},
          {"OpenSSL, many rounds", "openssl", @export <> " -iter 100000 -macalg sha512"},
          {"OpenSSL, Triple DES, SHA-1", "openssl",
           @export <> " -certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES -macalg sha1"},
          {"OpenSSL, Triple DES of two keys", "openssl",
           @export <> " -certpbe PBE-SHA1-2DES -keypbe PBE-SHA1-2DES -macalg sha384"},
          {"OpenSSL, RC2 of 40 bits, as -legacy has it", "openssl", @export <> " -legacy",
           :legacy},
          {"OpenSSL, RC2 of 128 bits", "openssl",
           @export <> " -legacy -certpbe PBE-SHA1-RC2-128 -keypbe PBE-SHA1-RC2-128", :legacy},
          {"OpenSSL 3.4, PBMAC1", "openssl", @export <> " -pbmac1_pbkdf2", :pbmac1},
          {"OpenSSL 3.4, PBMAC1 of SHA-512", "openssl",
           @export <> " -pbmac1_pbkdf2 -pbmac1_pbkdf2_md sha512 -macalg sha384 -iter 4096",
           :pbmac1},
          {"OpenSSL, nothing encrypted", "openssl", @export <> " -certpbe NONE -keypbe NONE"},
          {"OpenSSL, AES-128 and names", "openssl",
           @export <> " -certpbe AES-128-CBC -keypbe AES-128-CBC -name schlüssel"},
          {"OpenSSL, one iteration", "openssl", @export <> " -nomaciter -noiter"},
          {"keytool", "keytool",
           @export <>
             "; keytool -importkeystore -srckeystore $OUT -srcstoretype PKCS12 -srcstorepass geheim " <>
             "-destkeystore $OUT.n -deststoretype PKCS12 -deststorepass geheim -noprompt && mv $OUT.n $OUT"},
          {"keytool, as Java 8 wrote it", "keytool",
           @export <>
             "; keytool -J-Dkeystore.pkcs12.legacy -importkeystore -srckeystore $OUT -srcstoretype PKCS12 -srcstorepass geheim " <>
             "-destkeystore $OUT.n -deststoretype PKCS12 -deststorepass geheim -noprompt && mv $OUT.n $OUT"},
          {"pk12util of NSS, which writes BER", "pk12util", @nss},
          {"pk12util, as browsers wrote it", "pk12util",
           @nss <>
             " -c 'PKCS #12 V2 PBE With SHA-1 And 3KEY Triple DES-CBC' -C 'PKCS #12 V2 PBE With SHA-1 And 40 Bit RC2 CBC'"},
          {"pk12util, RC2 of 128 bits", "pk12util",
           @nss <>
             " -c 'PKCS #12 V2 PBE With SHA-1 And 128 Bit RC2 CBC' -C 'PKCS #12 V2 PBE With SHA-1 And 128 Bit RC2 CBC'"},
          {"keytool, as Java 8 wrote it without RC2", "keytool",
           @export <>
             "; keytool -J-Dkeystore.pkcs12.certPbeIterationCount=50000 " <>
             "-J-Dkeystore.pkcs12.certProtectionAlgorithm=PBEWithSHA1AndDESede " <>
             "-J-Dkeystore.pkcs12.keyProtectionAlgorithm=PBEWithSHA1AndDESede -J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA1 " <>
             "-importkeystore -srckeystore $OUT -srcstoretype PKCS12 -srcstorepass geheim " <>
             "-destkeystore $OUT.n -deststoretype PKCS12 -deststorepass geheim -noprompt && mv $OUT.n $OUT"},
          {"certtool", "certtool",
           "cat $D/chain | awk '/BEGIN/{n++} {print > (ENVIRON[\"D\"] \"/c\" n)}'; cat $D/c2 $D/c3 $D/c1 > $D/sorted; " <>
             "certtool --to-p12 --load-privkey $D/key --load-certificate $D/sorted --p12-name k --password geheim " <>
             "--outder --outfile $OUT"},
          {"certtool, Triple DES", "certtool",
           "certtool --to-p12 --load-privkey $D/key --load-certificate $D/chain --p12-name k --password geheim " <>
             "--pkcs-cipher 3des --outder --outfile $OUT || true"},
          {"certtool, which writes it as text by itself", "certtool",
           "certtool --to-p12 --load-privkey $D/key --load-certificate $D/chain --p12-name k --password geheim --outfile $OUT"},
          {"OpenSSL, RC2 in PBES2", "openssl",
           @export <> " -legacy -certpbe rc2-cbc -keypbe rc2-40-cbc", :legacy},
          {"OpenSSL, DES in PBES2", "openssl",
           @export <> " -legacy -certpbe des-cbc -keypbe des-cbc", :legacy}
        ],
        name = elem(made, 0),
        program = elem(made, 1),
        commands = elem(made, 2) do
      @tag skip:
             (!System.find_executable(program) && "there is no #{program}") ||
               (tuple_size(made) == 4 && !@can[elem(made, 3)] && "this OpenSSL writes none")
      test name, %{files: files, key: key, chain: chain} do
        der = made(files, unquote(commands))
        assert {:ok, {read, certificates}} = PKCS12.read(der, "geheim")
        assert read == key
        assert hd(certificates) == hd(chain)
        assert Enum.sort(certificates) == Enum.sort(chain)
        if length(certificates) == 3, do: assert(certificates == chain)

        for wrong <- ["geheim1", "", "Geheim"] do
          assert {:error, %Error{reason: :invalid_argument} = error} = PKCS12.read(der, wrong)
          assert error.detail =~ "with this password"
        end

        assert {:error, %Error{reason: :unsupported, detail: text}} = PKCS12.read(der, nil)
        assert text =~ "say password:"
      end
    end

    test "passwords of any letters, and none", %{files: files, key: key} do
      for password <- ["schlüssel€", "", "𝔘 two halves", String.duplicate("long", 100)] do
        commands =
          "PASSWORD='#{password}' " <> String.replace(@export, "pass:geheim", "env:PASSWORD")

        der = made(files, commands <> " -certpbe PBE-SHA1-3DES")
        assert {:ok, {^key, [_ | _]}} = PKCS12.read(der, password)
      end
    end
  end

  test "what is not read says so", %{files: files} do
    for {more, reason, says} <- [
          {" -nomac", :unsupported, "no MAC"},
          {" -certpbe ARIA-128-CBC", :unsupported, "`openssl pkcs12 -export"},
          {" -iter 2000001", :unsupported, "rounds"},
          {" -iter 2000000 -certpbe PBE-SHA1-3DES", :unsupported, "rounds in all"}
        ] do
      der = made(files, @export <> more)
      assert {:error, %Error{reason: ^reason, detail: text}} = PKCS12.read(der, "geheim")
      assert text =~ says
      refute text =~ "geheim"
    end

    for {commands, says} <- [
          {"openssl pkcs12 -export -nokeys -in $D/chain -passout pass:geheim -out $OUT",
           "no private key"},
          {"cp $D/leaf.der $OUT", "byte"},
          {"printf x > $OUT", "neither DER nor PEM"},
          {"printf 0x > $OUT", "cut off"},
          {"cp $D/chain $OUT", ~s("CERTIFICATE")},
          {"for i in 1 2; do echo -----BEGIN PKCS12-----; base64 $D/leaf.der; echo -----END PKCS12-----; done > $OUT",
           "there are 2"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: text}} =
               PKCS12.read(made(files, commands), "geheim")

      assert text =~ says
    end
  end

  describe "BER, as old programs wrote it:" do
    test "around what the MAC is of, and within it; OpenSSL reads it likewise", context do
      %{files: files, key: key, chain: chain} = context
      der = made(files, @export <> " -certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES -macalg sha1")
      within = with_mac(der |> safes() |> ber(), "geheim")

      for file <- [ber(der), within, ber(within)] do
        assert PKCS12.read(file, "geheim") == {:ok, {key, chain}}
        read = "openssl pkcs12 -in $D/ber -passin pass:geheim -nodes -out $OUT"
        pem = made(Map.put(files, "ber", file), read)
        {:ok, entries} = Cryptoki.PEM.decode(pem, :all)
        certificates = for {"CERTIFICATE", certificate} <- entries, do: certificate
        assert Enum.sort(certificates) == Enum.sort(chain)
        assert Cryptoki.PrivateKey.File.read(pem) == {:ok, key}
        assert {:error, %Error{detail: text}} = PKCS12.read(file, "geheim1")
        assert text =~ "not authentic with this password"
      end
    end

    test "what has too many values, or too many levels, is refused" do
      many = IO.iodata_to_binary([0x30, 0x80, :binary.copy(<<5, 0>>, 200_000), 0, 0])
      deep = :binary.copy(<<0x30, 0x80>>, 1000)

      for {bytes, says} <- [{many, "too many values"}, {deep, "levels deep"}],
          file <- [bytes, with_mac(bytes, "geheim")] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PKCS12.read(file, "geheim")

        assert text =~ says
      end
    end
  end

  # The bytes that the MAC is of.
  defp safes(der) do
    {:ok, bytes} =
      Reader.read(der, "", fn pfx ->
        [_version, info, _mac] = Reader.values(pfx)
        [_type, content] = Reader.values(info)
        content |> Reader.only() |> Reader.octets()
      end)

    bytes
  end

  # No length is told before its end, and strings stand in parts.
  defp ber(der) do
    {:ok, ber} = Reader.read(der, "", &indefinite/1)
    IO.iodata_to_binary(ber)
  end

  defp indefinite(%{tag: tag} = value) do
    cond do
      Bitwise.band(tag, 0x20) != 0 ->
        [tag, 0x80, Enum.map(Reader.values(value), &indefinite/1), 0, 0]

      tag == 4 ->
        [0x24, 0x80, parts(value.contents), 0, 0]

      tag == 0x80 ->
        [0xA0, 0x80, parts(value.contents), 0, 0]

      true ->
        value.der
    end
  end

  defp parts(<<part::binary-100, rest::binary>>), do: [DER.octet_string(part) | parts(rest)]
  defp parts(rest), do: [DER.octet_string(rest)]

  describe "PBMAC1:" do
    @vectors "test/vectors/pbmac1"

    for name <- ~w[256_256 512_256 512_512] do
      test "RFC 9579, #{name}" do
        der = File.read!("#{@vectors}/pbmac1_#{unquote(name)}.good.p12")
        assert {:ok, {%{type: :rsa} = key, [certificate]}} = PKCS12.read(der, "1234")
        assert X509.certificate!(certificate).public_key == key.public

        for wrong <- ["12345", ""] do
          assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                   PKCS12.read(der, wrong)

          assert text =~ "not authentic with this password"
        end

        # Each byte of the MAC, and one of what it is of.
        size = byte_size(der)
        at = :binary.match(der, <<0xA0>>) |> elem(0)

        for at <- [at + 60, size - 20, size - 40] do
          {before, <<byte, rest::binary>>} = :erlang.split_binary(der, at)
          changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
          assert {:error, %Error{}} = PKCS12.read(changed, "1234")
        end
      end
    end

    for {name, says} <- [
          {"bad-iter", "not authentic with this password"},
          {"bad-salt", "not authentic with this password"},
          {"no-len", "no keyLength"}
        ] do
      test "RFC 9579, #{name}" do
        der = File.read!("#{@vectors}/pbmac1_256_256.#{unquote(name)}.p12")

        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PKCS12.read(der, "1234")

        assert text =~ unquote(says)
      end
    end

    test "a key of fewer than 20 bytes, of more than any hash, rounds without end, other derivations and hashes" do
      pbkdf2 = fn count, size, prf ->
        DER.sequence([
          DER.oid({1, 2, 840, 113_549, 1, 5, 12}),
          DER.sequence([DER.octet_string("salt"), DER.integer(count), DER.integer(size), prf])
        ])
      end

      sha256 = DER.sequence([DER.oid({1, 2, 840, 113_549, 2, 9}), DER.null()])
      other = DER.sequence([DER.oid({1, 2, 3}), DER.null()])

      for {kdf, scheme, reason, says} <- [
            {pbkdf2.(1, 19, sha256), sha256, :invalid_argument, "20 to 64 bytes"},
            {pbkdf2.(1, 65, sha256), sha256, :invalid_argument, "20 to 64 bytes"},
            {pbkdf2.(2_000_001, 32, sha256), sha256, :unsupported, "rounds"},
            {pbkdf2.(0, 32, sha256), sha256, :invalid_argument, "there are none"},
            {pbkdf2.(1, 32, other), sha256, :unsupported, "not known here"},
            {pbkdf2.(1, 32, sha256), other, :unsupported, "not known here"},
            {other, sha256, :unsupported, "not known here"}
          ] do
        algorithm =
          DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 5, 14}), DER.sequence([kdf, scheme])])

        info = DER.sequence([algorithm, DER.octet_string(<<0::256>>)])
        mac = DER.sequence([info, DER.octet_string("")])
        safe = DER.sequence([@data, DER.explicit(0, DER.octet_string(DER.sequence([])))])
        der = DER.sequence([DER.integer(3), safe, mac])
        assert {:error, %Error{reason: ^reason, detail: text}} = PKCS12.read(der, "geheim")
        assert text =~ says
      end
    end
  end

  test "nothing is opened before the MAC is verified: each byte of what it covers", %{
    files: files,
    key: key
  } do
    der = made(files, @export)
    size = byte_size(der)

    for at <-
          Enum.uniq(
            [0, 1, 4, 10 | Enum.to_list(30..(size - 1)//37)] ++
              Enum.to_list((size - 60)..(size - 1)//3)
          ) do
      {before, <<byte, rest::binary>>} = :erlang.split_binary(der, at)
      changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
      assert {:error, %Error{} = error} = PKCS12.read(changed, "geheim")
      # Of the ciphertext nothing is told but that.
      if at > 100 and at < size - 110, do: assert(error.detail =~ "it is not authentic")
      assert {:error, %Error{}} = PKCS12.read(before, "geheim")
    end

    assert {:ok, {^key, _}} = PKCS12.read(der, "geheim")
  end

  test "rounds without end, and safes without end, are refused" do
    inner = fn value -> DER.sequence([@data, DER.explicit(0, DER.octet_string(value))]) end
    hash = DER.sequence([DER.oid({2, 16, 840, 1, 101, 3, 4, 2, 1}), DER.null()])

    for {iterations, says} <- [
          {2_000_001, "rounds"},
          {Integer.pow(2, 100), "rounds"},
          {0, "there are none"}
        ] do
      mac =
        DER.sequence([
          DER.sequence([hash, DER.octet_string(<<0::256>>)]),
          DER.octet_string("salt"),
          DER.integer(iterations)
        ])

      der = DER.sequence([DER.integer(3), inner.(DER.sequence([])), mac])
      assert {:error, %Error{detail: text}} = PKCS12.read(der, "geheim")
      assert text =~ says
    end

    safe = fn bags -> DER.sequence(bags) end

    bag = fn value ->
      DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 12, 10, 1, 6}), DER.explicit(0, value)])
    end

    deep = Enum.reduce(1..10, safe.([]), fn _, safe_contents -> safe.([bag.(safe_contents)]) end)
    der = with_mac(DER.sequence([inner.(deep)]), "geheim")
    assert {:error, %Error{detail: text}} = PKCS12.read(der, "geheim")
    assert text =~ "too deep"

    # Algorithms without what they need, and a bag with nothing in it.
    pbes2 = fn kdf ->
      DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 5, 13}), DER.sequence([kdf, kdf])])
    end

    pbkdf2 = DER.oid({1, 2, 840, 113_549, 1, 5, 12})
    shrouded = {1, 2, 840, 113_549, 1, 12, 10, 1, 2}

    for algorithm <- [
          pbes2.(DER.sequence([pbkdf2, DER.sequence([])])),
          pbes2.(DER.sequence([pbkdf2, DER.sequence([DER.octet_string("x")])])),
          pbes2.(DER.sequence([pbkdf2])),
          DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 12, 1, 3})])
        ] do
      content = DER.sequence([@data, algorithm, DER.value(0x80, <<0::64>>)])
      data = DER.sequence([DER.integer(0), content])
      sealed = DER.sequence([DER.oid({1, 2, 840, 113_549, 1, 7, 6}), DER.explicit(0, data)])

      for safes <- [
            [sealed],
            [
              inner.(
                safe.([
                  DER.sequence([
                    DER.oid(shrouded),
                    DER.explicit(0, DER.sequence([algorithm, DER.octet_string("x")]))
                  ])
                ])
              )
            ]
          ] do
        der = with_mac(DER.sequence(safes), "geheim")
        assert {:error, %Error{reason: reason}} = PKCS12.read(der, "geheim")
        assert reason in [:unsupported, :invalid_argument]
      end
    end

    empty = inner.(safe.([DER.sequence([DER.oid(shrouded), DER.explicit(0, DER.sequence([]))])]))

    assert {:error, %Error{reason: :invalid_argument}} =
             PKCS12.read(with_mac(DER.sequence([empty]), "geheim"), "geheim")

    many = DER.sequence(List.duplicate(inner.(safe.([])), 300))
    assert {:error, %Error{detail: text}} = PKCS12.read(with_mac(many, "geheim"), "geheim")
    assert text =~ "more than 256 parts"
  end

  # With the key that RFC 7292 makes of the password for a MAC.
  defp with_mac(bytes, password) do
    salt = "12345678"
    mac = :crypto.mac(:hmac, :sha, mac_key(password, salt), bytes)
    hash = DER.sequence([DER.oid({1, 3, 14, 3, 2, 26}), DER.null()])
    data = DER.sequence([DER.sequence([hash, DER.octet_string(mac)]), DER.octet_string(salt)])

    DER.sequence([
      DER.integer(3),
      DER.sequence([@data, DER.explicit(0, DER.octet_string(bytes))]),
      data
    ])
  end

  defp mac_key(password, salt) do
    text = for(<<c <- password>>, into: <<>>, do: <<0, c>>) <> <<0, 0>>
    fill = fn bytes -> bytes |> :binary.copy(64) |> binary_part(0, 64) end
    :crypto.hash(:sha, :binary.copy(<<3>>, 64) <> fill.(salt) <> fill.(text))
  end

  describe "on the token" do
    setup do
      %{hsm: start_supervised!({Cryptoki, MainToken.own(sessions: 2)})}
    end

    test "the key signs, and its certificates come along", %{
      hsm: hsm,
      files: files,
      chain: chain,
      key: key
    } do
      der = made(files, @export)
      template = [label: "p12", id: <<3>>, token: true]

      assert {:ok, {%Key{label: "p12"} = made, ^chain}} =
               Cryptoki.import_key(hsm, {:pkcs12, der}, template, password: fn -> "geheim" end)

      signature = Cryptoki.sign!(hsm, made, :ecdsa_sha256, "a text")
      assert OpenSSL.valid?(key.public, signature, {:ecdsa, :sha256}, "a text")

      assert {%Key{}, ^chain} =
               Cryptoki.import_key!(hsm, {:pkcs12, der}, [label: "2"], password: "geheim")

      assert {:ok, {%Key{}, ^chain}} =
               :cryptoki.import_key(hsm, {:pkcs12, der}, %{label: "3"}, %{password: "geheim"})

      assert {:error, %Error{reason: :unsupported}} =
               Cryptoki.import_key(hsm, {:pkcs12, der}, label: "x")

      assert {:error, %Error{reason: :unsupported, detail: text}} =
               Cryptoki.import_key(hsm, der, label: "x")

      assert text =~ "{:pkcs12, der}"
      assert_raise ArgumentError, fn -> Cryptoki.import_key(hsm, {:pkcs12, :der}, label: "x") end

      assert_raise ArgumentError, ~r/did you mean/, fn ->
        Cryptoki.import_key(hsm, {:pkcs12, der}, lable: "x")
      end

      assert Cryptoki.find!(hsm, label: "x") == []
    end
  end
end
