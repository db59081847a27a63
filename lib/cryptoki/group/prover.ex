defmodule Cryptoki.Group.Prover do
  @moduledoc false
  # A process that asks the members which key a selector names there, all at once, and tells the process of the group
  # what comes of it: `{:proven, used, identity_or_error, outcomes}` as soon as that is decided, `{:also, used, slot,
  # outcome}` for each that answers later.
  #
  # `identity` is the function that says which key it is, of the floor above.
  #
  # Of a `%Key{}` the member that gave it says which key it is; on the others it is looked for by its names.

  alias Cryptoki.{Error, Key}
  alias Cryptoki.Group.{Member, Proofs, Vote}

  # Milliseconds: for an answer, and for those that have not answered when others have.
  @timeout 5_000
  @patience 1_000

  @type question :: %{
          used: Proofs.used(),
          asked: [Member.t()],
          count: pos_integer,
          writes: non_neg_integer | nil,
          known: Vote.known(),
          owner: Member.t() | nil,
          identity: {module, atom}
        }

  @doc "Asks, for the process that called."
  @spec start(question) :: {pid, reference}
  def start(question) do
    server = self()
    spawn_monitor(fn -> run(question, server) end)
  end

  defp run(question, server) do
    # Who asks for nobody ends, and what it has asked with it.
    me = self()

    for member <- question.asked,
        do: spawn_link(fn -> send(me, {member.slot, ask(member, question)}) end)

    collect(question, server, %{}, :infinity)
  end

  defp ask(member, %{used: {use, selector}, owner: owner} = question) do
    {module, function} = question.identity
    arguments = [nil, use, there(use, selector, member, owner), [timeout: @timeout]]
    Member.call(member, {module, function, arguments})
  rescue
    # The selector was checked where the call was made; what is raised there is no answer.
    error -> {:error, Error.new(:unsupported, Exception.message(error))}
  end

  defp there(_use, %Key{} = key, member, %{slot: slot}) when member.slot == slot, do: key

  defp there(:wanted, {:key, key}, member, %{slot: slot}) when member.slot == slot,
    do: {:key, key}

  defp there(:wanted, {:key, key}, _member, _owner), do: Proofs.wanted!(:any, names(key))
  defp there(_use, %Key{} = key, _member, _owner), do: names(key)
  defp there(_use, selector, _member, _owner), do: selector

  defp names(%Key{} = key) do
    for name <- [:class, :key_type, :label, :id], value = Map.get(key, name), do: {name, value}
  end

  defp collect(question, server, outcomes, patience) do
    case early(question, outcomes) do
      {:ok, _identity} = decided ->
        decided(question, server, decided, outcomes)

      :wait when map_size(outcomes) == length(question.asked) ->
        decided(question, server, last(question, outcomes), outcomes)

      :wait ->
        receive do
          {slot, outcome} ->
            # The first that has it: the others have a moment.
            patience = if match?({:ok, _, _}, outcome), do: @patience, else: patience
            collect(question, server, Map.put(outcomes, slot, outcome), patience)
        after
          patience -> decided(question, server, last(question, outcomes), outcomes)
        end
    end
  end

  # Which key a `%Key{}` is nobody votes on.
  defp early(%{owner: owner, known: known} = question, outcomes) when owner != nil do
    case outcomes[owner.slot] do
      {:ok, identity, _names} -> {:ok, identity}
      _unheard when known == nil -> :wait
      # One that has it is enough, and none yet is no answer.
      _unheard -> Vote.early(outcomes, question.count, known)
    end
  end

  defp early(question, outcomes), do: Vote.early(outcomes, question.count, question.known)

  defp last(%{owner: owner, known: {identity, _holders}}, _outcomes) when owner != nil,
    do: {:ok, identity}

  defp last(%{owner: owner}, outcomes) when owner != nil do
    case outcomes[owner.slot] do
      {kind, %Error{} = error} when kind in [:missing, :error] ->
        {:error, error}

      nil ->
        {:error,
         Error.new(:timeout, "the member that the key is of has not answered", executed: false)}
    end
  end

  defp last(question, outcomes) do
    case Vote.last(outcomes, question.count, question.writes, question.known) do
      {:ok, identity} -> {:ok, identity}
      why -> {:error, error(why, question, outcomes)}
    end
  end

  defp error(:tie, question, _outcomes) do
    detail = "as many members have one key under #{shown(question)} as have another"
    Error.new(:key_ambiguous, detail)
  end

  defp error(:away, question, outcomes) do
    case for({_slot, {:error, error}} <- outcomes, do: error) do
      [error | _] ->
        %{error | executed: false}

      [] ->
        detail =
          "the members that have it under #{shown(question)} are away, and others have another key"

        Error.new(:key_not_found, detail)
    end
  end

  # What cannot be asked may have it: then that is the answer.
  defp error(:none, question, outcomes) do
    unasked = question.count - length(question.asked)
    errors = for {_slot, {:error, error}} <- outcomes, do: error
    missing = for {_slot, {:missing, error}} <- outcomes, unasked == 0, do: error

    case errors ++ missing do
      [error | _] ->
        %{error | executed: false}

      [] ->
        detail = "#{unasked} members are out, and none of the others has #{shown(question)}"
        Error.new(:token_absent, detail)
    end
  end

  # A selector may hold the bytes of a key.
  defp shown(%{used: {_use, %Key{} = key}}), do: inspect(key)
  defp shown(_question), do: "that name"

  defp decided(question, server, decision, outcomes) do
    send(server, {:proven, question.used, decision, outcomes})
    rest(question, server, length(question.asked) - map_size(outcomes))
  end

  defp rest(_question, _server, 0), do: :ok

  defp rest(question, server, count) do
    receive do
      {slot, outcome} -> send(server, {:also, question.used, slot, outcome})
    end

    rest(question, server, count - 1)
  end
end
