defmodule Cryptoki.Group.Look do
  @moduledoc false
  # Looks at a member, each in a process of its own: a node may take its time to say nothing.

  alias Cryptoki.Error
  alias Cryptoki.Group.Member

  # Milliseconds.
  @timeout 2_000

  @doc "Begins one; `{:looked, slot, how, result}` comes to the process that called."
  @spec start(Member.t(), :look | :answers) :: reference
  def start(member, how) do
    server = self()

    {_pid, ref} =
      spawn_monitor(fn -> send(server, {:looked, member.slot, how, result(member, how)}) end)

    ref
  end

  defp result(member, how) do
    Member.call(member, {Cryptoki.Group.Probe, how, [nil, [timeout: @timeout]]})
  rescue
    error -> {:error, Error.new(:unsupported, Exception.message(error))}
  end

  @doc "The calls that are counted as being with a member and are not: their callers were killed, say."
  @spec excess(Member.t(), map) :: non_neg_integer
  def excess(member, about),
    do: max(Member.outstanding(member) - about.queue - about.sessions.busy, 0)

  @doc "Puts right what two looks have found to be too much."
  @spec settle(Member.t(), before :: map | nil, map) :: :ok
  def settle(member, %{excess: before}, about) do
    Member.balance(member)

    case excess(member, about) do
      now when now > 0 and before > 0 -> Member.settle(member, min(now, before))
      _well -> :ok
    end
  end

  def settle(_member, _first, _about), do: :ok
end
