defmodule Bench.Cases do
  @moduledoc false
  # Each case beside the loop in C with as many threads as the limit has, and beside the other ways to make the call.

  alias Bench.{Calls, Measure, Nif, Program, World}

  @stream 268_435_456
  @objects 10_000

  @type row :: %{
          case: String.t(),
          callers: pos_integer,
          sessions: pos_integer,
          way: String.t(),
          rate: float,
          of_limit: float | nil,
          spread: float,
          wanted: String.t(),
          reached: boolean | nil
        }

  @typedoc "What a tenth of the calls of one caller do not exceed, in microseconds."
  @type undisturbed :: {case :: String.t(), of_the_loop :: float, ours :: float}

  # {callers, sessions, threads of the loop, case, at least of the loop, or at most so many microseconds a call}
  @wanted [
    {1, 1, 1, "ecdsa", {:of_limit, 0.90}},
    {1, 1, 1, "hmac", {:of_limit, 0.65}},
    {1, 1, 1, "rsa", {:of_limit, 0.95}},
    {1, 1, 1, "random", {:microseconds, 6}},
    {1, 1, 1, "gcm", {:of_limit, 0.95}},
    {1, 1, 1, "sha256", {:of_limit, 0.95}},
    {4, 2, 2, "ecdsa", nil},
    {32, 2, 2, "ecdsa", {:of_limit, 0.80}},
    {32, 2, 2, "hmac", {:of_limit, 0.60}},
    {32, 2, 2, "rsa", {:of_limit, 0.95}},
    {32, 2, 2, "random", {:microseconds, 4}},
    {32, 4, 2, "ecdsa", {:of_limit, 0.80}},
    {32, 4, 2, "hmac", {:of_limit, 0.60}},
    {32, 4, 2, "rsa", {:of_limit, 0.95}},
    {256, 2, 2, "ecdsa", nil}
  ]

  @doc "All of them; `told` is called with the rows of each as they come."
  @spec run(World.t(), ([row] -> term)) :: [row]
  def run(world, told) do
    measured = for wanted <- @wanted, row <- tell(told, case_rows(world, wanted)), do: row
    measured ++ tell(told, stream_rows(world)) ++ tell(told, find_rows(world))
  end

  @doc "Of the cases of one caller."
  @spec undisturbed(World.t()) :: [undisturbed]
  def undisturbed(world) do
    for {1, 1, 1, case, _wanted} <- @wanted do
      World.with_instance(world, :uri, [sessions: 1], fn hsm ->
        call = Calls.of(hsm, case)
        loop = fn -> Program.tenth(world.limit, case, Measure.turn(), 1_048_576) end

        [{_, loops}, {_, ours}] =
          Measure.rounds([{"loop in C", loop}, {"cryptoki", fn -> Measure.tenth(call) end}])

        {case, Measure.median(loops), Measure.median(ours)}
      end)
    end
  end

  defp tell(told, rows) do
    told.(rows)
    rows
  end

  defp case_rows(world, {callers, sessions, threads, case, wanted}) do
    World.with_instance(world, :uri, [sessions: sessions], fn hsm ->
      loop = fn -> Program.rate(world.limit, case, threads, Measure.turn(), 1_048_576) end
      ours = for {way, call} <- ways(hsm, case), do: {way, callers_of(callers, call)}
      others = others(world, case, callers, sessions)

      [{"loop in C", loop} | ours ++ others]
      |> Measure.rounds()
      |> rows(case, callers, sessions, wanted)
    end)
  end

  # A signature by a key that was looked up before, and by what its caller knows of it.
  defp ways(hsm, case) when case in ["ecdsa", "hmac", "rsa"],
    do: [
      {"cryptoki, %Key{}", Calls.of(hsm, case)},
      {"cryptoki, selector", Calls.of(hsm, case, by: :selector)}
    ]

  defp ways(hsm, case), do: [{"cryptoki", Calls.of(hsm, case)}]

  defp callers_of(count, call), do: fn -> Measure.callers(count, call) end

  defp others(world, case, callers, sessions),
    do:
      nifs(world, case, callers, sessions) ++
        software(case, callers) ++ python(world, case, callers)

  defp nifs(world, "ecdsa", callers, sessions) do
    [library, pin] = Enum.map([world.library, world.pin], &String.to_charlist/1)
    1 = Nif.open(library, ~c"bench", pin, ~c"bench ec", sessions)
    dirty = {"a dirty NIF", callers_of(callers, fn -> Nif.dirty(Calls.digest()) end)}
    blocking = {"a NIF on its scheduler", callers_of(1, fn -> Nif.scheduler(Calls.digest()) end)}
    if callers == 1, do: [blocking, dirty], else: [dirty]
  end

  defp nifs(_world, _case, _callers, _sessions), do: []

  defp software("ecdsa", 1) do
    {_public, private} = :crypto.generate_key(:ecdh, :secp256r1)

    sign = fn ->
      :crypto.sign(:ecdsa, :sha256, {:digest, Calls.digest()}, [private, :secp256r1])
    end

    [{":crypto, a key in memory", callers_of(1, sign)}]
  end

  defp software(_case, _callers), do: []

  defp python(%{python: port}, case, callers)
       when port != nil and case in ["ecdsa", "hmac", "rsa", "random"] and callers in [1, 32],
       do: [{"python-pkcs11, one thread", fn -> Program.rate(port, case, 1, Measure.turn()) end}]

  defp python(_world, _case, _callers), do: []

  defp rows([{_loop, limits} | measured], case, callers, sessions, wanted) do
    limit = Measure.median(limits)

    for {way, rates} <- measured do
      rate = Measure.median(rates)

      row = %{
        case: case,
        callers: callers,
        sessions: sessions,
        way: way,
        rate: rate,
        of_limit: rate / limit
      }

      row = Map.merge(row, %{spread: Measure.spread(rates), wanted: "", reached: nil})
      if String.starts_with?(way, "cryptoki"), do: judged(row, wanted), else: row
    end
  end

  defp judged(row, nil), do: row

  defp judged(row, {:of_limit, least}),
    do: %{
      row
      | wanted: :erlang.float_to_binary(least, decimals: 2),
        reached: row.of_limit >= least
    }

  defp judged(row, {:microseconds, most}),
    do: %{row | wanted: "#{most} us a call", reached: 1.0e6 / row.rate <= most}

  # Of bytes that are never all in memory: by how much that grows meanwhile is told as well.
  defp stream_rows(world) do
    size = if Measure.quick?(), do: div(@stream, 16), else: @stream

    World.with_instance(world, :uri, [sessions: 1], fn hsm ->
      loop = fn -> Program.rate(world.limit, "cbc", 1, 0, size) end
      ours = fn -> Calls.stream(hsm, size) |> elem(0) end

      measured =
        Measure.rounds([{"loop in C", loop}, {"cryptoki", ours}], min(Measure.times(), 5))

      {_rate, grown} = Calls.stream(hsm, size)

      for row <-
            rows(measured, "cbc, #{div(size, 1_048_576)} MiB in 64 KiB", 1, 1, {:of_limit, 0.85}),
          do: %{row | way: "cryptoki, memory #{signed(div(grown, 1024))} KiB"}
    end)
  end

  defp signed(number) when number > 0, do: "+#{number}"
  defp signed(number), do: "#{number}"

  defp find_rows(world) do
    count = if Measure.quick?(), do: div(@objects, 10), else: @objects
    [{ours, loop}] = Bench.Finding.rates(world, [count], min(Measure.times(), 3))
    measured = [{"loop in C", loop}, {"cryptoki", ours}]
    rows(measured, "find of #{count} objects", 1, 1, {:of_limit, 0.85})
  end
end

defmodule Bench.Finding do
  @moduledoc false
  # All data objects of a token with their attributes, here and in C: each has made its own, of the session.

  alias Bench.{Measure, Program, World}

  @doc "Objects a second with so many objects, one after the other, in each round: `{ours, of the loop}`."
  @spec rates(World.t(), [pos_integer], pos_integer) :: [{[float], [float]}]
  def rates(world, counts, rounds) do
    limit = World.limit(world)

    World.with_instance(world, :uri, [sessions: 1, timeout: 60_000], fn hsm ->
      for {count, made} <- Enum.zip(counts, [0 | counts]) do
        make(hsm, made, count)
        _ = Program.ask(limit, "objects", 1, 0, count)
        loop = fn -> Program.rate(limit, "find", 1, 1) end

        [{_, ours}, {_, loops}] =
          Measure.rounds([{"", fn -> found(hsm, count) end}, {"", loop}], rounds)

        {ours, loops}
      end
    end)
  end

  defp make(hsm, made, count) do
    for number <- made..(count - 1)//1, name = "object #{number}" do
      template = [class: :data, token: false, private: false, label: name, value: name]
      _ = Cryptoki.create!(hsm, template)
    end
  end

  defp found(hsm, count) do
    {{:ok, objects}, milliseconds} = Measure.timed(fn -> Cryptoki.find(hsm, class: :data) end)
    ^count = length(objects)
    1000 * count / milliseconds
  end
end
