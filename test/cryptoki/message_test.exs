defmodule Cryptoki.MessageTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Message-based operations (PKCS #11 3.0), judged by :crypto, which has the key as well.

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.Token

  @key :binary.copy("k", 31) <> "!"
  @ciphers [
    {:aes_gcm, :aes, :aes_256_gcm, 12},
    {:aes_ccm, :aes, :aes_256_ccm, 13},
    {:chacha20_poly1305, :chacha20, :chacha20_poly1305, 12}
  ]

  setup_all do
    hsms =
      for token <- Token.all(), into: %{} do
        child = {Cryptoki, Token.options(token, sessions: 2)}
        {token.name, start_supervised!(child, id: token.name)}
      end

    %{hsms: hsms}
  end

  setup %{hsms: hsms} = context, do: %{hsm: hsms[context[:on] || :softhsm2]}

  for {mechanism, key_type, cipher, iv_size} <- @ciphers,
      token <- Token.having(mechanism, :message_encrypt) do
    describe "#{mechanism} on #{token.title}" do
      @describetag on: token.name, skip: token.skip
      @mechanism mechanism
      @key_type key_type
      @cipher cipher
      @iv_size iv_size

      test "messages are what :crypto makes of them, and the other way round", %{hsm: hsm} do
        key = import_key(hsm, @key_type)
        iv = :crypto.strong_rand_bytes(@iv_size)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :message_encrypt, key, @mechanism)

          for size <- [0, 1, 16, 5000] do
            text = :crypto.strong_rand_bytes(size)
            assert {:ok, message} = Operation.message(op, [iv: iv], ["hea", "der"], [text])
            assert message.iv == iv
            assert byte_size(message.tag) == 16
            assert open(@cipher, message, "header") == text
          end

          assert :ok = Operation.finish(op)

          op = Cryptoki.start!(session, :message_decrypt, key, @mechanism)

          for size <- [0, 1, 5000] do
            text = :crypto.strong_rand_bytes(size)
            {ciphertext, tag} = seal(@cipher, iv, text, "header")
            parameters = %{iv: iv, tag: tag}
            assert {:ok, ^text} = Operation.message(op, parameters, "header", ciphertext)
          end

          {ciphertext, tag} = seal(@cipher, iv, "text", "header")
          wrong = [iv: iv, tag: :crypto.exor(tag, :binary.copy(<<1>>, 16))]

          assert {:error, %Error{code: code}} = Operation.message(op, wrong, "header", ciphertext)

          assert code != nil
        end)
      end
    end
  end

  for token <- Token.having(:aes_gcm, :message_encrypt) do
    describe "an IV that the token makes, #{token.title}" do
      @describetag on: token.name, skip: token.skip

      test "comes back with the ciphertext", %{hsm: hsm} do
        key = import_key(hsm, :aes)

        for by <- [:generate, :generate_counter, :generate_random, :generate_counter_xor] do
          Cryptoki.with_session(hsm, fn session ->
            op = Cryptoki.start!(session, :message_encrypt, key, :aes_gcm)

            messages =
              for n <- 1..3 do
                iv = {:generate, size: 12, fixed: "id42", by: by}
                {:ok, message} = Operation.message(op, [iv: iv, tag_bits: 96], "#{n}", "text")
                assert byte_size(message.tag) == 12
                assert <<"id42", _made::binary-8>> = message.iv
                assert open(:aes_256_gcm, message, "#{n}") == "text"
                message
              end

            # A counter XOR starts with what was given, zeros, each time in the same place.
            assert messages |> Enum.map(& &1.iv) |> Enum.uniq() |> length() == 3
          end)
        end
      end

      # PKCS #11 v3.2, section 6.13.7: any number of bytes; :crypto and the token know as many as OpenSSL does.
      test "and one that the caller has may be as long as the token takes", %{hsm: hsm} do
        key = import_key(hsm, :aes)
        long = :binary.copy(<<7>>, 300)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :message_encrypt, key, :aes_gcm)
          # Its own answer, whatever that is.
          case Operation.message(op, [iv: long], "", "text") do
            {:ok, %{iv: iv}} -> assert iv == long
            {:error, %Error{code: code}} -> assert code != nil
          end

          assert_raise ArgumentError, ~r/:iv/, fn ->
            Operation.message(op, [iv: ""], "", "text")
          end
        end)
      end

      test "and of a message in parts", %{hsm: hsm} do
        key = import_key(hsm, :aes)
        chunks = for n <- 1..40, do: :binary.copy(<<n>>, 5_000)
        text = IO.iodata_to_binary(chunks)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :message_encrypt, key, :aes_gcm)

          for data <- [chunks, [], [""], ["x"]], iv <- [{:generate, 12}, :token] do
            assert {:ok, message} = Operation.message(op, [iv: iv], "header", {:stream, data})

            assert open(:aes_256_gcm, message, "header") == IO.iodata_to_binary(data)
          end

          assert :ok = Operation.finish(op)

          op = Cryptoki.start!(session, :message_decrypt, key, :aes_gcm)
          iv = :crypto.strong_rand_bytes(12)
          {ciphertext, tag} = seal(:aes_256_gcm, iv, text, "header")

          parts =
            {:stream,
             [
               ciphertext |> binary_part(0, 70_001),
               ciphertext |> binary_part(70_001, byte_size(ciphertext) - 70_001)
             ]}

          assert {:ok, ^text} = Operation.message(op, [iv: iv, tag: tag], "header", parts)
        end)
      end

      test "a stream that raises leaves the session usable", %{hsm: hsm} do
        key = import_key(hsm, :aes)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :message_encrypt, key, :aes_gcm)
          bad = Stream.map(1..3, fn n -> if n == 3, do: raise("stop"), else: "#{n}" end)

          assert_raise RuntimeError, "stop", fn ->
            Operation.message(op, [iv: {:generate, 12}], {:stream, bad})
          end

          assert {:error, %Error{reason: :operation_not_initialized}} =
                   Operation.message(op, [iv: {:generate, 12}], "text")

          op = Cryptoki.start!(session, :message_encrypt, key, :aes_gcm)
          assert {:ok, %{}} = Operation.message(op, [iv: {:generate, 12}], "text")
          assert :ok = Operation.cancel(op)
          assert {:ok, _op} = Cryptoki.start(session, :message_encrypt, key, :aes_gcm)
        end)
      end

      test "raw bytes and structures of one's own are taken too", %{hsm: hsm} do
        key = import_key(hsm, :aes)
        iv = :crypto.strong_rand_bytes(12)

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :message_encrypt, key, :aes_gcm)

          fields = [inout: iv, ulong: 12, ulong: 0, ulong: 0, inout: <<0::128>>, ulong: 128]

          assert {:ok, %{ciphertext: ciphertext, written: [^iv, tag]}} =
                   Operation.message(op, {:struct, fields}, "header", "text")

          message = %{ciphertext: ciphertext, iv: iv, tag: tag}
          assert open(:aes_256_gcm, message, "header") == "text"
          assert {:error, %Error{}} = Operation.message(op, <<1, 2, 3>>, "header", "text")
        end)
      end
    end
  end

  describe "what is wrong with a call" do
    test "raises before anything is sent", %{hsm: hsm} do
      Cryptoki.with_session(hsm, fn session ->
        op = %Operation{session: session, kind: :message_encrypt, mechanism: :aes_gcm}

        for {parameters, said} <- [
              {[], ~r/:iv is missing/},
              {[iv: <<0::96>>, tag: <<0::128>>], ~r/no argument :tag here/},
              {[iv: <<0::96>>, tag_bits: 7], ~r/:tag_bits: expected a multiple of 8/},
              {[iv: {:generate, fixed: "abc", size: 3}], ~r/:generate/},
              {[iv: {:generate, 12}, nonsense: 1], ~r/no argument :nonsense/},
              {[iv: {:generate, by: :generate_randm}], ~r/generate_random/}
            ] do
          assert_raise ArgumentError, said, fn -> Operation.message(op, parameters, "text") end
        end

        assert_raise ArgumentError, ~r/:tag is missing/, fn ->
          Operation.message(%{op | kind: :message_decrypt}, [iv: <<0::96>>], "text")
        end

        assert_raise ArgumentError, ~r/takes no messages/, fn ->
          Operation.message(%{op | kind: :encrypt}, [iv: <<0::96>>], "text")
        end

        assert_raise ArgumentError, ~r/takes messages/, fn -> Operation.update(op, "text") end
      end)
    end

    test "a library without them says so", %{hsm: hsm} do
      key = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 32)

      Cryptoki.with_session(hsm, fn session ->
        assert {:error, %Error{reason: :function_not_supported, function: :C_MessageEncryptInit}} =
                 Cryptoki.start(session, :message_encrypt, key, :aes_gcm)
      end)
    end
  end

  defp import_key(hsm, key_type) do
    template = [class: :secret_key, key_type: key_type, value: @key, encrypt: true, decrypt: true]
    Cryptoki.create!(hsm, template)
  end

  defp open(cipher, %{ciphertext: ciphertext, iv: iv, tag: tag}, aad),
    do: :crypto.crypto_one_time_aead(cipher, @key, iv, ciphertext, aad, tag, false)

  defp seal(cipher, iv, text, aad),
    do: :crypto.crypto_one_time_aead(cipher, @key, iv, text, aad, 16, true)
end
