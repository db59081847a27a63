defmodule Bench.Measure do
  @moduledoc false
  # Rates by rounds in which all contenders take their turn; what is told is the median of the rounds and their spread.

  @type contender :: {name :: String.t(), (() -> number)}

  # Milliseconds after which callers that do not come to an end are an error.
  @patience 180_000

  @spec times() :: pos_integer
  def times, do: setting("ROUNDS", 7)

  @doc "How long a turn takes, in milliseconds."
  @spec turn() :: pos_integer
  def turn, do: setting("MILLISECONDS", 300)

  defp setting(name, default),
    do:
      ("CRYPTOKI_BENCH_" <> name)
      |> System.get_env(Integer.to_string(default))
      |> String.to_integer()

  @doc "Whether only a glance is wanted."
  @spec quick?() :: boolean
  def quick?, do: System.get_env("CRYPTOKI_BENCH_QUICK") == "1"

  @spec median([number]) :: number
  def median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  @doc "Widest difference, as a part of the median."
  @spec spread([number]) :: float
  def spread(values), do: (Enum.max(values) - Enum.min(values)) / max(median(values), 1.0e-9)

  @doc "What `part` of the values are not above."
  @spec quantile([number], float) :: number
  def quantile(values, part) do
    sorted = Enum.sort(values)
    Enum.at(sorted, min(trunc(part * length(sorted)), length(sorted) - 1))
  end

  @doc "All values of each contender, by name; a first round warms up."
  @spec rounds([contender], pos_integer) :: [{String.t(), [number]}]
  def rounds(contenders, count \\ times()) do
    for {_name, fun} <- contenders, do: fun.()
    all = for _round <- 1..count, do: for({_name, fun} <- contenders, do: fun.())
    names = for {name, _fun} <- contenders, do: name
    Enum.zip(names, Enum.zip_with(all, & &1))
  end

  @doc "Calls a second of so many processes that call for a while."
  @spec callers(pos_integer, (() -> term), pos_integer) :: float
  def callers(count, call, milliseconds \\ turn()) do
    begun = System.monotonic_time()
    until = begun + System.convert_time_unit(milliseconds, :millisecond, :native)
    work = fn -> loop(call, until, 0) end
    tasks = for _ <- 1..count, do: Task.async(work)
    calls = tasks |> Task.await_many(milliseconds + @patience) |> Enum.sum()
    max(calls, 1) / seconds_since(begun)
  end

  defp loop(call, until, count) do
    if System.monotonic_time() < until do
      call.()
      loop(call, until, count + 1)
    else
      count
    end
  end

  @doc "Microseconds that a tenth of the calls of one process do not exceed."
  @spec tenth((() -> term)) :: float
  def tenth(call) do
    begun = System.monotonic_time()
    until = begun + System.convert_time_unit(turn(), :millisecond, :native)
    took = fn -> each(call, begun, until, []) end
    nanoseconds = took |> Task.async() |> Task.await(turn() + @patience) |> quantile(0.1)
    System.convert_time_unit(nanoseconds, :native, :nanosecond) / 1000
  end

  defp each(call, since, until, took) when since < until do
    call.()
    now = System.monotonic_time()
    each(call, now, until, [now - since | took])
  end

  defp each(_call, _since, _until, took), do: took

  @spec seconds_since(integer) :: float
  def seconds_since(begun) do
    taken = System.monotonic_time() - begun
    System.convert_time_unit(taken, :native, :nanosecond) / 1.0e9
  end

  @doc "What a function answers, and the milliseconds that it took."
  @spec timed((() -> result)) :: {result, float} when result: term
  def timed(fun) do
    {microseconds, result} = :timer.tc(fun)
    {result, microseconds / 1000}
  end

  @doc "Kilobytes of memory that this process has."
  @spec resident() :: pos_integer
  def resident do
    [_, kilobytes] = Regex.run(~r/^VmRSS:\s+(\d+) kB/m, File.read!("/proc/self/status"))
    String.to_integer(kilobytes)
  end

  @doc "Nanoseconds that the threads of this process have run, whose names match."
  @spec processor(Regex.t()) :: non_neg_integer
  def processor(name) do
    for directory <- Path.wildcard("/proc/self/task/*"),
        {:ok, comm} <- [File.read(directory <> "/comm")],
        String.trim(comm) =~ name,
        {:ok, text} <- [File.read(directory <> "/schedstat")],
        reduce: 0 do
      sum -> sum + (text |> String.split() |> hd() |> String.to_integer())
    end
  end
end
