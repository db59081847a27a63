defmodule Cryptoki.PKCS12Test do
  # PKCS #12 of OpenSSL, Java and GnuTLS, new and old, and as nobody should write it.
  use ExUnit.Case, async: false

  alias Cryptoki.{DER, Error, Key, PKCS12}
  alias Cryptoki.Test.{MainToken, OpenSSL, Scratch}

  @data DER.oid({1, 2, 840, 113_549, 1, 7, 1})
  @export "openssl pkcs12 -export -inkey $D/key -in $D/chain -passout pass:geheim -out $OUT"

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

  describe "what is read is what is in it:" do
    for {name, program, commands} <- [
          {"OpenSSL 3", "openssl", @export},
          {"OpenSSL, many rounds", "openssl", @export <> " -iter 100000 -macalg sha512"},
          {"OpenSSL, Triple DES, SHA-1", "openssl",
           @export <> " -certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES -macalg sha1"},
          {"OpenSSL, Triple DES of two keys", "openssl",
           @export <> " -certpbe PBE-SHA1-2DES -keypbe PBE-SHA1-2DES -macalg sha384"},
          {"OpenSSL, nothing encrypted", "openssl", @export <> " -certpbe NONE -keypbe NONE"},
          {"OpenSSL, AES-128 and names", "openssl",
           @export <> " -certpbe AES-128-CBC -keypbe AES-128-CBC -name schlüssel"},
          {"OpenSSL, one iteration", "openssl", @export <> " -nomaciter -noiter"},
          {"keytool", "keytool",
           @export <>
             "; keytool -importkeystore -srckeystore $OUT -srcstoretype PKCS12 -srcstorepass geheim " <>
             "-destkeystore $OUT.n -deststoretype PKCS12 -deststorepass geheim -noprompt && mv $OUT.n $OUT"},
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
             "--pkcs-cipher 3des --outder --outfile $OUT || true"}
        ] do
      @tag skip: !System.find_executable(program) && "there is no #{program}"
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
          {" -legacy", :unsupported, "RC2"},
          {" -nomac", :unsupported, "no MAC"},
          {" -certpbe RC2-40-CBC -provider legacy -provider default", :unsupported,
           "`openssl pkcs12 -export"},
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
          {"printf x > $OUT", "cut off"}
        ] do
      assert {:error, %Error{reason: :invalid_argument, detail: text}} =
               PKCS12.read(made(files, commands), "geheim")

      assert text =~ says
    end
  end

  @tag skip: !System.find_executable("openssl") && "there is no openssl"
  test "what the sentence about RC2 says does it", %{files: files, key: key} do
    anew =
      "; openssl pkcs12 -legacy -in $OUT -passin pass:geheim -nodes -out $D/pem" <>
        "; openssl pkcs12 -export -in $D/pem -passout pass:geheim -out $OUT"

    assert {:ok, {^key, [_, _, _]}} =
             PKCS12.read(made(files, @export <> " -legacy" <> anew), "geheim")
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
