defmodule Cryptoki.Telemetry do
  # What is told: name, measurements, metadata, when.
  @call ~w[instance operation mechanism metadata]a
  @events [
    {[:call, :start], ~w[system_time monotonic_time]a, @call,
     "a call begins to wait for a session"},
    {[:call, :stop], ~w[duration queue_time device_time]a, @call ++ [:result],
     "it has its answer, which may be an error"},
    {[:call, :exception], [:duration], @call ++ ~w[kind reason stacktrace]a,
     "something was raised in the caller meanwhile"},
    {[:session, :opened], [:system_time], ~w[instance reason]a, "a session was opened"},
    {[:session, :reopened], [:system_time], ~w[instance reason]a,
     "one that the token had closed was opened anew"},
    {[:session, :lost], [:system_time], ~w[instance reason]a,
     "one is gone, the token with it maybe"},
    {[:session, :overdue], [:system_time], ~w[instance reason]a,
     "its caller gave up, the library has not returned"},
    {[:session, :ended], [:system_time], ~w[instance reason]a,
     "one was closed: `overdue`, `panic`"},
    {[:token, :ready], [:system_time], ~w[instance reason]a, "the instance has its token"},
    {[:token, :absent], [:system_time], ~w[instance reason]a, "the instance has lost its token"},
    {[:token, :locked], [:system_time], ~w[instance reason]a,
     "no PIN is tried until a person acts"},
    {[:health], [:system_time], ~w[instance health reason]a,
     "what `:health` of `Cryptoki.status/1` says has changed"},
    {[:login], ~w[duration system_time]a, ~w[instance result]a, "an attempt to log in is over"},
    {[:library, :reinitialized], [:system_time], ~w[instance result]a,
     "the library was finalised and initialised anew"},
    {[:status], ~w[queue open busy overdue wanted]a, ~w[instance state health]a,
     "`measure/1` was called"}
  ]

  rows =
    for {name, measurements, metadata, text} <- @events do
      names = fn names -> Enum.map_join(names, ", ", &"`#{&1}`") end
      event = inspect([:cryptoki | name])
      "| `#{event}` | #{names.(measurements)} | #{names.(metadata)} | #{text} |\n"
    end

  @moduledoc """
  What the library tells about itself, by the application `:telemetry` when that is there, and at no
  cost when it is not.

  | event | measurements | metadata | when |
  |---|---|---|---|
  #{rows}
  `duration`, `queue_time` (waiting for a session) and `device_time` (in the vendor's library) are in
  native units; `System.convert_time_unit/3` converts them. The others of `[:cryptoki, :status]` are
  counts. `instance` is its name, or its pid without one. `result` is `:ok` or the reason of the
  error, `reason` an error's reason or nil, `metadata` what the caller gave with `metadata:`.

  Never a PIN, never data, never key bytes. `guides/telemetry.md` has what to chart.
  """

  require Logger

  alias Cryptoki.{Error, Instance, Recovery, Target}

  @handler "cryptoki-default-logger"

  @type times :: {queue_ns :: non_neg_integer, device_ns :: non_neg_integer}

  @doc """
  The names of all events, as `:telemetry.attach_many/4` takes them.

      iex> [:cryptoki, :call, :stop] in Cryptoki.Telemetry.events()
      true
  """
  @spec events() :: [[atom, ...]]
  def events, do: for({name, _, _, _} <- @events, do: [:cryptoki | name])

  @doc """
  Logs what the events say, a line each: calls with their times, sessions, logins. Changes of the
  token's state have lines of their own already, without this.

    * `level:` of what went well, `:info` when not given; what did not is a warning
    * `slower_than:` leaves out calls that went well in less time, in milliseconds

  `{:error, :already_exists}` when it is attached; `:unsupported` without `:telemetry`.

      :ok = Cryptoki.Telemetry.attach_default_logger(level: :debug, slower_than: 100)
  """
  @spec attach_default_logger(level: Logger.level(), slower_than: non_neg_integer) ::
          :ok | {:error, :already_exists | Error.t()}
  def attach_default_logger(options \\ []) do
    config = Map.merge(%{level: :info, slower_than: 0}, Map.new(options))

    for key <- Map.keys(config), key not in [:level, :slower_than] do
      raise ArgumentError, "unknown option #{inspect(key)}; known: :level, :slower_than"
    end

    if Code.ensure_loaded?(:telemetry) do
      arguments = [@handler, events(), &Cryptoki.Telemetry.LogHandler.handle/4, config]
      apply(:telemetry, :attach_many, arguments)
    else
      {:error, Error.new(:unsupported, "the application :telemetry is not there")}
    end
  end

  @doc """
  Ends what `attach_default_logger/1` began.

      :ok = Cryptoki.Telemetry.detach_default_logger()
  """
  @spec detach_default_logger() :: :ok | {:error, :not_found}
  def detach_default_logger do
    if Code.ensure_loaded?(:telemetry),
      do: apply(:telemetry, :detach, [@handler]),
      else: {:error, :not_found}
  end

  @doc """
  Emits `[:cryptoki, :status]` with the state of an instance now: what `:telemetry_poller` calls.

      {:telemetry_poller, measurements: [{Cryptoki.Telemetry, :measure, [MyApp.HSM]}], period: 10_000}

  An instance that does not run emits nothing.
  """
  @spec measure(Cryptoki.hsm()) :: :ok
  def measure(hsm) do
    with true <- on?(),
         {:ok, target} <- Target.fetch(hsm),
         {:ok, status} <- Instance.status(target) do
      %{state: state, health: health, sessions: sessions, queue: queue} = status
      metadata = %{instance: Target.called(target), state: state, health: health}
      execute([:cryptoki, :status], Map.put(sessions, :queue, queue), metadata)
    end

    :ok
  end

  # Behind the others of this library.

  @doc false
  # Whether anybody can listen.
  @spec on?() :: boolean
  def on?, do: :erlang.function_exported(:telemetry, :execute, 3)

  @doc false
  # Emits one event.
  @spec event([atom], map, map) :: :ok
  def event(name, measurements \\ %{}, metadata) do
    if on?() do
      measurements = Map.put_new_lazy(measurements, :system_time, &System.system_time/0)
      execute([:cryptoki | name], measurements, metadata)
    end

    :ok
  end

  @doc false
  # Runs a call of the queue between its start and stop events.
  @spec call(
          (() -> metadata :: map),
          (() -> {:ok | {:ok, term} | {:error, Cryptoki.Error.t()}, times})
        ) :: :ok | {:ok, term} | {:error, Cryptoki.Error.t()}
  def call(metadata, fun) do
    if on?() do
      measured(metadata.(), fun)
    else
      {result, _times} = fun.()
      result
    end
  end

  @doc false
  # Says that an instance's token came, went or was locked.
  @spec changed(term, {from :: atom, to :: atom}, Error.t() | nil, {integer, integer}) :: :ok
  def changed(instance, {from, to}, reason, sessions) do
    {level, sentence} = change(from, to, reason && Exception.message(reason), sessions)
    Logger.log(level, fn -> "cryptoki #{inspect(instance)}: #{sentence}" end)
    event([:token, to], %{instance: instance, reason: reason && reason.reason})
  end

  @doc false
  # Says that the PIN is not used.
  @spec login_not_wanted(term) :: :ok
  def login_not_wanted(instance) do
    Logger.notice(fn ->
      "cryptoki #{inspect(instance)}: the token wants no login (CKF_LOGIN_REQUIRED is not set), " <>
        "it is used without the PIN"
    end)
  end

  @doc false
  # Says what has become of an instance's health; `line` is nil where the log has said it already.
  @spec health(term, atom, Error.t() | nil, {Logger.level(), String.t()} | nil) :: :ok
  def health(instance, health, reason, line) do
    with {level, sentence} <- line do
      because = if reason, do: ": " <> Exception.message(reason), else: ""
      Logger.log(level, fn -> "cryptoki #{inspect(instance)}: #{sentence}#{because}" end)
    end

    event([:health], %{instance: instance, health: health, reason: reason && reason.reason})
  end

  @doc false
  # Says what became of a session: an event of the native side, or `:opened`.
  @spec session(term, term) :: :ok
  def session(instance, event) do
    {name, reason} =
      case event do
        {name, {:rv, _, _, _} = failure} -> {name, Recovery.error(failure).reason}
        {name, {:own, reason, _detail}} -> {name, reason}
        {name, why} -> {name, why}
        name -> {name, nil}
      end

    event([:session, name], %{instance: instance, reason: reason})
  end

  @doc false
  # Says that the library was initialised anew, or why not; that others use it is news only once.
  @spec reinitialized(term, :ok | {:error, Error.t()}, refused_before :: boolean) :: :ok
  def reinitialized(instance, answer, refused_before) do
    level = if refused_before and outcome(answer) == :busy, do: :debug, else: :warning

    Logger.log(level, fn ->
      "cryptoki #{inspect(instance)}: " <>
        case answer do
          :ok -> "the library was finalised and initialised anew, the token is looked for"
          {:error, why} -> "the library could not be initialised anew: #{Exception.message(why)}"
        end
    end)

    event([:library, :reinitialized], %{instance: instance, result: outcome(answer)})
  end

  defp change(:starting, :ready, nil, _sessions), do: {:debug, "ready"}
  defp change(_from, :ready, nil, _sessions), do: {:notice, "ready again"}

  defp change(_from, :ready, shortage, {open, wanted}),
    do: {:warning, "ready with #{open} of #{wanted} sessions: #{shortage}"}

  defp change(_from, :absent, why, _sessions),
    do: {:warning, "no token, it is looked for again and again: #{why}"}

  defp change(_from, :locked, why, _sessions),
    do: {:warning, "locked until Cryptoki.unlock/3 is called: #{why}"}

  defp measured(metadata, fun) do
    start = System.monotonic_time()
    times = %{system_time: System.system_time(), monotonic_time: start}
    execute([:cryptoki, :call, :start], times, metadata)

    try do
      fun.()
    catch
      kind, reason ->
        detail = %{kind: kind, reason: reason, stacktrace: without_data(__STACKTRACE__)}
        duration = System.monotonic_time() - start
        metadata = Map.merge(metadata, detail)
        execute([:cryptoki, :call, :exception], %{duration: duration}, metadata)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      {result, {queue, device}} ->
        measurements = %{
          duration: System.monotonic_time() - start,
          queue_time: native(queue),
          device_time: native(device)
        }

        execute(
          [:cryptoki, :call, :stop],
          measurements,
          Map.put(metadata, :result, outcome(result))
        )

        result
    end
  end

  # A stack can carry the arguments of the call that failed.
  defp without_data(stacktrace) do
    for {module, function, arity_or_arguments, location} <- stacktrace do
      arity =
        if is_list(arity_or_arguments), do: length(arity_or_arguments), else: arity_or_arguments

      {module, function, arity, location}
    end
  end

  defp native(nanoseconds), do: System.convert_time_unit(nanoseconds, :nanosecond, :native)

  defp outcome({:error, error}), do: error.reason
  defp outcome(_ok), do: :ok

  # apply/3 because the module is not a dependency of ours and need not exist.
  defp execute(name, measurements, metadata),
    do: apply(:telemetry, :execute, [name, measurements, metadata])
end
