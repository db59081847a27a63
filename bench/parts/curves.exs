defmodule Bench.Curves do
  @moduledoc false
  # How calls a second go with callers, sessions, bytes, objects and instances: a picture each, where a knee would show.

  alias Bench.{Calls, Finding, Measure, Program, World}

  @type curve :: %{
          name: String.t(),
          title: String.t(),
          x: String.t(),
          y: String.t(),
          series: [{String.t(), [{number, number}]}]
        }

  @rounds 3
  # Milliseconds: a curve has many points.
  @turn 150

  @doc "All of them; `told` is called with each as it comes."
  @spec run(World.t(), (curve -> term)) :: [curve]
  def run(world, told) do
    for curve <- [&callers/1, &latency/1, &payload/1, &objects/1, &instances/1] do
      curve = curve.(world)
      told.(curve)
      curve
    end
  end

  # From, by factors, to; a glance sees the ends and the middle.
  defp steps(from, to, factor) do
    all = from |> Stream.iterate(&(&1 * factor)) |> Enum.take_while(&(&1 <= to))
    if Measure.quick?(), do: Enum.map([0, div(length(all), 2), -1], &Enum.at(all, &1)), else: all
  end

  defp median(fun, rounds \\ @rounds) do
    [{_, rates}] = Measure.rounds([{"", fun}], rounds)
    Measure.median(rates)
  end

  defp callers(world) do
    World.with_instance(world, :uri, [sessions: 2], fn hsm ->
      series =
        for case <- ["random", "hmac", "ecdsa"], call = Calls.of(hsm, case) do
          limit = median(fn -> Program.rate(world.limit, case, 2, @turn) end)
          counts = steps(1, 1024, 2)

          points =
            for count <- counts,
                do: {count, median(fn -> Measure.callers(count, call, @turn) end)}

          [{case, points}, {"#{case}, loop in C", [{1, limit}, {List.last(counts), limit}]}]
        end

      %{
        name: "callers",
        title: "Callers on 2 sessions",
        x: "callers",
        y: "calls a second",
        series: Enum.concat(series)
      }
    end)
  end

  @doc "Sessions on a token that takes so long for each call, with twice as many callers: also the rows of a table."
  @spec latency_points(World.t(), pos_integer, [pos_integer]) :: [{pos_integer, float, float}]
  def latency_points(world, milliseconds, sessions) do
    World.slow(world, "C_GenerateRandom delay=#{milliseconds}")
    turn = max(@turn, 30 * milliseconds)

    points =
      for count <- sessions do
        World.with_instance(world, :slow, [sessions: count], fn hsm ->
          call = Calls.of(hsm, "random")
          ours = {"", fn -> Measure.callers(2 * count, call, turn) end}
          loop = {"", fn -> Program.rate(world.slow.limit, "random", count, turn) end}
          [{_, ours}, {_, loops}] = Measure.rounds([ours, loop], @rounds)
          {count, Measure.median(ours), Measure.median(loops)}
        end)
      end

    World.slow(world, "")
    points
  end

  defp latency(world) do
    series =
      for milliseconds <- [1, 10],
          points = latency_points(world, milliseconds, steps(1, 256, 2)) do
        ours = for {count, rate, _loop} <- points, do: {count, rate}
        loop = for {count, _rate, loop} <- points, do: {count, loop}
        ideal = for {count, _rate, _loop} <- points, do: {count, 1000 * count / milliseconds}

        [
          {"#{milliseconds} ms", ours},
          {"#{milliseconds} ms, loop in C", loop},
          {"#{milliseconds} ms, sessions / latency", ideal}
        ]
      end

    %{
      name: "sessions",
      title: "Sessions on a token with 1 ms and 10 ms of latency",
      x: "sessions",
      y: "calls a second",
      series: Enum.concat(series)
    }
  end

  defp payload(world) do
    sizes = steps(16, 16_777_216, 4)

    series =
      World.with_instance(world, :uri, [sessions: 1], fn hsm ->
        for case <- ["sha256", "gcm"] do
          points =
            for size <- sizes do
              call = Calls.of(hsm, case, size: size)
              ours = {"", fn -> Measure.callers(1, call, @turn) end}
              loop = {"", fn -> Program.rate(world.limit, case, 1, @turn, size) end}
              [{_, ours}, {_, loops}] = Measure.rounds([ours, loop], @rounds)
              {size, Measure.median(ours), Measure.median(loops)}
            end

          megabytes = fn {size, ours, loop} ->
            {size, size * ours / 1.0e6, size * loop / 1.0e6}
          end

          points = Enum.map(points, megabytes)

          [
            {case, for({size, ours, _loop} <- points, do: {size, ours})},
            {"#{case}, loop in C", for({size, _ours, loop} <- points, do: {size, loop})}
          ]
        end
      end)

    %{
      name: "payload",
      title: "Bytes in a call, one caller",
      x: "bytes",
      y: "megabytes a second",
      series: Enum.concat(series)
    }
  end

  defp objects(world) do
    counts = steps(1, if(Measure.quick?(), do: 1000, else: 100_000), 10)
    points = Enum.zip(counts, Finding.rates(world, counts, 1))

    %{
      name: "objects",
      title: "Objects found and read, one caller",
      x: "objects",
      y: "objects a second",
      series: [
        {"find", for({count, {ours, _loops}} <- points, do: {count, Measure.median(ours)})},
        {"find, loop in C",
         for({count, {_ours, loops}} <- points, do: {count, Measure.median(loops)})}
      ]
    }
  end

  # Instances of one token, with a session each; the callers take them in turn.
  defp instances(world) do
    counts = [1, 2, 5, 10, 20, 50, 100, 200]
    counts = if Measure.quick?(), do: [1, 10, 50], else: counts
    points = for count <- counts, do: with_instances(world, count)

    %{
      name: "instances",
      title: "Instances with one session each, 32 callers",
      x: "instances",
      y: "calls a second",
      series:
        for(
          {case, place} <- [{"random", 1}, {"hmac", 2}],
          do: {case, for(point <- points, do: {elem(point, 0), elem(point, place)})}
        )
    }
  end

  defp with_instances(world, count) do
    started =
      for _ <- 1..count, do: elem({:ok, _} = Cryptoki.start_link(uri: world.uri, sessions: 1), 1)

    rates =
      for case <- ["random", "hmac"] do
        calls = started |> Enum.map(&Calls.of(&1, case)) |> List.to_tuple()
        call = fn -> elem(calls, turn(count)).() end
        median(fn -> Measure.callers(32, call, @turn) end)
      end

    for hsm <- started, do: :ok = Cryptoki.stop(hsm)
    List.to_tuple([count | rates])
  end

  defp turn(count) do
    last = Process.get(:turn) || :erlang.phash2(self())
    Process.put(:turn, last + 1)
    rem(last, count)
  end
end
