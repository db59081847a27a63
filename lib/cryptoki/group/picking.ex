defmodule Cryptoki.Group.Picking do
  @moduledoc false
  # Which member takes a call: of two that are picked by chance the one where it waits less, which is the number of
  # calls there times what a call takes there. Round robin would give the slow one as many; always the best of all
  # would give it every call of the moment.

  alias Cryptoki.Group.Member

  @doc "One of the members of a mask, as they are now; `:none` when none takes part."
  @spec pick(tuple, integer, now :: integer) :: {:ok, Member.t()} | :none
  def pick(members, mask, now \\ Member.now()) do
    case able(members, tuple_size(members), mask, [], []) do
      {:trial, member} -> {:ok, member}
      {[], []} -> :none
      {[], half_open} -> {:ok, one(half_open)}
      {[member], _half_open} -> {:ok, member}
      {able, _half_open} -> {:ok, better(able, now)}
    end
  end

  # A member that is half open gets one call at a time before all others.
  defp able(_members, 0, _mask, able, half_open), do: {able, half_open}

  defp able(members, at, mask, able, half_open) do
    member = elem(members, at - 1)

    cond do
      not in_mask?(member, mask) ->
        able(members, at - 1, mask, able, half_open)

      Member.in?(member) ->
        able(members, at - 1, mask, [member | able], half_open)

      Member.trial?(member) ->
        {:trial, member}

      Member.state(member) == :half_open ->
        able(members, at - 1, mask, able, [member | half_open])

      true ->
        able(members, at - 1, mask, able, half_open)
    end
  end

  defp in_mask?(_member, -1), do: true
  defp in_mask?(member, mask), do: Bitwise.band(Bitwise.bsr(mask, member.slot), 1) == 1

  defp one([member]), do: member
  defp one(members), do: Enum.at(members, rem(chance(), length(members)))

  defp better([one, other], now), do: less(one, other, now)

  defp better(members, now) do
    chance = chance()
    count = length(members)
    first = rem(chance, count)
    second = rem(div(chance, count), count - 1)
    # Another than the first.
    second = if second >= first, do: second + 1, else: second
    less(Enum.at(members, first), Enum.at(members, second), now)
  end

  defp less(one, other, now) do
    {load, other_load} = {Member.load(one, now), Member.load(other, now)}

    cond do
      load < other_load -> one
      load > other_load -> other
      rem(chance(), 2) == 0 -> one
      true -> other
    end
  end

  # Cheaper than a generator, which each new process would have to seed.
  defp chance, do: :erlang.phash2({self(), :erlang.unique_integer()})
end
