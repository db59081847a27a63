defmodule Cryptoki.Health do
  @moduledoc false
  # What `:health` of `Cryptoki.status/1` says of an instance, and why.
  #
  # | health          | state               | when
  # |-----------------|---------------------|--------------------------------------------------------
  # | `:ok`           | ready               | all sessions that are wanted can serve
  # | `:degraded`     | ready               | some can
  # | `:failing`      | ready               | operations end with device errors, three or more in a row, and none succeeds
  # | `:unresponsive` | ready               | none can: what they called has not returned
  # |                 | absent              | the library has not returned from what connecting has called
  # | `:down`         | absent, locked      | all else

  alias Cryptoki.{Error, Native}
  alias Cryptoki.Native.Wait

  @type t :: :ok | :degraded | :failing | :unresponsive | :down
  @type state :: :ready | :absent | :locked

  @typedoc "What is known of one that is ready: sessions, their shortage, the last device error while it lasts."
  @type facts :: %{
          open: non_neg_integer,
          wanted: pos_integer,
          shortage: Error.t() | nil,
          failing: Error.t() | nil
        }

  # A call that takes longer than this, at most, has not returned for the purpose of a health check.
  @patience 2_500

  @doc "Of one that is ready; `inside` tells what its sessions are in the middle of."
  @spec ready(facts, (() -> Native.inside())) :: {t, Error.t() | nil}
  def ready(%{open: open, wanted: wanted} = facts, inside) do
    cond do
      open == 0 -> {:unresponsive, facts.shortage || hanging(inside.())}
      facts.failing != nil -> {:failing, facts.failing}
      open < wanted -> {:degraded, facts.shortage || hanging(inside.())}
      true -> {:ok, nil}
    end
  end

  @doc "Of one that is not, for the reason that its last attempt had."
  @spec away(:absent | :locked, Error.t() | nil) :: {t, Error.t() | nil}
  def away(:absent, %Error{reason: :timeout} = why), do: {:unresponsive, why}
  def away(_state, why), do: {:down, why}

  @doc "The same for one that is connecting: a call that does not return is the reason, before it is given up."
  @spec connecting({t, Error.t() | nil}, Native.inside(), timeout) :: {t, Error.t() | nil}
  def connecting(known, inside, timeout) do
    case oldest(inside) do
      {_function, age} = call when age >= @patience or age >= timeout / 2 ->
        {:unresponsive, Wait.not_returned(call)}

      _soon_enough ->
        known
    end
  end

  @doc "The call that has been in the library for longest."
  @spec oldest(Native.inside()) :: {function :: atom, milliseconds :: non_neg_integer} | nil
  def oldest(%{control: control, sessions: sessions}),
    do: [control, sessions] |> Enum.reject(&is_nil/1) |> Enum.max_by(&elem(&1, 1), fn -> nil end)

  defp hanging(%{sessions: nil}),
    do: Error.new(:timeout, "no session is left: calls have not returned", executed: false)

  defp hanging(%{sessions: call}), do: Wait.not_returned(call)

  @doc """
  The line of the log for what it has become, and what was told then: one for each thing that is wrong,
  however often it comes and goes before all is well, and one when it is.
  """
  @spec line(t, told :: [t], {open :: non_neg_integer, wanted :: pos_integer}) ::
          {{Logger.level(), String.t()} | nil, [t]}
  def line(:ok, told, {open, wanted}) do
    well = {:notice, "well again, #{open} of #{wanted} sessions serve"}
    {if(told not in [[], [:ok]], do: well), [:ok]}
  end

  def line(health, told, sessions) do
    if health in told, do: {nil, told}, else: {words(health, sessions), [health | told]}
  end

  defp words(:degraded, {open, wanted}), do: {:warning, "#{open} of #{wanted} sessions serve"}

  defp words(:failing, _sessions),
    do: {:warning, "operations end with device errors, and none succeeds"}

  defp words(:unresponsive, _sessions), do: {:warning, "the library does not return"}
  defp words(:down, _sessions), do: {:notice, "the library returns again, and there is no token"}
end
