defmodule Cryptoki.Recovery.RebootTest do
  # The token restarts in the middle of load from 32 callers. The fault module gives objects other
  # handles each time, and the old handles are then those of other objects.
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, MainToken}

  @moduletag :capture_log

  @callers 32
  @reboots 12

  for {name, command} <- [
        "an HSM that forgets all sessions": "sessions forget",
        "a token that is pulled and put back": "token replug"
      ] do
    test "#{name}, under load" do
      reboot_under_load(unquote(command))
    end
  end

  test "a token that is gone for a while, under load" do
    %{hsm: hsm, module: module} = context = start()
    tasks = callers(context)

    for _ <- 1..4 do
      FaultyModule.control(module, "handles shift\ntoken remove")
      status(hsm, &(&1.state == :absent))
      FaultyModule.control(module, "handles shift")
      status(hsm, &(&1.state == :ready))
    end

    finish(tasks, context)
  end

  test "two instances on one token: neither uses what the other's reboot has made of a handle" do
    module = FaultyModule.new()
    FaultyModule.control(module, "handles shift")
    hsms = for _ <- 1..2, do: elem(Cryptoki.start_link(options(module, 2)), 1)
    keys = keys(hd(hsms))

    for round <- 1..20 do
      FaultyModule.control(module, "handles shift\nsessions forget # #{round}")

      for hsm <- Enum.shuffle(hsms), {key, public} <- Enum.shuffle(keys) do
        assert {:ok, signature} = Cryptoki.sign(hsm, key, :ecdsa, digest("#{round}"))
        assert verified?(public, digest("#{round}"), signature)
      end
    end

    Enum.each(hsms, &Cryptoki.stop/1)
  end

  # A call is run again once: it must not meet the next session that does not know of its end.
  test "once one session is found lost, the others are looked at before they are used" do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(options(module, 2))
    [{key, public} | _more] = keys(hsm)
    idle = held(hsm)
    FaultyModule.control(module, "sessions forget")
    assert {:ok, _signature} = Cryptoki.sign(hsm, key, :ecdsa, digest("first"))
    # The one that has signed is taken, so the idle one signs next.
    fresh = held(hsm)
    release(idle)

    refused = fn ->
      FaultyModule.count(module, ~r/^(?!C_GetSessionInfo|C_CloseSession)\w+ faked 0xb3/)
    end

    before = refused.()
    assert {:ok, signature} = Cryptoki.sign(hsm, key, :ecdsa, digest("second"))
    assert verified?(public, digest("second"), signature)
    assert refused.() == before
    release(fresh)
    Cryptoki.stop(hsm)
  end

  defp held(hsm) do
    test = self()

    task =
      Task.async(fn ->
        Cryptoki.with_session(hsm, fn _session ->
          send(test, {:held, self()})
          receive do: (:release -> :ok)
        end)
      end)

    assert_receive {:held, pid} when pid == task.pid
    task
  end

  defp release(task) do
    send(task.pid, :release)
    Task.await(task, 60_000)
  end

  defp reboot_under_load(command) do
    %{hsm: hsm, module: module} = context = start()
    tasks = callers(context)

    for round <- 1..@reboots do
      enough_calls(context.counter)
      FaultyModule.control(module, "handles shift\n#{command} # #{round}")
      status(hsm, &(&1.state == :ready))
      # Handles are given away again while the callers hold theirs.
      object = Cryptoki.create(hsm, class: :data, label: "between #{round}", value: "x")
      with {:ok, object} <- object, do: Cryptoki.destroy(hsm, object)
    end

    finish(tasks, context)
  end

  defp start do
    module = FaultyModule.new()
    FaultyModule.control(module, "handles shift")
    hsm = start_supervised!({Cryptoki, options(module, 4)})
    keys = keys(hsm)
    before = length(FaultyModule.journal(module))
    %{hsm: hsm, module: module, keys: keys, counter: :counters.new(2, []), before: before}
  end

  # Kryoptic 1.5 locks itself out when one thread logs in while others search: all of them wait for ever.
  @locking %{softhsm2: :os, kryoptic: :serialized}

  defp options(module, sessions) do
    FaultyModule.options(module,
      locking: @locking[MainToken.name()],
      sessions: sessions,
      timeout: 30_000,
      reconnect: [min: 5, max: 50]
    )
  end

  # Labels and ids of their own: what they are is told by the public half alone.
  defp keys(hsm) do
    for n <- 1..4 do
      template = [label: "reboot #{n}", id: <<n>>, token: true, curve: :secp256r1]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
      {private, Cryptoki.public_key!(hsm, public)}
    end
  end

  @counted %{sign: "C_Sign", generate: "C_GenerateRandom", find: "C_FindObjectsInit"}

  defp callers(%{hsm: hsm, keys: keys, counter: counter}) do
    for n <- 1..@callers do
      Task.async(fn -> call(hsm, Enum.at(keys, rem(n, length(keys))), counter, n, []) end)
    end
  end

  # Until told to stop; the answers that were no results, and how often each verb gave one.
  defp call(hsm, {key, public} = pair, counter, n, seen) do
    if :counters.get(counter, 2) == 1 do
      {:message_queue_len, 0} = Process.info(self(), :message_queue_len)
      seen
    else
      data = digest("#{n} #{length(seen)}")

      answers = [
        sign: Cryptoki.sign(hsm, key, :ecdsa, data),
        sign: Cryptoki.sign(hsm, [id: key.id, class: :private_key], :ecdsa, data),
        generate: Cryptoki.random(hsm, 16),
        find: Cryptoki.find(hsm, id: key.id, class: :private_key)
      ]

      for {:sign, {:ok, signature}} <- answers do
        verified?(public, data, signature) || exit({:signed_with_another_key, n})
      end

      for {:find, {:ok, found}} <- answers, other <- found do
        other.label == key.label || exit({:found_another_key, n})
      end

      :counters.add(counter, 1, 1)
      call(hsm, pair, counter, n, answers ++ seen)
    end
  end

  defp enough_calls(counter) do
    goal = :counters.get(counter, 1) + @callers
    wait = fn wait -> if :counters.get(counter, 1) < goal, do: wait.(wait) end
    wait.(wait)
  end

  defp finish(tasks, %{hsm: hsm, module: module, counter: counter} = context) do
    status(hsm, &(&1.state == :ready and &1.sessions.open == &1.sessions.wanted))
    enough_calls(counter)
    :counters.put(counter, 2, 1)
    answers = tasks |> Task.await_many(60_000) |> List.flatten()

    # Every call was answered: with a result, or an error that says whether it may have been executed.
    for {_verb, answer} <- answers do
      case answer do
        {:ok, _result} -> :ok
        {:error, %Error{executed: executed}} -> assert executed in [false, :maybe]
      end
    end

    no_work_was_repeated(answers, context)

    # The keys that callers hold work again, as do all sessions.
    for {key, public} <- context.keys, _ <- 1..8 do
      assert {:ok, signature} = Cryptoki.sign(hsm, key, :ecdsa, digest("after"))
      assert verified?(public, digest("after"), signature)
    end

    FaultyModule.control(module, "")
    for {key, _public} <- context.keys, do: Cryptoki.destroy!(hsm, key)
  end

  # What the token has executed is what callers were told of, one for one: each result, and at most
  # one for each error that says that it may have been executed.
  defp no_work_was_repeated(answers, %{module: module, before: before}) do
    ran = module |> FaultyModule.journal() |> Enum.drop(before)

    for {verb, function} <- @counted, verb != :find do
      executed = Enum.count(ran, &match?({^function, "ran", "0x0"}, &1))
      good = Enum.count(answers, &match?({^verb, {:ok, _}}, &1))
      maybe = Enum.count(answers, &match?({^verb, {:error, %Error{executed: :maybe}}}, &1))

      assert executed in good..(good + maybe),
             "#{function} ran #{executed} times: #{good}, #{maybe}"
    end

    good = Enum.count(answers, &match?({_verb, {:ok, _}}, &1))
    assert good > 0
  end

  defp digest(text), do: :crypto.hash(:sha256, text)

  defp verified?(public, digest, <<r::binary-size(32), s::binary-size(32)>>) do
    numbers = {:"ECDSA-Sig-Value", :binary.decode_unsigned(r), :binary.decode_unsigned(s)}
    signature = :public_key.der_encode(:"ECDSA-Sig-Value", numbers)
    :public_key.verify({:digest, digest}, :sha256, signature, public)
  end

  # Asks until it holds; the test's own time limit ends it otherwise.
  defp status(hsm, holds?) do
    status = Cryptoki.status!(hsm)
    if holds?.(status), do: status, else: status(hsm, holds?)
  end
end
