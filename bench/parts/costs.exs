defmodule Bench.Costs do
  @moduledoc false
  # What it costs everybody else: looks while both processors are taken, an idle instance, timers and files of the node.

  alias Bench.{Calls, Measure, Program, World}

  @type row ::
          {what :: String.t(), told :: String.t(), wanted :: String.t(), reached :: boolean | nil}

  @idle_sessions 64
  @session_threads ~r/^cryptoki-\d+$/
  @crowd 64
  # Milliseconds that a timer, or a file, of the idle node may be late, more than it is there.
  @late 2.0

  @spec run(World.t(), ([row] -> term)) :: [row]
  def run(world, told) do
    for part <- [&beside_others/1, &idle/1, &lateness/1, &group/1],
        rows = part.(world),
        row <- tell(told, rows),
        do: row
  end

  defp tell(told, rows) do
    told.(rows)
    rows
  end

  ## A group

  # Over one member, so that it has no choice: what it costs to look. The difference is of microseconds, and what a call takes
  # changes by more than that from one second to the next: many short turns, each beside the one of the other.
  @turns if Measure.quick?(), do: 5, else: 161
  @turn 20
  defp group(world) do
    World.with_instance(world, :uri, [sessions: 1], fn hsm ->
      {:ok, group} = Cryptoki.Group.start_link(members: [hsm])

      rows =
        for case <- ["random", "hmac"] do
          turn = fn to ->
            call = Calls.of(to, case)
            fn -> Measure.callers(1, call, @turn) end
          end

          [{_, alone}, {_, grouped}] =
            Measure.rounds([{"", turn.(hsm)}, {"", turn.(group)}], @turns)

          more = Enum.zip_with(alone, grouped, &(1.0e6 / &2 - 1.0e6 / &1))
          microseconds = Measure.median(more)

          {"a group over one member, #{case}", "#{decimals(microseconds, 1)} us a call more",
           "at most 3", microseconds <= 3}
        end

      :ok = Cryptoki.stop(group)
      rows
    end)
  end

  ## Looks, while somebody else takes the processors

  # Two VMs beside each other, one with CRYPTOKI_LOOK=0, in alternating rounds.
  defp beside_others(world) do
    [looks, not_looks] = for value <- [nil, "0"], do: vm(world, value)
    # They end with this VM, whatever ends it.
    loop = "while [ -d /proc/#{System.pid()} ]; do :; done"
    busy = for _ <- 1..2, do: Program.start("sh", ["-c", loop])

    rows =
      for {case, callers} <- [
            {"ecdsa", 1},
            {"hmac", 1},
            {"random", 1},
            {"ecdsa", 32},
            {"random", 32}
          ] do
        turn = fn vm -> fn -> Program.rate(vm, case, callers, Measure.turn()) end end
        [{_, with}, {_, without}] = Measure.rounds([{"", turn.(looks)}, {"", turn.(not_looks)}])
        ratio = Measure.median(without) / Measure.median(with)
        what = "two busy loops beside, #{case}, #{callers} callers: time with looks / without"
        {what, decimals(ratio, 2), "at most 1.10", ratio <= 1.10}
      end

    Enum.each([looks, not_looks | busy], &Program.stop/1)
    rows
  end

  defp vm(world, looks) do
    environment = if looks, do: [{~c"CRYPTOKI_LOOK", String.to_charlist(looks)}], else: []
    ebin = Application.app_dir(:cryptoki, "ebin")
    Program.start("elixir", ["-pa", ebin, "bench/vm.exs", world.uri], environment)
  end

  ## Nobody calls

  defp idle(world) do
    seconds = if Measure.quick?(), do: 1, else: 5
    alone = processor_over(~r/./, seconds)

    World.with_instance(world, :uri, [sessions: @idle_sessions], fn hsm ->
      call = Calls.of(hsm, "random")
      _ = Measure.callers(@crowd, call, 100)
      settled(Measure.processor(@session_threads))
      sessions = processor_over(@session_threads, seconds)
      control = processor_over(~r/^cryptoki-(?!\d+$)/, seconds)
      whole = processor_over(~r/./, seconds)

      [
        {"an instance of #{@idle_sessions} sessions, idle: its session threads",
         per_second(sessions, seconds), "0", sessions == 0},
        {"its control thread", per_second(control, seconds), "", nil},
        {"the whole VM, before it and with it",
         "#{per_second(alone, seconds)}, #{per_second(whole, seconds)}", "", nil}
      ]
    end)
  end

  # Where others take the processors, a thread that is about to sleep may not have been given one.
  defp settled(before) do
    Process.sleep(500)
    now = Measure.processor(@session_threads)
    if now != before, do: settled(now)
  end

  defp processor_over(name, seconds) do
    before = Measure.processor(name)
    Process.sleep(1000 * seconds)
    Measure.processor(name) - before
  end

  defp per_second(nanoseconds, seconds),
    do: "#{round(nanoseconds / 1000 / seconds)} us of processor a second"

  ## The rest of the node

  defp lateness(world) do
    idle = observed()

    loaded =
      World.with_instance(world, :uri, [sessions: 2], fn hsm ->
        call = Calls.of(hsm, "ecdsa")
        while(call, &observed/0)
      end)

    World.slow(world, "C_GenerateRandom delay=#{watched() + 4000}")

    hanging =
      World.with_instance(world, :slow, [sessions: @crowd, timeout: :infinity], fn hsm ->
        call = Calls.of(hsm, "random")
        callers = for _ <- 1..@crowd, do: Task.async(call)
        all_inside(hsm)
        seen = observed()
        Task.await_many(callers, :infinity)
        seen
      end)

    World.slow(world, "")

    for {state, seen} <- [
          {"#{@crowd} callers", loaded},
          {"#{@crowd} sessions that hang", hanging}
        ],
        row <- late(state, seen, idle),
        do: row
  end

  defp while(call, fun) do
    callers = for _ <- 1..@crowd, do: Task.async(fn -> call_until_told(call) end)
    seen = fun.()
    for task <- callers, do: send(task.pid, :enough)
    Task.await_many(callers, 60_000)
    seen
  end

  defp call_until_told(call) do
    receive do
      :enough -> :ok
    after
      0 ->
        call.()
        call_until_told(call)
    end
  end

  defp all_inside(hsm) do
    case Cryptoki.status(hsm) do
      {:ok, %{sessions: %{busy: @crowd}}} -> :ok
      _not_yet -> all_inside(hsm)
    end
  end

  defp watched, do: if(Measure.quick?(), do: 500, else: 4000)

  # Milliseconds that a timer of 1 ms is late, and that reading a small file takes, in four processes each.
  defp observed do
    file = Path.join(System.tmp_dir!(), "cryptoki-bench-#{System.pid()}")
    File.write!(file, "small")
    until = System.monotonic_time(:millisecond) + watched()
    timers = for _ <- 1..4, do: Task.async(fn -> sample(until, fn -> Process.sleep(1) end) end)
    read = fn -> {:ok, "small"} = File.read(file) end
    files = for _ <- 1..4, do: Task.async(fn -> sample(until, read, 1) end)

    [timers, files] =
      for tasks <- [timers, files], do: tasks |> Task.await_many(60_000) |> Enum.concat()

    File.rm!(file)
    %{timer: Measure.quantile(timers, 0.999) - 1, file: Measure.quantile(files, 0.999)}
  end

  defp sample(until, fun, pause \\ 0) do
    if System.monotonic_time(:millisecond) < until do
      {_, milliseconds} = Measure.timed(fun)
      if pause > 0, do: Process.sleep(pause)
      [milliseconds | sample(until, fun, pause)]
    else
      []
    end
  end

  defp late(state, seen, idle) do
    for {what, name} <- [timer: "a timer of 1 ms is late", file: "File.read takes"] do
      {value, before} = {seen[what], idle[what]}
      told = "#{decimals(value, 2)} ms; idle #{decimals(before, 2)} ms"
      {"#{state}: #{name}, 99.9th percentile", told, "#{@late} ms more", value - before <= @late}
    end
  end

  defp decimals(number, places), do: :erlang.float_to_binary(number * 1.0, decimals: places)
end
