defmodule Cryptoki.Group.Slots do
  @moduledoc false
  # The places of members in masks. One that is given back is given again after a while, when nobody is under way any
  # more who was told of the member that had it: masks stay as short as there are members, however often they come.

  # Milliseconds: longer than any question to a member takes.
  @rest 30_000

  @typedoc "The first that nobody ever had, and those that were given back, with when."
  @type t :: {non_neg_integer, [{non_neg_integer, integer}]}

  @spec new :: t
  def new, do: {0, []}

  @doc "So many of them."
  @spec take(t, non_neg_integer, integer) :: {[non_neg_integer], t}
  def take({next, back}, count, now) do
    {rested, resting} = Enum.split_with(back, fn {_slot, since} -> now - since > @rest end)
    {again, left} = rested |> Enum.sort() |> Enum.split(count)
    fresh = count - length(again)
    new = Enum.take(Stream.iterate(next, &(&1 + 1)), fresh)
    {Enum.map(again, &elem(&1, 0)) ++ new, {next + fresh, left ++ resting}}
  end

  @spec give_back(t, [non_neg_integer], integer) :: t
  def give_back({next, back}, slots, now), do: {next, Enum.map(slots, &{&1, now}) ++ back}
end
