defmodule Bench.Isolation do
  @moduledoc false
  # What a library in a process of its own costs beside the same one in the VM, and how long nothing is signed when it crashes.

  alias Bench.{Calls, Measure, Sizes, World}

  @type row :: {what :: String.t(), told :: String.t(), wanted :: String.t(), boolean | nil}

  # {what, case, callers, sessions, at least of the instance in the VM}
  @wanted [
    {"ECDSA, 1 caller", "ecdsa", 1, 1, 0.75},
    {"ECDSA, 32 callers on 2 sessions", "ecdsa", 32, 2, 0.80},
    {"SHA-256 of 1 MiB", "sha256", 1, 1, 0.70},
    {"AES-GCM of 1 MiB", "gcm", 1, 1, 0.70}
  ]
  # MiB beside those of the library's files.
  @memory 15
  # Milliseconds from a crash to the next signature.
  @back 300
  @crashes 11

  @doc "All of them; `told` is called with the rows as they come."
  @spec run(World.t(), ([row] -> term)) :: [row]
  def run(world, told) do
    measured = for wanted <- @wanted, row <- tell(told, [ratio(world, wanted)]), do: row

    measured ++
      tell(told, [memory(world)]) ++ tell(told, starts(world)) ++ tell(told, [back(world)])
  end

  defp tell(told, rows) do
    told.(rows)
    rows
  end

  defp ratio(world, {what, case, callers, sessions, least}) do
    World.with_instance(world, :uri, [sessions: sessions], fn here ->
      World.with_instance(world, :uri, [sessions: sessions, isolation: :process], fn away ->
        [{_, here}, {_, away}] =
          [here, away]
          |> Enum.map(&Calls.of(&1, case))
          |> Enum.map(&{"", fn -> Measure.callers(callers, &1) end})
          |> Measure.rounds()

        # Of each round by itself: what else the machine does takes from both.
        ratios = Enum.zip_with(away, here, &(&1 / &2))
        ratio = Measure.median(ratios)
        rates = Enum.map_join([here, away], " and ", &to_string(round(Measure.median(&1))))

        told =
          "#{decimals(ratio, 2)} of the one in the VM, #{rates} calls a second, spread #{round(100 * Measure.spread(ratios))} %"

        {what, told, decimals(least, 2), ratio >= least}
      end)
    end)
  end

  defp memory(world) do
    World.with_instance(world, :uri, [sessions: 8, isolation: :process], fn hsm ->
      _ = Measure.callers(8, Calls.of(hsm, "ecdsa"))
      {anonymous, files} = hsm |> processes() |> Enum.map(&resident/1) |> Enum.unzip()
      [own, mapped] = for kilobytes <- [anonymous, files], do: Enum.sum(kilobytes) / 1024

      told =
        "#{decimals(own, 1)} MiB, and #{decimals(mapped, 1)} MiB of files, the library's among them"

      {"memory of both processes, 8 sessions", told, "#{@memory} MiB and the library",
       own <= @memory}
    end)
  end

  # Those of the one instance that has any: children of this VM, and their children.
  defp processes(_hsm) do
    keepers = children(System.pid())
    keepers ++ Enum.flat_map(keepers, &children/1)
  end

  defp children(parent) do
    for status <- Path.wildcard("/proc/[0-9]*/status"),
        {:ok, text} <- [File.read(status)],
        text =~ ~r/^Name:\s+cryptoki_worker/m,
        text =~ ~r/^PPid:\s+#{parent}$/m,
        do: status |> Path.dirname() |> Path.basename()
  end

  defp resident(process) do
    text = File.read!("/proc/#{process}/status")

    [own, files] =
      for name <- ["RssAnon", "RssFile"],
          [_, kilobytes] = Regex.run(~r/^#{name}:\s+(\d+) kB/m, text),
          do: String.to_integer(kilobytes)

    {own, files}
  end

  defp starts(world) do
    kinds = [{"in the VM", :none}, {"in a process of its own", :process}]
    once = fn isolation -> fn -> Sizes.start_once(world, isolation: isolation) end end

    for {where, taken} <- Measure.rounds(for({where, kind} <- kinds, do: {where, once.(kind)})),
        do:
          {"from `start_link` to the first signature, 8 sessions, #{where}",
           "#{decimals(Measure.median(taken), 1)} ms", "", nil}
  end

  # Callers go on signing; whoever is told of the crash first has the library well again before it is started anew.
  defp back(world) do
    options = [sessions: 2, isolation: :process, timeout: 60_000]

    World.with_instance(world, :slow, options, fn hsm ->
      :ok = Calls.make_keys(hsm)
      sign = fn -> Cryptoki.sign(hsm, [label: "bench hmac"], :sha256_hmac, "data") end
      load = for _ <- 1..4, do: spawn_link(fn -> forever(sign) end)
      taken = for _ <- 1..@crashes, do: crash(world, sign)
      for caller <- load, do: unlinked(caller)

      median = Measure.median(taken)
      told = "#{decimals(median, 0)} ms, at most #{decimals(Enum.max(taken), 0)} ms"

      what =
        "from SIGSEGV in C_Sign to the next signature, 5 callers, the pause of `reconnect:` in it"

      {what, told, "#{@back} ms", median < @back}
    end)
  end

  # Whoever is refused does not ask again at once: it would be measured how long others keep the processors.
  defp forever(sign) do
    if match?({:error, _}, sign.()), do: Process.sleep(1)
    forever(sign)
  end

  defp unlinked(caller) do
    Process.unlink(caller)
    Process.exit(caller, :kill)
  end

  defp crash(world, sign) do
    World.slow(world, "C_Sign crash=segv")
    until(sign, &match?({:error, _}, &1))
    begun = System.monotonic_time()
    World.slow(world, "")
    until(sign, &match?({:ok, _}, &1))
    1000 * Measure.seconds_since(begun)
  end

  defp until(sign, done?) do
    unless done?.(sign.()) do
      Process.sleep(1)
      until(sign, done?)
    end
  end

  defp decimals(number, places), do: :erlang.float_to_binary(number * 1.0, decimals: places)
end
