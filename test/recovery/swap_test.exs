defmodule Cryptoki.Recovery.SwapTest do
  # Another token comes into the slot: it gets no PIN that is not its own, and no work.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Token}
  alias Cryptoki.Test.{FaultyModule, SoftHSM}

  @moduletag :capture_log

  @other "token label=other"

  setup do: FaultyModule.own()

  test "while the PIN is fetched", %{module: module} do
    swap = fn ->
      FaultyModule.control(module, @other)
      SoftHSM.pin()
    end

    hsm = start(module, pin: swap)
    absent(hsm)
    assert count(module, "C_Login") == 0
    assert count(module, "C_OpenSession") == 0
    Cryptoki.stop(hsm)
  end

  test "while its session is opened", %{module: module} do
    # The token is looked at, then the library is asked who made it, then a session is opened.
    ask = fn ->
      FaultyModule.control(module, "C_GetInfo hang")
      SoftHSM.pin()
    end

    swap = swap_when(module, "C_GetInfo", "")
    hsm = start(module, pin: ask)
    Task.await(swap, 60_000)
    absent(hsm)
    assert count(module, "C_Login") == 0
    assert count(module, "C_OpenSession") == 1
    FaultyModule.await(module, ~r/^C_CloseSession ran/)
    Cryptoki.stop(hsm)
  end

  test "while it is given the PIN, and restarts", %{module: module} do
    FaultyModule.control(module, "C_Login hang")
    swap = swap_when(module, "C_Login", "sessions forget")
    hsm = start(module, pin: &SoftHSM.pin/0)
    Task.await(swap, 60_000)
    absent(hsm)
    assert count(module, "C_Login") == 0
    Cryptoki.stop(hsm)
  end

  test "while its PIN is asked for, to administer it", %{module: module} do
    [label: hd(module.labels)]
    |> administrations()
    |> Enum.each(fn administer ->
      FaultyModule.control(module, "")

      swap = fn ->
        FaultyModule.control(module, @other)
        SoftHSM.pin()
      end

      library = [library: module.library, init_args: module.init_args]
      assert {:error, %Error{reason: :token_absent} = error} = administer.(library, swap)
      assert Exception.message(error) =~ ~s(now there is "other")
    end)

    for function <- ~w(C_Login C_InitToken C_InitPIN C_SetPIN C_OpenSession),
        do: assert(count(module, function) == 0)
  end

  defp administrations(token) do
    [
      fn library, pin -> Token.init(token, [label: "new", so_pin: pin] ++ library) end,
      fn library, pin -> Token.init_pin(token, [so_pin: pin, pin: "1234"] ++ library) end,
      fn library, pin -> Token.set_pin(token, [old: pin, new: "1234"] ++ library) end
    ]
  end

  for {name, pin} <- [{"with a PIN", SoftHSM.pin()}, {"without a PIN", nil}] do
    describe "#{name}:" do
      @describetag pin: pin

      test "while the instance connects", %{module: module, pin: pin} do
        FaultyModule.control(module, "C_GetMechanismList hang")
        swap = swap_when(module, "C_GetMechanismList", "")
        hsm = start(module, pin: pin && fn -> pin end)
        Task.await(swap, 60_000)
        absent(hsm)
        assert count(module, "C_Login") == 0
        # Without a PIN it shows when the session is there.
        if pin == nil, do: FaultyModule.await(module, ~r/^C_CloseSession ran/)
        Cryptoki.stop(hsm)
      end

      for {what, fault} <- [
            {"its session is opened anew", "sessions forget"},
            {"its session is gone, and another is opened",
             "sessions forget\nC_OpenSession rv=2 count=1"},
            {"its session answers device errors", "C_GenerateRandom rv=0x30 count=3"}
          ] do
        test "#{what}", %{module: module, pin: pin} do
          hsm = start(module, pin: pin && fn -> pin end)
          assert {:ok, _} = Cryptoki.random(hsm, 1)
          FaultyModule.control(module, @other <> "\n" <> unquote(fault))
          until_absent(hsm)
          # The one before.
          assert count(module, "C_GenerateRandom") == 1
          assert count(module, "C_Login") == if(pin, do: 1, else: 0)
          heals(module, hsm)
        end
      end

      test "a call hangs, and another session is opened", %{module: module, pin: pin} do
        hsm = start(module, pin: pin && fn -> pin end)
        FaultyModule.control(module, "C_Digest hang\n#{@other}")
        until_it_hangs(module, hsm)
        until_absent(hsm)
        assert count(module, "C_GenerateRandom") == 0
        heals(module, hsm)
      end
    end
  end

  defp heals(module, hsm) do
    {:ok, ref} = Cryptoki.subscribe(hsm)
    FaultyModule.control(module, "")
    assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
    assert {:ok, _} = Cryptoki.random(hsm, 1)
    Cryptoki.stop(hsm)
  end

  defp start(module, more) do
    opts = [sessions: 1, reconnect: [min: 10_000, max: 10_000]]
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, opts ++ more))
    hsm
  end

  # On a busy machine a call may be given up before its session has taken it.
  defp until_it_hangs(module, hsm) do
    assert {:error, %Error{reason: :timeout}} = Cryptoki.digest(hsm, :sha256, "", timeout: 50)

    if FaultyModule.count(module, ~r/^C_Digest hangs/) == 0,
      do: until_it_hangs(module, hsm),
      else: :ok
  end

  # Lets a call that hangs go on with another token.
  defp swap_when(module, function, more) do
    Task.async(fn ->
      FaultyModule.await(module, ~r/^#{function} hangs/)
      FaultyModule.control(module, @other <> "\n" <> more)
    end)
  end

  defp absent(hsm) do
    assert %{state: :absent, reason: %Error{reason: :token_absent} = error} =
             Cryptoki.status!(hsm)

    assert Exception.message(error) =~ ~s(now there is "other")
  end

  # Nobody has subscribed: a look at the slots would find it out.
  defp until_absent(hsm) do
    assert {:error, %Error{reason: reason}} = Cryptoki.random(hsm, 1)

    if reason == :token_absent and Cryptoki.status!(hsm).state == :absent,
      do: absent(hsm),
      else: until_absent(hsm)
  end

  defp count(module, function), do: FaultyModule.count(module, ~r/^#{function} ran/)
end
