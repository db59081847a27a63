defmodule Cryptoki.ImportKeyTest do
  # Private keys of files on the token: they sign as the file does, and nothing is left of those that do not.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Key}
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken, OpenSSL}

  @text "a text that is signed"

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.own(sessions: 2)})
    made = &KeyFiles.make/1

    %{
      hsm: hsm,
      files: %{
        rsa: made.("openssl genpkey, RSA"),
        ec: made.("openssl ecparam"),
        ed25519: made.("openssl genpkey, Ed25519")
      }
    }
  end

  setup do
    %{label: "import #{System.unique_integer([:positive])}"}
  end

  describe "a key signs on the token as in its file:" do
    for {name, kind, missing} <- KeyFiles.all(), kind not in [:x25519, :x448] do
      @tag skip: missing
      test name, %{hsm: hsm, label: label} do
        %{file: file, public: public} = KeyFiles.make(unquote(name))
        template = [label: label, id: <<7>>, token: true]
        assert {:ok, %Key{class: :private_key} = key} = Cryptoki.import_key(hsm, file, template)
        assert {key.label, key.id, key.token} == {label, <<7>>, true}
        {mechanism, scheme} = signs(unquote(kind))
        signature = Cryptoki.sign!(hsm, key, mechanism, @text)
        assert OpenSSL.valid?(public, signature, scheme, @text)

        # And the public key beside it is that of the file, and verifies.
        twin = Cryptoki.find_one!(hsm, class: :public_key, label: label, id: <<7>>)
        assert twin.token
        assert Cryptoki.verify(hsm, twin, mechanism, @text, signature) == :ok
        assert Cryptoki.public_key!(hsm, key) == Cryptoki.public_key!(hsm, twin)

        read = Cryptoki.attributes!(hsm, key, [:sensitive, :extractable, :private, :sign, :local])
        assert %{sensitive: true, extractable: false, private: true, sign: true} = read
        assert read.local == false
      end
    end
  end

  describe "a key in OpenSSH's own form signs on the token as in its file:" do
    for {name, kind, password} <- [{"rsa", :rsa, nil}, {"ecdsa", :ec, "geheim123"}] do
      missing = !System.find_executable("ssh-keygen") && "there is no ssh-keygen"

      @tag skip: missing
      test "#{name}, #{if password, do: "with its password", else: "without a password"}",
           %{hsm: hsm, label: label} do
        password = unquote(password)
        made = "ssh-keygen -q -t #{unquote(name)} -N '#{password}' -f $OUT"
        file = KeyFiles.changed("", made)
        assert file =~ "BEGIN OPENSSH PRIVATE KEY"
        public = KeyFiles.changed(file, "ssh-keygen -e -m PKCS8 -f $IN > $OUT")
        opts = if password, do: [password: password], else: []
        assert {:ok, key} = Cryptoki.import_key(hsm, file, [label: label, token: true], opts)
        {mechanism, scheme} = signs(unquote(kind))
        signature = Cryptoki.sign!(hsm, key, mechanism, @text)
        assert OpenSSL.valid?(public, signature, scheme, @text)
        twin = Cryptoki.find_one!(hsm, class: :public_key, label: label)
        assert Cryptoki.verify(hsm, twin, mechanism, @text, signature) == :ok

        if password do
          assert {:error, %Error{reason: :invalid_argument}} =
                   Cryptoki.import_key(hsm, file, [], password: "falsch")

          assert {:error, %Error{reason: :unsupported}} = Cryptoki.import_key(hsm, file, [])
        end
      end
    end
  end

  describe "a key that agrees does so as its file:" do
    for {name, curve, size} <- [
          {"openssl genpkey, X25519 in DER", :x25519, 32},
          {"openssl genpkey, X448", :x448, 56}
        ] do
      test name, %{hsm: hsm, label: label} do
        made = KeyFiles.make(unquote(name))
        # SoftHSM has one type for all keys of RFC 8410.
        type = if MainToken.name() == :softhsm2, do: [key_type: :ec_edwards], else: []
        assert {:ok, key} = Cryptoki.import_key(hsm, made.file, [label: label] ++ type)
        assert Cryptoki.attributes!(hsm, key, [:derive]) == %{derive: true}
        {public, secret} = :crypto.generate_key(:ecdh, unquote(curve))
        template = [class: :secret_key, key_type: :generic_secret, sensitive: false]
        template = [extractable: true, value_len: unquote(size)] ++ template
        mechanism = {:ecdh1_derive, public: public, kdf: :null}
        {:ok, agreed} = Cryptoki.derive_key(hsm, key, mechanism, template)

        # The other half is in the file: its bytes stand behind all else.
        [{:SubjectPublicKeyInfo, der, _}] = :public_key.pem_decode(made.public)
        point = binary_part(der, byte_size(der), -unquote(size))
        twin = Cryptoki.find_one!(hsm, class: :public_key, label: label)
        assert {:ok, {{:ECPoint, ^point}, _curve}} = Cryptoki.public_key(hsm, twin)
        assert %{value: value} = Cryptoki.attributes!(hsm, agreed, [:value])
        assert value == :crypto.compute_key(:ecdh, point, secret, unquote(curve))
      end
    end
  end

  test "a key that only decrypts is proven by that", %{hsm: hsm, files: files, label: label} do
    uses = [decrypt: true, public: [encrypt: true]]
    assert {:ok, key} = Cryptoki.import_key(hsm, files.rsa.file, [label: label] ++ uses)
    assert %{sign: sign, decrypt: true} = Cryptoki.attributes!(hsm, key, [:sign, :decrypt])
    if MainToken.name() == :softhsm2, do: assert(sign == true)

    only = [private: [decrypt: true, sign: false], public: [encrypt: true]]
    assert {:ok, key} = Cryptoki.import_key(hsm, files.rsa.file, [label: label] ++ only)
    ciphertext = OpenSSL.encrypt(files.rsa.public, :rsa_pkcs1, "text")
    assert Cryptoki.decrypt(hsm, key, :rsa_pkcs, ciphertext) == {:ok, "text"}
  end

  describe "the template" do
    test "wins, and says what each half is", %{hsm: hsm, files: files, label: label} do
      halves = [private: [id: <<1>>], public: [id: <<2>>]]
      template = [label: label, extractable: true] ++ halves
      assert {:ok, %Key{id: <<1>>} = key} = Cryptoki.import_key(hsm, files.ec.file, template)
      assert Cryptoki.attributes!(hsm, key, [:extractable]) == %{extractable: true}
      assert [%Key{id: <<2>>}] = Cryptoki.find!(hsm, class: :public_key, label: label)
    end

    test "leaves the public half out", %{hsm: hsm, files: files, label: label} do
      assert %Key{} = Cryptoki.import_key!(hsm, files.ec.file, label: label, public: false)
      assert [%Key{class: :private_key}] = Cryptoki.find!(hsm, label: label)
      assert %Key{} = Cryptoki.import_key!(hsm, files.ec.file, %{label: label, public: true})
      assert [_] = Cryptoki.find!(hsm, class: :public_key, label: label)
    end

    test "may say what the file says, and nothing else", %{hsm: hsm, files: files, label: label} do
      same = [label: label, class: :private_key, key_type: :ec, curve: :secp256r1]
      assert {:ok, _key} = Cryptoki.import_key(hsm, files.ec.file, same)

      for {wrong, name} <- [
            {[class: :public_key], ":class"},
            {[key_type: :rsa], ":key_type"},
            {[curve: :secp384r1], ":curve"},
            {[value: "a secret that is shown nowhere"], ":value"},
            {[modulus: <<7::2048>>], ":modulus"},
            {[public: [ec_point: <<4, 5>>]], ":ec_point"},
            {[private: [value: "a secret that is shown nowhere"]], ":value"},
            {[{0x11, "a secret that is shown nowhere"}], "17"},
            {[modulus_bits: 2048], ":modulus_bits"}
          ] do
        error =
          assert_raise ArgumentError, fn -> Cryptoki.import_key(hsm, files.ec.file, wrong) end

        assert error.message =~ "attribute #{name}: what is imported says"
        refute error.message =~ "secret"
      end

      assert_raise ArgumentError, ~r/modulus: what is imported says/, fn ->
        Cryptoki.import_key(hsm, files.rsa.file, modulus: <<7::2048>>)
      end
    end

    test "is looked at before the file", %{hsm: hsm} do
      for {file, template, opts, message} <- [
            {"x", [lable: "a"], [], ~r/did you mean :label/},
            {"x", [label: "a", private: [lable: "a"]], [], ~r/did you mean :label/},
            {"x", [public: "yes"], [], ~r/there is no attribute :public/},
            {"x", :label, [], ~r/a template is/},
            {"x", [], [how: :wrap], ~r/how: must be :auto, :create or :unwrap/},
            {"x", [], [password: :protected_path], ~r/password: must be what pin: may be/},
            {"x", [], [password: 1234], ~r/password: must be.*got: an integer/},
            {"x", [], [pasword: "abc"], ~r/did you mean :password/},
            {{:aes, ~c"0123"}, [], [], ~r/bytes of a secret key are a binary, got: a list/},
            {{:des3, "0123"}, [], [], ~r/and no :des3/},
            {{:aes, "0123"}, [lable: "a"], [], ~r/did you mean :label/},
            {{:RSAPrivateKey, 1}, [], [], ~r/and no :RSAPrivateKey/},
            {{1, 2}, [], [], ~r/got: a tuple of 2/},
            {~c"x", [], [], ~r/got: a list/},
            {nil, [], [], ~r/import_key takes/}
          ] do
        assert_raise ArgumentError, message, fn ->
          Cryptoki.import_key(hsm, file, template, opts)
        end
      end
    end
  end

  test "what is no key comes to no token", %{hsm: hsm, files: files} do
    assert {:error, %Error{reason: :invalid_argument, executed: false}} =
             Cryptoki.import_key(hsm, "no key", [])

    file =
      KeyFiles.changed(
        files.rsa.file,
        "openssl pkcs8 -topk8 -in $IN -passout pass:abcdef -out $OUT"
      )

    assert {:error, %Error{reason: :unsupported} = error} = Cryptoki.import_key(hsm, file, [])
    assert Exception.message(error) =~ "say password:, or `openssl pkcs8 -topk8 -nocrypt"
    assert_raise Error, fn -> Cryptoki.import_key!(hsm, file, []) end
    assert {:error, %Error{reason: :shutdown}} = Cryptoki.import_key(:nobody, files.ec.file, [])
  end

  test "an encrypted file, with its password", %{hsm: hsm, files: files, label: label} do
    commands = "openssl pkcs8 -topk8 -in $IN -passout pass:geheim123 -out $OUT"
    file = KeyFiles.changed(files.rsa.file, commands)
    System.put_env("CRYPTOKI_TEST_PASSWORD", "geheim123")
    on_exit(fn -> System.delete_env("CRYPTOKI_TEST_PASSWORD") end)

    for password <- [
          "geheim123",
          ~c"geheim123",
          fn -> "geheim123" end,
          {:env, "CRYPTOKI_TEST_PASSWORD"}
        ] do
      assert {:ok, key} = Cryptoki.import_key(hsm, file, [label: label], password: password)
      signature = Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, @text)
      assert OpenSSL.valid?(files.rsa.public, signature, {:rsa_pkcs1, :sha256}, @text)
    end

    assert {:ok, _key} = :cryptoki.import_key(hsm, file, %{}, %{password: "geheim123"})

    assert {:error, %Error{reason: :invalid_argument} = error} =
             Cryptoki.import_key(hsm, file, [], password: "geheim124")

    assert Exception.message(error) =~ "with this password"
    refute inspect(error) =~ "geheim"

    assert {:error, %Error{reason: :pin_unavailable, detail: "password: the environment" <> _}} =
             Cryptoki.import_key(hsm, file, [], password: {:env, "CRYPTOKI_TEST_NONE"})
  end

  test "from Erlang", %{hsm: hsm, files: files, label: label} do
    template = %{label: label, private: %{id: <<1>>}, public: %{id: <<2>>}}
    assert {:ok, %Key{id: <<1>>}} = :cryptoki.import_key(hsm, files.ec.file, template)
    assert {:error, {:invalid_argument, %{detail: _}}} = :cryptoki.import_key(hsm, "x", %{})

    for {arguments, position} <- [
          {[hsm, nil, %{}], 2},
          {[hsm, "x", %{lable: "a"}], 3},
          {[hsm, "x", %{}, %{how: :wrap}], 4}
        ] do
      {:badarg, stack} =
        try do
          apply(:cryptoki, :import_key, arguments)
        catch
          :error, reason -> {reason, __STACKTRACE__}
        end

      assert is_map_key(:cryptoki.format_error(:badarg, stack), position)
    end
  end

  test "in a session of one's own", %{hsm: hsm, files: files, label: label} do
    Cryptoki.with_session(hsm, fn session ->
      assert {:ok, key} = Cryptoki.import_key(session, files.ec.file, label: label)
      assert {:ok, _} = Cryptoki.sign(session, key, :ecdsa_sha256, @text)
    end)
  end

  describe "when something fails" do
    setup do
      module = FaultyModule.new()
      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)}, id: :faulty)
      on_exit(fn -> FaultyModule.control(module, "") end)
      %{module: module, faulty: hsm}
    end

    for {what, rules, reason} <- [
          {"the signature that proves it is wrong", "lie C_Sign garbage", :module_misbehaved},
          {"it cannot sign just now", "C_Sign rv=0x30", :device_error},
          {"it cannot be read", "C_GetAttributeValue rv=0x30", :device_error},
          {"the public key is refused", "C_CreateObject rv=0x13 after=1",
           :attribute_value_invalid},
          {"the public key verifies nothing", "C_Verify rv=0xc0", :module_misbehaved}
        ] do
      test "nothing is left: #{what}", context do
        %{module: module, faulty: hsm, files: files, label: label} = context

        for {_kind, %{file: file}} <- Map.take(files, [:rsa, :ec]) do
          FaultyModule.control(module, unquote(rules))
          import = Cryptoki.import_key(hsm, file, label: label, token: true)
          FaultyModule.control(module, "")
          assert {:error, %Error{executed: false} = error} = import
          assert error.reason == unquote(reason)
          assert Cryptoki.find!(hsm, label: label) == []
        end
      end
    end

    test "a key that still signs when the time is over is destroyed when it has", context do
      %{module: module, faulty: hsm, files: files, label: label} = context
      FaultyModule.control(module, "C_Sign hang count=1")
      template = [label: label, token: true]

      assert {:error, %Error{reason: :timeout, executed: :maybe} = error} =
               Cryptoki.import_key(hsm, files.ec.file, template, timeout: 20_000)

      assert Exception.message(error) =~ "on the token perhaps"
      FaultyModule.control(module, "")
      FaultyModule.await(module, ~r/C_DestroyObject ran 0x0/)
      assert Cryptoki.find!(hsm, label: label) == []
    end

    test "what may have been made is told, and is not made twice", context do
      %{module: module, faulty: hsm, files: files, label: label} = context
      template = [label: label, token: true]

      for {after_calls, left} <- [{0, [:private_key]}, {1, [:public_key]}] do
        FaultyModule.control(module, "C_CreateObject rv=0x30 after_forward after=#{after_calls}")
        before = FaultyModule.count(module, ~r/C_CreateObject ran/)

        assert {:error, %Error{reason: :device_error, function: :C_CreateObject} = error} =
                 Cryptoki.import_key(hsm, files.ec.file, template)

        assert error.executed == :maybe
        assert FaultyModule.count(module, ~r/C_CreateObject ran/) == before + after_calls + 1
        FaultyModule.control(module, "")
        found = Cryptoki.find!(hsm, label: label)
        assert Enum.map(found, & &1.class) == left
        for object <- found, do: :ok = Cryptoki.destroy(hsm, object)
      end
    end

    test "what could not be taken away again is told", context do
      %{module: module, faulty: hsm, files: files, label: label} = context
      FaultyModule.control(module, "lie C_Sign garbage\nC_DestroyObject rv=0x30")
      template = [label: label, token: true]

      assert {:error, %Error{reason: :module_misbehaved, executed: :maybe} = error} =
               Cryptoki.import_key(hsm, files.ec.file, template)

      assert Exception.message(error) =~ "is on the token perhaps: C_DestroyObject"
      FaultyModule.control(module, "")
      assert [_] = Cryptoki.find!(hsm, label: label)
    end

    test "a key that wants its PIN at each use, or may do nothing, is not taken", context do
      %{faulty: hsm, files: files, label: label} = context

      for uses <- [[always_authenticate: true], [sign: false, decrypt: false, unwrap: true]] do
        template = [label: label, token: true, private: uses, public: [verify: true]]

        assert {:error, %Error{reason: :unsupported, executed: false} = error} =
                 Cryptoki.import_key(hsm, files.rsa.file, template)

        assert Exception.message(error) =~ "cannot be proven"
        assert Cryptoki.find!(hsm, label: label) == []
      end
    end

    test "no byte of the key is in an error, a log or a stack trace", context do
      %{module: module, faulty: hsm, files: files, label: label} = context
      %{file: file} = files.ec
      {:ok, key} = Cryptoki.PrivateKey.File.read(file)
      secret = key.attributes[:value]

      log =
        capture_log(fn ->
          for {rules, file, template} <- [
                {"lie C_Sign garbage", file, []},
                {"C_CreateObject rv=0x30", file, []},
                {"", file, [value: "x"]},
                {"", binary_part(file, 0, 200), []},
                {"", file, [lable: "x"]}
              ] do
            FaultyModule.control(module, rules)

            trace =
              try do
                Cryptoki.import_key!(hsm, file, [label: label] ++ template)
              rescue
                error -> Exception.format(:error, error, __STACKTRACE__)
              end

            assert trace =~ "Error"
            refute_shown(trace, secret, file)
          end
        end)

      refute_shown(log, secret, file)
      refute_shown(inspect(key, limit: :infinity), secret, file)
    end
  end

  defp refute_shown(text, secret, file) do
    refute text =~ inspect(secret)
    refute text =~ Base.encode16(secret)
    refute text =~ file |> String.split("\n") |> Enum.at(4)
    numbers = secret |> :binary.bin_to_list() |> Enum.take(5) |> Enum.join(", ")
    refute text =~ numbers
  end

  defp signs(:rsa), do: {:sha256_rsa_pkcs, {:rsa_pkcs1, :sha256}}
  defp signs(:ec), do: {:ecdsa_sha256, {:ecdsa, :sha256}}
  defp signs(:ed25519), do: {:eddsa, :eddsa}
  defp signs(:ed448), do: {{:eddsa, prehash: false}, :eddsa}
end
