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
    {[:library, :killed], [:system_time], ~w[instance]a,
     "the process of a library, which has returned from nothing for `kill_after:`, is killed"},
    {[:library, :reinitialized], [:system_time], ~w[instance result]a,
     "the library was finalised and initialised anew"},
    {[:group, :call], ~w[duration failovers system_time]a, ~w[group verb member result]a,
     "a group has answered: which member did"},
    {[:group, :failover], [:system_time], ~w[group verb member reason executed]a,
     "a member could not, and another is asked"},
    {[:group, :member], [:system_time], ~w[group member state reason]a,
     "a member is `in`, `half_open` or `out`"},
    {[:group, :status], ~w[outstanding calls share failovers time]a,
     ~w[group member state reason]a, "`measure/1` was called with a group, for each member"},
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
  native units; `System.convert_time_unit/3` converts them. The others of `[:cryptoki, :status]` and
  `[:cryptoki, :group, :status]` are counts, but for `share` (of all calls of the group, from 0 to 1) and `time` (what a
  call takes there lately, in microseconds). `instance` is its name, or its pid without one. `result` is `:ok` or the reason of the
  error, `reason` an error's reason or nil, `metadata` what the caller gave with `metadata:`.

  Never a PIN, never data, never key bytes. `guides/telemetry.md` has what to chart.
  """

  require Cryptoki.HSM

  alias Cryptoki.{Error, Events, Groups, HSM, Information, Target}
  alias Cryptoki.Group.Status

  @handler "cryptoki-default-logger"

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

  An instance of another node is asked for it, and the event is emitted here, with the name that it was asked by; one
  that does not run emits nothing. Of a group it is `[:cryptoki, :group, :status]` for each member.
  """
  @spec measure(Cryptoki.hsm()) :: :ok
  def measure(hsm) do
    if Events.on?(), do: measured(hsm, HSM.group(hsm))
    :ok
  end

  defp measured(_hsm, %Groups{} = group) do
    for member <- Status.of(group).members do
      measurements = Map.take(member, [:outstanding, :calls, :share, :failovers, :time])
      reason = member.reason && member.reason.reason

      metadata = %{
        group: group.called,
        member: member.member,
        state: member.state,
        reason: reason
      }

      Events.emit([:group, :status], measurements, metadata)
    end
  end

  defp measured(hsm, nil) do
    with {:ok, status} <- HSM.at(hsm, Information.status(hsm)) do
      %{state: state, health: health, sessions: sessions, queue: queue} = status
      metadata = %{instance: called(hsm), state: state, health: health}
      Events.emit([:status], Map.put(sessions, :queue, queue), metadata)
    end
  end

  defp called(hsm) do
    case HSM.target(hsm) do
      {:ok, target} -> Target.called(target)
      {:error, _elsewhere} -> hsm
    end
  end
end
