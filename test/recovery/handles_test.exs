defmodule Cryptoki.Recovery.HandlesTest do
  # A library that gives handles which are none, or finds objects without end.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, Load, MainToken}

  @moduletag :capture_log

  setup do: FaultyModule.own()

  defp start(module, opts \\ []) do
    opts = Keyword.merge([sessions: 2, timeout: 5_000, reconnect: [min: 1, max: 20]], opts)
    start_supervised!({Cryptoki, FaultyModule.options(module, opts)})
  end

  describe "a session whose handle is 0" do
    test "is none: an instance does not start on it, and heals", %{module: module} do
      threads = Load.session_threads()
      FaultyModule.control(module, "lie C_OpenSession handle=0")
      hsm = start(module)
      assert {:error, %Error{}} = Cryptoki.random(hsm, 8)
      status(hsm, &(&1.state == :absent and &1.sessions.open == 0 and &1.sessions.busy == 0))
      assert Load.session_threads() == threads

      FaultyModule.control(module, "")
      status(hsm, &(&1.state == :ready and &1.sessions.open == 2))
      assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
      assert FaultyModule.count(module, ~r/^C_CloseSession .* 0xB3/) == 0
    end

    test "is none: one among others is left out", %{module: module} do
      # The first is that of the login.
      FaultyModule.control(module, "lie C_OpenSession handle=0 after=2 times=1")
      hsm = start(module)
      assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
      await(fn -> FaultyModule.count(module, ~r/^C_OpenSession ran/) >= 3 end)
      assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
      refute Cryptoki.status!(hsm).sessions.open == 0
    end

    test "is none: of an instance that lost its sessions all are counted down, and it heals",
         context do
      %{module: module} = context
      threads = Load.session_threads()
      hsm = start(module)
      status(hsm, &(&1.sessions.open == 2))

      FaultyModule.control(module, "sessions forget\nlie C_OpenSession handle=0")
      assert {:error, %Error{}} = Cryptoki.random(hsm, 8)
      assert {:error, %Error{}} = Cryptoki.with_session(hsm, &Cryptoki.random(&1, 8))
      status(hsm, &(&1.state == :absent and &1.sessions.open == 0 and &1.sessions.busy == 0))
      await(fn -> Load.session_threads() == threads end)

      FaultyModule.control(module, "")
      status(hsm, &(&1.state == :ready and &1.sessions.open == 2))
      assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
    end

    test "is none: for the administration of tokens neither", %{module: module} do
      start(module)
      FaultyModule.control(module, "lie C_OpenSession handle=0")
      options = FaultyModule.options(module)
      place = Keyword.take(options, [:library, :init_args])
      pins = [old: options[:pin], new: options[:pin]]

      assert {:error, %Error{reason: :module_misbehaved} = error} =
               Cryptoki.Token.set_pin(options[:token], place ++ pins)

      assert Exception.message(error) =~ "C_OpenSession answered CKR_OK with an invalid handle"
    end
  end

  @tag skip: MainToken.apart("a library that hangs as it is given back is ended")
  test "no session is closed under a call that somebody else makes with it", %{module: module} do
    # Keeps the library initialised.
    start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)}, id: :other)
    opened = FaultyModule.count(module, ~r/^C_OpenSession ran 0x0/)

    # The thread of a new session asks whether that of the login lives.
    FaultyModule.control(module, "C_GetSessionInfo hang")
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 1, timeout: 500))
    FaultyModule.await(module, ~r/^C_GetSessionInfo hangs/)
    assert FaultyModule.count(module, ~r/^C_OpenSession ran 0x0/) == opened + 2

    :ok = Cryptoki.stop(hsm)
    # The control thread has done what it was told when it answers.
    assert {:ok, [_ | _]} = Cryptoki.slots(library: module.library, init_args: module.init_args)
    assert FaultyModule.count(module, ~r/^C_GetSessionInfo released/) == 0
    assert FaultyModule.count(module, ~r/^C_CloseSession/) == 0

    FaultyModule.control(module, "")
    FaultyModule.await(module, ~r/^C_CloseSession ran 0x0/, 2)
  end

  describe "an object whose handle is 0" do
    test "is none, whatever function makes it", %{module: module} do
      hsm = start(module, sessions: 1)
      aes = [value_len: 32, extractable: true, sensitive: false, wrap: true, unwrap: true]
      key = Cryptoki.generate_key!(hsm, :aes_key_gen, [label: "aes", derive: true] ++ aes)
      wrapped = Cryptoki.wrap_key!(hsm, key, :aes_key_wrap, key)
      secret = [class: :secret_key, key_type: :aes]
      derive = {:aes_ecb_encrypt_data, data: <<0::256>>}
      pair = [curve: :secp256r1, label: "pair"]

      for {function, only, call} <- [
            {"C_CreateObject", "", fn -> Cryptoki.create(hsm, class: :data, value: "x") end},
            {"C_CopyObject", "", fn -> Cryptoki.copy(hsm, key, label: "copy") end},
            {"C_GenerateKey", "",
             fn -> Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16) end},
            {"C_GenerateKeyPair", "only=first",
             fn -> Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, pair) end},
            {"C_GenerateKeyPair", "only=second",
             fn -> Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, pair) end},
            {"C_UnwrapKey", "",
             fn -> Cryptoki.unwrap_key(hsm, key, :aes_key_wrap, wrapped, secret) end},
            {"C_DeriveKey", "",
             fn -> Cryptoki.derive_key(hsm, key, derive, secret ++ [value_len: 32]) end},
            {"C_FindObjects", "", fn -> Cryptoki.find(hsm, class: :secret_key) end},
            {"C_FindObjects", "", fn -> :cryptoki.find(hsm, %{class: :secret_key}) end},
            {"C_FindObjects", "",
             fn -> Cryptoki.with_session(hsm, &Cryptoki.find(&1, class: :secret_key)) end},
            {"C_FindObjects", "",
             fn -> Cryptoki.encrypt(hsm, [label: "aes"], :aes_ecb, <<0::128>>) end}
          ] do
        FaultyModule.control(module, "lie #{function} handle=0 #{only}")
        {answer, calls} = FaultyModule.calls(module, call)

        assert {function, misbehaved(answer)} ==
                 {function, "#{function} answered CKR_OK with an invalid handle"}

        assert {function, "ran", "0x0"} in calls
        # The search that was broken off is over.
        assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, "")
      end

      FaultyModule.control(module, "")
      assert {:ok, [_ | _]} = Cryptoki.find(hsm, class: :secret_key)
    end
  end

  defp misbehaved({:error, {:module_misbehaved, %{detail: detail}}}), do: detail
  defp misbehaved({:error, %Error{reason: :module_misbehaved, detail: detail}}), do: detail
  defp misbehaved(other), do: other

  describe "a search that always finds more" do
    test "ends with an error", %{module: module} do
      hsm = start(module, sessions: 1, timeout: 60_000)
      FaultyModule.control(module, "search endless")
      assert misbehaved(Cryptoki.find(hsm, class: :data)) =~ "more objects than a token can have"
      FaultyModule.control(module, "")
      assert {:ok, []} = Cryptoki.find(hsm, class: :data)
    end

    test "ends with its caller", %{module: module} do
      hsm = start(module, sessions: 1)
      FaultyModule.control(module, "search endless\nC_FindObjects delay=50")
      assert {:error, %Error{reason: :timeout}} = Cryptoki.find(hsm, [class: :data], timeout: 200)
      # While it would go on for minutes.
      status(hsm, &(&1.sessions.overdue == 0 and &1.sessions.open == 1))
      searching = fn -> FaultyModule.count(module, ~r/^C_FindObjects ran/) end
      searched = searching.()
      assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, "")
      assert searching.() == searched

      task = Task.async(fn -> Cryptoki.find(hsm, class: :data) end)
      await(fn -> searching.() > searched end)
      Task.shutdown(task, :brutal_kill)
      status(hsm, &(&1.sessions == %{wanted: 1, open: 1, busy: 0, overdue: 0}))
    end
  end

  # Asks until it holds; the test's own time limit ends it otherwise.
  defp status(hsm, holds?) do
    status = Cryptoki.status!(hsm)
    if holds?.(status), do: status, else: status(hsm, holds?)
  end
end
