defmodule Cryptoki.SoakTest do
  # 64 processes at mixed work on 8 sessions, another fault every two seconds: what the VM holds in the end is what it
  # held after the first minute. CRYPTOKI_SOAK_MINUTES says how long (2).
  use ExUnit.Case, async: false

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, Reliability}

  @moduletag :safety
  @moduletag :capture_log
  @moduletag timeout: :infinity

  @minutes System.get_env("CRYPTOKI_SOAK_MINUTES", "2") |> Float.parse() |> elem(0)
  @fault_ms 2_000

  # In turn, each for a while: what ends it is that the next does not say it.
  @faults [
    "",
    "C_Sign rv=0x30 every=20",
    "sessions forget",
    "C_Digest delay=20 every=5",
    "token replug",
    "C_GenerateRandom hang times=4",
    "logout",
    "C_Encrypt rv=0x5 every=7",
    "C_OpenSession rv=0x31 every=2",
    "token remove",
    "lie C_Sign length=huge every=30",
    "C_SignInit rv=0x101 every=40"
  ]

  test "mixed work with faults leaves nothing behind" do
    module = FaultyModule.new()
    options = [sessions: 8, timeout: 2_000, reconnect: [min: 5, max: 100]]
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, options)})

    Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, label: "soak", curve: :secp256r1)
    Cryptoki.generate_key!(hsm, :aes_key_gen, label: "soak", value_len: 32, token: true)

    # Modules bring their atoms, and on a busy machine not all are needed in the first minute.
    for app <- [:kernel, :stdlib, :crypto, :public_key, :elixir, :logger, :ex_unit, :cryptoki],
        do: :code.ensure_modules_loaded(Application.spec(app, :modules))

    total = round(@minutes * 60_000)
    first = min(60_000, div(total, 2))
    early = work(hsm, module, first)
    # The first look makes atoms of its own: :erlang.memory/1 names the allocators.
    _first = held(hsm)
    before = held(hsm)
    late = work(hsm, module, total - first)
    now = held(hsm)

    exact = [:atoms, :threads, :files, :processes, :sessions]
    assert Map.take(now, exact) == Map.take(before, exact)
    # Kilobytes of the whole VM; its allocators keep some.
    assert now.resident < before.resident + 32_000
    assert now.beam < before.beam + 4_000

    # It has worked, and has been disturbed.
    calls = Map.merge(early, late, fn _outcome, n, m -> n + m end)
    assert calls[:ok] > 1_000
    assert Enum.count(calls) > 3

    Reliability.record(
      :number,
      "soak: minutes, calls, of which errors",
      "#{@minutes}, #{Enum.sum(Map.values(calls))}, #{Enum.sum(Map.values(Map.delete(calls, :ok)))}"
    )

    Reliability.record(
      :number,
      "soak: held after a minute, at the end",
      "#{inspect(before)}, #{inspect(now)}"
    )
  end

  # Until the time is over; then without faults until all is whole. How many calls came to which end.
  defp work(hsm, module, time) do
    until = System.monotonic_time(:millisecond) + time
    workers = for n <- 1..64, do: Task.async(fn -> worker(hsm, n, until, %{}) end)
    disturb(module, until, @faults |> Enum.shuffle() |> Stream.cycle())
    FaultyModule.control(module, "")
    counts = Task.await_many(workers, :infinity)
    whole(hsm)
    Enum.reduce(counts, %{}, &Map.merge(&1, &2, fn _outcome, n, m -> n + m end))
  end

  defp disturb(module, until, faults) do
    left = until - System.monotonic_time(:millisecond)

    if left > 0 do
      FaultyModule.control(module, Enum.at(faults, 0))

      receive do
      after
        min(left, @fault_ms) -> disturb(module, until, Stream.drop(faults, 1))
      end
    end
  end

  defp worker(hsm, n, until, counts) do
    if System.monotonic_time(:millisecond) < until do
      outcome =
        case call(hsm, rem(n + :rand.uniform(6), 6)) do
          :ok -> :ok
          {:ok, _} -> :ok
          {:error, %Error{reason: reason}} -> reason
        end

      # A token that is away answers at once: nobody asks it without pause.
      receive do
      after
        20 -> :ok
      end

      worker(hsm, n, until, Map.update(counts, outcome, 1, &(&1 + 1)))
    else
      {:message_queue_len, 0} = Process.info(self(), :message_queue_len)
      counts
    end
  end

  defp call(hsm, 0),
    do: Cryptoki.sign(hsm, [label: "soak", class: :private_key], :ecdsa_sha256, "data")

  defp call(hsm, 1), do: Cryptoki.digest(hsm, :sha256, {:stream, ["one", "two"]})
  defp call(hsm, 2), do: Cryptoki.random(hsm, 16)

  defp call(hsm, 3) do
    gcm = {:aes_gcm, iv: :crypto.strong_rand_bytes(12), tag_bits: 128}
    Cryptoki.encrypt(hsm, [label: "soak", class: :secret_key], gcm, "data")
  end

  # A caller that dies in the middle of an operation.
  defp call(hsm, 4) do
    task =
      Task.async(fn ->
        Cryptoki.with_session(hsm, fn session ->
          with {:ok, operation} <- Cryptoki.start(session, :digest, :sha256),
               :ok <- Cryptoki.Operation.update(operation, "half"),
               do: Process.exit(self(), :kill)
        end)
      end)

    Process.unlink(task.pid)
    Task.shutdown(task, 10)
    :ok
  end

  defp call(hsm, 5),
    do: Cryptoki.attributes(hsm, [label: "soak", class: :private_key], [:id, :label])

  defp whole(hsm) do
    case Cryptoki.status!(hsm) do
      %{state: :ready, queue: 0, sessions: %{wanted: n, open: n, busy: 0, overdue: 0}} -> :ok
      _not_yet -> whole(hsm)
    end
  end

  # Two times the same: threads end a moment after they have said so.
  defp held(hsm, seen \\ nil) do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)

    now = %{
      atoms: :erlang.system_info(:atom_count),
      threads: length(File.ls!("/proc/self/task")),
      files: length(File.ls!("/proc/self/fd")),
      processes: length(Process.list()),
      sessions: Cryptoki.status!(hsm).sessions.open
    }

    if now == seen,
      do: Map.merge(now, %{resident: resident(), beam: div(:erlang.memory(:total), 1024)}),
      else: held(hsm, now)
  end

  defp resident do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s*(\d+)/, File.read!("/proc/self/status"))
    String.to_integer(kilobytes)
  end
end
