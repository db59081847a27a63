defmodule Bench.Sizes do
  @moduledoc false
  # Memory of a session, of a request that waits, of a key that is remembered; how long a start takes.

  alias Bench.{Calls, Measure, World}

  @type row :: {what :: String.t(), told :: String.t()}

  @sessions 128
  @requests 5_000
  @keys 500

  @spec run(World.t(), float) :: [row]
  def run(world, first_start) do
    [
      {"memory of a session", "#{session(world)} KiB"},
      {"memory of a request that waits, with its process", "#{request(world)} KiB"},
      {"memory of a process that waits for a message", "#{process()} KiB"},
      {"memory of a selector that is remembered", "#{remembered(world)} bytes"},
      {"from `start_link` to the first signature, 8 sessions, with C_Initialize",
       "#{milliseconds(first_start)} ms"},
      {"the same beside another instance of the library", "#{milliseconds(start(world))} ms"}
    ]
  end

  @doc "Milliseconds from `start_link` to the first signature by a selector."
  @spec start_once(World.t(), keyword) :: float
  def start_once(world, opts \\ []) do
    {hsm, milliseconds} =
      Measure.timed(fn ->
        {:ok, hsm} = Cryptoki.start_link([uri: world.uri, sessions: 8] ++ opts)
        Calls.of(hsm, "ecdsa", by: :selector).()
        hsm
      end)

    :ok = Cryptoki.stop(hsm)
    milliseconds
  end

  # While another one keeps the library initialised, as it is for a second instance or one that starts anew.
  defp start(world) do
    World.with_instance(world, :uri, [sessions: 1], fn _hsm ->
      Measure.median(for _ <- 1..Measure.times(), do: start_once(world))
    end)
  end

  defp session(world) do
    World.with_instance(world, :uri, [sessions: 1], fn one ->
      grown(@sessions, fn go_on ->
        World.with_instance(world, :uri, [sessions: @sessions], fn hsm ->
          _ = Measure.callers(@sessions, Calls.of(hsm, "random"), 200)
          _ = Measure.callers(1, Calls.of(one, "random"), 50)
          go_on.()
        end)
      end)
    end)
  end

  defp request(world) do
    World.slow(world, "C_GenerateRandom delay=3000 count=1")

    kilobytes =
      World.with_instance(world, :slow, [sessions: 1, timeout: :infinity], fn hsm ->
        call = Calls.of(hsm, "random")

        grown(@requests, fn go_on ->
          tasks = for _ <- 1..@requests, do: Task.async(call)
          await_queue(hsm, @requests - 1)
          go_on.()
          Task.await_many(tasks, :infinity)
        end)
      end)

    World.slow(world, "")
    kilobytes
  end

  defp await_queue(hsm, count) do
    case Cryptoki.status(hsm) do
      {:ok, %{queue: waiting}} when waiting >= count -> :ok
      _fewer -> await_queue(hsm, count)
    end
  end

  defp process do
    grown(@requests, fn go_on ->
      tasks = for _ <- 1..@requests, do: Task.async(fn -> receive(do: (:enough -> :ok)) end)
      go_on.()
      for task <- tasks, do: send(task.pid, :enough)
      Task.await_many(tasks, :infinity)
    end)
  end

  # Kilobytes for each, of what is there when `go_on` is called.
  defp grown(count, fun) do
    :erlang.garbage_collect()
    before = Measure.resident()
    me = self()
    fun.(fn -> send(me, {:resident, Measure.resident()}) end)

    receive do
      {:resident, resident} -> Float.round(max(resident - before, 0) / count, 1)
    end
  end

  defp remembered(world) do
    World.with_instance(world, :uri, [sessions: 1], fn hsm ->
      names = for number <- 1..@keys, do: "remembered #{number}"

      for name <- names,
          do: Cryptoki.create!(hsm, class: :data, token: false, private: false, label: name)

      before = tables()

      for name <- names,
          do: {:ok, _} = Cryptoki.attributes(hsm, [label: name, class: :data], [:label])

      div(:erlang.system_info(:wordsize) * (tables() - before), @keys)
    end)
  end

  # Words of the tables in which instances remember.
  defp tables do
    Enum.sum(
      for table <- :ets.all(),
          :ets.info(table, :name) == Cryptoki.Cache,
          do: :ets.info(table, :memory)
    )
  end

  defp milliseconds(number), do: :erlang.float_to_binary(number, decimals: 1)
end
