defmodule Cryptoki.Group.Vote do
  @moduledoc false
  # Which key a selector names in a group, of what its members have under that name. The key that has been used is
  # the key as long as a member has it, or has not said that it has it no more. Else it is the one that more than
  # half of all members have, else the one of the member for writes, else the one that most of those have that
  # answered. Two that as many have: nobody knows.

  @type identity :: term
  @typedoc "By member, with what it answered."
  @type outcomes :: %{
          non_neg_integer =>
            {:ok, identity, names :: term} | {:missing | :error, Cryptoki.Error.t()}
        }
  @typedoc "What is known from before: the key, and who had it."
  @type known :: {identity, [non_neg_integer]} | nil

  @doc "Before all have answered."
  @spec early(outcomes, count :: pos_integer, known) :: {:ok, identity} | :wait
  def early(outcomes, count, nil) do
    case outcomes |> votes() |> majority(count) do
      nil -> :wait
      identity -> {:ok, identity}
    end
  end

  def early(outcomes, _count, {identity, _holders} = known),
    do: if(outcomes |> votes() |> still(known), do: {:ok, identity}, else: :wait)

  @doc "When all have that will."
  @spec last(outcomes, count :: pos_integer, writes :: non_neg_integer | nil, known) ::
          {:ok, identity} | :away | :none | :tie
  def last(outcomes, count, writes, known) do
    votes = votes(outcomes)

    cond do
      identity = still(votes, known) -> {:ok, identity}
      away?(outcomes, known) -> :away
      votes == %{} -> :none
      identity = majority(votes, count) -> {:ok, identity}
      match?(%{^writes => {:ok, _, _}}, outcomes) -> {:ok, elem(outcomes[writes], 1)}
      true -> most(votes)
    end
  end

  defp votes(outcomes),
    do: Enum.frequencies(for {_slot, {:ok, identity, _names}} <- outcomes, do: identity)

  defp still(votes, {identity, _holders}) when is_map_key(votes, identity), do: identity
  defp still(_votes, _known), do: nil

  # Who had it has not said that it has it no more.
  defp away?(_outcomes, nil), do: false

  defp away?(outcomes, {_identity, holders}) do
    Enum.any?(holders, fn slot ->
      case outcomes do
        %{^slot => {:ok, _another, _names}} -> false
        %{^slot => {:missing, _error}} -> false
        _not_heard -> true
      end
    end)
  end

  defp majority(votes, count) do
    Enum.find_value(votes, fn {identity, votes} -> if votes * 2 > count, do: identity end)
  end

  defp most(votes) do
    case Enum.sort_by(votes, &elem(&1, 1), :desc) do
      [{_one, votes}, {_other, votes} | _rest] -> :tie
      [{identity, _votes} | _rest] -> {:ok, identity}
    end
  end
end
