defmodule Cryptoki.Recovery.StepsTest do
  # A step of an operation that was begun before: what it answers is about the function that was called,
  # it is called once, and with its login or its session the operation is lost.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{FaultyModule, MainToken}

  @moduletag :capture_log

  @user_not_logged_in 0x101
  @session_handle_invalid 0xB3
  # All that a call of its own would be repeated for, and one that it would not.
  @codes [@user_not_logged_in, @session_handle_invalid, 0x82, 0x60, 0x21]
  @message_kinds ~w[message_encrypt message_decrypt message_sign message_verify]a

  setup_all do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    uses = [encrypt: true, decrypt: true, sign: true, verify: true]

    aes =
      Cryptoki.generate_key!(
        hsm,
        :aes_key_gen,
        [label: "aes", value_len: 16, token: true] ++ uses
      )

    rsa = [label: "rsa", modulus_bits: 2048, token: true]
    {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, rsa)
    %{hsm: hsm, faulty: module, aes: aes, public: public, private: private}
  end

  setup %{faulty: module} do
    on_exit(fn -> FaultyModule.control(module, "") end)
  end

  # Of each kind: the function of the update and of the end.
  @kinds [
    sign: {"C_SignUpdate", "C_SignFinal"},
    verify: {"C_VerifyUpdate", "C_VerifyFinal"},
    encrypt: {"C_EncryptUpdate", "C_EncryptFinal"},
    decrypt: {"C_DecryptUpdate", "C_DecryptFinal"},
    digest: {"C_DigestUpdate", "C_DigestFinal"}
  ]

  for {kind, {update, final}} <- @kinds do
    test "#{kind}: each step is called once, and its error names it", context do
      for code <- @codes do
        fails(context, unquote(update), code, fn session ->
          {:ok, op} = begin(session, unquote(kind), context)
          Operation.update(op, <<0::256>>)
        end)

        fails(context, unquote(final), code, fn session ->
          {:ok, op} = begin(session, unquote(kind), context)
          _ = Operation.update(op, <<0::256>>)
          finish(op)
        end)
      end
    end

    test "#{kind}: a step of one that is over was never sent to the token", context do
      Cryptoki.with_session(context.hsm, fn session ->
        {:ok, op} = begin(session, unquote(kind), context)
        :ok = Operation.cancel(op)

        {answers, calls} =
          FaultyModule.calls(context.faulty, fn -> [Operation.update(op, ""), finish(op)] end)

        # The instance may still log in after what the test before has done.
        assert for({function, _, _} <- calls, function =~ ~r/Update|Final/, do: function) == []

        for answer <- answers do
          assert {:error, %Error{reason: :operation_not_initialized} = error} = answer
          assert %{function: nil, code: nil, executed: false} = error
        end
      end)
    end
  end

  test "a key that is digested", context do
    for code <- @codes do
      fails(context, "C_DigestKey", code, fn session ->
        # A session in an operation can look for nothing on some tokens.
        key = Cryptoki.find_one!(session, label: "aes")
        {:ok, op} = Cryptoki.start(session, :digest, :sha256)
        Operation.update(op, {:key, key})
      end)
    end
  end

  test "a stream that loses its login or its session is lost, whatever the token says next",
       context do
    data = {:stream, List.duplicate(<<0::8192>>, 200)}

    for code <- [@user_not_logged_in, @session_handle_invalid] do
      fails(context, "C_SignUpdate", code, fn ->
        Cryptoki.sign(context.hsm, context.private, :sha256_rsa_pkcs, data)
      end)

      fails(context, "C_DecryptFinal", code, fn ->
        Cryptoki.decrypt(context.hsm, context.aes, cbc(), {:stream, [<<0::256>>]})
      end)
    end

    assert {:ok, _} = Cryptoki.sign(context.hsm, context.private, :sha256_rsa_pkcs, data)
  end

  @dual [
    {"C_DigestEncryptUpdate", :encrypt, :digest},
    {"C_SignEncryptUpdate", :encrypt, :sign},
    {"C_DecryptDigestUpdate", :decrypt, :digest},
    {"C_DecryptVerifyUpdate", :decrypt, :verify}
  ]

  # SoftHSM does one operation at a time: that it began the second one is not true.
  @second "C_DigestInit rv=0\nC_SignInit rv=0\nC_VerifyInit rv=0\n"

  for {function, kind, second} <- @dual do
    test "#{function}", context do
      run = fn -> dual(context, unquote(kind), unquote(second)) end

      for code <- [0x21, @user_not_logged_in],
          do: fails(context, unquote(function), code, run, @second)
    end
  end

  for {function, run} <- [
        {"C_SignFinal", :sign},
        {"C_EncryptUpdate", :encrypt},
        {"C_DecryptFinal", :decrypt},
        {"C_DigestFinal", :digest}
      ] do
    test "#{function} that lies about a length is named", context do
      FaultyModule.control(context.faulty, "lie #{unquote(function)} length=huge")

      Cryptoki.with_session(context.hsm, fn session ->
        {:ok, op} = begin(session, unquote(run), context)
        updated = Operation.update(op, <<0::256>>)

        answer =
          with updated when updated == :ok or elem(updated, 0) == :ok <- updated, do: finish(op)

        assert {:error, %Error{reason: :module_misbehaved, detail: detail}} = answer
        assert detail =~ unquote(function)
      end)
    end
  end

  @messages [
    message_encrypt:
      {"C_EncryptMessage", "C_EncryptMessageBegin", "C_EncryptMessageNext",
       "C_MessageEncryptFinal"},
    message_decrypt:
      {"C_DecryptMessage", "C_DecryptMessageBegin", "C_DecryptMessageNext",
       "C_MessageDecryptFinal"}
  ]

  for {kind, {whole, first, next, final}} <- @messages, kind in @message_kinds do
    @tag skip: MainToken.lacks(:softhsm2, "it has no messages")
    test "#{kind}: each step is called once, and its error names it", context do
      parameters =
        if unquote(kind) == :message_encrypt,
          do: [iv: <<0::96>>],
          else: [iv: <<0::96>>, tag: <<0::128>>]

      for code <- @codes do
        start = &Cryptoki.start!(&1, unquote(kind), context.aes, :aes_gcm)

        fails(
          context,
          unquote(whole),
          code,
          &Operation.message(start.(&1), parameters, "", "text")
        )

        stream = {:stream, ["te", "xt"]}

        fails(
          context,
          unquote(first),
          code,
          &Operation.message(start.(&1), parameters, "", stream)
        )

        fails(
          context,
          unquote(next),
          code,
          &Operation.message(start.(&1), parameters, "", stream)
        )

        fails(context, unquote(final), code, &Operation.finish(start.(&1)))
      end
    end
  end

  defp begin(session, :sign, context),
    do: Cryptoki.start(session, :sign, context.private, :sha256_rsa_pkcs)

  defp begin(session, :verify, context),
    do: Cryptoki.start(session, :verify, context.public, :sha256_rsa_pkcs)

  defp begin(session, :digest, _context), do: Cryptoki.start(session, :digest, :sha256)
  defp begin(session, kind, context), do: Cryptoki.start(session, kind, context.aes, cbc())

  defp finish(%Operation{kind: :verify} = op), do: Operation.finish(op, <<0::2048>>)
  defp finish(op), do: Operation.finish(op)

  defp cbc, do: {:aes_cbc, iv: <<0::128>>}

  defp dual(context, kind, second) do
    context = now(context)

    with_what =
      case second do
        :digest -> :sha256
        :sign -> {context.private, :sha256_rsa_pkcs}
        :verify -> {context.public, :sha256_rsa_pkcs, <<0::2048>>}
      end

    apply(Cryptoki, kind, [context.hsm, context.aes, cbc(), <<0::256>>, [{second, with_what}]])
  end

  # The keys as they are now: a session in an operation can look for nothing on some tokens.
  defp now(context) do
    find = &Cryptoki.find_one!(context.hsm, label: &1, class: &2)
    keys = %{aes: find.("aes", :secret_key), private: find.("rsa", :private_key)}
    Map.merge(context, Map.put(keys, :public, find.("rsa", :public_key)))
  end

  # One call of the function, which is named; the session serves again after it.
  defp fails(%{hsm: hsm, faulty: module}, function, code, run, rules \\ "") do
    rule = "#{function} rv=0x#{Integer.to_string(code, 16)} # #{System.unique_integer()}"
    FaultyModule.control(module, rules <> rule)

    run = if is_function(run, 1), do: fn -> Cryptoki.with_session(hsm, run) end, else: run
    {answer, calls} = FaultyModule.calls(module, run)
    FaultyModule.control(module, "# #{System.unique_integer()}")

    assert {:error, %Error{} = error} = answer

    assert Enum.count(calls, &match?({^function, "faked", _rv}, &1)) == 1,
           "#{function}: #{inspect(calls)}"

    if code in [@user_not_logged_in, @session_handle_invalid] do
      assert %{reason: :session_lost, executed: :maybe} = error
      assert error.detail =~ function
    else
      assert %{code: ^code, function: named} = error
      assert Atom.to_string(named) == function
    end

    assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, "")
  end
end
