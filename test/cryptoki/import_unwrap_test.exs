defmodule Cryptoki.ImportUnwrapTest do
  # Keys for tokens that take none in the clear: wrapped here, unwrapped there, and nothing else is left.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Key, KeyWrap, PrivateKey}
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken, OpenSSL}

  @text "a text that is signed"

  setup do
    module = FaultyModule.new()

    hsm =
      start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2, timeout: 20_000)})

    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module, hsm: hsm, label: "wrapped #{System.unique_integer([:positive])}"}
  end

  describe "a key signs on the token as in its file:" do
    for {name, mechanism, scheme} <- [
          {"openssl genpkey, RSA", :sha256_rsa_pkcs, {:rsa_pkcs1, :sha256}},
          {"openssl ecparam", :ecdsa_sha256, {:ecdsa, :sha256}},
          {"openssl ecparam -noout, secp384r1", :ecdsa_sha384, {:ecdsa, :sha384}},
          {"openssl genpkey, Ed25519", :eddsa, :eddsa}
        ] do
      test name, %{module: module, hsm: hsm, label: label} do
        %{file: file, public: public} = KeyFiles.make(unquote(name))
        # What SoftHSM 2.6.1 unwraps: no Edwards key.
        how = if takes?(unquote(name)), do: [:auto, :unwrap], else: []

        for {how, id} <- Enum.with_index(how) do
          FaultyModule.control(module, "values refused")
          template = [label: label, id: <<id>>, token: true]

          assert {:ok, %Key{token: true} = key} =
                   Cryptoki.import_key(hsm, file, template, how: how)

          signature = Cryptoki.sign!(hsm, key, unquote(Macro.escape(mechanism)), @text)
          assert OpenSSL.valid?(public, signature, unquote(Macro.escape(scheme)), @text)
          read = Cryptoki.attributes!(hsm, key, [:sensitive, :extractable, :local, :label, :id])

          assert read == %{
                   sensitive: true,
                   extractable: false,
                   local: false,
                   label: label,
                   id: <<id>>
                 }

          only(hsm, [key], label: label, class: :private_key, id: <<id>>)
        end

        session_objects(hsm, 0)
        FaultyModule.control(module, "values refused")
        refused = Cryptoki.import_key(hsm, file, [label: label, token: true], how: :create)

        assert {:error, %Error{reason: :attribute_value_invalid, function: :C_CreateObject}} =
                 refused
      end
    end
  end

  defp takes?(name), do: not (name =~ "Ed25519" and MainToken.name() == :softhsm2)

  test "a secret key does as its bytes", %{module: module, hsm: hsm, label: label} do
    FaultyModule.control(module, "values refused")

    for {kind, size} <- [aes: 32, hmac: 33, hmac: 400],
        how <- [:auto, :unwrap] do
      value = :crypto.strong_rand_bytes(size)
      assert {:ok, key} = Cryptoki.import_key(hsm, {kind, value}, [label: label], how: how)

      if kind == :aes do
        iv = :crypto.strong_rand_bytes(16)

        assert Cryptoki.encrypt!(hsm, key, {:aes_cbc, iv: iv}, <<1::128>>) ==
                 :crypto.crypto_one_time(:"aes_#{size * 8}_cbc", value, iv, <<1::128>>, true)
      else
        assert Cryptoki.sign!(hsm, key, :sha256_hmac, @text) ==
                 :crypto.mac(:hmac, :sha256, value, @text)
      end

      :ok = Cryptoki.destroy(hsm, key)
      session_objects(hsm, 0)
    end
  end

  test "the value is given where the token takes it", %{module: module, hsm: hsm, label: label} do
    {{:ok, _key}, calls} =
      FaultyModule.calls(module, fn ->
        Cryptoki.import_key(hsm, {:aes, <<1::256>>}, label: label)
      end)

    assert {"C_CreateObject", "ran", "0x0"} in calls
    refute Enum.any?(calls, fn {name, _, _} -> name in ["C_GenerateKeyPair", "C_UnwrapKey"] end)

    {{:ok, _key}, calls} =
      FaultyModule.calls(module, fn ->
        Cryptoki.import_key(hsm, {:aes, <<1::256>>}, [label: label], how: :unwrap)
      end)

    refute Enum.any?(calls, fn {name, _, _} -> name == "C_CreateObject" end)
    assert Enum.count(calls, &match?({"C_DestroyObject", "ran", "0x0"}, &1)) >= 3
  end

  # opencryptoki has it by itself: test/referee/any_token_test.exs. Here the target does its two layers.
  test "RSA-AES-KEY-WRAP is the first of the ways", context do
    %{module: module, hsm: hsm, label: label} = context
    # And the only one that is left.
    only = "values refused\nrsa_aes_key_wrap on\nC_UnwrapKey rv=0x70 mechanism=0x9"

    for {name, mechanism, scheme} <- [
          {"openssl genpkey, RSA", :sha256_rsa_pkcs, {:rsa_pkcs1, :sha256}},
          {"openssl ecparam", :ecdsa_sha256, {:ecdsa, :sha256}}
        ] do
      %{file: file, public: public} = KeyFiles.make(name)
      FaultyModule.control(module, only)
      assert {:ok, key} = Cryptoki.import_key(hsm, file, [label: label], how: :auto)
      signature = Cryptoki.sign!(hsm, key, mechanism, @text)
      assert OpenSSL.valid?(public, signature, scheme, @text)
      for key <- Cryptoki.find!(hsm, label: label), do: :ok = Cryptoki.destroy(hsm, key)
    end

    # Longer than what OAEP takes alone.
    value = :crypto.strong_rand_bytes(400)
    given = {:hmac, value}

    {answer, calls} =
      FaultyModule.calls(module, fn ->
        Cryptoki.import_key(hsm, given, [label: label], how: :auto)
      end)

    assert {:ok, key} = answer

    assert Cryptoki.sign!(hsm, key, :sha256_hmac, @text) ==
             :crypto.mac(:hmac, :sha256, value, @text)

    # Nothing beside it is unwrapped: the RSA pair that was made for it unwraps the key itself.
    assert [made | _others] = for({"C_UnwrapKey", _event, rv} <- Enum.reverse(calls), do: rv)
    assert made == "0x0"
    :ok = Cryptoki.destroy(hsm, key)

    # What it does not take comes in by the next.
    FaultyModule.control(
      module,
      "values refused\nrsa_aes_key_wrap on\nC_UnwrapKey rv=0x70 mechanism=0x1054"
    )

    assert {:ok, key} = Cryptoki.import_key(hsm, given, [label: label], how: :auto)
    :ok = Cryptoki.destroy(hsm, key)

    # Another key that it makes is none that was given.
    FaultyModule.control(module, only <> "\nlie C_Sign garbage")
    assert {:error, %Error{}} = Cryptoki.import_key(hsm, given, [label: "none"], how: :auto)
    FaultyModule.control(module, "")
    assert Cryptoki.find!(hsm, label: "none") == []
    session_objects(hsm, 0)
  end

  test "the next way is taken where a token has one less", context do
    %{module: module, hsm: hsm, label: label} = context
    %{file: file} = KeyFiles.make("openssl ecparam")

    # AES keys by OAEP that unwrap nothing with padding: only OAEP alone is left, for secrets that fit.
    padded = "C_UnwrapKey rv=0x70 mechanism=0x210a\nC_UnwrapKey rv=0x70 mechanism=0x210b"
    FaultyModule.control(module, padded)
    value = :crypto.strong_rand_bytes(32)
    assert {:ok, key} = Cryptoki.import_key(hsm, {:aes, value}, [label: label], how: :unwrap)
    iv = :crypto.strong_rand_bytes(16)
    sealed = :crypto.crypto_one_time(:aes_256_cbc, value, iv, <<1::128>>, true)
    assert Cryptoki.encrypt!(hsm, key, {:aes_cbc, iv: iv}, <<1::128>>) == sealed

    for given <- [file, {:hmac, :crypto.strong_rand_bytes(400)}] do
      assert {:error, %Error{reason: :unsupported} = error} =
               Cryptoki.import_key(hsm, given, [label: "none"], how: :unwrap)

      assert error.detail =~ "cannot be unwrapped by the token"
    end

    # No OAEP, and so no way at all.
    FaultyModule.control(module, "C_UnwrapKey rv=0x70 mechanism=0x9")

    assert {:error, %Error{reason: :unsupported}} =
             Cryptoki.import_key(hsm, {:aes, value}, [label: "none"], how: :unwrap)

    FaultyModule.control(module, "")
    assert Cryptoki.find!(hsm, label: "none") == []
    :ok = Cryptoki.destroy(hsm, key)
    session_objects(hsm, 0)
  end

  test "what else goes wrong is not tried in another way", %{
    module: module,
    hsm: hsm,
    label: label
  } do
    for rv <- ["0x30", "0x5", "0x31"] do
      FaultyModule.control(module, "values refused rv=#{rv}")

      {answer, calls} =
        FaultyModule.calls(module, fn ->
          Cryptoki.import_key(hsm, {:aes, <<1::256>>}, label: label)
        end)

      assert {:error, %Error{function: :C_CreateObject}} = answer
      refute Enum.any?(calls, fn {name, _, _} -> name == "C_GenerateKeyPair" end)
    end
  end

  test "a token that has no way says so, with what it said of the value", context do
    %{module: module, hsm: hsm, label: label} = context

    for rules <- [
          "C_UnwrapKey rv=0x70",
          "C_UnwrapKey rv=0x110",
          "attribute 0x120 value=" <> String.duplicate("00", 256),
          "attribute 0x120 value=c5",
          "attribute 0x122",
          "attribute 0x122 value=02"
        ] do
      FaultyModule.control(module, "values refused\n" <> rules)
      answer = Cryptoki.import_key(hsm, {:aes, <<1::256>>}, label: label)
      unwrapped = Cryptoki.import_key(hsm, {:aes, <<1::256>>}, [label: label], how: :unwrap)
      FaultyModule.control(module, "")

      if rules =~ ~r/C_UnwrapKey|0x122\z/ do
        assert {:error, %Error{reason: :attribute_value_invalid, executed: false} = error} =
                 answer

        assert Exception.message(error) =~ "cannot be unwrapped by the token"
        assert {:error, %Error{reason: :unsupported, executed: false}} = unwrapped
      else
        assert {:error, %Error{reason: :module_misbehaved, executed: false}} = answer
      end

      assert Cryptoki.find!(hsm, label: label) == []
      session_objects(hsm, 0)
    end
  end

  for {what, rules, reason} <- [
        {"the signature that proves it is wrong", "lie C_Sign garbage", :module_misbehaved},
        {"it cannot be unwrapped just now", "C_UnwrapKey rv=0x30", :device_error},
        {"what was unwrapped cannot be read", "C_GetAttributeValue rv=0x30 after=1",
         :device_error},
        {"the public key is refused", "C_CreateObject rv=0x13 after=1", :attribute_value_invalid},
        {"the pair cannot be made", "C_GenerateKeyPair rv=0x30", :device_error}
      ] do
    test "nothing is left: #{what}", %{module: module, hsm: hsm, label: label} do
      %{file: file} = KeyFiles.make("openssl ecparam")
      FaultyModule.control(module, "values refused\n" <> unquote(rules))
      answer = Cryptoki.import_key(hsm, file, label: label, token: true)
      FaultyModule.control(module, "")
      assert {:error, %Error{reason: unquote(reason)} = error} = answer
      # What C_UnwrapKey did is not known.
      assert error.executed == if(error.function == :C_UnwrapKey, do: :maybe, else: false)
      assert Cryptoki.find!(hsm, label: label) == []
      session_objects(hsm, 0)
    end
  end

  test "the key that wrapped it and could not be destroyed is told", context do
    %{module: module, hsm: hsm, label: label} = context
    FaultyModule.control(module, "values refused\nC_DestroyObject rv=0x30 count=1")

    log =
      capture_log(fn ->
        assert {:ok, _} = Cryptoki.import_key(hsm, {:aes, <<5::256>>}, label: label)
      end)

    FaultyModule.control(module, "")
    assert log =~ "is there still"
  end

  describe "what is wrapped here" do
    test "OpenSSL unwraps (RFC 5649), as does RFC 3394", %{} do
      for size <- [1, 7, 8, 9, 16, 17, 32, 1200] do
        key = :crypto.strong_rand_bytes(32)
        bytes = :crypto.strong_rand_bytes(size)

        command =
          "openssl enc -d -id-aes256-wrap-pad -K #{hex(key)} -iv A65959A6 -in $IN -out $OUT"

        assert KeyFiles.changed(KeyWrap.wrap_padded(key, bytes), command) == bytes

        if size >= 16 and rem(size, 8) == 0 do
          command =
            "openssl enc -d -id-aes256-wrap -K #{hex(key)} -iv A6A6A6A6A6A6A6A6 -in $IN -out $OUT"

          assert KeyFiles.changed(KeyWrap.wrap(key, bytes), command) == bytes
        end
      end
    end

    for name <- [
          "openssl genpkey, RSA",
          "openssl ecparam",
          "openssl genpkey, Ed448",
          "openssl genpkey, X448"
        ] do
      test "is the PKCS #8 that OpenSSL reads: #{name}" do
        made = KeyFiles.make(unquote(name))
        {:ok, key} = PrivateKey.File.read(made.file)
        der = PrivateKey.Written.pkcs8(key)

        public =
          KeyFiles.changed(
            der,
            "openssl pkey -inform DER -in $IN -pubout -ec_conv_form uncompressed -out $OUT 2>/dev/null || openssl pkey -inform DER -in $IN -pubout -out $OUT"
          )

        assert public == made.public
        assert PrivateKey.File.read(der) == {:ok, key}
      end
    end
  end

  defp hex(bytes), do: Base.encode16(bytes)

  defp only(hsm, keys, selector),
    do: assert(length(Cryptoki.find!(hsm, selector)) == length(keys))

  # But the keys that a test has made.
  defp session_objects(hsm, count) do
    objects = Cryptoki.find!(hsm, token: false)
    assert length(objects) == count, inspect(objects)
  end
end
