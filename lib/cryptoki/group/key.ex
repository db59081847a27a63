defmodule Cryptoki.Group.Key do
  @moduledoc false
  # What the process of a group knows of its keys, and asks: one question for a key at a time, for whoever waits.
  # Works on the state of `Cryptoki.Group.Server` and writes the rows of `Cryptoki.Groups`.

  alias Cryptoki.{Error, Groups}
  alias Cryptoki.Group.{Away, Member, Proofs, Prover}

  # Milliseconds that a proof is good for: where a member has not the key that the others have, it may get it soon.
  @whole 30_000
  @part 2_000
  # And for which callers do not ask again for what is being asked.
  @asking 6_000
  # Rows. A selector for each customer must not fill the memory.
  @limit 50_000

  @doc "Somebody waits for the members that have a key."
  @spec ask(map, Proofs.used(), GenServer.from()) :: map
  def ask(state, used, from) do
    case state.proving do
      %{^used => %{waiting: waiting} = question} ->
        put_in(state.proving[used], %{question | waiting: [from | waiting]})

      _none ->
        question(state, used, [from])
    end
  end

  @doc "A key is looked for again, for nobody."
  @spec again(map, Proofs.used()) :: map
  def again(%{group: group} = state, used) do
    # Until it is answered nobody else needs to ask.
    :ets.update_element(group.table, proof(used), {3, Proofs.now() + @asking})
    if is_map_key(state.proving, used), do: state, else: question(state, used, [])
  end

  defp question(%{group: group} = state, {use, selector} = used, waiting) do
    members = Groups.list(group)
    writes = Enum.find(members, &(&1.id == group.writes))

    case Enum.reject(members, &(Member.state(&1) == :out)) do
      [] ->
        reply(waiting, {:error, nobody(group, members)})
        state

      asked ->
        {_pid, ref} =
          Prover.start(%{
            used: used,
            asked: asked,
            count: length(members),
            writes: writes && writes.slot,
            known: known(group, use, selector),
            owner: owner(group, selector),
            identity: group.identity
          })

        put_in(state.proving[used], %{ref: ref, waiting: waiting})
    end
  end

  defp owner(group, {:key, key}), do: owner(group, key)

  defp owner(group, %Cryptoki.Key{} = key) do
    with {:ok, member} <- Proofs.owner_of(group, key), do: member
  end

  defp owner(_group, _selector), do: nil

  @doc "Why no member takes a call."
  @spec nobody(Groups.t(), [Member.t()]) :: Error.t()
  def nobody(_group, []),
    do: Error.new(:shutdown, "the group has no member for it")

  def nobody(group, members) do
    errors = for member <- members, do: Away.why(group, member, Member.state(member))

    case Enum.reject(errors, &is_nil/1) do
      [] ->
        Error.new(:token_absent, "its members were taken out a moment ago")

      [error | _others] = errors ->
        detail = Enum.map_join(errors, "; ", &"#{inspect(&1.member)}: #{Exception.message(&1)}")

        Error.new(reason(error), "no member takes part: #{detail}",
          executed: false,
          member: error.member
        )
    end
  end

  # A code that a token answered is not what it answers now.
  defp reason(%Error{code: nil, reason: reason}), do: reason
  defp reason(_error), do: :token_absent

  defp known(group, use, selector) do
    case Groups.lookup(group, {:proven, use, selector}) do
      [{_key, identity, outcomes}] when identity != nil ->
        {identity, for({slot, {:ok, ^identity}} <- outcomes, do: slot)}

      _unknown ->
        nil
    end
  end

  ## Answers

  @doc "What the question has come to."
  @spec proven(map, Proofs.used(), {:ok, term} | {:error, Error.t()}, map) :: map
  def proven(%{group: group} = state, {use, selector} = used, decision, outcomes) do
    make_room(group, @limit)

    {identity, proven} =
      case decision do
        {:ok, identity} -> {identity, found(group, used, identity, outcomes)}
        {:error, _error} -> {kept(group, used), 0}
      end

    mask = Bitwise.bor(proven, unrefuted(group, used, identity, outcomes))

    others(group, identity, outcomes)
    said = heard(said_before(group, used), Map.new(outcomes, &said/1), identity)

    # Of names that are none there may be any number.
    if identity != nil do
      :ets.insert(group.table, {{:proven, use, selector}, identity, said})
      :ets.insert(group.table, {proof(used), mask, until(group, proven)})
    end

    {question, proving} = Map.pop(state.proving, used)
    if question, do: reply(question.waiting, answer(mask, decision))
    %{state | proving: proving}
  end

  defp found(group, {use, selector}, identity, outcomes) do
    for {slot, {:ok, ^identity, names}} <- outcomes, reduce: 0 do
      mask ->
        :ets.insert(group.table, {{:key, use, Proofs.row(selector), slot}, names})
        Bitwise.bor(mask, Bitwise.bsl(1, slot))
    end
  end

  # Those that had it and have not said otherwise: one that is full, or has not answered yet, has its key still.
  defp unrefuted(group, {use, selector} = used, identity, outcomes) do
    with [{_key, ^identity, _said}] <- Groups.lookup(group, {:proven, use, selector}),
         [{_proof, mask, _until}] <- Groups.lookup(group, proof(used)) do
      for {slot, outcome} <- outcomes, refutes?(outcome, identity), reduce: mask do
        mask -> without(mask, slot)
      end
    else
      _another_or_unknown -> 0
    end
  end

  defp refutes?({:ok, other, _names}, identity), do: other != identity
  defp refutes?({:missing, _error}, _identity), do: true
  defp refutes?({:error, _error}, _identity), do: false

  defp answer(0, {:ok, _identity}), do: {:error, none()}
  defp answer(0, {:error, _error} = error), do: error
  defp answer(mask, _decision), do: {:ok, mask}

  # Members that have another key under a name that is used: sessions go to the rest.
  defp others(_group, nil, _outcomes), do: :ok

  defp others(group, identity, outcomes) do
    for {slot, {:ok, other, _names}} when other != identity <- outcomes do
      mask = Bitwise.bor(others(group), Bitwise.bsl(1, slot))
      :ets.insert(group.table, {:others, mask})
    end

    :ok
  end

  @doc "The members that have another key under a name that is used, as a mask."
  @spec others(Groups.t()) :: non_neg_integer
  def others(group), do: Groups.value(group, :others, 0)

  defp none do
    detail = "the members that had the key are away, or have another one of its name"
    Error.new(:key_not_found, detail)
  end

  defp until(group, mask) do
    # Those that are out are asked when they come back, and not before.
    all = Proofs.members(group, &(Member.state(&1) != :out))
    Proofs.now() + if(Bitwise.band(all, mask) == all, do: @whole, else: @part)
  end

  # Which key it was is not forgotten because nobody can be asked.
  defp kept(group, {use, selector}),
    do: with({identity, _} <- known(group, use, selector), do: identity)

  defp said_before(group, {use, selector}) do
    case Groups.lookup(group, {:proven, use, selector}) do
      [{_key, _identity, outcomes}] -> outcomes
      [] -> %{}
    end
  end

  defp said({slot, {:ok, identity, _names}}), do: {slot, {:ok, identity}}
  defp said({slot, {kind, error}}), do: {slot, {kind, error}}

  # One that could not say has what it had: it is no news that it was full.
  defp heard(before, now, identity) do
    Map.merge(before, now, fn
      _slot, {:ok, ^identity} = has, {:error, _error} -> has
      _slot, _before, now -> now
    end)
  end

  @doc "A member has answered that the others have not waited for."
  @spec also(map, Proofs.used(), non_neg_integer, term) :: map
  def also(%{group: group} = state, {use, selector} = used, slot, outcome) do
    with [{key, identity, said}] <- Groups.lookup(group, {:proven, use, selector}) do
      others(group, identity, %{slot => outcome})

      said = heard(said, Map.new([said({slot, outcome})]), identity)
      :ets.insert(group.table, {key, identity, said})

      with [{proof, mask, until}] <- Groups.lookup(group, proof(used)) do
        case outcome do
          {:ok, ^identity, names} ->
            mask = Bitwise.bor(mask, Bitwise.bsl(1, slot))
            :ets.insert(group.table, {{:key, use, Proofs.row(selector), slot}, names})
            :ets.insert(group.table, {proof, mask, until(group, mask)})

          outcome ->
            if refutes?(outcome, identity),
              do: :ets.insert(group.table, {proof, without(mask, slot), until})
        end
      end
    end

    state
  end

  @doc "A member has not the key any more that it had."
  @spec lost(map, Proofs.used(), non_neg_integer) :: map
  def lost(%{group: group} = state, used, slot) do
    doubt(group, Groups.lookup(group, proof(used)), slot)
    again(state, used)
  end

  @doc "The same, for somebody who waits for where it is now."
  @spec renew(map, Proofs.used(), non_neg_integer, GenServer.from()) :: map
  def renew(%{group: group} = state, used, slot, from) do
    doubt(group, Groups.lookup(group, proof(used)), slot)
    ask(state, used, from)
  end

  @doc "A process that has asked has ended: what it has not answered stays unanswered."
  @spec ended(map, reference) :: map
  def ended(state, ref) do
    case Enum.find(state.proving, fn {_used, question} -> question.ref == ref end) do
      nil ->
        state

      {used, question} ->
        reply(question.waiting, {:error, Error.new(:key_not_found, "no member could be asked")})
        %{state | proving: Map.delete(state.proving, used)}
    end
  end

  ## Members

  @doc "What is known of the keys of a member holds no more."
  @spec forget_member(map, Member.t()) :: map
  def forget_member(%{group: group} = state, %{slot: slot}) do
    :ets.insert(group.table, {:others, without(others(group), slot)})
    doubt(group, :ets.match_object(group.table, {{:proof, :_, :_}, :_, :_}), slot)
    state
  end

  @doc "The same of members that are none any more, of which nothing is left."
  @spec forget_members(map, [Member.t()]) :: map
  def forget_members(%{group: group} = state, members) do
    slots = Enum.map(members, & &1.slot)
    for member <- members, do: forget_member(state, member)

    for {key, identity, said} <- :ets.match_object(group.table, {{:proven, :_, :_}, :_, :_}),
        do: :ets.insert(group.table, {key, identity, Map.drop(said, slots)})

    for %{slot: slot, numbers: numbers} <- members do
      for row <- [{:why, numbers}, {:about, slot}], do: :ets.delete(group.table, row)
      :ets.match_delete(group.table, {{:key, :_, :_, slot}, :_})
    end

    Enum.reduce([:waits, :seen, :came, :looks], state, fn what, state ->
      Map.update!(state, what, &Map.drop(&1, slots))
    end)
  end

  # Whoever needs it next has it looked at.
  defp doubt(group, rows, slot) do
    for {key, mask, _until} <- rows,
        do: :ets.insert(group.table, {key, without(mask, slot), Proofs.now() - 1})
  end

  defp without(mask, slot), do: Bitwise.band(mask, Bitwise.bnot(Bitwise.bsl(1, slot)))

  defp proof({use, selector}), do: {:proof, use, Proofs.row(selector)}

  # Which key a name stood for goes with it, and is voted on again: a tenth, of those that nobody has used for longest.
  @doc false
  @spec make_room(Groups.t(), pos_integer) :: :ok
  def make_room(%{table: table} = group, limit) do
    if :ets.info(table, :size) > limit do
      proven = :ets.match(table, {{:proven, :"$1", :"$2"}, :_, :_})
      oldest = proven |> Enum.map(&{until_of(group, &1), &1}) |> Enum.sort()

      for {_until, [use, selector]} <- Enum.take(oldest, max(div(length(proven), 10), 1)) do
        row = Proofs.row(selector)
        for key <- [{:proof, use, row}, {:proven, use, selector}], do: :ets.delete(table, key)

        for %{slot: slot} <- Groups.list(group),
            do: :ets.delete(table, {:key, use, row, slot})
      end
    end

    :ok
  end

  defp until_of(group, [use, selector]) do
    case Groups.lookup(group, proof({use, selector})) do
      [{_proof, _mask, until}] -> until
      [] -> 0
    end
  end

  defp reply(waiting, answer), do: Enum.each(waiting, &GenServer.reply(&1, answer))
end
