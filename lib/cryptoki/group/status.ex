defmodule Cryptoki.Group.Status do
  @moduledoc false
  # What a group knows of itself, from its table and the numbers of its members: asks nobody.

  alias Cryptoki.{Groups, Key}
  alias Cryptoki.Group.{Away, Member}

  # What may be shown of a selector; other attributes may be key bytes.
  @shown [:class, :label, :id, :key_type, :unique_id, :application, :token]

  @doc "What the verbs answer that are about the group itself."
  @spec answer(Groups.t(), :status | :stop) :: :ok | {:ok, map}
  def answer(group, :status), do: {:ok, like_an_instance(group)}

  def answer(group, :stop) do
    GenServer.stop(group.pid)
  catch
    :exit, _gone -> :ok
  end

  ## As `Cryptoki.status/1` has it

  defp like_an_instance(group) do
    members = Enum.map(Groups.list(group), &{&1, Groups.about(group, &1) || %{}})
    ready = for {member, about} <- members, Member.state(member) != :out, do: about

    errors =
      for {member, _about} <- members, Member.state(member) == :out, do: Groups.why(group, member)

    sum = fn path -> ready |> Enum.map(&(get_in(&1, path) || 0)) |> Enum.sum() end

    %{
      state: if(ready == [], do: state(members), else: :ready),
      health: health(ready, errors),
      reason: Enum.find(errors, & &1) || Enum.find_value(ready, & &1[:reason]),
      token: nil,
      login: nil,
      sessions: Map.new([:wanted, :open, :busy, :overdue], &{&1, sum.([:sessions, &1])}),
      queue: sum.([:queue]),
      oldest_call: ready |> Enum.map(& &1[:oldest_call]) |> oldest(),
      epoch: 0
    }
  end

  defp state([_ | _] = members),
    do: if(Enum.all?(members, &match?({_, %{state: :locked}}, &1)), do: :locked, else: :absent)

  defp state([]), do: :absent

  defp health([], _errors), do: :down

  defp health(ready, errors),
    do: if(errors == [] and Enum.all?(ready, &(&1[:health] == :ok)), do: :ok, else: :degraded)

  defp oldest(calls),
    do: calls |> Enum.reject(&is_nil/1) |> Enum.max_by(& &1.milliseconds, fn -> nil end)

  ## As `Cryptoki.Group.status/1` has it

  @spec of(Groups.t()) :: map
  def of(group) do
    members = Groups.list(group)
    calls = members |> Enum.map(&Member.numbers(&1).calls) |> Enum.sum()
    shown = Enum.map(members, &member(group, &1, max(calls, 1)))
    able = Enum.filter(shown, &(&1.state != :out))
    keys = keys(group, members)

    %{
      group: group.called,
      writes: group.writes,
      members: shown,
      in: length(able),
      left: left(able, keys),
      keys: %{known: length(keys), not_everywhere: Enum.filter(keys, &(&1.not_on != %{}))}
    }
  end

  defp member(group, member, all) do
    about = Groups.about(group, member) || %{}
    state = Member.state(member)
    numbers = Member.numbers(member)

    Map.merge(numbers, %{
      member: member.id,
      node: member.node,
      state: state,
      reason: Away.why(group, member, state),
      share: numbers.calls / all,
      health: about[:health],
      sessions: about[:sessions],
      queue: about[:queue],
      token: about[:token]
    })
  end

  # When the one goes that most depends on: which sessions are left, and which keys nobody has then.
  defp left([], _keys), do: %{members: 0, sessions: 0, keys_lost: []}

  defp left(able, keys) do
    sessions = for %{sessions: %{open: open}} <- able, do: open
    ids = Enum.map(able, & &1.member)
    lost = for %{on: on} = key <- keys, length(for(id <- on, id in ids, do: id)) <= 1, do: key.key

    %{
      members: length(able) - 1,
      sessions: Enum.sum(sessions) - Enum.max(sessions, fn -> 0 end),
      keys_lost: lost
    }
  end

  defp keys(group, members) do
    for {{:proven, use, selector}, identity, said} <- rows(group), identity != nil do
      on = for member <- members, match?({:ok, ^identity}, said[member.slot]), do: member.id

      not_on =
        for member <- members, member.id not in on, do: {member.id, word(said[member.slot])}

      %{key: shown(selector), use: purpose(use), on: on, not_on: Map.new(not_on)}
    end
  end

  defp rows(%{table: table}) do
    :ets.match_object(table, {{:proven, :_, :_}, :_, :_})
  rescue
    ArgumentError -> []
  end

  defp word({:ok, _another}), do: :another_key
  defp word({:missing, _error}), do: :missing
  defp word({:error, error}), do: error
  defp word(nil), do: :not_asked

  defp purpose({:answer, verb}), do: verb
  defp purpose(use), do: use

  defp shown(%Key{} = key), do: key
  defp shown(text) when is_binary(text), do: text

  defp shown({:key, key}), do: key
  defp shown({:search, _templates, _place, shown}), do: shown

  defp shown(attributes)
       when is_list(attributes) or (is_map(attributes) and not is_struct(attributes)) do
    for pair <- attributes, match?({_name, _value}, pair) do
      {name, value} = pair
      {name, if(name in @shown, do: value, else: :...)}
    end
  end

  defp shown(%Cryptoki.URI{} = uri), do: to_string(uri)
  defp shown(_chardata), do: :...
end
