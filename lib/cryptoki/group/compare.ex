defmodule Cryptoki.Group.Compare do
  @moduledoc false
  # What the members have, side by side: objects are the same that have class, label and id in common and are the
  # same key, whatever else their tokens say of them.

  alias Cryptoki.{Error, Groups, Keys}
  alias Cryptoki.Group.{Member, Proofs}
  alias Cryptoki.Native.Wait

  # Milliseconds from one look to the next.
  @pause 200

  @doc "Asks all members."
  @spec compare(Groups.t(), Proofs.selector(), timeout) :: map
  def compare(group, selector, timeout) do
    _ = Keys.wanted!(selector, :find)
    members = Groups.list(group)

    answers =
      members
      |> Task.async_stream(&all(&1, selector, timeout),
        timeout: :infinity,
        max_concurrency: max(length(members), 1)
      )
      |> Enum.zip_with(members, fn {:ok, answer}, member -> {member.id, answer} end)

    heard = for {id, {:ok, objects}} <- answers, do: {id, objects}
    rows = rows(heard)

    %{
      same: Enum.count(rows, &(&1.what == :same)),
      differences: Enum.reject(rows, &(&1.what == :same)),
      unreachable: for({id, {:error, error}} <- answers, into: %{}, do: {id, error})
    }
  end

  # A node that is away is known to be, and need not be waited for.
  defp all(member, selector, timeout) do
    if Member.local?(member) or member.node in Node.list(),
      do: Member.call(member, {Cryptoki.KeyIdentity, :all, [nil, selector, [timeout: timeout]]}),
      else: {:error, Error.new(:node_down, "#{member.node} is not connected")}
  end

  defp rows(heard) do
    ids = Enum.map(heard, &elem(&1, 0))

    objects =
      for {id, objects} <- heard,
          {key, identity} <- objects,
          do: {{key.class, key.label, key.id}, id, identity}

    objects
    |> Enum.group_by(&elem(&1, 0), &{elem(&1, 1), elem(&1, 2)})
    |> Enum.sort()
    |> Enum.map(fn {{class, label, id}, found} ->
      found = Enum.group_by(found, &elem(&1, 0), &elem(&1, 1))
      members = Map.new(ids, &{&1, Enum.sort(Map.get(found, &1, []))})

      %{
        class: class,
        label: label,
        id: id,
        what: what(Map.values(members)),
        members: said(members)
      }
    end)
  end

  defp what(all) do
    cond do
      Enum.any?(all, &(&1 == [])) and all_same?(Enum.reject(all, &(&1 == []))) -> :missing
      all_same?(all) -> :same
      Enum.any?(List.flatten(all), &match?({:error, _}, &1)) -> :unproven
      true -> :different
    end
  end

  # What cannot be told cannot be the same.
  defp all_same?(all) do
    match?([_], Enum.uniq(all)) and not Enum.any?(List.flatten(all), &match?({:error, _}, &1))
  end

  defp said(members) do
    # The identities themselves are of no use to people: which are alike is.
    letters = members |> Map.values() |> List.flatten() |> Enum.uniq()

    Map.new(members, fn
      {id, []} -> {id, :missing}
      {id, [one]} -> {id, letter(one, letters)}
      {id, several} -> {id, Enum.map(several, &letter(&1, letters))}
    end)
  end

  defp letter({:error, error}, _letters), do: error

  defp letter({:ok, _identity} = one, letters),
    do: {:key, Enum.find_index(letters, &(&1 == one)) + 1}

  @doc "Waits until all members have what a selector finds, and the same."
  @spec await(Groups.t(), Proofs.selector(), timeout) :: :ok | {:error, Error.t()}
  def await(group, selector, timeout), do: again(group, selector, Wait.deadline(timeout), nil)

  defp again(group, selector, deadline, last) do
    case compare(group, selector, max(Wait.remaining(deadline), 1)) do
      %{same: same, differences: [], unreachable: none} when same > 0 and none == %{} ->
        :ok

      compared ->
        # At the end there is no time for an answer, and what was said before is the reason.
        last = if last == nil or compared.unreachable == %{}, do: compared, else: last

        if Wait.remaining(deadline) == 0 do
          {:error, Error.new(:timeout, lacking(last), executed: false)}
        else
          receive after:
                    (min(@pause, Wait.remaining(deadline)) ->
                       again(group, selector, deadline, last))
        end
    end
  end

  defp lacking(%{unreachable: unreachable}) when unreachable != %{} do
    {id, error} = hd(Enum.to_list(unreachable))
    "#{inspect(id)} cannot be asked: #{Exception.message(error)}"
  end

  defp lacking(%{differences: []}), do: "no member has it"

  defp lacking(%{differences: [first | _]}) do
    words =
      Enum.map_join(first.members, ", ", fn {id, said} -> "#{inspect(id)}: #{word(said)}" end)

    "#{first.class} #{inspect(first.label)} is #{first.what}: #{words}"
  end

  defp word(:missing), do: "missing"
  defp word({:key, n}), do: "key #{n}"
  defp word(%Error{} = error), do: Exception.message(error)
  defp word(several), do: Enum.map_join(several, " and ", &word/1)
end
