defmodule Cryptoki.Recovery.SubscribeTest do
  # Insertion and removal are told, with slot events of the library and without.
  use ExUnit.Case, async: false

  alias Cryptoki.{Connector, Error, HSM, Instances, Watch}
  alias Cryptoki.Test.FaultyModule

  @moduletag :capture_log
  @soon 30_000

  for events <- ["on", "off"] do
    describe "slot events #{events}" do
      setup do
        module = FaultyModule.new()
        control = &FaultyModule.control(module, "slot_events #{unquote(events)}\n" <> &1)
        control.("")
        on_exit(fn -> FaultyModule.control(module, "") end)
        %{module: module, control: control}
      end

      test "a token that is pulled and put back, and nobody calls", context do
        {hsm, ref} = start(context.module)

        for _ <- 1..3 do
          context.control.("token remove")
          assert_receive {:cryptoki, ^ref, {:token_removed, %{label: _, slot: _}}}, @soon
          assert_receive {:cryptoki, ^ref, {:state, :absent, %Error{reason: _}}}, @soon
          context.control.("")
          assert_receive {:cryptoki, ^ref, {:token_inserted, %{label: _, slot: _}}}, @soon
          assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}, @soon
          assert {:ok, _} = Cryptoki.random(hsm, 1)
        end

        refute_received {:cryptoki, ^ref, _event}
        Cryptoki.stop(hsm)
      end

      test "a reader that is plugged in later", context do
        context.control.("slot remove")
        {hsm, ref} = start(context.module)
        assert %{state: :absent} = Cryptoki.status!(hsm)
        context.control.("")
        assert_receive {:cryptoki, ^ref, {:token_inserted, %{label: _}}}, @soon
        assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}, @soon
        context.control.("slot remove")
        assert_receive {:cryptoki, ^ref, {:token_removed, %{label: _}}}, @soon
        assert_receive {:cryptoki, ^ref, {:state, :absent, %Error{}}}, @soon
        Cryptoki.stop(hsm)
      end

      test "another subscriber, and none after unsubscribing", context do
        {hsm, ref} = start(context.module)
        {:ok, second} = Cryptoki.subscribe(hsm)
        :ok = Cryptoki.unsubscribe(hsm, ref)
        context.control.("token remove")
        assert_receive {:cryptoki, ^second, {:token_removed, _}}, @soon
        assert_receive {:cryptoki, ^second, {:state, :absent, _}}, @soon
        refute_received {:cryptoki, ^ref, _event}
        Cryptoki.stop(hsm)
      end
    end
  end

  # The first half of a look, at the slots, sees the token, the second, at what is in them, does not.
  test "a token that is pulled in the middle of a look, and put back before the next", _context do
    module = FaultyModule.new()
    # Nothing but a look finds it.
    {hsm, ref} = start(module, min: 60_000, max: 60_000)
    slots = length(Cryptoki.slots!(hsm))
    FaultyModule.control(module, "token remove")
    assert_receive {:cryptoki, ^ref, {:state, :absent, _why}}, @soon

    FaultyModule.control(module, "C_GetSlotInfo hang after=#{slots} count=1")
    FaultyModule.await(module, ~r/^C_GetSlotInfo hangs/)
    before = FaultyModule.count(module, ~r/^C_GetSlotInfo ran/)
    FaultyModule.control(module, "token remove")
    FaultyModule.await(module, ~r/^C_GetSlotInfo ran/, before + slots)
    FaultyModule.control(module, "")

    assert_receive {:cryptoki, ^ref, {:token_inserted, _token}}, 5 * @soon
    assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}, 5 * @soon
    Cryptoki.stop(hsm)
  end

  test "a library that tells of events is asked for those, and its slots seldom" do
    module = FaultyModule.new()
    FaultyModule.control(module, "slot_events on")
    opts = [sessions: 1, reconnect: [min: 5, max: 100], watch: [min: 5, max: 60_000]]
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, opts))
    {:ok, other} = Cryptoki.start_link(FaultyModule.options(module, opts))
    {:ok, ref} = Cryptoki.subscribe(hsm)
    {:ok, second} = Cryptoki.subscribe(other)

    # An event is taken once, and both are told.
    for rules <- ["slot_events on\ntoken remove", "slot_events on"], n <- [1, 2] do
      FaultyModule.control(module, rules <> " # #{n}")
      state = if rules =~ "remove", do: :absent, else: :ready

      if n == 1,
        do:
          for(
            ref <- [ref, second],
            do: assert_receive({:cryptoki, ^ref, {:state, ^state, _}}, 20_000)
          )
    end

    asked = fn function -> FaultyModule.count(module, ~r/^#{function} ran|^#{function} faked/) end
    events = asked.("C_WaitForSlotEvent")
    lists = asked.("C_GetSlotList")
    FaultyModule.await(module, ~r/^C_WaitForSlotEvent/, events + 50)
    assert asked.("C_GetSlotList") - lists <= 8

    for hsm <- [hsm, other], do: Cryptoki.stop(hsm)
  end

  test "pauses double while nothing changes, and a change or a subscriber ends that" do
    pauses = %{min: 200, max: 500}
    token = %{slot: 1, label: "t", serial: "1"}
    none = {{[], []}, nil}
    one = {{[%{id: 1}], [token]}, nil}
    watch = %Watch{}
    assert Watch.pause(watch, pauses) == 200
    {:same, watch} = Watch.looked(watch, none, pauses)
    assert Watch.pause(watch, pauses) == 400
    {:same, watch} = Watch.looked(watch, none, pauses)
    assert Watch.pause(watch, pauses) == 500
    {:came, watch} = Watch.looked(watch, one, pauses)
    assert Watch.pause(watch, pauses) == 200
    {:same, watch} = Watch.looked(watch, one, pauses)
    assert Watch.pause(Watch.subscribe(watch, self(), make_ref()), pauses) == 200

    # Until it has told of one, a library that says there is no event is not believed.
    {:same, watch} = Watch.looked(watch, {elem(one, 0), 0}, pauses)
    assert Watch.slots_due?(watch, pauses)
    {:same, watch} = Watch.looked(watch, {elem(one, 0), 1}, pauses)
    refute Watch.slots_due?(watch, pauses)
    assert Watch.pause(watch, pauses) == 200
  end

  test "a look at what has not changed is as cheap as can be" do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    {:ok, target} = HSM.target(hsm)
    context = %{library: target.library, options: Instances.get(hsm, :options)}
    asked = fn -> FaultyModule.count(module, ~r/^C_GetSlotInfo ran/) end

    {:ok, seen} = Connector.look(context, nil)
    before = asked.()
    assert Connector.look(context, seen) == {:ok, seen}
    assert asked.() - before == length(Cryptoki.slots!(hsm))
  end

  defp start(module, reconnect \\ [min: 5, max: 100]) do
    opts = [sessions: 1, reconnect: reconnect]
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, opts))
    {:ok, ref} = Cryptoki.subscribe(hsm)
    # What it saw before it was asked is told as well.
    if Cryptoki.status!(hsm).state == :ready, do: flush(ref)
    {hsm, ref}
  end

  defp flush(ref) do
    receive do
      {:cryptoki, ^ref, {:token_inserted, _token}} -> :ok
    after
      0 -> :ok
    end
  end
end
