defmodule Cryptoki.Group.Router do
  @moduledoc false
  # A verb of a group: a member that has its keys runs it, and when that one could not, another.
  #
  # What runs again was certainly not executed, or makes no difference (`Cryptoki.Group.Verbs`). An error of a device
  # counts against the member only when another member did better: what every device refuses is the call's fault.

  alias Cryptoki.{Each, Elsewhere, Error, Groups, Session}

  alias Cryptoki.Group.{
    Arguments,
    Away,
    Failure,
    Key,
    Member,
    News,
    Picking,
    Proofs,
    Reading,
    Status,
    Verbs
  }

  alias Cryptoki.Native.Wait

  @doc "Runs a verb."
  @spec run(Groups.t(), Elsewhere.verb()) :: term
  def run(%Groups{} = group, {module, function, arguments} = verb) do
    case Verbs.row(module, function, arguments) do
      {:group, _again, _keys, _mechanism} -> Status.answer(group, function)
      {:member, _again, _keys, _mechanism} -> refused(function)
      nil -> refused(function)
      row -> group |> call(verb, row) |> next()
    end
  end

  defp refused(function) do
    detail = "#{function} is for one instance: call it with a member of the group"
    {:error, Error.new(:unsupported, detail)}
  end

  @doc "A member for something that has to stay with one."
  @spec one(Groups.t()) :: {:ok, Cryptoki.hsm()} | {:error, Error.t()}
  def one(group) do
    mask = if group.writes, do: writes(group), else: -1
    members = Groups.members(group)

    with :none <- Picking.pick(members, mask),
         :none <- Picking.pick(members, -1) do
      {:error, Key.nobody(group, Tuple.to_list(members))}
    else
      {:ok, member} ->
        Member.untried(member)
        {:ok, Member.hsm(member)}
    end
  end

  ## Sessions

  @doc """
  A session of a member, and what gives it back; `verb` takes one of an instance of this node. `purpose` is what will be
  called on it, of a member that has its keys; nil when that is not known.
  """
  @spec take(Groups.t(), Elsewhere.verb(), Elsewhere.verb() | nil) ::
          {:ok, Session.t(), (() -> :ok)} | {:error, Error.t()}
  def take(group, {module, function, _arguments} = verb, purpose) do
    row = Verbs.row(module, function, [])
    # Those of which nobody has found that they have another key under a name that is used.
    alike = Bitwise.bnot(Key.others(group))
    call = %{call(group, verb, row) | run: &lease/2, prefer: alike, keys: used(purpose)}

    with {:ok, %{member: member} = session, give_back} <- next(call) do
      Member.hold(member)
      release = fn -> give_back.() && Member.release(member) end
      {:ok, %{session | member: {group, member}}, release}
    end
  end

  defp used(nil), do: []

  defp used({module, function, arguments}),
    do: Arguments.keys(arguments, Verbs.row(module, function, arguments))

  defp lease(%{name: name} = member, {module, function, [_group, given]}) do
    taken =
      if Member.local?(member),
        do: apply(module, function, [name, given]),
        else: Elsewhere.take(member.node, name, given, {module, function, [name, given]})

    with {:ok, session, give_back} <- taken, do: {:ok, %{session | member: member}, give_back}
  end

  @doc "Runs a verb on the session of a member."
  @spec on_session(Session.t(), Elsewhere.verb()) :: term
  def on_session(
        %Session{member: {group, member}} = session,
        {module, function, [_session | rest]}
      ) do
    bare = %{session | member: nil}
    row = Verbs.row(module, function, [bare | rest]) || {:any, :once, [], nil}
    used = Arguments.keys([bare | rest], row)

    with {:ok, mask} <- Proofs.mask(group, used, nil),
         true <- Bitwise.band(mask, Member.bit(member)) != 0,
         {:ok, arguments} <- named(%{group: group, row: row, keys: used}, [bare | rest], member) do
      secret = secret(List.last(rest))
      bare |> on_bare({module, function, arguments}) |> of_session(group, member, used, secret)
    else
      {:error, _error} = error ->
        error

      _not_there ->
        detail =
          "the session is of #{inspect(member.id)}, which has not the key that the group has"

        {:error, Error.new(:key_not_found, detail, member: member.id)}
    end
  end

  defp on_bare(%{there: nil}, {module, function, arguments}),
    do: apply(module, function, arguments)

  defp on_bare(bare, verb), do: Elsewhere.on_session(bare, verb)

  defp of_session({:error, %Error{} = error}, group, member, used, secret) do
    case Failure.of(error) do
      # Of the call's own PIN, which is the caller's fault.
      :pin when secret != nil -> :ok
      what when what in [:gone, :pin] -> out(group, member, error)
      what when what in [:device, :overdue] -> tried(group, member, error)
      :key when used != [] -> Proofs.lost(group, used, member)
      _other -> :ok
    end

    {:error, gone(Member.error(member, error))}
  end

  defp of_session(answer, group, member, _used, _secret) do
    served(group, member)
    answer
  end

  # One that was on trial has failed it; of another nobody can tell yet whose fault it is.
  defp tried(group, member, error),
    do: if(Member.state(member) == :half_open, do: out(group, member, error), else: :ok)

  defp secret(options), do: Verbs.option(options, :pin) || Verbs.option(options, :password)

  # What was begun on it is nowhere else.
  defp gone(%Error{detail: nil, member: member} = error) do
    if Failure.of(error) in [:gone, :device],
      do: %{error | detail: "the session was one of #{inspect(member)}, and of no other member"},
      else: error
  end

  defp gone(error), do: error

  ## A call

  defp call(
         group,
         {_module, _function, arguments} = verb,
         {where, again, _keys, _mechanism} = row
       ) do
    options = List.last(arguments)

    %{
      group: group,
      verb: Reading.watched(verb),
      row: row,
      keys: Arguments.keys(arguments, row),
      where: where,
      again: again,
      prefer: -1,
      secret: secret(options),
      began: Member.now(),
      timeout: Verbs.option(options, :timeout),
      tried: 0,
      moved: 0,
      renewed: false,
      blamed: [],
      last: nil,
      maybe: false,
      run: nil
    }
  end

  defp next(%{group: group} = call) do
    now = now(call)

    with {:ok, keys} <- Proofs.mask(group, call.keys, deadline(call), div(now, 1_000_000)),
         {:ok, where} <- where(call) do
      mask = keys |> Bitwise.band(where) |> Bitwise.band(Bitwise.bnot(call.tried))

      case pick(Groups.members(group), mask, now, call) do
        {:ok, member} -> at(call, member)
        :none -> nobody(call, Bitwise.band(keys, where))
      end
    else
      {:error, error} -> ended(call, {:error, call.last || error})
    end
  end

  # A look at the clock costs as much as one at a table.
  defp now(%{moved: 0, began: began}), do: began
  defp now(_call), do: Member.now()

  defp pick(members, mask, now, %{prefer: -1}), do: Picking.pick(members, mask, now)

  defp pick(members, mask, now, %{prefer: prefer}) do
    with :none <- Picking.pick(members, Bitwise.band(mask, prefer), now),
         do: Picking.pick(members, mask, now)
  end

  defp deadline(%{tried: 0, renewed: false, timeout: nil}), do: nil
  defp deadline(%{timeout: :infinity}), do: :infinity

  defp deadline(%{began: began, timeout: timeout, group: group}) do
    timeout = if is_integer(timeout) and timeout > 0, do: timeout, else: group.timeout
    if timeout == :infinity, do: :infinity, else: div(began, 1_000_000) + timeout
  end

  defp time_left?(call) do
    case deadline(%{call | renewed: true}) do
      :infinity -> true
      deadline -> Wait.remaining(deadline) > 0
    end
  end

  ## Where it goes

  # A PIN of the call goes to no other node.
  defp where(%{where: :any, secret: nil}), do: {:ok, -1}
  defp where(%{where: :any, group: group}), do: {:ok, here(group)}
  defp where(%{where: :home, group: %{writes: nil}}), do: {:ok, -1}

  defp where(%{where: :home, group: group, tried: tried}) do
    writes = writes(group)

    if Bitwise.band(writes, tried) == 0 and Picking.pick(Groups.members(group), writes) != :none,
      do: {:ok, writes},
      else: {:ok, -1}
  end

  defp where(%{where: {:made, at}, verb: {{_module, _function, arguments}, _read}} = call) do
    if Verbs.of_token?(Enum.at(arguments, at)),
      do: where(%{call | where: :writes}),
      else: where(%{call | where: :any})
  end

  # What is of a session is where the session is.
  defp where(%{where: :object, keys: [used | _], group: group} = call) do
    if Proofs.owner(group, used), do: {:ok, -1}, else: where(%{call | where: :writes})
  end

  defp where(%{group: %{writes: nil}, verb: {{_module, function, _arguments}, _read}}) do
    detail = "#{function} writes, and the group has no member for that: start it with writes:"
    {:error, Error.new(:unsupported, detail)}
  end

  defp where(%{group: group}), do: {:ok, writes(group)}

  defp writes(group), do: Proofs.members(group, &(&1.id == group.writes))
  defp here(group), do: Proofs.members(group, &Member.local?/1)

  ## On a member

  defp at(%{verb: {{module, function, arguments}, _read}} = call, member) do
    case named(call, arguments, member) do
      {:ok, arguments} ->
        arguments = in_time(arguments, call)
        began = Member.begin(member)

        try do
          run(call, member, {module, function, arguments})
        catch
          kind, reason ->
            Member.finish(member, nil)
            Member.untried(member)
            :erlang.raise(kind, reason, __STACKTRACE__)
        else
          answer ->
            Member.finish(member, if(call.run == nil, do: began))
            judged(answer, call, member, began)
        end

      # It was taken out between two looks at the table.
      :error ->
        Member.untried(member)
        next(%{call | tried: Bitwise.bor(call.tried, Member.bit(member))})
    end
  end

  defp run(%{run: nil}, member, verb), do: Member.call(member, verb)
  defp run(%{run: run}, member, verb), do: run.(member, verb)

  defp named(%{keys: []}, arguments, _member), do: {:ok, arguments}
  # It is on the session that they will be named.
  defp named(%{run: run}, arguments, _member) when run != nil, do: {:ok, arguments}

  defp named(%{group: group, row: row, keys: [{_use, selector} = used]}, arguments, member) do
    case Proofs.names(group, used, member) do
      # Named there as it is named here.
      {:ok, ^selector} -> {:ok, arguments}
      {:ok, name} -> {:ok, Arguments.put(arguments, row, fn _used -> name end)}
      :error -> :error
    end
  end

  defp named(%{group: group, row: row, keys: keys}, arguments, member) do
    with {:ok, names} <- Each.of(keys, &Proofs.names(group, &1, member)) do
      names = Map.new(Enum.zip(keys, names))
      {:ok, Arguments.put(arguments, row, &Map.fetch!(names, &1))}
    end
  end

  # What is left of the time that the call has; without one a member takes as long as its own says.
  defp in_time(arguments, %{timeout: timeout, moved: moved}) when timeout == nil or moved == 0,
    do: arguments

  defp in_time(arguments, call) do
    left = call |> deadline() |> Wait.remaining()
    left = if left == :infinity, do: left, else: max(left, 1)

    List.update_at(arguments, -1, fn
      %{} = options when not is_struct(options) ->
        Map.put(options, :timeout, left)

      options ->
        if Keyword.keyword?(options), do: Keyword.put(options, :timeout, left), else: options
    end)
  end

  ## What it has answered

  defp judged({:error, %Error{} = error}, call, member, began) do
    what = error |> Failure.of() |> whose(call, member, began)
    call = noted(what, error, call, member)
    error = Member.error(member, error)

    if Failure.over?(what, error, again?(call)) and not Reading.begun?(call.verb) and
         time_left?(call),
       do: call |> maybe(error) |> moved(what, error, member) |> next(),
       else: ended(call, {:error, error})
  end

  defp judged(answer, call, member, _began) do
    # That it gave a session away says nothing of its device.
    if call.run == nil, do: served(call.group, member), else: Member.untried(member)
    for {blamed, error} <- call.blamed, do: failed(call.group, blamed, error)
    News.answered(call, member, answer)
    answer
  end

  # No key of the call, or a PIN that came with it, is the caller's; so is a time shorter than the member's.
  defp whose(:key, %{keys: []}, _member, _began), do: :call
  defp whose(:pin, %{secret: secret}, _member, _began) when secret != nil, do: :call

  defp whose(:overdue, call, member, began),
    do: if(Member.impatient?(member, began, call.group.timeout), do: :full, else: :overdue)

  defp whose(what, _call, _member, _began), do: what

  # What a member before may have executed is not undone by another that has not.
  defp maybe(call, %Error{executed: false}), do: call
  defp maybe(call, _error), do: %{call | maybe: true}

  defp again?(%{verb: {{_module, _function, arguments}, _read}, again: again, group: group}),
    do: Verbs.again?(again, arguments, group.failover)

  # Of the member.
  defp noted(:call, _error, call, member) do
    served(call.group, member)
    call
  end

  defp noted(what, _error, call, member) when what in [:full, :key] do
    Member.untried(member)
    call
  end

  defp noted(what, error, call, member) when what in [:gone, :pin] do
    out(call.group, member, error)
    call
  end

  defp noted(:overdue, error, call, member) do
    failed(call.group, member, error)
    call
  end

  defp noted(:device, error, call, member), do: %{call | blamed: [{member, error} | call.blamed]}

  defp moved(call, :key, error, %{slot: slot} = member) when not call.renewed do
    # Under its name there may be another by now.
    for used <- call.keys,
        do: Proofs.renew(call.group, used, slot, deadline(%{call | renewed: true}))

    News.moved(call, member, error)
    %{call | renewed: true, last: error, moved: call.moved + 1}
  end

  defp moved(call, what, error, member) do
    if what == :key, do: Proofs.lost(call.group, call.keys, member)
    Member.left(member)
    News.moved(call, member, error)
    tried = Bitwise.bor(call.tried, Member.bit(member))
    %{call | tried: tried, moved: call.moved + 1, last: error}
  end

  defp nobody(%{last: nil, group: group} = call, mask) do
    able = for one <- Groups.list(group), Bitwise.band(mask, Member.bit(one)) != 0, do: one
    ended(call, {:error, Key.nobody(group, able)})
  end

  defp nobody(call, _mask), do: ended(call, {:error, call.last})

  # What all of several devices have said is the call's fault.
  defp ended(%{maybe: true} = call, {:error, %Error{executed: false} = error}),
    do: ended(call, {:error, %{error | executed: :maybe}})

  defp ended(call, {:error, error} = answer) do
    reasons = for {_member, error} <- call.blamed, uniq: true, do: error.reason

    for {member, error} <- call.blamed do
      if length(call.blamed) > 1 and length(reasons) == 1,
        do: Member.untried(member),
        else: failed(call.group, member, error)
    end

    News.answered(call, error.member, answer)
    answer
  end

  defp served(group, member) do
    Member.served(member)

    if not Member.in?(member) and Member.change(member, :half_open, :in),
      do: send(group.pid, {:in, member})

    :ok
  end

  defp failed(group, member, error) do
    if Member.state(member) == :half_open or Member.failed?(member), do: out(group, member, error)
  end

  defp out(group, member, error) do
    if Away.out(group, member, error), do: send(group.pid, {:out, member, error})
    :ok
  end
end
