defmodule Cryptoki.Group.Proofs do
  @moduledoc false
  # Which members have the key that a selector names, the same key, as the process of the group has found out
  # (`Cryptoki.Group.Prover`), and what names it on each. Callers read that from its table; what is not there, or is
  # old, they ask for.
  #
  # On a member the key is the `%Key{}` that was proven there: an instance uses a handle for the object that it was
  # given for, and after a restart for what is the same by all that it shows. So no call ever takes another key of
  # the same name.

  alias Cryptoki.{Error, Groups, Key, Keys}
  alias Cryptoki.Group.{Member, Verbs}
  alias Cryptoki.Native.Wait

  @type selector :: term
  @type used :: {Verbs.use(), selector}

  @doc "The members of which it is so, as a mask."
  @spec members(Groups.t(), (Member.t() -> boolean)) :: non_neg_integer
  def members(group, so?) do
    for member <- Groups.list(group), so?.(member), reduce: 0 do
      mask -> Bitwise.bor(mask, Member.bit(member))
    end
  end

  @doc "The members that have all of these keys, as a mask; looked up until the deadline where nobody knows."
  @spec mask(Groups.t(), [used], Wait.deadline() | nil, now :: integer) ::
          {:ok, integer} | {:error, Error.t()}
  def mask(group, used, deadline, now \\ now())
  def mask(_group, [], _deadline, _now), do: {:ok, -1}
  def mask(group, [used], deadline, now), do: one(group, used, deadline, now)

  def mask(group, [used | more], deadline, now) do
    with {:ok, mask} <- one(group, used, deadline, now),
         {:ok, others} <- mask(group, more, deadline, now) do
      case Bitwise.band(mask, others) do
        0 -> {:error, Error.new(:key_not_found, "no member has all keys of the call")}
        both -> {:ok, both}
      end
    end
  end

  defp one(group, {use, selector} = used, deadline, now) do
    case owner(group, used) do
      {:ok, member} ->
        {:ok, Member.bit(member)}

      :gone ->
        detail =
          "the member of the group that #{inspect(selector)} belongs to is gone, and the key with it"

        {:error, Error.new(:key_not_found, detail)}

      nil ->
        case Groups.lookup(group, {:proof, use, row(selector)}) do
          [{_key, mask, until}] when mask != 0 ->
            if now > until, do: send(group.pid, {:prove_again, used})
            {:ok, mask}

          _unknown_or_nowhere ->
            prove(group, used, deadline)
        end
    end
  end

  @doc "The member that a key of a session belongs to, which no other has; nil for any other key."
  @spec owner(Groups.t(), used) :: {:ok, Member.t()} | :gone | nil
  def owner(group, {_use, %Key{handle: {_, _, _}, token: token} = key}) when token != true,
    do: owner_of(group, key) || :gone

  # What it shows is asked for by the key itself.
  def owner(group, {{:answer, :certificate}, %Key{handle: {_, _, _}} = key}),
    do: owner_of(group, key)

  def owner(group, {:wanted, {:key, key}}), do: owner(group, {:any, key})
  def owner(_group, _used), do: nil

  @doc "The member that gave a key its handle."
  @spec owner_of(Groups.t(), Key.t()) :: {:ok, Member.t()} | nil
  def owner_of(group, %Key{token_info: %{instance: pid}}) when is_pid(pid) do
    with %Member{} = member <- Enum.find(Groups.list(group), &(&1.instance == pid)),
         do: {:ok, member}
  end

  def owner_of(_group, _key), do: nil

  # A mistake in the selector is one of the call, and raises in it.
  defp prove(group, {use, selector} = used, deadline) do
    _ = wanted!(use, selector)
    # The process answers at the deadline of the group.
    GenServer.call(
      group.pid,
      {:prove, used},
      Wait.remaining(deadline || Wait.deadline(group.timeout))
    )
  catch
    :exit, {:timeout, _call} ->
      {:error,
       Error.new(:timeout, "no member has said in time whether it has the key", executed: false)}

    :exit, _gone ->
      {:error, Error.new(:shutdown, "the group is stopping")}
  end

  @doc """
  What stands for a selector in the table: of a `%Key{}` its handle, which says which object it is of which instance, and is
  found sooner than all that the key shows.
  """
  @spec row(selector) :: term
  def row(%Key{handle: {_, _, _} = handle, token_info: %{instance: pid}}) when is_pid(pid),
    do: {:handle, pid, handle}

  def row(selector), do: selector

  @doc "The selector as it is looked for; raises `ArgumentError`."
  @spec wanted!(Verbs.use(), selector) :: Keys.wanted()
  def wanted!(:wanted, wanted), do: wanted
  def wanted!({:answer, :certificate}, selector), do: Keys.wanted!(selector, :certificate)
  def wanted!({:answer, _verb}, selector), do: Keys.wanted!(selector, :any)
  def wanted!(use, selector), do: Keys.wanted!(selector, use)

  @doc "What stands for it in a call to a member; an error when that is not known any more."
  @spec names(Groups.t(), used, Member.t()) :: {:ok, term} | :error
  def names(group, used, member)

  # That it has it is known by the mask.
  def names(
        _group,
        {_use, %Key{handle: {_, _, _}, token_info: %{instance: pid}} = key},
        %Member{instance: pid}
      )
      when is_pid(pid),
      do: {:ok, key}

  def names(group, {use, selector}, member) do
    case Groups.lookup(group, {:key, use, row(selector), member.slot}) do
      [{_key, names}] -> {:ok, names}
      [] -> if(owner(group, {use, selector}) == {:ok, member}, do: {:ok, selector}, else: :error)
    end
  end

  @doc "A member has not the key that it had: it is asked for anew, until the deadline."
  @spec renew(Groups.t(), used, slot :: non_neg_integer, Wait.deadline()) :: term
  def renew(group, used, slot, deadline) do
    GenServer.call(group.pid, {:renew, used, slot}, Wait.remaining(deadline))
  catch
    # Then that is seen when it is looked for.
    :exit, _late_or_gone -> :ok
  end

  @doc "A member had it, and has not any more."
  @spec lost(Groups.t(), [used], Member.t()) :: :ok
  def lost(group, used, member) do
    for one <- used, do: send(group.pid, {:lost, one, member.slot})
    :ok
  end

  @spec now :: integer
  def now, do: System.monotonic_time(:millisecond)
end
