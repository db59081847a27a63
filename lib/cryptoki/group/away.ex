defmodule Cryptoki.Group.Away do
  @moduledoc false
  # How a member is taken out, by its group or by a caller: with the reason before the state, so that whoever sees the
  # one finds the other.

  alias Cryptoki.{Error, Groups}
  alias Cryptoki.Group.Member

  @doc "Takes it out; false when it is out already."
  @spec out(Groups.t(), Member.t(), Error.t()) :: boolean
  def out(group, member, error) do
    was = Member.state(member)

    if was == :out do
      false
    else
      because(group, member, error)
      Member.change(member, was, :out)
    end
  end

  @doc "Says why it is."
  @spec because(Groups.t(), Member.t(), Error.t()) :: true
  def because(%Groups{table: table}, member, error) do
    :ets.insert(table, {{:why, member.numbers}, Member.error(member, error)})
  rescue
    # It goes with its process.
    ArgumentError -> true
  end

  @doc "Why one in a state does not take calls like the others; nil when it does."
  @spec why(Groups.t(), Member.t(), Member.state()) :: Error.t() | nil
  def why(_group, _member, :in), do: nil

  def why(group, member, _half_open_or_out) do
    with nil <- Groups.why(group, member) do
      Error.new(:token_absent, "the group has not looked at it yet", member: member.id)
    end
  end
end
