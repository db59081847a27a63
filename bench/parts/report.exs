defmodule Bench.Report do
  @moduledoc false
  # What was measured, as it comes: a page of tables with the pictures, and the numbers beside it, one file a part.

  alias Bench.{Measure, Picture, Program, Waits}

  @type t :: Path.t()

  # Milliseconds for each thing that is asked of the processors.
  @looked_at 500
  # Of the loop in C, or of sessions / latency where that is less.
  @latency_wanted %{1 => 0.95, 10 => 0.97}
  # Below this part of sessions / latency the loop itself has no processor left.
  @bound_by_latency 0.85

  @spec open(Path.t()) :: t
  def open(directory) do
    File.mkdir_p!(Path.join(directory, "results"))
    File.write!(Path.join(directory, "RESULTS.md"), "")
    directory
  end

  defp say(report, text) do
    IO.write(text)
    File.write!(Path.join(report, "RESULTS.md"), text, [:append])
  end

  defp numbers(report, name, header, rows) do
    line = fn cells -> Enum.map_join(cells, ",", &quoted/1) <> "\n" end
    File.write!(Path.join(report, "results/#{name}.csv"), [line.(header) | Enum.map(rows, line)])
  end

  defp quoted(cell) when is_float(cell), do: :erlang.float_to_binary(cell, decimals: 4)
  defp quoted(cell) when is_binary(cell), do: if(cell =~ ",", do: ~s("#{cell}"), else: cell)
  defp quoted(cell), do: to_string(cell)

  @spec machine(t, Bench.World.t()) :: :ok
  def machine(report, world) do
    [single, both, ping, stops, lost] = Program.ask(world.limit, "processors", 2, @looked_at, 0)

    processor =
      with {:ok, text} <- File.read("/proc/cpuinfo"),
           do: Regex.run(~r/^model name\s*: (.*)$/m, text)

    say(report, """
    # What calls cost

    Written by `bin/bench --write` on #{List.last(processor)}, #{System.schedulers_online()} schedulers, OTP #{System.otp_release()},
    Elixir #{System.version()}. Two threads do #{decimals(both / single, 2)} of what one does; two that wake each other take
    #{decimals(ping / 1000, 1)} us a round; one that only reads the clock stands still for a microsecond or more #{div(1000 * stops, @looked_at)} times a second,
    for #{decimals(lost / (10_000 * @looked_at), 1)} % of the time. Medians of #{Measure.times()} rounds in which all take their turn; spread is that of the
    rounds. Numbers are in `bench/results`.
    """)
  end

  ## Cases

  @spec cases(t, ((list -> term) -> [Bench.Cases.row()]), [Bench.Cases.undisturbed()]) :: :ok
  def cases(report, run, undisturbed) do
    say(report, """

    ## Calls beside a loop in C

    The loop calls the same library with as many threads as there are sessions, two at most.

    | case | callers, sessions | way | calls a second | us a call | of the loop | spread | wanted |
    |---|---|---|---|---|---|---|---|
    """)

    rows = run.(fn rows -> say(report, Enum.map(rows, &case_row/1)) end)
    header = ~w(case callers sessions way calls_a_second of_the_loop spread wanted reached)

    numbers(
      report,
      "cases",
      header,
      for(
        r <- rows,
        do: [
          r.case,
          r.callers,
          r.sessions,
          r.way,
          r.rate,
          r.of_limit,
          r.spread,
          r.wanted,
          r.reached
        ]
      )
    )

    verdict(report, for(%{reached: reached} when reached != nil <- rows, do: reached))
    undisturbed(report, undisturbed)
  end

  @doc "What calls take where the machine lets them be."
  @spec undisturbed(t, [Bench.Cases.undisturbed()]) :: :ok
  def undisturbed(report, rows) do
    say(report, """

    What a tenth of the calls of one caller do not exceed: those that meet the fewest of these stops, on two processors.

    | case | us in the loop | us a call | of the loop |
    |---|---|---|---|
    #{for {case, loop, ours} <- rows, do: table_row([case, decimals(loop, 1), decimals(ours, 1), decimals(loop / ours, 2)])}\
    """)

    numbers(report, "undisturbed", ~w(case loop_us us), Enum.map(rows, &Tuple.to_list/1))
  end

  defp case_row(row) do
    cells = [
      row.case,
      "#{row.callers}, #{row.sessions}",
      row.way,
      round(row.rate),
      decimals(1.0e6 / row.rate, 1),
      decimals(row.of_limit, 2),
      "#{round(100 * row.spread)} %",
      wanted(row.wanted, row.reached)
    ]

    table_row(cells)
  end

  defp wanted(text, nil), do: text
  defp wanted(text, true), do: text <> ": yes"
  defp wanted(text, false), do: text <> ": no"

  defp verdict(report, reached),
    do: say(report, "\n#{Enum.count(reached, & &1)} of #{length(reached)} as wanted.\n")

  defp table_row(cells), do: "| " <> Enum.map_join(cells, " | ", &to_string/1) <> " |\n"

  ## Curves

  @spec curves(t, ((Bench.Curves.curve() -> term) -> [Bench.Curves.curve()])) :: :ok
  def curves(report, run) do
    say(report, "\n## Curves\n")
    _ = run.(&curve(report, &1))
    :ok
  end

  defp curve(report, %{name: name, title: title, x: x, y: y, series: series} = curve) do
    File.write!(Path.join(report, "results/#{name}.svg"), Picture.svg(curve))
    rows = for {line, points} <- series, {x, y} <- points, do: [line, x, y]
    numbers(report, name, ["line", x, y], rows)
    say(report, "\n![#{title}: #{y} by #{x}](results/#{name}.svg)\n")
    if name == "sessions", do: latency(report, Map.new(series))
  end

  defp latency(report, lines) do
    say(report, """

    | latency | sessions | calls a second | of the loop with as many threads | of sessions / latency | what limits the loop | wanted |
    |---|---|---|---|---|---|---|
    """)

    for {milliseconds, least} <- @latency_wanted,
        name = "#{milliseconds} ms",
        [{count, ours}, {_, loop}, {_, ideal}] <-
          Enum.zip_with(
            [lines[name], lines[name <> ", loop in C"], lines[name <> ", sessions / latency"]],
            & &1
          ) do
      limits = if loop >= @bound_by_latency * ideal, do: "latency", else: "the processors"
      reached = ours >= least * min(loop, ideal)
      ratios = [decimals(ours / loop, 2), decimals(ours / ideal, 2)]

      cells =
        [name, count, round(ours)] ++ ratios ++ [limits, wanted(decimals(least, 2), reached)]

      say(report, table_row(cells))
    end
  end

  ## Costs, sizes

  @spec costs(t, ((list -> term) -> [Bench.Costs.row()])) :: :ok
  def costs(report, run), do: judged(report, "costs", "What it costs everybody else", run)

  @spec isolation(t, ((list -> term) -> [Bench.Isolation.row()])) :: :ok
  def isolation(report, run),
    do: judged(report, "isolation", "A library in a process of its own", run)

  defp judged(report, name, title, run) do
    say(report, "\n## #{title}\n\n| what | measured | wanted |\n|---|---|---|\n")

    told = fn rows ->
      for {what, told, wanted, reached} <- rows,
          do: say(report, table_row([what, told, wanted(wanted, reached)]))
    end

    rows = run.(told)
    numbers(report, name, ~w(what measured wanted reached), Enum.map(rows, &Tuple.to_list/1))
    verdict(report, for({_, _, _, reached} when reached != nil <- rows, do: reached))
  end

  @spec sizes(t, [Bench.Sizes.row()]) :: :ok
  def sizes(report, rows) do
    say(report, "\n## Memory and time\n\n| what | measured |\n|---|---|\n")
    for row <- rows, do: say(report, row |> Tuple.to_list() |> table_row())
    numbers(report, "sizes", ~w(what measured), Enum.map(rows, &Tuple.to_list/1))
  end

  ## Waits

  @spec waits(t, [Waits.row()]) :: :ok
  def waits(report, rows) do
    table = """
    | load of the sessions | the model: mean wait | measured, calls of random length | measured, calls of one length |
    |---|---|---|---|
    #{for row <- rows, do: table_row(["#{round(100 * row.load)} %" | for(name <- [:model, :random, :constant], do: "#{decimals(row[name], 1)} ms")])}\
    """

    heading =
      "\n## Waits for one of #{Waits.sessions()} sessions, 10 ms a call\n\nMeans; calls come by chance.\n\n"

    say(report, heading <> table)
    File.write!(Path.join(report, "waits.md"), ["\n", table, "\n"])
    names = [:load, :model, :random, :constant]
    numbers(report, "waits", names, for(row <- rows, do: for(name <- names, do: row[name])))
  end

  defp decimals(number, places), do: :erlang.float_to_binary(number * 1.0, decimals: places)
end
