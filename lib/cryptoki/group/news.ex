defmodule Cryptoki.Group.News do
  @moduledoc false
  # What telemetry hears of the calls of a group.

  alias Cryptoki.{Error, Events}
  alias Cryptoki.Group.Member

  @doc "A member has not answered a call, and another is asked."
  @spec moved(map, Member.t(), Error.t()) :: :ok
  def moved(call, member, error) do
    if Events.on?() do
      {{_module, function, _arguments}, _read} = call.verb
      metadata = %{group: call.group.called, verb: function, member: member.id}

      Events.event(
        [:group, :failover],
        Map.merge(metadata, Map.take(error, [:reason, :executed]))
      )
    end

    :ok
  end

  @doc "A call is over; `member` is who answered."
  @spec answered(map, term, term) :: :ok
  def answered(call, member, answer) do
    if Events.on?() do
      {{_module, function, _arguments}, _read} = call.verb
      member = if is_struct(member, Member), do: member.id, else: member
      duration = System.convert_time_unit(Member.now() - call.began, :nanosecond, :native)

      metadata = %{
        group: call.group.called,
        verb: function,
        member: member,
        result: result(answer)
      }

      Events.event([:group, :call], %{duration: duration, failovers: call.moved}, metadata)
    end

    :ok
  end

  defp result({:error, error}), do: error.reason
  defp result(_answer), do: :ok
end
