defmodule Cryptoki.ReceivedTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # What others have sent: IVs, nonces, tags, contexts and ciphertexts of a length that there is not. It is an
  # error of this call, the token is not asked, and nothing is raised.

  alias Cryptoki.{Error, Mechanism, Operation}
  alias Cryptoki.Mechanism.{Cipher, Encoder}
  alias Cryptoki.Mechanism.{DiffieHellman, EllipticCurve, Historic, PostQuantum, Protocol, RSA}
  alias Cryptoki.Test.{FaultyModule, Token}

  @key :binary.copy("k", 31) <> "!"
  @tables [Cipher, EllipticCurve, PostQuantum, Historic, RSA, DiffieHellman, Protocol]

  setup_all do
    module = FaultyModule.new()
    {:ok, hsm} = start_supervised({Cryptoki, FaultyModule.options(module, sessions: 1)})

    key =
      Cryptoki.create!(hsm,
        class: :secret_key,
        key_type: :aes,
        value: @key,
        encrypt: true,
        decrypt: true,
        unwrap: true,
        verify: true
      )

    %{faulty: module, hsm: hsm, key: key}
  end

  # Every mechanism of the tables with bytes of a fixed length: all else about it is right.
  for table <- @tables,
      structure <- table.structures(),
      {argument, {:bytes, options}} <- structure[:arguments],
      options[:size] != nil or options[:multiple_of] != nil,
      mechanism <- structure[:mechanisms] do
    @received {mechanism, argument, structure[:arguments], options}

    test "#{mechanism}: #{argument} of a wrong length, #{structure[:struct]}", context do
      {mechanism, argument, arguments, options} = @received
      given = for {name, type} <- arguments, value = value(type), do: {name, value}

      for size <- wrong(options), spec = {mechanism, Keyword.put(given, argument, zeros(size))} do
        refused(context, spec)
        assert_raise ArgumentError, ~r/#{argument}.*expected/, fn -> Mechanism.encode!(spec) end
      end
    end
  end

  defp refused(%{faulty: module, hsm: hsm, key: key}, spec) do
    template = [class: :secret_key, key_type: :aes]

    calls = [
      fn -> Cryptoki.decrypt(hsm, key, spec, zeros(64)) end,
      fn -> Cryptoki.decrypt(hsm, key, spec, {:stream, [zeros(64)]}) end,
      fn -> Cryptoki.verify(hsm, key, spec, "data", zeros(16)) end,
      fn -> Cryptoki.verify(hsm, key, spec, {:stream, ["data"]}, zeros(16)) end,
      fn -> Cryptoki.verify(hsm, key, spec, "data", zeros(16), signature_first: true) end,
      fn -> Cryptoki.verify_recover(hsm, key, spec, zeros(16)) end,
      fn -> Cryptoki.unwrap_key(hsm, key, spec, zeros(64), template) end,
      fn -> Cryptoki.unwrap_key(hsm, key, spec, zeros(64), template, associated_data: "x") end,
      fn -> Cryptoki.decapsulate_key(hsm, key, spec, zeros(64), template) end,
      fn ->
        Cryptoki.with_session(hsm, &Cryptoki.start(&1, :decrypt, key, spec))
      end,
      fn ->
        try do
          hsm |> Cryptoki.decrypt_stream(key, spec, [zeros(64)]) |> Enum.to_list()
        rescue
          error in Error -> {:error, error}
        end
      end
    ]

    {results, asked} = FaultyModule.calls(module, fn -> Enum.map(calls, & &1.()) end)

    for result <- results do
      assert {:error, %Error{reason: :mechanism_param_invalid, code: nil}} = result
    end

    assert asked == []
  end

  defp wrong(options) do
    for size <- [0, 1, 3, 5, 15, 17, 33, 129, 257, 300],
        not allowed?(size, options[:size]) or rem(size, options[:multiple_of] || 1) != 0,
        do: size
  end

  defp allowed?(_size, nil), do: true
  defp allowed?(size, allowed) when is_integer(allowed), do: size == allowed
  defp allowed?(size, allowed), do: size in allowed

  # Something that each type takes.
  defp value({type, options}) do
    cond do
      options[:derive] || options[:optional] || Keyword.has_key?(options, :default) ->
        nil

      type == :bytes ->
        zeros(first(options[:size] || options[:multiple_of] || 1))

      type == :ulong ->
        first(options[:in] || 1)

      type == :name ->
        1

      type == :choice ->
        options[:of] |> hd() |> elem(0)

      type == :struct ->
        for {name, type} <- options[:of][:arguments], v = value(type), do: {name, v}

      type == :tagged ->
        []

      true ->
        value(type)
    end
  end

  defp value(:bytes), do: "x"
  defp value(:ulong), do: 1
  defp value(:byte), do: 1
  defp value(:boolean), do: true
  defp value(:hash), do: :sha256
  defp value(:key), do: [label: "another key"]
  defp value(:version), do: {3, 3}
  defp value(:mechanism), do: :sha256
  defp value(:c_string), do: "x"

  defp first(size) when is_integer(size), do: size
  defp first([size | _more]), do: size
  defp first(first.._last//_step), do: first

  defp zeros(size), do: <<0::unit(8)-size(size)>>

  test "numbers that came with the data, too", context do
    for spec <- [
          {:aes_ccm, nonce: <<1::96>>, mac_len: 2},
          {:aes_gcm, iv: <<1::96>>, tag_bits: 136},
          {:aes_ctr, iv: <<1::128>>, counter_bits: 129},
          {:sha256_hmac_general, mac_len: 65},
          {:rsa_aes_key_wrap, aes_key_bits: 64, oaep: [hash: :sha256]}
        ] do
      refused(context, spec)
      assert_raise ArgumentError, ~r/expected an integer/, fn -> Mechanism.encode!(spec) end
    end
  end

  test "an empty IV is none for GCM only where the token encrypts" do
    gcm = {:aes_gcm, iv: ""}
    assert {0x1087, [{:inout, ""} | _]} = Mechanism.encode!(gcm, direction: :out)

    assert_raise Error, ~r/expected 1 to/, fn -> Mechanism.encode!(gcm, direction: :in) end
    assert Encoder.type(hd(Cipher.structures())[:arguments], :iv) == :bytes
  end

  @blocks [
    {{:aes_gcm, iv: <<1::96>>}, [0, 1, 15], 16},
    {{:aes_gcm, iv: <<1::96>>, tag_bits: 96}, [0, 11], 12},
    {{:aes_ccm, nonce: <<1::96>>}, [0, 1, 15], 16},
    {{:aes_ccm, nonce: <<1::96>>, mac_len: 8}, [0, 7], 8},
    {{:chacha20_poly1305, nonce: <<1::96>>}, [0, 15], 16},
    {{:salsa20_poly1305, nonce: <<1::192>>}, [0, 15], 16},
    {:aes_key_wrap, [0, 8, 16, 25], 24},
    {:aes_key_wrap_kwp, [0, 8, 17], 16},
    {{:aes_cbc, iv: <<1::128>>}, [1, 15, 17], 16},
    {{:aes_cbc_pad, iv: <<1::128>>}, [0, 1, 15, 17], 16},
    {{:des3_cbc_pad, iv: <<1::64>>}, [0, 7, 9], 8},
    {:aes_ecb, [1, 17], 16},
    {:des3_ecb, [1, 9], 8},
    {{:aes_xts, iv: <<1::128>>}, [0, 15], 16}
  ]

  for {{mechanism, sizes, enough}, n} <- Enum.with_index(@blocks) do
    @mechanism mechanism
    @sizes sizes
    @enough enough

    test "#{n}: a ciphertext of #{Mechanism.name_or_code(mechanism)} that is no #{enough} bytes",
         %{faulty: module, hsm: hsm, key: key} do
      for size <- @sizes, data = zeros(size) do
        {result, asked} =
          FaultyModule.calls(module, fn -> Cryptoki.decrypt(hsm, key, @mechanism, data) end)

        assert {:error, %Error{reason: :encrypted_data_len_range, executed: false}} = result
        assert asked == []

        {result, asked} =
          FaultyModule.calls(module, fn ->
            Cryptoki.unwrap_key(hsm, key, @mechanism, data, class: :secret_key, key_type: :aes)
          end)

        assert {:error, %Error{reason: :wrapped_key_len_range, executed: false}} = result
        assert asked == []
      end

      # Long enough is the token's to judge.
      assert {:error, %Error{code: code}} =
               Cryptoki.unwrap_key(hsm, [label: "none"], @mechanism, zeros(@enough), label: "x")
               |> or_asked()

      assert code in [nil, :asked]
    end
  end

  defp or_asked({:error, %Error{reason: :key_not_found}}),
    do: {:error, %Error{reason: nil, code: :asked}}

  defp or_asked(other), do: other

  test "a stream that was too short is refused at its end, and leaves nothing behind",
       %{hsm: hsm, key: key} do
    gcm = {:aes_gcm, iv: <<1::96>>}

    for chunks <- [[], ["short"], ["sh", "ort", "er"]] do
      assert {:error, %Error{reason: :encrypted_data_len_range}} =
               Cryptoki.decrypt(hsm, key, gcm, {:stream, chunks})

      assert_raise Error, ~r/at least 16/, fn ->
        hsm |> Cryptoki.decrypt_stream(key, gcm, chunks) |> Enum.to_list()
      end
    end

    Cryptoki.with_session(hsm, fn session ->
      op = Cryptoki.start!(session, :decrypt, key, gcm)
      assert {:ok, _nothing} = Operation.update(op, "short")
      assert {:error, %Error{reason: :encrypted_data_len_range}} = Operation.finish(op)
      text = zeros(100)
      ciphertext = Cryptoki.encrypt!(session, key, gcm, text)
      assert Cryptoki.decrypt!(session, key, gcm, {:stream, [ciphertext]}) == text
    end)
  end

  for token <- Token.having(:aes_gcm, :message_decrypt) do
    @tag skip: token.skip
    test "the tag of a message is as long as the caller says, #{token.title}" do
      token = Token.named(unquote(token.name))
      {:ok, hsm} = Cryptoki.start_link(Token.options(token, sessions: 1))

      # AES-GCM has an IV of any length.
      for {mechanism, cipher, iv_size, wrong_sizes} <- [
            {:aes_gcm, :aes_256_gcm, 12, []},
            {:aes_ccm, :aes_256_ccm, 13, [6, 300]},
            {:chacha20_poly1305, :chacha20_poly1305, 12, [6, 300]}
          ],
          Token.has?(token, mechanism, :message_decrypt),
          stream? <- [false, true],
          not (stream? and mechanism == :aes_ccm) do
        key =
          Cryptoki.create!(hsm,
            class: :secret_key,
            key_type: if(mechanism == :chacha20_poly1305, do: :chacha20, else: :aes),
            value: @key,
            decrypt: true
          )

        iv = :crypto.strong_rand_bytes(iv_size)
        size = if mechanism == :chacha20_poly1305, do: 16, else: 4
        {ciphertext, tag} = seal(cipher, iv, "text", size)
        data = if stream?, do: {:stream, [ciphertext]}, else: ciphertext

        Cryptoki.with_session(hsm, fn session ->
          op = Cryptoki.start!(session, :message_decrypt, key, mechanism)

          for short <- 0..15, name <- [:tag] do
            forged = binary_part(tag <> zeros(12), 0, short)

            assert {:error, %Error{reason: :mechanism_param_invalid, code: nil}} =
                     Operation.message(op, [{:iv, iv}, {name, forged}], "header", data)
          end

          for iv <- Enum.map([0 | wrong_sizes], &zeros/1) do
            assert {:error, %Error{reason: :mechanism_param_invalid, code: nil}} =
                     Operation.message(op, %{iv: iv, tag: zeros(16)}, "header", data)
          end

          # The next one is well.
          bits = if mechanism == :chacha20_poly1305, do: [], else: [tag_bits: 32]

          assert {:ok, "text"} = Operation.message(op, [iv: iv, tag: tag] ++ bits, "header", data)
          {ciphertext, tag} = seal(cipher, iv, "whole", 16)
          assert {:ok, "whole"} = Operation.message(op, [iv: iv, tag: tag], "header", ciphertext)

          assert_raise ArgumentError, ~r/:tag/, fn ->
            Operation.message(op, [iv: iv, tag: 5], "header", data)
          end

          assert_raise ArgumentError, ~r/:tag is missing/, fn ->
            Operation.message(op, [iv: iv], "header", data)
          end
        end)
      end

      :ok = Cryptoki.stop(hsm)
    end
  end

  defp seal(cipher, iv, text, size),
    do: :crypto.crypto_one_time_aead(cipher, @key, iv, text, "header", size, true)
end
