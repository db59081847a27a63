defmodule Cryptoki.TelemetryTest do
  # Not async: while there is a module :telemetry, every call of the VM emits.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.Telemetry
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @moduletag :capture_log

  @name __MODULE__.HSM
  @secret "never in an event"

  setup_all do
    Code.require_file("test/support/telemetry.exs")

    on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
      Code.unrequire_files([Path.expand("test/support/telemetry.exs")])
    end)
  end

  setup do
    apply(:telemetry, :start, [])
    listen(self())
    :ok
  end

  defp listen(to) do
    send_on = fn event, measurements, metadata, to ->
      send(to, {event, measurements, metadata})
    end

    :ok = apply(:telemetry, :attach_many, ["test", Telemetry.events(), send_on, to])
  end

  defp start(more \\ []),
    do: start_supervised!({Cryptoki, MainToken.options([name: @name, sessions: 1] ++ more)})

  test "a call has a start and a stop, with queue and device time apart, and no data" do
    start()
    {:ok, _} = Cryptoki.digest(@name, :sha256, @secret, metadata: %{request: 7})

    assert_received {[:cryptoki, :call, :start], %{system_time: _, monotonic_time: _}, metadata}
    assert %{instance: @name, operation: :digest, mechanism: :sha256} = metadata
    assert metadata.metadata == %{request: 7}

    assert_received {[:cryptoki, :call, :stop], times, %{result: :ok} = metadata}
    assert times.queue_time + times.device_time <= times.duration
    assert times.device_time > 0
    refute inspect(metadata, limit: :infinity) =~ @secret
  end

  test "the times of calls that were given up: in the library, and waiting for a session" do
    module = FaultyModule.new()
    options = FaultyModule.options(module, name: @name, sessions: 1)
    start_supervised!({Cryptoki, options})
    FaultyModule.control(module, "C_Digest hang")
    milliseconds = &System.convert_time_unit(&1, :native, :millisecond)

    {:error, _} = Cryptoki.digest(@name, :sha256, "", timeout: 200)
    assert_received {[:cryptoki, :call, :stop], times, %{operation: :digest, result: :timeout}}
    assert milliseconds.(times.device_time) >= 100
    assert times.queue_time + times.device_time <= times.duration

    # The session that replaces it hangs as well; then there is none.
    {:error, _} = Cryptoki.digest(@name, :sha256, "", timeout: 200)
    assert_received {[:cryptoki, :call, :stop], _times, %{operation: :digest, result: :timeout}}
    {:error, %{executed: false}} = Cryptoki.digest(@name, :sha256, "", timeout: 200)
    assert_received {[:cryptoki, :call, :stop], times, %{operation: :digest, result: :timeout}}
    assert milliseconds.(times.queue_time) >= 100
    assert times.device_time == 0

    assert_receive {[:cryptoki, :health], %{system_time: _}, %{health: :unresponsive} = metadata},
                   20_000

    assert %{instance: @name, reason: :timeout} = metadata
    FaultyModule.control(module, "")
    assert_receive {[:cryptoki, :health], _, %{health: :ok, reason: nil}}
  end

  test "an error is a stop with its reason" do
    start()
    {:error, _} = Cryptoki.sign(@name, [label: "nobody"], :ecdsa, "")

    assert_received {[:cryptoki, :call, :stop], _times,
                     %{operation: :sign, result: :key_not_found}}
  end

  test "what goes wrong with tokens, logins, sessions and the library: every event there is" do
    for event <- everything(), do: assert(event in Telemetry.events())
    happened = happened()

    for name <- Telemetry.events() do
      assert happened[name], "#{inspect(name)} was not emitted"
      shown = inspect(happened[name], limit: :infinity)
      refute shown =~ SoftHSM.pin()
      refute shown =~ @secret
    end

    documented(happened)
    charted(happened)
  end

  # Every event of the table at least once, by what really causes it.
  defp everything do
    module = FaultyModule.new()
    opts = [sessions: 2, reconnect: [min: 1, max: 20]]
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, opts)})
    {:ok, ref} = Cryptoki.subscribe(hsm)
    {:ok, _} = Cryptoki.digest(hsm, :sha256, @secret)
    :ok = Telemetry.measure(hsm)

    FaultyModule.control(module, "sessions forget")
    {:ok, _} = Cryptoki.random(hsm, 1)
    emitted([:session, :reopened])

    FaultyModule.control(module, "C_GenerateRandom hang")
    {:error, %{reason: :timeout}} = Cryptoki.random(hsm, 1, timeout: 50)
    emitted([:session, :overdue])
    FaultyModule.control(module, "")
    emitted([:session, :ended])

    FaultyModule.control(module, "* rv=0x190")
    {:error, _} = Cryptoki.random(hsm, 1)
    assert_receive {:cryptoki, ^ref, {:state, :absent, _error}}
    FaultyModule.await(module, ~r/^C_Initialize faked 0x190/)
    FaultyModule.control(module, "")
    assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}

    FaultyModule.control(module, "C_OpenSession rv=0x30\nC_GenerateRandom rv=0xB3")
    {:error, _} = Cryptoki.random(hsm, 1)
    emitted([:session, :lost])
    FaultyModule.control(module, "")

    # A library in a process of its own, which returns from nothing.
    apart = FaultyModule.new()
    opts = [isolation: :process, kill_after: 100, sessions: 1, reconnect: [min: 1, max: 20]]
    isolated = start_supervised!({Cryptoki, FaultyModule.options(apart, opts)}, id: :apart)
    FaultyModule.control(apart, "C_GenerateRandom hang")
    hanging(isolated)
    FaultyModule.control(apart, "")

    # Two members, of which the one that is asked cannot.
    {:ok, group} = Cryptoki.Group.start_link(members: [hsm, :nobody], reconnect: [min: 1, max: 1])
    FaultyModule.control(module, "C_DigestInit rv=0x30 count=1")
    {:error, %{member: ^hsm}} = Cryptoki.digest(group, :sha256, @secret)
    emitted([:group, :call])
    other = start_supervised!({Cryptoki, MainToken.own(name: :nobody)}, id: :other)
    true = is_pid(other)
    emitted_until(group, fn status -> status.in == 2 end)
    FaultyModule.control(module, "C_DigestInit rv=0x30")
    failed_over(group)
    FaultyModule.control(module, "")
    :ok = Telemetry.measure(group)
    :ok = Cryptoki.stop(group)

    label = SoftHSM.create()
    wrong = [label: label, library: SoftHSM.library_copy(), pin: "40414243"]
    start_supervised!({Cryptoki, SoftHSM.options(wrong)}, id: :wrong)

    raises = fn ->
      Cryptoki.Events.call(fn -> call_metadata(hsm) end, fn -> raise "meanwhile" end)
    end

    assert_raise RuntimeError, raises
    for {name, _all} <- happened(), do: name
  end

  # Sessions that are opened in the place of the overdue ones hang, too.
  defp hanging(hsm) do
    {:error, _error} = Cryptoki.random(hsm, 1, timeout: 100)

    receive do
      {[:cryptoki, :library, :killed], _, _} = event -> send(self(), event)
    after
      0 -> hanging(hsm)
    end
  end

  defp call_metadata(hsm),
    do: %{instance: hsm, operation: :digest, mechanism: :sha256, metadata: %{}}

  defp emitted(name) do
    name = [:cryptoki | name]
    assert_receive {^name, _, _} = event
    send(self(), event)
  end

  defp emitted_until(group, holds?) do
    {:ok, status} = Cryptoki.Group.status(group)
    unless holds?.(status), do: emitted_until(group, holds?)
  end

  # By chance it is the other one that is asked.
  defp failed_over(group) do
    {:ok, _digest} = Cryptoki.digest(group, :sha256, @secret)

    receive do
      {[:cryptoki, :group, :failover], _, _} = event -> send(self(), event)
    after
      0 -> failed_over(group)
    end
  end

  # By name, the first of each.
  defp happened do
    {:messages, messages} = Process.info(self(), :messages)

    for {[:cryptoki | _] = name, m, metadata} <- Enum.reverse(messages),
        into: %{},
        do: {name, {m, metadata}}
  end

  # What the table of `Cryptoki.Telemetry` says is what comes.
  defp documented(happened) do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(Telemetry)
    rows = Regex.scan(~r/^\| `(\[:cryptoki.*?\])` \| (.*?) \| (.*?) \|/m, text)
    assert length(rows) == length(Telemetry.events())

    for [_, name, measurements, metadata] <- rows do
      {name, _} = Code.eval_string(name)
      {sent, sent_metadata} = Map.fetch!(happened, name)
      assert Enum.sort(Map.keys(sent)) == names(measurements), inspect(name)
      assert Enum.sort(Map.keys(sent_metadata)) == names(metadata), inspect(name)
    end
  end

  defp names(cell),
    do: Enum.sort(for [_, name] <- Regex.scan(~r/`(\w+)`/, cell), do: String.to_atom(name))

  # What guides/telemetry.md charts is what comes.
  defp charted(happened) do
    metrics =
      Regex.scan(
        ~r/(summary|counter|last_value)\("([a-z_.]+)",.*?tags: \[(.*?)\]/,
        File.read!("guides/telemetry.md")
      )

    assert length(metrics) > 15

    for [_, _kind, name, tags] <- metrics do
      {event, [measurement]} =
        name |> String.split(".") |> Enum.map(&String.to_atom/1) |> Enum.split(-1)

      assert {measurements, metadata} = happened[event], "no event #{inspect(event)}, of #{name}"
      assert is_integer(measurements[measurement]), name

      for tag <- String.split(tags, ", "),
          do: assert(is_map_key(metadata, tag(tag)), "#{name} #{tag}")
    end

    charted = for [_, _, name, _] <- metrics, do: name |> String.split(".") |> Enum.drop(-1)
    all = for name <- Telemetry.events(), do: Enum.map(name, &Atom.to_string/1)
    assert all -- charted == [["cryptoki", "call", "start"]]
  end

  defp tag(":" <> name), do: String.to_atom(name)

  describe "the default logger" do
    test "logs calls and sessions, what failed as warnings" do
      :ok = Telemetry.attach_default_logger(level: :info)
      assert {:error, :already_exists} = Telemetry.attach_default_logger()

      log =
        capture_log(fn ->
          start()
          {:ok, _} = Cryptoki.digest(@name, :sha256, @secret)
          {:error, _} = Cryptoki.sign(@name, [label: "nobody"], :ecdsa, @secret)
        end)

      name = inspect(@name)
      times = ~S"in \d+\.\d ms \(waited \d+\.\d ms, token \d+\.\d ms\)"
      assert log =~ ~r/\[info\] +cryptoki #{name}: digest :sha256 ok #{times}/
      assert log =~ ~r/\[warning\] +cryptoki #{name}: sign :ecdsa key_not_found #{times}/
      assert log =~ ~r/\[info\] +cryptoki #{name}: session opened/
      assert log =~ ~r/\[info\] +cryptoki #{name}: login ok in \d/
      refute log =~ @secret
      refute log =~ SoftHSM.pin()

      :ok = Telemetry.detach_default_logger()
      assert capture_log(fn -> Cryptoki.digest(@name, :sha256, "") end) == ""
      assert {:error, :not_found} = Telemetry.detach_default_logger()
    end

    test "leaves out calls that were fast enough, and no failure" do
      :ok = Telemetry.attach_default_logger(slower_than: 60_000)
      start()

      log =
        capture_log(fn ->
          {:ok, _} = Cryptoki.digest(@name, :sha256, "")
          {:error, _} = Cryptoki.sign(@name, [label: "nobody"], :ecdsa, "")
        end)

      refute log =~ "digest"
      assert log =~ "key_not_found"

      assert_raise ArgumentError, ~r/unknown option :lvl/, fn ->
        Telemetry.attach_default_logger(lvl: 1)
      end
    end
  end
end
