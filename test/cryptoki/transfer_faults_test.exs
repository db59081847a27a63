defmodule Cryptoki.TransferFaultsTest do
  # Keys that come to a token that makes another key of them, fails, or is slow: nothing is left of them.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Transfer}
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken}

  @names [label: "kek"]

  describe "a token that makes another key of it, or fails," do
    setup do
      module = FaultyModule.new()
      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)}, id: :faulty)
      on_exit(fn -> FaultyModule.control(module, "") end)
      use = [wrap: true, unwrap: true, encrypt: true, decrypt: true]
      kek = Cryptoki.import_key!(hsm, {:aes, <<5::256>>}, [label: "kek", token: true] ++ use)

      {:ok, pair} =
        Cryptoki.import_key(hsm, KeyFiles.make("openssl ecparam").file,
          label: "pair",
          private: [extractable: true]
        )

      {:ok, aes} = Cryptoki.import_key(hsm, {:aes, <<9::256>>}, label: "aes", extractable: true)
      texts = for key <- [pair, aes], do: Transfer.export!(hsm, key, kek)
      for key <- [pair, aes], do: Cryptoki.destroy!(hsm, key)
      %{module: module, faulty: hsm, texts: texts}
    end

    test "takes no word of what goes without saying, as opencryptoki", context do
      %{module: module, faulty: hsm, texts: [_pair, aes]} = context
      before = Cryptoki.find!(hsm, token: false)
      # The first is the key of the MAC, by the name that this token has for RFC 5649.
      name = if MainToken.name() == :softhsm2, do: "0x210a", else: "0x210b"
      refused = "C_UnwrapKey rv=0x10 mechanism=#{name} after=1 count=1"
      # SoftHSM makes one that is not extractable, which the standard does not.
      FaultyModule.control(module, refused <> "\nattribute 0x162 value=01")
      assert {:ok, moved} = Transfer.import(hsm, aes, @names)
      :ok = Cryptoki.destroy(hsm, moved)

      # It has to be so: a key that would be another one is taken away again.
      for shown <- [
            "attribute 0x162 value=00",
            "attribute 0x162 value=01\nattribute 0x210 value=01"
          ] do
        FaultyModule.control(module, refused <> "\n" <> shown)

        assert {:error, %Error{reason: :unsupported, executed: false}} =
                 Transfer.import(hsm, aes, @names)
      end

      FaultyModule.control(module, refused)

      assert {:error, %Error{reason: :attribute_read_only}} =
               Transfer.import(hsm, aes, @names,
                 template: [extractable: false, wrap_with_trusted: true]
               )

      FaultyModule.control(module, "")
      assert length(Cryptoki.find!(hsm, token: false)) == length(before)
    end

    test "shows a label that is no text", %{module: module, faulty: hsm} do
      {:ok, key} = Cryptoki.import_key(hsm, {:aes, <<9::256>>}, label: "aes", extractable: true)
      FaultyModule.control(module, "attribute 0x3 value=ff")
      answer = Transfer.export(hsm, key, class: :secret_key, wrap: true, token: true)
      FaultyModule.control(module, "")
      assert {:error, %Error{reason: :unsupported, detail: text}} = answer
      assert text =~ "UTF-8"
    end

    test "is too slow: what wraps and makes the MAC is gone all the same", context do
      %{module: module, faulty: hsm, texts: [pair, _aes]} = context
      before = length(Cryptoki.find!(hsm, []))
      FaultyModule.control(module, "C_Verify hang count=1")
      answer = Transfer.import(hsm, pair, [label: "kek"], timeout: 300)
      assert {:error, %Error{reason: :timeout}} = answer
      FaultyModule.control(module, "")
      FaultyModule.await(module, ~r/C_DestroyObject ran 0x0/)
      assert length(Cryptoki.find!(hsm, [])) == before
    end

    test "leaves nothing", %{module: module, faulty: hsm, texts: [pair, aes]} do
      for {text, rules, reason} <- [
            {pair, "lie C_Sign garbage", :module_misbehaved},
            {pair, "C_UnwrapKey rv=0x30", :device_error},
            {pair, "C_UnwrapKey rv=0x30 after=1", :device_error},
            {pair, "C_Verify rv=0x30", :device_error},
            {pair, "C_CreateObject rv=0x13", :attribute_value_invalid},
            {aes, "attribute 0x90 value=010203", :module_misbehaved}
          ] do
        before = length(Cryptoki.find!(hsm, []))
        FaultyModule.control(module, rules)
        answer = Transfer.import(hsm, text, [label: "kek"], template: [token: true])
        FaultyModule.control(module, "")
        assert {:error, %Error{reason: ^reason}} = answer
        assert length(Cryptoki.find!(hsm, [])) == before, rules
      end

      before = length(Cryptoki.find!(hsm, []))
      {:ok, key} = Cryptoki.import_key(hsm, {:aes, <<9::256>>}, label: "aes", extractable: true)

      for rules <- [
            "C_WrapKey rv=0x30",
            "C_WrapKey rv=0x30 after=1",
            "C_Sign rv=0x30",
            "C_GenerateKey rv=0x30"
          ] do
        FaultyModule.control(module, rules)
        assert {:error, %Error{reason: :device_error}} = Transfer.export(hsm, key, label: "kek")
        FaultyModule.control(module, "")
        assert length(Cryptoki.find!(hsm, [])) == before + 1, rules
      end
    end
  end
end
