defmodule Bench.Waits do
  @moduledoc false
  # How long calls wait for a session when they come at any time, beside what the model of a queue with so many servers
  # says (M/M/c, Erlang's C formula): guides/scaling.md.

  alias Bench.{Measure, World}
  alias Cryptoki.HSM
  alias Cryptoki.Native.Wait

  @sessions 8
  # Milliseconds that a call takes in the mean.
  @mean 10
  @loads [0.3, 0.5, 0.7, 0.8, 0.9]

  @type row :: %{load: float, model: float, random: float, constant: float}

  @spec sessions() :: pos_integer
  def sessions, do: @sessions

  @doc "Mean waits in milliseconds for each load."
  @spec run(World.t()) :: [row]
  def run(world) do
    random = waits(world, steps(), fn -> :rand.uniform(20) end)
    constant = waits(world, "C_GenerateRandom delay=#{@mean}", fn -> 1 end)

    for {load, random, constant} <- Enum.zip([@loads, random, constant]),
        do: %{load: load, model: wait(@sessions, load, @mean), random: random, constant: constant}
  end

  @doc "The mean wait by the model: so many servers, loaded to this part, that take so long in the mean."
  @spec wait(pos_integer, float, number) :: float
  def wait(servers, load, mean),
    do: waiting(servers, load * servers) * mean / (servers * (1 - load))

  # The part of the calls that have to wait; Erlang's B formula step by step, and C from it.
  defp waiting(servers, offered) do
    blocked =
      Enum.reduce(1..servers, 1.0, fn n, blocked ->
        offered * blocked / (n + offered * blocked)
      end)

    blocked / (1 - offered / servers * (1 - blocked))
  end

  # A call for N bytes takes as long as N twentieths of all calls do at most, when they take exponentially long: whoever
  # asks for 1 to 20 bytes by chance has such a token.
  defp steps do
    at = fn n -> if n == 0, do: 0, else: round(-@mean * :math.log(1 - (n - 0.5) / 20)) end

    for n <- 1..20, more = at.(n) - at.(n - 1), more > 0, into: "" do
      "C_GenerateRandom delay=#{more} longer=#{n - 1}\n"
    end
  end

  defp waits(world, rules, bytes) do
    World.slow(world, rules)

    waits =
      World.with_instance(world, :slow, [sessions: @sessions], fn hsm ->
        {:ok, target} = HSM.target(hsm)
        call = fn -> times(target, bytes.()) end
        alone = for _ <- 1..@sessions, do: Task.async(fn -> for(_ <- 1..40, do: call.()) end)
        {_waited, device} = means(alone)

        for load <- @loads,
            do: elem(means(arrivals(call, device / (@sessions * load), watched())), 0)
      end)

    World.slow(world, "")
    waits
  end

  # As telemetry has them: nanoseconds in the queue, and in the library.
  defp times(target, bytes) do
    {{:ok, _random}, times} =
      Wait.run(target.queue, {:random, bytes}, Wait.deadline(target.timeout))

    times
  end

  # In milliseconds.
  defp means(tasks) do
    {waited, device} = tasks |> Task.await_many(60_000) |> List.flatten() |> Enum.unzip()
    {Enum.sum(waited) / length(waited) / 1.0e6, Enum.sum(device) / length(device) / 1.0e6}
  end

  defp watched, do: if(Measure.quick?(), do: 500, else: 5000)

  # Calls that come by chance, so many milliseconds apart in the mean; each in a process of its own.
  defp arrivals(call, between, milliseconds) do
    begun = System.monotonic_time(:microsecond)

    0.0
    |> Stream.iterate(&(&1 - between * :math.log(1 - :rand.uniform())))
    |> Stream.take_while(&(&1 < milliseconds))
    |> Enum.map(fn at ->
      until(begun + round(1000 * at))
      Task.async(call)
    end)
  end

  defp until(then) do
    left = then - System.monotonic_time(:microsecond)
    if left > 1000, do: Process.sleep(div(left, 1000))
    if System.monotonic_time(:microsecond) < then, do: until(then)
  end
end
