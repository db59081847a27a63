defmodule Cryptoki.StormTest do
  # Three storms: of processes killed, of wrong answers, of callers in haste. CRYPTOKI_STORM_MINUTES says how long each
  # is (two seconds); with the CRYPTOKI_STORM_SEED that one printed its chances are the same again.
  use ExUnit.Case, async: false

  alias Cryptoki.{Instances, Sessions}
  alias Cryptoki.Test.{FaultyModule, Load, Reliability, Storm}
  alias Cryptoki.Test.Storm.{Faults, Keys, Verbs}

  @moduletag :capture_log
  @moduletag timeout: :infinity

  setup do
    module = FaultyModule.new()
    start_supervised!({Cryptoki, Storm.options(module)})
    seed = Storm.seed()
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module, hsm: Storm.name(), seed: seed}
  end

  test "internal processes killed in random order", context do
    %{hsm: hsm, seed: seed} = context
    keys = Keys.make(hsm)
    threads = Load.session_threads()
    work = fn _n -> Keys.sign(hsm, keys, timeout: 1_000) end

    counts =
      Storm.run(seed, 8, work, fn ->
        Storm.pause(40)
        kill(victim(hsm))
      end)

    ended("processes killed", counts, context, threads)
    assert counts[:ok] > 20
  end

  test "random codes, lengths, delays and garbage for every verb", context do
    %{hsm: hsm, module: module, seed: seed} = context
    world = Verbs.make(hsm)
    threads = Load.session_threads()
    verbs = Verbs.all()

    work = fn _n ->
      {name, verb} = Storm.one(verbs)
      {name, verb.(world) |> Storm.outcome()} |> elem(1)
    end

    disturb = fn ->
      FaultyModule.control(module, Faults.lines())
      Storm.pause(60)
      Storm.person(hsm)
    end

    counts = Storm.run(seed, 8, work, disturb)
    ended("wrong answers", counts, context, threads)

    for {name, verb} <- verbs, name not in [:certificate, :seed_random] do
      answer = verb.(world)
      # Locked by a login of the storm of which nobody had heard: a person unlocks it, as before.
      locked? = match?({:error, %{reason: :locked}}, answer)
      if locked?, do: Storm.person(hsm)
      answer = if locked?, do: verb.(world), else: answer
      assert good?(answer), "#{name}: #{inspect(answer)}"
    end
  end

  test "callers with deadlines of 1 to 8 ms, and callers that are killed", context do
    %{hsm: hsm, module: module, seed: seed} = context
    keys = Keys.make(hsm)
    threads = Load.session_threads()

    disturb = fn ->
      FaultyModule.control(module, "C_Sign delay=#{:rand.uniform(9)} every=#{:rand.uniform(4)}")
      Storm.pause(50)
    end

    counts = Storm.run(seed, 8, &haste(&1, hsm, keys), disturb)
    ended("callers in haste", counts, context, threads)
  end

  # Half of them die, at any moment.
  defp haste(n, hsm, keys) when rem(n, 2) == 0 do
    outcome = Keys.sign(hsm, keys, timeout: :rand.uniform(8))
    # What is late would come now.
    Storm.pause(10)
    outcome
  end

  defp haste(_n, hsm, keys) do
    seed = :rand.uniform(1_000_000)

    {pid, monitor} =
      spawn_monitor(fn ->
        Storm.chances(seed, 0)
        Keys.sign(hsm, keys, timeout: 1_000)
      end)

    Storm.pause(5)
    Process.exit(pid, :kill)

    receive do
      {:DOWN, ^monitor, :process, ^pid, :killed} -> :killed
      {:DOWN, ^monitor, :process, ^pid, :normal} -> :ok
      {:DOWN, ^monitor, :process, ^pid, {error, _trace}} -> raise error
    end
  end

  ## What is killed

  defp victim(hsm) do
    instance = Process.whereis(hsm)
    server = instance && Instances.get(instance, :server)
    sessions = instance && Instances.get(instance, :sessions)

    case :rand.uniform(20) do
      n when n <= 8 -> Storm.one(sessions(instance))
      n when n <= 12 -> server
      n when n <= 15 -> Storm.one([nil | jobs(server)])
      16 -> sessions
      17 -> instance
      _nobody -> nil
    end
  end

  defp sessions(instance) do
    [nil | Sessions.all(instance)]
  catch
    # It was killed a moment ago.
    _kind, _gone -> [nil]
  end

  # What the token server has begun: connecting, logging in, opening, looking.
  defp jobs(server) do
    case is_pid(server) && Process.info(server, :links) do
      {:links, links} -> for pid <- links, is_pid(pid), do: pid
      _gone -> []
    end
  end

  defp kill(nil), do: :ok
  defp kill(pid), do: Process.exit(pid, :kill) && :ok

  ## When it is over

  defp ended(what, counts, context, threads) do
    left = Storm.left(context.module, threads)
    all = Enum.sum(Map.values(counts))
    said = "#{what}: seed #{context.seed}, #{inspect(counts)}"
    assert left == [], "#{Enum.join(left, "; ")}; #{said}"
    errors = all - Map.get(counts, :ok, 0)

    Reliability.record(
      :number,
      "storm of #{what}: minutes, calls, of which errors",
      "#{Storm.time() / 60_000}, #{all}, #{errors}"
    )

    if System.get_env("CRYPTOKI_STORM_MINUTES"), do: IO.puts("\n" <> said)
  end

  defp good?(answer), do: answer == :ok or match?({:ok, _value}, answer)
end
