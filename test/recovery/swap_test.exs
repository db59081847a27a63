defmodule Cryptoki.Recovery.SwapTest do
  # Another token comes into the slot: it gets no PIN that is not its own, and no work.
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, SoftHSM}

  @moduletag :capture_log
  @moduletag timeout: 20_000

  @other "token label=other"

  setup do
    module = FaultyModule.new()
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module}
  end

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
    Task.await(swap)
    absent(hsm)
    assert count(module, "C_Login") == 0
    FaultyModule.await(module, ~r/^C_CloseSession ran/, count(module, "C_OpenSession"))
    Cryptoki.stop(hsm)
  end

  test "while it is given the PIN, and restarts", %{module: module} do
    FaultyModule.control(module, "C_Login hang")
    swap = swap_when(module, "C_Login", "sessions forget")
    hsm = start(module, pin: &SoftHSM.pin/0)
    Task.await(swap)
    absent(hsm)
    assert count(module, "C_Login") == 0
    Cryptoki.stop(hsm)
  end

  for {name, pin} <- [{"with a PIN", SoftHSM.pin()}, {"without a PIN", nil}] do
    describe "#{name}:" do
      @describetag pin: pin

      test "while the instance connects", %{module: module, pin: pin} do
        FaultyModule.control(module, "C_GetMechanismList hang")
        swap = swap_when(module, "C_GetMechanismList", "")
        hsm = start(module, pin: pin && fn -> pin end)
        Task.await(swap)
        absent(hsm)
        assert count(module, "C_Login") == 0
        # Without a PIN it shows when the session is there.
        if pin == nil, do: FaultyModule.await(module, ~r/^C_CloseSession ran/)
        Cryptoki.stop(hsm)
      end

      for {what, fault} <- [
            {"the sessions are opened anew on it", ""},
            {"the only session was lost", "C_OpenSession rv=2 count=1"}
          ] do
        test "#{what}", %{module: module, pin: pin} do
          hsm = start(module, pin: pin && fn -> pin end)
          assert {:ok, _} = Cryptoki.random(hsm, 1)
          tries = count(module, "C_Login")
          FaultyModule.control(module, "sessions forget\n#{@other}\n" <> unquote(fault))
          until_absent(hsm)
          assert count(module, "C_Login") == tries
          {:ok, ref} = Cryptoki.subscribe(hsm)
          FaultyModule.control(module, "")
          assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}, 5_000
          assert {:ok, _} = Cryptoki.random(hsm, 1)
          Cryptoki.stop(hsm)
        end
      end
    end
  end

  defp start(module, more) do
    opts = [sessions: 1, reconnect: [min: 10_000, max: 10_000]]
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, opts ++ more))
    hsm
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

  # Nobody has subscribed: then a look would find it out.
  defp until_absent(hsm) do
    with {:ok, _} <- Cryptoki.random(hsm, 1), do: until_absent(hsm)
    if Cryptoki.status!(hsm).state != :absent, do: until_absent(hsm)
  end

  defp count(module, function), do: FaultyModule.count(module, ~r/^#{function} ran/)
end
