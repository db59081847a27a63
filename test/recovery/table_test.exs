defmodule Cryptoki.Recovery.TableTest do
  # Each row of the recovery table for each verb. The journal of the fault module tells how often a
  # function was called, and how often the token really ran it.
  use ExUnit.Case, async: false

  alias Cryptoki.{Answers, Error, Names}
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @moduletag :capture_log

  # The function that begins a verb and the one that does its work; they may be the same.
  @verbs [
    sign: {"C_SignInit", "C_Sign"},
    verify: {"C_VerifyInit", "C_Verify"},
    encrypt: {"C_EncryptInit", "C_Encrypt"},
    decrypt: {"C_DecryptInit", "C_Decrypt"},
    digest: {"C_DigestInit", "C_Digest"},
    sign_stream: {"C_SignInit", "C_SignFinal"},
    encrypt_stream: {"C_EncryptInit", "C_EncryptFinal"},
    digest_stream: {"C_DigestInit", "C_DigestFinal"},
    random: {"C_GenerateRandom", "C_GenerateRandom"},
    seed_random: {"C_SeedRandom", "C_SeedRandom"},
    find: {"C_FindObjectsInit", "C_FindObjects"},
    attributes: {"C_GetAttributeValue", "C_GetAttributeValue"},
    update: {"C_SetAttributeValue", "C_SetAttributeValue"},
    create: {"C_CreateObject", "C_CreateObject"},
    copy: {"C_CopyObject", "C_CopyObject"},
    destroy: {"C_DestroyObject", "C_DestroyObject"},
    generate_key: {"C_GenerateKey", "C_GenerateKey"},
    generate_key_pair: {"C_GenerateKeyPair", "C_GenerateKeyPair"},
    wrap_key: {"C_WrapKey", "C_WrapKey"},
    unwrap_key: {"C_UnwrapKey", "C_UnwrapKey"},
    derive_key: {"C_DeriveKey", "C_DeriveKey"}
  ]

  # Verbs of several calls on one session: what was done before is lost with it.
  @streams [:sign_stream, :encrypt_stream, :digest_stream]

  # The rows of a class, by name and code.
  rows = fn class -> for row <- Answers.rows(), row.class == class, do: {row.name, row.code} end
  # "At the time that the function was invoked", says the standard, and "during the execution".
  @session rows.(:session)
  @closed rows.(:session_closed)
  @absent rows.(:absent)
  @device rows.(:device)
  # Those of keys and objects are looked up once more.
  @looked_up for row <- Answers.rows(), row.again == :lookup, do: {row.name, row.code}
  # What the table has no row for.
  @others (rows.(:other) -- @looked_up) ++
            [
              mechanism_invalid: 0x70,
              data_len_range: 0x21,
              encrypted_data_invalid: 0x40,
              key_function_not_permitted: 0x68,
              session_read_only: 0xB5,
              token_write_protected: 0xE2,
              vendor: 0x80000123
            ]

  setup_all do
    module = FaultyModule.new()
    opts = [sessions: 1, reconnect: [min: 1, max: 20]]
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, opts)})
    put = fn name, template -> Cryptoki.generate_key!(hsm, name, [token: true] ++ template) end
    aes = put.(:aes_key_gen, label: "aes", id: <<1>>, value_len: 32)
    wrap = [label: "wrap", id: <<2>>, value_len: 32, wrap: true, unwrap: true]
    wrap = put.(:aes_key_gen, wrap)

    pair = fn label, id ->
      uses = [sign: true, verify: true, derive: true]
      template = [label: label, id: id, token: true, curve: :secp256r1] ++ uses
      Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
    end

    {ec_public, ec} = pair.("ec", <<3>>)
    {other_public, _other} = pair.("other", <<4>>)
    %{ec_point: point} = Cryptoki.attributes!(hsm, other_public, [:ec_point])
    wrapped = [label: "payload", id: <<5>>, value_len: 16, extractable: true, sensitive: false]
    payload = put.(:aes_key_gen, wrapped)
    digest = :crypto.hash(:sha256, "data")

    hmac = [class: :secret_key, key_type: :generic_secret, label: "hmac", sign: true, token: true]

    %{
      hmac: Cryptoki.create!(hsm, [value: digest] ++ hmac),
      hsm: hsm,
      faulty: module,
      digest: digest,
      aes: aes,
      wrap: wrap,
      payload: payload,
      ec: ec,
      ec_public: ec_public,
      peer: point,
      signature: Cryptoki.sign!(hsm, ec, :ecdsa, digest),
      ciphertext: Cryptoki.encrypt!(hsm, aes, :aes_ecb, digest),
      blob: Cryptoki.wrap_key!(hsm, wrap, :aes_key_wrap, payload)
    }
  end

  setup %{faulty: module, hsm: hsm} do
    on_exit(fn -> FaultyModule.control(module, "") end)
    ready(hsm)
  end

  # It takes no seed.
  @lacks %{softhsm2: [], kryoptic: [:seed_random]}

  for {verb, {first, last}} <- @verbs, verb not in @lacks[MainToken.name()] do
    describe "#{verb}" do
      @verb verb
      @first first
      @last last

      for {name, rv} <- @session do
        test "#{name}: opened anew, run once more", context do
          once(context, @verb, @first, unquote(rv), fn calls ->
            assert count(calls, "C_OpenSession") >= 1
          end)
        end
      end

      test "user not logged in: logged in, run once more", context do
        once(context, @verb, @first, 0x101, fn calls ->
          # The instance's own login after the sessions of the test before may fall into this one.
          assert count(calls, "C_Login") in 1..2
          assert count(calls, "C_OpenSession") == 0
        end)
      end

      if first != last do
        test "operation active: cancelled or opened anew, run once more", context do
          once(context, @verb, @first, 0x90, fn calls ->
            # SoftHSM cannot cancel.
            way = %{softhsm2: "C_OpenSession", kryoptic: "C_SessionCancel"}
            assert count(calls, way[MainToken.name()]) >= 1
          end)
        end
      end

      test "what does not go away is tried twice and handed over", context do
        for {reason, rv} <- @session ++ [user_not_logged_in: 0x101, operation_active: 0x90] do
          {answer, calls} = with_fault(context, @verb, "#{@first} rv=#{rv}")
          assert {:error, %Error{code: code, executed: false}} = answer
          # Reading attributes is also how a key is looked up again: then it cannot be.
          assert code == if(@verb == :attributes and rv == 0xB3, do: nil, else: rv)
          assert code in [nil, Names.code(:rv, reason) |> elem(1)]

          # A session that is opened anew because it cannot cancel may take objects with it: then the
          # keys are looked up again.
          if code, do: assert(count(calls, @first) in if(rv == 0x90, do: 2..3, else: [2]))
          assert ran(calls, @first) == 0
          ready(context.hsm)
        end
      end

      for {name, rv} <- @absent do
        test "#{name}: absent, and heals", %{hsm: hsm} = context do
          {:ok, ref} = Cryptoki.subscribe(hsm)
          {answer, calls} = with_fault(context, @verb, "#{@first} rv=#{unquote(rv)} count=1")
          assert {:error, %Error{reason: unquote(name)}} = answer
          assert count(calls, @first) == 1

          assert_receive {:cryptoki, ^ref, {:state, :absent, %Error{reason: unquote(name)}}},
                         5_000

          assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
          Cryptoki.unsubscribe(hsm, ref)
          assert good?(run(@verb, context))
        end
      end

      test "device errors are handed over, and after three the session is opened anew", context do
        # One that holds objects is left as it is while it answers: see below.
        FaultyModule.control(context.faulty, "sessions forget")
        keys = Map.take(context, [:aes, :wrap, :payload, :ec, :ec_public, :hmac])
        for {_name, key} <- keys, do: Cryptoki.attributes!(context.hsm, key, [:label])
        ready(context.hsm)

        for {{reason, rv}, n} <- Enum.with_index(@device, 1) do
          fault = "#{@last} rv=#{rv} after_forward count=1"
          FaultyModule.control(context.faulty, fault)
          {answer, calls} = FaultyModule.calls(context.faulty, fn -> run(@verb, context) end)
          assert {:error, %Error{reason: ^reason, code: ^rv} = error} = answer
          assert error.executed == if(prepares?(@last), do: false, else: :maybe)
          assert count(calls, @last) == 1
          # Where no other call succeeds in between.
          if @verb not in [:update, :destroy | @streams], do: assert(opened(calls, n))
        end

        assert good?(run(@verb, context))
        assert %{state: :ready} = Cryptoki.status!(context.hsm)
      end

      test "anything else is handed over, once", context do
        for {reason, rv} <- @others, function <- Enum.uniq([@first, @last]) do
          {answer, calls} = with_fault(context, @verb, "#{function} rv=#{rv} count=1")
          reason = if reason == :vendor, do: rv, else: reason
          assert {:error, %Error{reason: ^reason, code: ^rv}} = answer
          assert count(calls, function) == 1
          assert %{state: :ready} = Cryptoki.status!(context.hsm)
          assert good?(run(@verb, context))
        end
      end

      test "what was executed and denied is not run again", context do
        for {_reason, rv} <- @device ++ @absent ++ @closed ++ @others do
          {answer, calls} = with_fault(context, @verb, "#{@last} rv=#{rv} after_forward count=1")
          assert {:error, %Error{} = error} = answer
          # Where the session held more than this call, all of it is lost.
          assert error.code == if(rv == 0xB0 and @verb in @streams, do: nil, else: rv)
          assert ran(calls, @last) == 1
          ready(context.hsm)
        end
      end

      test "a session closed during the call: opened anew, handed over, never run again",
           context do
        for function <- Enum.uniq([@first, @last]), last = function == @last do
          before = FaultyModule.mark(context.faulty)
          {answer, calls} = with_fault(context, @verb, "#{function} forget rv=0xB0 after_forward")
          assert {:error, %Error{} = error} = answer
          lost = last and @verb in @streams
          assert error.reason == if(lost, do: :session_lost, else: :session_closed)
          assert error.executed == if(prepares?(function), do: false, else: :maybe)
          assert count(calls, function) == 1
          assert count(calls, "C_OpenSession") >= 1
          logged_in(context, before)
          assert good?(run(@verb, context))
        end
      end
    end
  end

  test "a session closed during the call, in a session of one's own and from Erlang", context do
    %{hsm: hsm, faulty: module} = context
    fault = "C_GenerateKey* forget rv=0xB0 after_forward count=1"
    pair = fn on -> Cryptoki.generate_key_pair(on, :ec_key_pair_gen, curve: :secp256r1) end
    erlang = fn -> :cryptoki.generate_key(hsm, :aes_key_gen, %{value_len: 16}) end

    for {call, function} <- [
          {fn -> Cryptoki.with_session(hsm, pair) end, "C_GenerateKeyPair"},
          {erlang, "C_GenerateKey"}
        ] do
      before = FaultyModule.mark(module)
      FaultyModule.control(module, fault)
      {answer, calls} = FaultyModule.calls(module, call)

      case answer do
        {:error, {:session_closed, info}} -> assert info.executed == :maybe
        {:error, error} -> assert %Error{reason: :session_closed, executed: :maybe} = error
      end

      assert count(calls, function) == 1
      logged_in(context, before)
    end

    FaultyModule.control(module, "")
    assert {:ok, {_public, _private}} = pair.(hsm)
  end

  describe "the PIN" do
    for {name, rv} <- [
          pin_incorrect: 0xA0,
          pin_locked: 0xA4,
          pin_expired: 0xA3,
          pin_invalid: 0xA1,
          pin_len_range: 0xA2
        ] do
      test "#{name}: locked, tried once" do
        module = FaultyModule.new(labels: ["pin-#{System.unique_integer([:positive])}"])
        FaultyModule.control(module, "C_Login rv=#{unquote(rv)}")
        opts = FaultyModule.options(module, sessions: 2, reconnect: [min: 1, max: 5])
        {:ok, hsm} = Cryptoki.start_link(opts)
        assert %{state: :locked, reason: %Error{reason: unquote(name)}} = Cryptoki.status!(hsm)
        assert {:error, %Error{reason: :locked, executed: false}} = Cryptoki.random(hsm, 1)
        {:ok, ref} = Cryptoki.subscribe(hsm)
        # Several looks and what would have been attempts later it is still one try.
        refute_receive {:cryptoki, ^ref, _}, 100
        assert FaultyModule.count(module, ~r/^C_Login /) == 1
        FaultyModule.control(module, "")
        assert {:error, %Error{reason: :pin_incorrect}} = Cryptoki.unlock(hsm, SoftHSM.pin())
        assert FaultyModule.count(module, ~r/^C_Login /) == 1
        assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
        assert %{state: :ready} = Cryptoki.status!(hsm)
        Cryptoki.stop(hsm)
      end
    end
  end

  ## What a row says

  # The first call fails, the second does; the work is done once.
  defp once(context, verb, first, rv, check) do
    {_first, last} = @verbs[verb]

    for function <- Enum.uniq([first, last]), function == first or verb not in @streams do
      {answer, calls} = with_fault(context, verb, "#{function} rv=#{rv} count=1")
      assert good?(answer), "#{inspect(answer)} after #{function}"
      assert faked(calls, function) == 1
      if verb not in [:find, :attributes], do: assert(ran(calls, last) == 1)
      if function == first, do: check.(calls)
      ready(context.hsm)
    end
  end

  defp with_fault(%{faulty: module} = context, verb, fault) do
    # What was looked up in an earlier epoch is looked up again now, not under the fault; and the
    # instance may still have to learn that the test before took its session.
    until_good(verb, context)
    prepared = prepare(verb, context)
    FaultyModule.control(module, fault)

    {answer, calls} =
      FaultyModule.calls(module, fn -> run(verb, Map.merge(context, prepared)) end)

    FaultyModule.control(module, "")
    {answer, calls}
  end

  defp until_good(verb, context) do
    case run(verb, context) do
      {:error, %Error{reason: reason, code: nil}}
      when reason in [:token_absent, :cryptoki_not_initialized] ->
        until_good(verb, context)

      answer ->
        assert good?(answer)
    end
  end

  defp prepare(:destroy, context) do
    {:ok, victim} = victim(context)
    %{victim: victim}
  end

  defp prepare(_verb, _context), do: %{}

  defp victim(%{hsm: hsm}) do
    label = "victim #{System.unique_integer([:positive])}"
    Cryptoki.create(hsm, class: :data, label: label, token: true, value: "x")
  end

  defp run(:sign, c), do: Cryptoki.sign(c.hsm, c.ec, :ecdsa, c.digest)

  defp run(:verify, c),
    do: Cryptoki.verify(c.hsm, c.ec_public, :ecdsa, c.digest, c.signature)

  defp run(:encrypt, c), do: Cryptoki.encrypt(c.hsm, c.aes, :aes_ecb, c.digest)
  defp run(:decrypt, c), do: Cryptoki.decrypt(c.hsm, c.aes, :aes_ecb, c.ciphertext)
  defp run(:digest, c), do: Cryptoki.digest(c.hsm, :sha256, "data")

  defp run(:sign_stream, c) do
    Cryptoki.sign(c.hsm, c.hmac, :sha256_hmac, {:stream, ["da", "ta"]})
  end

  defp run(:encrypt_stream, c),
    do:
      Cryptoki.encrypt(c.hsm, c.aes, {:aes_cbc, iv: <<0::128>>}, {:stream, [c.digest, c.digest]})

  defp run(:digest_stream, c), do: Cryptoki.digest(c.hsm, :sha256, {:stream, ["da", "ta"]})
  defp run(:random, c), do: Cryptoki.random(c.hsm, 8)
  defp run(:seed_random, c), do: Cryptoki.seed_random(c.hsm, "seed")
  defp run(:find, c), do: Cryptoki.find(c.hsm, label: "ec")
  defp run(:attributes, c), do: Cryptoki.attributes(c.hsm, c.ec, [:label])
  defp run(:update, c), do: Cryptoki.update(c.hsm, c.payload, start_date: <<>>, label: "payload")
  defp run(:create, c), do: Cryptoki.create(c.hsm, class: :data, label: "made", value: "x")
  defp run(:copy, c), do: Cryptoki.copy(c.hsm, c.payload, label: "copy", token: false)

  # Without a victim it is a check that the verb works at all.
  defp run(:destroy, %{victim: victim} = c), do: Cryptoki.destroy(c.hsm, victim)

  defp run(:destroy, c) do
    with {:ok, victim} <- victim(c), do: run(:destroy, Map.put(c, :victim, victim))
  end

  defp run(:generate_key, c), do: Cryptoki.generate_key(c.hsm, :aes_key_gen, value_len: 16)

  defp run(:generate_key_pair, c),
    do: Cryptoki.generate_key_pair(c.hsm, :ec_key_pair_gen, curve: :secp256r1)

  defp run(:wrap_key, c), do: Cryptoki.wrap_key(c.hsm, c.wrap, :aes_key_wrap, c.payload)

  defp run(:unwrap_key, c) do
    template = [class: :secret_key, key_type: :aes]
    Cryptoki.unwrap_key(c.hsm, c.wrap, :aes_key_wrap, c.blob, template)
  end

  defp run(:derive_key, c) do
    mechanism = {:ecdh1_derive, public: c.peer, kdf: :null}
    template = [class: :secret_key, key_type: :generic_secret, value_len: 32]
    Cryptoki.derive_key(c.hsm, c.ec, mechanism, template)
  end

  defp good?(:ok), do: true
  defp good?({:ok, _value}), do: true
  defp good?({:error, _error}), do: false

  defp opened(calls, 3), do: count(calls, "C_OpenSession") == 1
  defp opened(calls, _less), do: count(calls, "C_OpenSession") == 0

  # Functions that only look: an error of theirs has executed nothing.
  defp prepares?(function),
    do:
      function in ["C_FindObjects", "C_GetAttributeValue"] or String.ends_with?(function, "Init")

  defp count(calls, function),
    do:
      Enum.count(calls, fn {name, event, _rv} -> name == function and event in ~w(ran faked) end)

  defp ran(calls, function), do: Enum.count(calls, &match?({^function, "ran", _rv}, &1))
  defp faked(calls, function), do: Enum.count(calls, &match?({^function, "faked", _rv}, &1))

  # Sessions serve before the login that went with them is made anew, and with it an epoch begins: what
  # is made in between is stale then.
  defp logged_in(%{hsm: hsm, faulty: module} = context, before) do
    if {"C_Login", "ran", "0x0"} in FaultyModule.since(module, before) do
      # The control thread has done what it was told when it answers.
      {:ok, [_ | _]} = Cryptoki.slots(hsm)
      ready(hsm)
    else
      logged_in(context, before)
    end
  end

  defp ready(hsm) do
    case Cryptoki.status!(hsm) do
      %{state: :ready, sessions: %{open: 1}} -> :ok
      _not_yet -> ready(hsm)
    end
  end
end
