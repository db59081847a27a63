defmodule Cryptoki.OperationNumberTest do
  # An operation that is over is over: its steps are not those of the next one of its kind.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.MainToken

  setup do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})
    aes = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 16, encrypt: true, decrypt: true)
    template = [modulus_bits: 2048, public: [verify: true], private: [sign: true]]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
    signature = Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, "abc")
    ciphertext = Cryptoki.encrypt!(hsm, aes, {:aes_cbc_pad, iv: <<0::128>>}, "abc")
    keys = %{aes: aes, public: public, private: private}
    Map.merge(keys, %{hsm: hsm, signature: signature, ciphertext: ciphertext})
  end

  defp begin!(session, kind, context) do
    {key, mechanism} =
      case kind do
        :digest -> {nil, :sha256}
        :sign -> {context.private, :sha256_rsa_pkcs}
        :verify -> {context.public, :sha256_rsa_pkcs}
        _cipher -> {context.aes, {:aes_cbc_pad, iv: <<0::128>>}}
      end

    Cryptoki.start!(session, kind, key, mechanism)
  end

  defp end!(%{kind: :verify} = op, %{signature: signature}), do: Operation.finish(op, signature)
  defp end!(op, _context), do: Operation.finish(op)

  defp over?(answer), do: match?({:error, %Error{reason: :operation_not_initialized}}, answer)

  @ends for kind <- [:digest, :sign, :verify, :encrypt, :decrypt],
            ended <- [:finished, :cancelled],
            do: {kind, ended}

  for {kind, ended} <- [{:verify, :failed} | @ends] do
    @tag kind: kind
    test "#{kind}, #{ended}", %{hsm: hsm, kind: kind} = context do
      input = if kind == :decrypt, do: context.ciphertext, else: "abc"

      Cryptoki.with_session(hsm, fn session ->
        old = begin!(session, kind, context)
        {_ok, _out} = tagged(Operation.update(old, input))

        case unquote(ended) do
          :finished -> {:ok, _result} = tagged(end!(old, context))
          :cancelled -> :ok = Operation.cancel(old)
          :failed -> {:error, _error} = Operation.finish(old, "wrong")
        end

        next = begin!(session, kind, context)
        {:ok, first} = tagged(Operation.update(next, input))
        assert over?(Operation.update(old, "more"))
        assert over?(end!(old, context))
        assert over?(Operation.cancel(old))
        assert over?(Operation.save(old))
        if kind == :digest, do: assert(over?(Operation.update(old, {:key, context.aes})))
        assert {:ok, last} = tagged(end!(next, context))
        assert result(kind, first, last) == expected(kind, context)
        for op <- [old, next], do: assert(over?(end!(op, context)))
      end)
    end
  end

  test "a step of one that is over leaves the others of its session alone",
       %{hsm: hsm} = context do
    Cryptoki.with_session(hsm, fn session ->
      digest = begin!(session, :digest, context)
      :ok = Operation.update(digest, "abc")

      # Some tokens do one operation at a time.
      with {:ok, sign} <- Cryptoki.start(session, :sign, context.private, :sha256_rsa_pkcs) do
        :ok = Operation.cancel(sign)
        assert over?(Operation.update(sign, "x"))
      end

      assert Operation.finish(digest) == {:ok, :crypto.hash(:sha256, "abc")}
    end)
  end

  test "what one of the session fails at ends no other", %{hsm: hsm} = context do
    Cryptoki.with_session(hsm, fn session ->
      digest = begin!(session, :digest, context)
      :ok = Operation.update(digest, "abc")
      # Begun and refused, or not begun: neither concerns the digest.
      _ = Cryptoki.start(session, :sign, context.aes, :sha256_rsa_pkcs)
      assert Operation.finish(digest) == {:ok, :crypto.hash(:sha256, "abc")}
    end)
  end

  test "messages", %{hsm: hsm} = context do
    Cryptoki.with_session(hsm, fn session ->
      case Cryptoki.start(session, :message_encrypt, context.aes, :aes_gcm) do
        {:ok, old} ->
          :ok = Operation.finish(old)
          next = Cryptoki.start!(session, :message_encrypt, context.aes, :aes_gcm)
          iv = [iv: <<0::96>>]
          assert over?(Operation.message(old, iv, "", "text"))
          assert over?(Operation.message(old, iv, "", {:stream, ["te", "xt"]}))
          assert over?(Operation.finish(old))
          assert over?(Operation.cancel(old))
          assert {:ok, %{ciphertext: _}} = Operation.message(next, iv, "", "text")
          assert Operation.finish(next) == :ok

        # It is of PKCS #11 3.0.
        {:error, %Error{reason: reason}} ->
          assert reason in [:function_not_supported, :mechanism_invalid]
      end
    end)
  end

  test "after a call that read a stream to its end", %{hsm: hsm} = context do
    Cryptoki.with_session(hsm, fn session ->
      old = begin!(session, :digest, context)
      {:ok, _} = Operation.finish(old)

      chunks =
        Stream.map(["a", "b", "c"], fn chunk ->
          for step <- [&Operation.finish/1, &Operation.cancel/1], do: assert(over?(step.(old)))
          chunk
        end)

      assert Cryptoki.digest(session, :sha256, {:stream, chunks}) ==
               {:ok, :crypto.hash(:sha256, "abc")}
    end)
  end

  defp tagged(:ok), do: {:ok, ""}
  defp tagged(answer), do: answer

  defp result(kind, first, last) when kind in [:encrypt, :decrypt], do: first <> last
  defp result(_kind, _first, last), do: last

  defp expected(:digest, _context), do: :crypto.hash(:sha256, "abc")
  defp expected(:sign, context), do: context.signature
  defp expected(:verify, _context), do: ""
  defp expected(:encrypt, context), do: context.ciphertext
  defp expected(:decrypt, _context), do: "abc"
end
