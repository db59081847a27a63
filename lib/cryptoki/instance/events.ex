defmodule Cryptoki.Events do
  @moduledoc false
  # What is told of an instance and its calls, to the log and to `:telemetry`: the events that
  # `Cryptoki.Telemetry` lists.

  require Logger

  alias Cryptoki.{Bytes, Error, Recovery}
  alias Cryptoki.Native.Wait

  @doc "Whether anybody can listen."
  @spec on?() :: boolean
  def on?, do: :erlang.function_exported(:telemetry, :execute, 3)

  @doc "Emits one event."
  @spec event([atom], map, map) :: :ok
  def event(name, measurements \\ %{}, metadata) do
    if on?() do
      measurements = Map.put_new_lazy(measurements, :system_time, &System.system_time/0)
      emit(name, measurements, metadata)
    end

    :ok
  end

  @doc "Hands one to `:telemetry`, which is there. By apply/3: it is not a dependency of ours and need not exist."
  @spec emit([atom], map, map) :: :ok
  def emit(name, measurements, metadata),
    do: apply(:telemetry, :execute, [[:cryptoki | name], measurements, metadata])

  @doc "Runs a call of the queue between its start and stop events."
  @spec call(
          (() -> metadata :: map),
          (() -> {:ok | {:ok, term} | {:error, Error.t()}, Wait.times()})
        ) :: :ok | {:ok, term} | {:error, Error.t()}
  def call(metadata, fun) do
    if on?() do
      measured(metadata.(), fun)
    else
      {result, _times} = fun.()
      result
    end
  end

  @doc "Says that an instance's token came, went or was locked."
  @spec changed(term, {from :: atom, to :: atom}, Error.t() | nil, {integer, integer}) :: :ok
  def changed(instance, {from, to}, reason, sessions) do
    {level, sentence} = change(from, to, reason && Exception.message(reason), sessions)
    log(level, instance, sentence)
    event([:token, to], %{instance: instance, reason: reason && reason.reason})
  end

  @doc "Says that the PIN is not used."
  @spec login_not_wanted(term) :: :ok
  def login_not_wanted(instance) do
    sentence =
      "the token wants no login (CKF_LOGIN_REQUIRED is not set), it is used without the PIN"

    log(:notice, instance, sentence)
  end

  @doc "Says what has become of an instance's health; `line` is nil where the log has said it already."
  @spec health(term, atom, Error.t() | nil, {Logger.level(), String.t()} | nil) :: :ok
  def health(instance, health, reason, line) do
    with {level, sentence} <- line do
      because = if reason, do: ": " <> Exception.message(reason), else: ""
      log(level, instance, sentence <> because)
    end

    event([:health], %{instance: instance, health: health, reason: reason && reason.reason})
  end

  @doc "Says what became of a session: an event of the native side, or `:opened`."
  @spec session(term, term) :: :ok
  def session(instance, event) do
    {name, reason} =
      case event do
        {name, failure} when is_tuple(failure) -> {name, Recovery.error(failure).reason}
        {name, why} -> {name, why}
        name -> {name, nil}
      end

    event([:session, name], %{instance: instance, reason: reason})
  end

  @doc "Says that the process of the library is killed, from which nothing has returned for so many milliseconds."
  @spec killed(term, pos_integer) :: :ok
  def killed(instance, milliseconds) do
    sentence =
      "the process of the library is killed, nothing has returned from it for #{milliseconds} ms and no " <>
        "session can serve"

    log(:warning, instance, sentence)
    event([:library, :killed], %{instance: instance})
  end

  @doc "Says that the library was initialised anew, or why not; that others use it is news only once."
  @spec reinitialized(term, :ok | {:error, Error.t()}, refused_before :: boolean) :: :ok
  def reinitialized(instance, answer, refused_before) do
    level = if refused_before and outcome(answer) == :busy, do: :debug, else: :warning
    log(level, instance, came_up(answer))
    event([:library, :reinitialized], %{instance: instance, result: outcome(answer)})
  end

  defp came_up(:ok), do: "the library was initialised anew, the token is looked for"

  defp came_up({:error, %Error{reason: :library_crashed} = why}),
    do: "the library does not come up again: #{Exception.message(why)}"

  defp came_up({:error, why}),
    do: "the library could not be initialised anew: #{Exception.message(why)}"

  defp log(level, instance, sentence),
    do: Logger.log(level, fn -> "cryptoki #{inspect(instance)}: #{sentence}" end)

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
    emit([:call, :start], times, metadata)

    try do
      fun.()
    catch
      kind, reason ->
        stacktrace = Enum.map(__STACKTRACE__, &Bytes.without_arguments/1)
        detail = %{kind: kind, reason: reason, stacktrace: stacktrace}
        duration = System.monotonic_time() - start
        metadata = Map.merge(metadata, detail)
        emit([:call, :exception], %{duration: duration}, metadata)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      {result, {queue, device}} ->
        measurements = %{
          duration: System.monotonic_time() - start,
          queue_time: native(queue),
          device_time: native(device)
        }

        emit(
          [:call, :stop],
          measurements,
          Map.put(metadata, :result, outcome(result))
        )

        result
    end
  end

  defp native(nanoseconds), do: System.convert_time_unit(nanoseconds, :nanosecond, :native)

  defp outcome({:error, error}), do: error.reason
  defp outcome(_ok), do: :ok
end
