defmodule Cryptoki.Report do
  @moduledoc false
  # What a token server says of its instance, which it does in one place: to callers who ask for the status
  # or are refused, to the log, to telemetry and to subscribers. Works on the state of the token server.

  alias Cryptoki.{Events, Health, Instances, Target, Watch}
  alias Cryptoki.Native.Wait
  alias Cryptoki.TokenServer.State

  @doc "The instance is absent, locked or ready from here on."
  @spec enter(State.t(), :absent | :locked | :ready, open :: non_neg_integer) :: State.t()
  def enter(%{state: before} = state, now, open) do
    state = %{state | state: now}
    {health, why} = health(state, open)
    publish(state, {health, why})
    if now == before, do: state, else: announce(state, before, {health, why}, open)
  end

  # Who reads that it is ready is served, and who is refused reads why: it is ready before that is said, and no longer after.
  defp publish(%{state: :ready} = state, health) do
    Instances.put(state.instance, :facts, state.facts)
    {:ok, :ok} = Wait.instance_state(state.target.native, :ready)
    say(state, health)
  end

  defp publish(state, health) do
    say(state, health)
    Instances.put(state.instance, :facts, state.facts)
    {:ok, :ok} = Wait.instance_state(state.target.native, state.state)
  end

  defp say(state, {health, why}),
    do: Instances.put_state(state.instance, state.state, health, why)

  # A change of state has a line of its own in the log.
  defp announce(state, before, {health, why}, open) do
    name = Target.called(state.target)
    Events.changed(name, {before, state.state}, state.reason, {open, state.options.sessions})
    if health != elem(state.health, 0), do: Events.health(name, health, why, nil)
    Watch.notify(state.watch, {:state, state.state, state.reason})
    # It is connected anew, and whether operations succeed now has to be seen.
    if health == :failing, do: Watch.notify(state.watch, {:health, health, why})
    %{state | health: {health, why}, told: [health]}
  end

  @doc "Says what has become of its health, if anything has."
  @spec judge(State.t(), open :: non_neg_integer) :: State.t()
  def judge(%{state: :starting} = state, _open), do: state

  def judge(%{health: {before, _why} = known} = state, open) do
    case health(state, open) do
      ^known ->
        state

      {health, why} = now ->
        Instances.put_state(state.instance, state.state, health, why)
        state = %{state | health: now}
        if health == before, do: state, else: tell(state, open)
    end
  end

  defp tell(%{health: {health, why}} = state, open) do
    {line, told} = Health.line(health, state.told, {open, state.options.sessions})
    Events.health(Target.called(state.target), health, why, line)
    Watch.notify(state.watch, {:health, health, why})
    %{state | told: told}
  end

  defp health(%{state: :ready} = state, open) do
    {:ok, %{failing: failing}} = Wait.instance_info(state.target.native)

    Health.ready(
      %{
        open: open,
        wanted: state.options.sessions,
        shortage: state.supply.shortage,
        failing: if(failing > 0, do: state.failing)
      },
      fn -> Wait.inside(state.target.native) end
    )
  end

  defp health(state, _open), do: Health.away(state.state, state.reason)
end
