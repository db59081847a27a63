defmodule Cryptoki.OwnIVTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Tokens that choose the IV of an encryption, as the fault module has them; :crypto, which knows the key,
  # opens what they gave.

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{FaultyModule, MainToken}

  @key :binary.copy("k", 31) <> "!"
  @written ["iv written", "iv written late"]
  @own @written ++ ["iv behind"]

  setup do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 1))

    key =
      Cryptoki.create!(hsm,
        class: :secret_key,
        key_type: :aes,
        value: @key,
        encrypt: true,
        decrypt: true,
        wrap: true
      )

    %{module: module, hsm: hsm, key: key}
  end

  for form <- @own do
    @form form

    test "#{form}: iv: :token answers it with the ciphertext", context do
      %{module: module, hsm: hsm, key: key} = context
      FaultyModule.control(module, @form)

      for size <- [0, 1, 16, 5_000], bits <- [128, 96] do
        text = :crypto.strong_rand_bytes(size)
        gcm = {:aes_gcm, iv: :token, aad: "aad", tag_bits: bits}
        assert {:ok, {iv, ciphertext}} = Cryptoki.encrypt(hsm, key, gcm, text)
        assert byte_size(ciphertext) == size + div(bits, 8)
        assert opened(iv, ciphertext, "aad", div(bits, 8)) == text
        assert {iv, ciphertext} != Cryptoki.encrypt!(hsm, key, gcm, text)
      end

      assert {:ok, {iv, ciphertext}} =
               :cryptoki.encrypt(hsm, key, {:aes_gcm, %{iv: :token}}, "text")

      assert opened(iv, ciphertext, "", 16) == "text"
    end

    test "#{form}: data in parts", context do
      %{module: module, hsm: hsm, key: key} = context
      FaultyModule.control(module, @form)
      gcm = {:aes_gcm, iv: :token}
      chunks = for n <- 1..30, do: :binary.copy(<<n>>, 5_000)
      text = IO.iodata_to_binary(chunks)

      assert {:ok, {iv, ciphertext}} = Cryptoki.encrypt(hsm, key, gcm, {:stream, chunks})
      assert opened(iv, ciphertext, "", 16) == text

      Cryptoki.with_session(hsm, fn session ->
        op = Cryptoki.start!(session, :encrypt, key, gcm)
        {:ok, first} = Operation.update(op, chunks)
        assert {:ok, {iv, last}} = Operation.finish(op)
        assert opened(iv, first <> last, "", 16) == text
      end)
    end
  end

  for form <- @written do
    @form form

    test "#{form}: an IV that was given and replaced is an error, in every verb", context do
      %{module: module, hsm: hsm, key: key} = context
      FaultyModule.control(module, @form)
      gcm = {:aes_gcm, iv: <<7::96>>}

      assert {:error, %Error{reason: :unsupported} = error} =
               Cryptoki.encrypt(hsm, key, gcm, "text")

      assert Exception.message(error) =~ "iv: :token"

      assert {:error, %Error{reason: :unsupported}} =
               Cryptoki.encrypt(hsm, key, gcm, {:stream, ["te", "xt"]})

      assert_raise Error, ~r/iv: :token/, fn ->
        hsm |> Cryptoki.encrypt_stream(key, gcm, ["te", "xt"]) |> Enum.to_list()
      end

      Cryptoki.with_session(hsm, fn session ->
        result =
          with {:ok, op} <- Cryptoki.start(session, :encrypt, key, gcm),
               {:ok, _bytes} <- Operation.update(op, "text"),
               do: Operation.finish(op)

        assert {:error, %Error{reason: :unsupported}} = result
        # Nothing of it is left.
        FaultyModule.control(module, "")
        assert {:ok, _} = Cryptoki.encrypt(session, key, gcm, "text")
      end)
    end

    test "#{form}: other ciphers", context do
      %{module: module, hsm: hsm, key: key} = context
      FaultyModule.control(module, @form)
      text = :binary.copy("sixteen bytes...", 4)
      assert {:ok, {iv, ciphertext}} = Cryptoki.encrypt(hsm, key, {:aes_cbc, iv: :token}, text)
      assert :crypto.crypto_one_time(:aes_256_cbc, @key, iv, ciphertext, false) == text

      assert {:ok, {iv, ciphertext}} =
               Cryptoki.encrypt(hsm, key, {:aes_cbc_pad, iv: :token}, {:stream, [text]})

      cbc_pad = :crypto.crypto_one_time(:aes_256_cbc, @key, iv, ciphertext, false)
      assert binary_part(cbc_pad, 0, byte_size(text)) == text

      assert {:error, %Error{reason: :unsupported}} =
               Cryptoki.encrypt(hsm, key, {:aes_cbc, iv: <<1::128>>}, text)

      for {mechanism, more, needs} <- [
            {:aes_ccm, [],
             &:crypto.crypto_one_time_aead(:aes_256_ccm, @key, &1, &2, "", &3, false)}
          ],
          mechanism in Cryptoki.mechanisms!(hsm) do
        assert {:ok, {iv, bytes}} =
                 Cryptoki.encrypt(hsm, key, {mechanism, [nonce: :token] ++ more}, text)

        {ciphertext, tag} = :erlang.split_binary(bytes, byte_size(bytes) - 16)
        assert needs.(iv, ciphertext, tag) == text
      end
    end

    test "#{form}: a wrapped key", context do
      %{module: module, hsm: hsm, key: key} = context
      info = Cryptoki.mechanism_info(hsm, :aes_cbc_pad)

      with {:ok, %{flags: flags}} <- info, true <- :wrap in flags do
        other =
          Cryptoki.create!(hsm,
            class: :secret_key,
            key_type: :aes,
            value: <<5::256>>,
            extractable: true,
            sensitive: false
          )

        FaultyModule.control(module, @form)
        cbc = {:aes_cbc_pad, iv: :token}
        assert {:ok, {iv, blob}} = Cryptoki.wrap_key(hsm, key, cbc, other)

        assert <<5::256, _padding::binary>> =
                 :crypto.crypto_one_time(:aes_256_cbc, @key, iv, blob, false)

        assert {:error, %Error{reason: :unsupported}} =
                 Cryptoki.wrap_key(hsm, key, {:aes_cbc_pad, iv: <<1::128>>}, other)

        FaultyModule.control(module, "")

        assert {:error, %Error{reason: :unsupported}} =
                 Cryptoki.wrap_key(hsm, key, {:aes_cbc_pad, iv: :token}, other)
      else
        _cannot_wrap -> assert MainToken.name() == :softhsm2
      end
    end
  end

  test "no IV can be said, and what the token gave is handed over as it is", context do
    %{module: module, hsm: hsm, key: key} = context
    FaultyModule.control(module, "iv behind")
    assert {:ok, bytes} = Cryptoki.encrypt(hsm, key, {:aes_gcm, iv: ""}, "text")
    <<ciphertext::binary-20, iv::binary-16>> = bytes
    assert opened(iv, ciphertext, "", 16) == "text"

    assert Enum.join(Cryptoki.encrypt_stream(hsm, key, {:aes_gcm, iv: ""}, ["te", "xt"]))
           |> byte_size() == 36

    assert {:error, %Error{reason: :mechanism_param_invalid}} =
             Cryptoki.encrypt(hsm, key, {:aes_gcm, iv: <<1::96>>}, "text")
  end

  test "a token that chooses none gives nothing: the zeros would be the IV of every message",
       %{hsm: hsm, key: key} do
    for mechanism <- [{:aes_gcm, iv: :token}, {:aes_cbc, iv: :token}],
        data <- [<<0::128>>, {:stream, [<<0::128>>]}] do
      assert {:error, %Error{reason: :unsupported}} = Cryptoki.encrypt(hsm, key, mechanism, data)
    end
  end

  test "it costs no call, and the form is remembered", context do
    %{module: module, hsm: hsm, key: key} = context
    names = fn calls -> for {function, event, _rv} <- calls, event == "ran", do: function end
    two = ["C_EncryptInit", "C_Encrypt"]
    encrypt = fn iv -> fn -> Cryptoki.encrypt!(hsm, key, {:aes_gcm, iv: iv}, "text") end end
    encrypt.(<<1::96>>).()

    {_ciphertext, calls} = FaultyModule.calls(module, encrypt.(<<1::96>>))
    assert names.(calls) == two
    FaultyModule.control(module, "iv written late")
    {_ciphertext, calls} = FaultyModule.calls(module, encrypt.(:token))
    assert names.(calls) == two
    FaultyModule.control(module, "iv behind")
    {_ciphertext, calls} = FaultyModule.calls(module, encrypt.(:token))
    assert names.(calls) == two
    {_ciphertext, calls} = FaultyModule.calls(module, encrypt.(:token))
    assert length(calls) == 2
    # The policy of the HSM was changed.
    FaultyModule.control(module, "iv written")
    assert {<<_::96>>, _ciphertext} = encrypt.(:token).()
  end

  test "where the token cannot be asked it is said at once", %{hsm: hsm, key: key} do
    for {call, sentence} <- [
          {&Cryptoki.encrypt_stream(hsm, key, &1, []), "iv: :token is not for a lazy stream"},
          {&Cryptoki.encrypt(hsm, key, &1, "", digest: :sha256),
           "not for two operations at once"},
          {&Cryptoki.decrypt(hsm, key, &1, ""), "argument :iv: expected a binary"},
          {&Cryptoki.sign(hsm, key, put_elem(&1, 0, :aes_gmac), ""), "expected a binary"}
        ] do
      assert_raise ArgumentError, ~r/#{sentence}/, fn -> call.({:aes_gcm, iv: :token}) end
    end
  end

  defp opened(iv, bytes, aad, tag_size) do
    {ciphertext, tag} = :erlang.split_binary(bytes, byte_size(bytes) - tag_size)
    :crypto.crypto_one_time_aead(:aes_256_gcm, @key, iv, ciphertext, aad, tag, false)
  end
end
