defmodule Cryptoki.Recovery.ReinitializeTest do
  # A library that has got stuck is finalised and initialised anew, with nobody's help.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, MainToken}

  @moduletag :capture_log

  setup do: FaultyModule.own()

  defp start(module, more \\ []) do
    opts = Keyword.merge([sessions: 2, reconnect: [min: 5, max: 50]], more)
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, opts))
    hsm
  end

  defp fail_until_absent(hsm, ref, name) do
    assert {:error, %Error{}} = Cryptoki.random(hsm, 1)

    receive do
      {:cryptoki, ^ref, {:state, :absent, %Error{reason: ^name}}} -> :ok
    after
      0 -> fail_until_absent(hsm, ref, name)
    end
  end

  defp initialized(module), do: FaultyModule.count(module, ~r/^C_Initialize ran 0x0/)
  defp finalized(module), do: FaultyModule.count(module, ~r/^C_Finalize ran 0x0/)

  test "one that somebody has finalised", %{module: module} do
    hsm = start(module)
    template = [label: "kept", id: <<7>>, token: true, value_len: 16]
    key = Cryptoki.generate_key!(hsm, :aes_key_gen, template)
    blob = Cryptoki.encrypt!(hsm, key, :aes_ecb, <<0::128>>)
    {:ok, ref} = Cryptoki.subscribe(hsm)

    # As if it had been: everything says so.
    FaultyModule.control(module, "* rv=0x190")
    assert {:error, %Error{reason: :cryptoki_not_initialized}} = Cryptoki.random(hsm, 1)
    assert_receive {:cryptoki, ^ref, {:state, :absent, %Error{}}}
    FaultyModule.await(module, ~r/^C_Initialize faked 0x190/)
    FaultyModule.control(module, "handles shift\nsessions forget")
    assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
    assert Cryptoki.encrypt!(hsm, key, :aes_ecb, <<0::128>>) == blob
    Cryptoki.stop(hsm)
  end

  for {name, rv} <- [general_error: 0x05, device_error: 0x30, function_failed: 0x06] do
    test "one that answers #{name} for ever, with a growing delay", %{module: module} do
      log =
        capture_log(fn ->
          hsm = start(module)
          {:ok, ref} = Cryptoki.subscribe(hsm)

          fault =
            for function <- ~w(C_GetSlotList C_GenerateRandom C_OpenSession),
                do: "#{function} rv=#{unquote(rv)}\n"

          FaultyModule.control(module, Enum.join(fault))
          for _ <- 1..8, do: {:error, _} = Cryptoki.random(hsm, 1)

          assert_receive {:cryptoki, ^ref, {:state, :absent, %Error{reason: unquote(name)}}},
                         5_000

          FaultyModule.await(module, ~r/^C_Initialize ran 0x0/, 3)
          assert finalized(module) >= 2
          assert %{state: :absent} = Cryptoki.status!(hsm)
          FaultyModule.control(module, "")
          assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
          assert {:ok, _} = Cryptoki.random(hsm, 1)
          Cryptoki.stop(hsm)
        end)

      assert log =~ "the library was initialised anew"
    end
  end

  for {name, rv} <- [general_error: 0x05, device_error: 0x30, function_failed: 0x06] do
    test "one that connects, and answers #{name} to everything else", %{module: module} do
      hsm = start(module, sessions: 1)
      {:ok, ref} = Cryptoki.subscribe(hsm)
      FaultyModule.control(module, "C_GenerateRandom rv=#{unquote(rv)}\nC_Digest* rv=5")
      fail_until_absent(hsm, ref, unquote(name))
      assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
      assert initialized(module) == 2
      # Nothing has worked since: it is in for another one, after a longer time.
      fail_until_absent(hsm, ref, unquote(name))
      FaultyModule.control(module, "")
      assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
      assert initialized(module) == 3
      assert {:ok, _} = Cryptoki.random(hsm, 1)
      Cryptoki.stop(hsm)
    end
  end

  test "one whose sessions take their time to close: they are its own, and no others", %{
    module: module
  } do
    hsm = start(module, sessions: 2)
    {:ok, ref} = Cryptoki.subscribe(hsm)
    fault = "C_GenerateRandom rv=0x30\nC_Digest* rv=5\nC_CloseSession delay=300"
    FaultyModule.control(module, fault)
    fail_until_absent(hsm, ref, :device_error)
    assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
    assert initialized(module) == 2
    FaultyModule.control(module, "")
    Cryptoki.stop(hsm)
  end

  # OpenSC 0.26 does so with a card that was pulled while it was read, and put back.
  for {what, fault, seen} <- [
        {"another token", "token label=PIV_II", "\"PIV_II\" in slot"},
        {"a token that it cannot read", "C_GetTokenInfo rv=0xE1", "that the library cannot read"}
      ] do
    test "one that shows #{what} in place of the instance's", %{module: module} do
      hsm = start(module)
      key = Cryptoki.generate_key!(hsm, :aes_key_gen, id: <<7>>, token: true, value_len: 16)
      blob = Cryptoki.encrypt!(hsm, key, :aes_ecb, <<0::128>>)
      {:ok, ref} = Cryptoki.subscribe(hsm)

      FaultyModule.control(
        module,
        "token replug\n#{unquote(fault)} until=initialize\nC_Finalize hang"
      )

      assert {:error, %Error{}} = Cryptoki.random(hsm, 1)
      FaultyModule.await(module, ~r/^C_Finalize hangs/)
      assert %{state: :absent, reason: %Error{} = reason} = Cryptoki.status!(hsm)
      assert Exception.message(reason) =~ unquote(seen)
      FaultyModule.release(module)
      assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
      assert initialized(module) == 2
      assert Cryptoki.encrypt!(hsm, key, :aes_ecb, <<0::128>>) == blob
      Cryptoki.stop(hsm)
    end
  end

  @tag skip: MainToken.apart("no other instance uses the library")
  test "one that shows other tokens is left to an instance that uses it", context do
    %{module: module} = context
    user = start(module)
    missing = start(module, token: [label: "missing"])
    {:ok, ref} = Cryptoki.subscribe(missing)
    # What is asked when the library is to be initialised anew.
    asked = FaultyModule.count(module, ~r/^C_GetInfo ran/)
    FaultyModule.await(module, ~r/^C_GetInfo ran/, asked + 2)
    assert initialized(module) == 1
    assert {:ok, _} = Cryptoki.random(user, 1)
    Cryptoki.stop(user)
    FaultyModule.await(module, ~r/^C_Initialize ran 0x0/, 2)
    refute_received {:cryptoki, ^ref, {:state, _state, _reason}}
    Cryptoki.stop(missing)
  end

  test "not for errors that may be the caller's, nor when anything works", %{module: module} do
    hsm = start(module, sessions: 1)
    key = Cryptoki.generate_key!(hsm, :aes_key_gen, token: true, value_len: 16)

    FaultyModule.control(module, "C_Decrypt rv=5\nC_Encrypt rv=5")
    for _ <- 1..30, do: {:error, _} = Cryptoki.decrypt(hsm, key, :aes_ecb, <<0::128>>)

    for _ <- 1..10 do
      for _ <- 1..3, do: {:error, _} = Cryptoki.encrypt(hsm, key, :aes_ecb, <<0::128>>)
      assert {:ok, _} = Cryptoki.random(hsm, 1)
    end

    assert initialized(module) == 1
    assert %{state: :ready} = Cryptoki.status!(hsm)
    Cryptoki.stop(hsm)
  end

  # Kryoptic answers CKR_DEVICE_ERROR for a ciphertext of RSA OAEP that is none: a stranger may send any number.
  for {name, rv} <- [general_error: 0x05, device_error: 0x30, function_failed: 0x06] do
    test "not for #{name} of every ciphertext, in sessions that made no object", context do
      %{module: module} = context
      # Another instance makes it: a session with objects is not opened anew.
      maker = start(module, sessions: 1)
      key = [label: "elsewhere", class: :secret_key]
      template = [label: "elsewhere", token: true, value_len: 16]
      _key = Cryptoki.generate_key!(maker, :aes_key_gen, template)
      hsm = start(module, sessions: 1)
      assert {:ok, _} = Cryptoki.encrypt(hsm, key, :aes_ecb, <<0::128>>)
      # The library is initialised anew only when nobody else has a session of it.
      Cryptoki.stop(maker)
      before = initialized(module)

      FaultyModule.control(module, "C_Decrypt rv=#{unquote(rv)} after_forward")
      for _ <- 1..30, do: {:error, _} = Cryptoki.decrypt(hsm, key, :aes_ecb, <<0::128>>)
      assert initialized(module) == before
      assert %{state: :ready} = Cryptoki.status!(hsm)
      Cryptoki.stop(hsm)
    end
  end

  test "C_Initialize that fails is tried again", %{module: module} do
    hsm = start(module)
    {:ok, ref} = Cryptoki.subscribe(hsm)

    FaultyModule.control(
      module,
      "C_GetSlotList rv=5\nC_OpenSession rv=5\nC_Initialize rv=5\nC_GenerateRandom rv=5"
    )

    for _ <- 1..8, do: {:error, _} = Cryptoki.random(hsm, 1)
    FaultyModule.await(module, ~r/^C_Initialize faked/, 3)
    FaultyModule.control(module, "")
    assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
    assert {:ok, _} = Cryptoki.random(hsm, 1)
    assert initialized(module) == 2
    assert :ok = Cryptoki.stop(hsm)
  end

  @tag skip: MainToken.apart("no other instance uses the library")
  test "never under another instance that uses it, nor under a call that hangs", context do
    %{module: module} = context
    user = start(module)
    FaultyModule.control(module, "C_GetSlotList rv=5")
    stuck = start(module)
    FaultyModule.await(module, ~r/^C_GetSlotList faked/, 12)
    assert {:ok, _} = Cryptoki.random(user, 1)
    assert initialized(module) == 1
    assert finalized(module) == 0
    assert %{state: :absent, reason: %Error{reason: :general_error}} = Cryptoki.status!(stuck)

    FaultyModule.control(module, "C_GetSlotList rv=5\nC_Digest hang")
    assert {:error, %Error{reason: :timeout}} = Cryptoki.digest(user, :sha256, "", timeout: 50)
    Cryptoki.stop(stuck)
    FaultyModule.control(module, "")
    assert {:ok, _} = Cryptoki.digest(user, :sha256, "")
    assert initialized(module) == 1
    Cryptoki.stop(user)
  end
end
