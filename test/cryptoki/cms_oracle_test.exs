defmodule Cryptoki.CMSOracleTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Who may send messages and sees the answers must not learn whether a block of RSA was one of PKCS #1, or of OAEP:
  # with some thousand such answers he decrypts what was meant for others.

  alias Cryptoki.{CMS, Error}
  alias Cryptoki.Test.{Enveloped, FaultyModule, SoftHSM, TLS}

  import Enveloped, only: [blocks: 1, by_hand: 3, raw: 2]

  @text Enveloped.text()
  @oaep ~w(-keyopt rsa_padding_mode:oaep)
  @wrong {:error, Error.new(:encrypted_data_invalid, "it is for another key, or was changed")}

  setup_all do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    directory = TLS.authority(Path.join(SoftHSM.directory(), "cms-oracle"))
    keys = Enveloped.keys(hsm, directory, [:rsa, :secp256r1])
    %{hsm: hsm, faulty: module, keys: keys}
  end

  setup %{faulty: module} do
    on_exit(fn -> FaultyModule.control(module, "") end)
  end

  test "PKCS #1 v1.5: one answer for all that is wrong, again and again", context do
    %{public: public, private: private} = context.keys.rsa
    key = :crypto.strong_rand_bytes(32)

    for {what, block} <- blocks(key) do
      der = by_hand(raw(public, block), :gcm, key)
      answer = if what == :right, do: {:ok, @text}, else: @wrong
      for _ <- 1..3, do: assert(CMS.decrypt(context.hsm, private, der) == answer, "#{what}")
    end

    # Of another length than the modulus.
    for encrypted <- ["", <<1>>, :crypto.strong_rand_bytes(255), :crypto.strong_rand_bytes(257)] do
      der = by_hand(encrypted, :gcm, key)
      assert CMS.decrypt(context.hsm, private, der) == @wrong
    end
  end

  # Without it such a block never opens what another key of its length opens once in 256 times; and if it were
  # another key each time, what opens once and not again had none.
  test "PKCS #1 v1.5 in CBC mode: a block that is none has a key all the same, and always this",
       context do
    %{public: public, private: private} = context.keys.rsa

    for head <- [<<0, 3>>, <<0, 2>>] do
      {der, garbage} =
        Enum.find_value(1..6000, fn n ->
          # Without a zero behind the padding, or with another number of bytes than the key has.
          block = head <> :binary.copy(<<0xA5>>, 200) <> <<0, n::unit(8)-size(53)>>
          der = by_hand(raw(public, block), :cbc, <<7::256>>)

          case CMS.decrypt(context.hsm, private, der) do
            {:ok, garbage} -> {der, garbage}
            @wrong -> nil
          end
        end)

      refute garbage == @text
      for _ <- 1..12, do: assert(CMS.decrypt(context.hsm, private, der) == {:ok, garbage})
    end
  end

  test "OAEP: one answer, whatever is wrong, by the token and by what is taken off here",
       context do
    %{public: public, private: private, pem: pem} = context.keys.rsa

    for options <- [
          @oaep,
          @oaep ++ ~w(-keyopt rsa_oaep_md:sha256),
          @oaep ++ ~w(-keyopt rsa_oaep_label:61)
        ] do
      der = Enveloped.by_openssl([{pem, options}], ["-aes-256-gcm"])
      assert CMS.decrypt(context.hsm, private, der) == {:ok, @text}
      {at, 4} = :binary.match(der, <<4, 0x82, 1, 0>>)
      encrypted = binary_part(der, at + 4, 256)

      # Manger asks whether the first byte is zero.
      numbers = for first <- [0, 1, 0x7F], rest <- [0, 1, 7], do: <<first, rest::2040>>

      for block <- numbers ++ Map.values(blocks(<<7::256>>)) do
        changed = :binary.replace(der, encrypted, raw(public, block))
        assert CMS.decrypt(context.hsm, private, changed) == @wrong
      end
    end
  end

  test "agreement: one answer for a key that was changed and for content that was", context do
    %{private: private, pem: pem} = context.keys.secp256r1
    der = Enveloped.by_openssl([{pem, []}], ["-aes-256-gcm"])
    # A wrapped key is 40 bytes, a tag 16, this text 28.
    {wrapped, 2} = :binary.match(der, <<4, 40>>)

    for at <- [wrapped + 2, wrapped + 20, wrapped + 41, byte_size(der) - 1, byte_size(der) - 20] do
      {before, <<byte, rest::binary>>} = :erlang.split_binary(der, at)
      changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
      assert CMS.decrypt(context.hsm, private, changed) == @wrong
    end
  end

  # The same calls in the same order: what takes long is the token.
  test "what is asked of the token is the same for all", context do
    %{public: public, private: private} = context.keys.rsa
    key = :crypto.strong_rand_bytes(32)
    # What is known of the key is known then.
    CMS.decrypt(context.hsm, private, by_hand(raw(public, blocks(key).right), :gcm, key))

    calls =
      for {_what, block} <- blocks(key) do
        der = by_hand(raw(public, block), :gcm, key)

        {_answer, calls} =
          FaultyModule.calls(context.faulty, fn -> CMS.decrypt(context.hsm, private, der) end)

        # Three errors of some kinds in a row, and a session is opened anew: one that is right ends the row.
        {:ok, @text} =
          CMS.decrypt(context.hsm, private, by_hand(raw(public, blocks(key).right), :gcm, key))

        for {function, _event, _rv} <- calls, do: function
      end

    assert [same] = Enum.uniq(calls)
    assert Enum.count(same, &(&1 == "C_Decrypt")) == 1
  end

  # CKR_GENERAL_ERROR, CKR_DATA_INVALID, CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE,
  # CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD, and a vendor's.
  @of_ciphertexts [0x05, 0x20, 0x40, 0x41, 0x06, 0x07, 0x80000001]

  test "whatever a library answers to C_Decrypt for a block that is none, it is that answer",
       context do
    %{public: public, private: private} = context.keys.rsa
    der = by_hand(raw(public, blocks(<<7::256>>).right), :gcm, <<7::256>>)
    assert CMS.decrypt(context.hsm, private, der) == {:ok, @text}

    for rv <- @of_ciphertexts do
      FaultyModule.control(context.faulty, "C_Decrypt rv=#{rv}")
      assert CMS.decrypt(context.hsm, private, der) == @wrong, "#{rv}"
    end

    for lie <- ["length=15", "length=0", "garbage"] do
      FaultyModule.control(context.faulty, "lie C_Decrypt #{lie}")
      assert CMS.decrypt(context.hsm, private, der) == @wrong, lie
    end
  end

  test "what no block has to do with is told: the key, the login, the token", context do
    %{public: public, private: private} = context.keys.rsa
    der = by_hand(raw(public, blocks(<<7::256>>).right), :gcm, <<7::256>>)

    for {rule, reason} <- [
          {"C_DecryptInit rv=0x68", :key_function_not_permitted},
          {"C_DecryptInit rv=0x70", :mechanism_invalid},
          {"C_DecryptInit rv=0x05", :general_error},
          {"C_Decrypt rv=0x31", :device_memory},
          {"C_Decrypt rv=0x50", :function_canceled}
        ] do
      FaultyModule.control(context.faulty, rule)
      assert {:error, %Error{reason: ^reason}} = CMS.decrypt(context.hsm, private, der)
    end

    FaultyModule.control(context.faulty, "")
    assert CMS.decrypt(context.hsm, private, der) == {:ok, @text}

    assert {:error, %Error{reason: :key_not_found}} =
             CMS.decrypt(context.hsm, [label: "nobody's"], der)
  end
end
