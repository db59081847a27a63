defmodule Cryptoki.ImportUndoTest do
  # What an import that fails takes away is what it has made: never a key that has its names, and what it
  # cannot take away it tells.
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken}

  @moduletag :capture_log

  # Kryoptic locks itself out when one thread logs in while others search.
  @locking %{softhsm2: :os, kryoptic: :serialized}

  setup_all do
    %{
      ec: KeyFiles.make("openssl ecparam").file,
      ed25519: KeyFiles.make("openssl genpkey, Ed25519").file
    }
  end

  setup do
    module = FaultyModule.new()

    # With another session, that finds its loss later, keys are looked up again in the middle of what is looked at.
    options = [sessions: 1, reconnect: [min: 5, max: 50], locking: @locking[MainToken.name()]]
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, options)})
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module, hsm: hsm}
  end

  defp faults(module, rules), do: FaultyModule.control(module, rules)

  # Every call of an import, with how many of its kind come before.
  @calls for {function, most} <- [
               C_CreateObject: 1,
               C_GetAttributeValue: 5,
               C_SignInit: 0,
               C_Sign: 0,
               C_VerifyInit: 0,
               C_Verify: 0
             ],
             before <- 0..most,
             do: {function, before}

  for {how, {handles, rule}} <- [
        "the sessions": {"handles shift", "forget"},
        "the session, when it has been done": {"", "rv=0xb0 after_forward"}
      ],
      token <- [true, false] do
    test "#{how} lost at each call; token: #{token}", %{module: module, hsm: hsm, ec: file} do
      names = [label: "payments", id: <<1>>]
      pair = [curve: :secp256r1, token: true] ++ names
      {public, _before} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, pair)
      private = [class: :private_key, token: true] ++ names

      for {function, calls} <- @calls do
        rule = "#{function} #{unquote(rule)} count=1 after=#{calls}"
        faults(module, unquote(handles) <> "\n" <> rule)
        answer = Cryptoki.import_key(hsm, file, [token: unquote(token)] ++ names)
        faults(module, unquote(handles))
        {mine, others} = found(hsm, private, public)
        assert length(mine) == 1

        case {answer, length(others)} do
          {{:error, %Error{executed: false}}, left} ->
            assert {function, calls, left, answer} == {function, calls, 0, answer}

          {{:error, %Error{executed: :maybe}}, left} ->
            assert left in [0, 1]

          {{:ok, key}, left} ->
            assert left == if(key.token, do: 1, else: 0)
        end

        {_mine, more} = found(hsm, names, public)
        for key <- more, do: Cryptoki.destroy!(hsm, key)
      end
    end
  end

  test "a key that the handle does not reach any more is told",
       %{module: module, hsm: hsm} = context do
    for token <- [true, false] do
      faults(module, "handles shift\nC_SignInit forget count=1")
      answer = Cryptoki.import_key(hsm, context.ec, label: "lost", token: token)
      faults(module, "handles shift")
      assert {:error, %Error{reason: :session_handle_invalid} = error} = answer
      found = Cryptoki.find!(hsm, label: "lost")

      # SoftHSM has no names of its own for its objects.
      if token and MainToken.name() == :softhsm2 do
        assert error.executed == :maybe
        assert Exception.message(error) =~ "is not looked for by its names"
        assert [%{class: :private_key, token: true} = key] = found
        Cryptoki.destroy!(hsm, key)
      else
        assert {error.executed, found} == {false, []}
      end
    end
  end

  # The halves of a pair, and others of its names.
  defp found(hsm, selector, public) do
    found = Cryptoki.find!(hsm, selector)
    whose = for key <- found, do: {whose(hsm, key, public), key}

    # The handles of a list may end before they are used, and their names do not tell them apart.
    if List.keymember?(whose, :key_ambiguous, 0),
      do: found(hsm, selector, public),
      else: {for({:mine, key} <- whose, do: key), for({:another, key} <- whose, do: key)}
  end

  defp whose(_hsm, %{class: :public_key} = key, public),
    do: if(key.fingerprint == public.fingerprint, do: :mine, else: :another)

  defp whose(hsm, key, public) do
    case Cryptoki.sign(hsm, key, :ecdsa, <<2::256>>) do
      {:ok, signature} ->
        mine? = Cryptoki.valid?(hsm, public, :ecdsa, <<2::256>>, signature)
        if mine?, do: :mine, else: :another

      {:error, %Error{reason: :key_ambiguous}} ->
        :key_ambiguous
    end
  end

  describe "the public key" do
    # What a token says when it does not verify so, and what it says when it cannot just now.
    for {rules, refused?} <- [
          {"C_VerifyInit rv=0x70 count=1", true},
          {"C_VerifyInit rv=0x63 count=1", true},
          {"C_Verify rv=0x54 count=1", true},
          {"C_VerifyInit rv=0x130 count=1", true},
          {"C_VerifyInit rv=0x30 count=1", false},
          {"C_Verify rv=0x30 count=1", false},
          {"C_VerifyInit rv=0x31 count=1", false},
          {"C_Verify rv=0x20 count=1", true},
          {"C_Verify rv=0x5 count=1", false}
        ] do
      test "is left when it verifies, or the token verifies nothing: #{rules}", context do
        %{module: module, hsm: hsm} = context

        for {kind, mechanism} <- [ec: :ecdsa_sha256, ed25519: :eddsa] do
          label = "twin #{kind}"
          faults(module, unquote(rules))
          answer = Cryptoki.import_key(hsm, context[kind], label: label, token: true)
          faults(module, "")

          if unquote(refused?) do
            assert {:ok, key} = answer
            assert [twin] = Cryptoki.find!(hsm, class: :public_key, label: label)
            signature = Cryptoki.sign!(hsm, key, mechanism, "text")
            assert Cryptoki.verify(hsm, twin, mechanism, "text", signature) == :ok
          else
            assert {:error, %Error{executed: false}} = answer
            assert Cryptoki.find!(hsm, label: label) == []
          end
        end
      end
    end

    test "is the standard's when the token verifies no such signature", context do
      %{module: module, hsm: hsm, ed25519: file} = context
      faults(module, "C_VerifyInit rv=0x70")
      assert {:ok, _key} = Cryptoki.import_key(hsm, file, label: "ed", token: true)
      assert [twin] = Cryptoki.find!(hsm, class: :public_key, label: "ed")
      assert %{ec_point: point} = Cryptoki.attributes!(hsm, twin, [:ec_point])
      assert byte_size(point) == 32 or MainToken.name() != :softhsm2
    end

    test "is told when it is a wrong one that stays", %{module: module, hsm: hsm} = context do
      for kind <- [:ec, :ed25519] do
        label = "stays #{kind}"
        faults(module, "C_Verify rv=0xc0\nC_DestroyObject rv=0x30 count=1")
        answer = Cryptoki.import_key(hsm, context[kind], label: label, token: true)
        faults(module, "")
        assert {:error, %Error{executed: :maybe} = error} = answer
        assert Exception.message(error) =~ "on the token perhaps"
        assert [%{class: :public_key}] = Cryptoki.find!(hsm, label: label)
      end
    end

    test "and the private one are away: nothing was executed", context do
      %{module: module, hsm: hsm, ec: file} = context

      for rules <- ["C_Verify rv=0x30", "C_Sign rv=0x30", "C_Sign rv=0x5", "C_Verify rv=0x6"] do
        faults(module, rules)
        answer = Cryptoki.import_key(hsm, file, label: "away", token: true)
        faults(module, "")
        assert {:error, %Error{executed: false}} = answer
        assert Cryptoki.find!(hsm, label: "away") == []
      end
    end
  end
end
