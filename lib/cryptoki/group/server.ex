defmodule Cryptoki.Group.Server do
  @moduledoc false
  # The process of a group on this node: it looks at the members, takes them in one by one, and finds out which have
  # which key. Calls do not pass through it, and two nodes with a group of the same members know nothing of each
  # other: there is no leader.

  use GenServer

  require Logger

  alias Cryptoki.{Bytes, Error, Events, Groups}
  alias Cryptoki.Group.{Away, Failure, Key, Look, Member, Probe, Router, Slots}
  alias Cryptoki.Native.Wait

  # Milliseconds: how often it looks whether there is something to do, at a member that takes part, and for how long
  # those who start it wait for what the first looks say.
  @tick 250
  @every 1_000
  @first 2_000

  @spec start_link(map) :: GenServer.on_start()
  def start_link(options) do
    name = if options.name, do: [name: options.name], else: []
    GenServer.start_link(__MODULE__, options, name)
  end

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)

    group = %Groups{
      called: options.name || self(),
      pid: self(),
      table: :ets.new(__MODULE__, [:set, :public, read_concurrency: true]),
      writes: options.writes,
      failover: options.failover,
      timeout: options.timeout,
      reconnect: options.reconnect,
      identity: options.identity,
      router: Router
    }

    state = %{
      group: group,
      members: options.members,
      slots: Slots.new(),
      looks: %{},
      waits: %{},
      came: %{},
      seen: %{},
      proving: %{}
    }

    _ = :net_kernel.monitor_nodes(true)
    state = state |> membership() |> look_at_all()
    state = first_looks(state, Wait.deadline(@first))
    :ok = Groups.put(group)
    Process.send_after(self(), :tick, @tick)
    {:ok, state}
  end

  defp first_looks(%{looks: looks} = state, _deadline) when looks == %{}, do: state

  defp first_looks(state, deadline) do
    receive do
      {:looked, slot, how, result} -> state |> looked(slot, how, result) |> first_looks(deadline)
      {:DOWN, ref, :process, _pid, _reason} -> state |> ended(ref) |> first_looks(deadline)
    after
      Wait.remaining(deadline) -> state
    end
  end

  @impl true
  def terminate(_reason, %{group: group}), do: Groups.delete(group)

  ## Questions and news of callers

  @impl true
  def handle_call({:prove, used}, from, state), do: {:noreply, Key.ask(state, used, from)}

  def handle_call({:renew, used, slot}, from, state),
    do: {:noreply, Key.renew(state, used, slot, from)}

  @impl true
  def handle_info(:tick, state) do
    Process.send_after(self(), :tick, @tick)
    {:noreply, state |> membership() |> look_at_all()}
  end

  def handle_info({:looked, slot, how, result}, state),
    do: {:noreply, looked(state, slot, how, result)}

  def handle_info({:out, member, error}, state),
    do: {:noreply, still(state, member, &is_out(state, &1, error))}

  def handle_info({:in, member}, state), do: {:noreply, still(state, member, &is_in(state, &1))}
  def handle_info({:prove_again, used}, state), do: {:noreply, Key.again(state, used)}
  def handle_info({:lost, used, slot}, state), do: {:noreply, Key.lost(state, used, slot)}

  def handle_info({:proven, used, decision, outcomes}, state),
    do: {:noreply, Key.proven(state, used, decision, outcomes)}

  def handle_info({:also, used, slot, outcome}, state),
    do: {:noreply, Key.also(state, used, slot, outcome)}

  def handle_info({:nodedown, node}, state) do
    error = Error.new(:node_down, "#{node}: the connection was lost")
    members = for %{node: ^node} = member <- members(state), do: member
    {:noreply, Enum.reduce(members, state, &out(&2, &1, error))}
  end

  def handle_info({:nodeup, node}, state) do
    slots = for %{node: ^node, slot: slot} <- members(state), do: slot
    {:noreply, look_at_all(%{state | waits: Map.drop(state.waits, slots)})}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state), do: {:noreply, ended(state, ref)}
  def handle_info(_other, state), do: {:noreply, state}

  defp ended(state, ref),
    do: Key.ended(%{state | looks: Map.reject(state.looks, &(elem(&1, 1) == ref))}, ref)

  ## Members

  defp members(state), do: Groups.list(state.group)

  defp with_member(state, slot, fun) do
    case Enum.find(members(state), &(&1.slot == slot)) do
      nil -> state
      member -> fun.(member)
    end
  end

  # A caller may speak of one that is gone, and whose slot another has.
  defp still(state, spoken, fun) do
    case Enum.find(members(state), &(&1.numbers == spoken.numbers)) do
      nil ->
        :ets.delete(state.group.table, {:why, spoken.numbers})
        state

      member ->
        fun.(member)
    end
  end

  # Those of a list stay; those of `:pg` come and go.
  defp membership(%{members: wanted} = state) do
    ids = ids(wanted)
    now = members(state)

    if Enum.map(now, & &1.id) -- ids == [] and length(now) == length(ids) do
      put_members(state, now)
    else
      {stay, gone} = Enum.split_with(now, &(&1.id in ids))
      fresh = ids -- Enum.map(now, & &1.id)
      {free, slots} = Slots.take(state.slots, length(fresh), now())
      new = for {id, slot} <- Enum.zip(fresh, free), do: Member.new(slot, id)
      slots = Slots.give_back(slots, Enum.map(gone, & &1.slot), now())
      put_members(Key.forget_members(%{state | slots: slots}, gone), stay ++ new)
    end
  end

  defp ids(members) when is_list(members), do: members
  defp ids({:pg, group}), do: ids({:pg, :pg, group})
  defp ids({:pg, scope, group}), do: scope |> :pg.get_members(group) |> Enum.uniq() |> Enum.sort()

  defp put_members(state, members) do
    if members(state) != members or Groups.lookup(state.group, :members) == [],
      do: :ets.insert(state.group.table, {:members, List.to_tuple(members)})

    state
  end

  defp update(state, member) do
    others = Enum.map(members(state), &if(&1.slot == member.slot, do: member, else: &1))
    put_members(state, others)
  end

  ## Looks

  defp look_at_all(state) do
    now = now()
    Enum.reduce(members(state), state, &look_at(&2, &1, now))
  end

  defp look_at(%{looks: looks} = state, %{slot: slot}, _now) when is_map_key(looks, slot),
    do: state

  defp look_at(state, member, now) do
    {_delay, at} = Map.get(state.waits, member.slot, {0, now})

    cond do
      Member.state(member) == :out and at <= now -> look(state, member, :answers)
      Member.state(member) == :out -> state
      Map.get(state.seen, member.slot, now - @every) + @every <= now -> look(state, member, :look)
      true -> state
    end
  end

  defp look(state, member, how) do
    state = %{state | seen: Map.put(state.seen, member.slot, now())}
    %{state | looks: Map.put(state.looks, member.slot, Look.start(member, how))}
  end

  defp looked(state, slot, how, result) do
    state = %{state | looks: Map.delete(state.looks, slot)}
    with_member(state, slot, &seen(state, &1, Member.state(&1), how, result))
  end

  # Its keys may be others than before.
  defp seen(state, member, :out, :answers, {:ok, about}) do
    state = %{state | came: Map.delete(state.came, member.slot)}
    first? = Groups.why(state.group, member) == nil
    {state, member} = known(state, member, about)
    state = Key.forget_member(state, member)
    to = if first?, do: :in, else: :half_open
    if Member.change(member, :out, to), do: tell(state, member, to, nil)
    state
  end

  defp seen(state, member, :out, _how, {:error, error}) do
    unless Groups.why(state.group, member), do: tell(state, member, :out, error)
    Away.because(state.group, member, error)
    wait(state, member)
  end

  defp seen(state, _member, :out, _how, _looked), do: state

  defp seen(state, member, _in, _how, {:ok, about}) do
    {state, member} = known(state, member, about)

    case Probe.refusal(about) do
      nil -> state
      error -> out(state, member, %{error | executed: false})
    end
  end

  # A look that took too long is no member's end.
  defp seen(state, member, _in, _how, {:error, error}) do
    if Failure.of(error) == :overdue and not Member.failed?(member),
      do: state,
      else: out(state, member, error)
  end

  defp known(state, member, about) do
    Member.sessions(member, about.sessions.wanted)
    Member.limit(member, about.timeout)
    before = Groups.about(state.group, member)
    Look.settle(member, before, about)
    excess = Look.excess(member, about)
    :ets.insert(state.group.table, {{:about, member.slot}, Map.put(about, :excess, excess)})

    if member.instance == about.instance do
      {state, member}
    else
      # Another instance gives other handles.
      name = if Member.local?(member), do: member.name, else: about.name
      member = %{member | instance: about.instance, name: name}
      {state |> update(member) |> Key.forget_member(member), member}
    end
  end

  ## In and out

  defp out(state, member, error) do
    if Away.out(state.group, member, error),
      do: is_out(state, member, error),
      else: state
  end

  defp is_out(state, member, error) do
    tell(state, member, :out, error)
    wait(state, member)
  end

  defp is_in(state, member) do
    tell(state, member, :in, nil)
    %{state | came: Map.put(state.came, member.slot, now())}
  end

  # Longer each time, until it has stayed in for longer than it was left alone: one whose random numbers come and whose
  # signatures hang is in with each success, and out again.
  defp wait(%{group: %{reconnect: reconnect}} = state, %{slot: slot}) do
    {delay, _at} = Map.get(state.waits, slot, {0, 0})
    delay = if stayed?(state.came[slot], delay), do: 0, else: delay
    delay = min(max(delay * 2, reconnect.min), reconnect.max)
    came = Map.delete(state.came, slot)
    %{state | waits: Map.put(state.waits, slot, {delay, now() + delay}), came: came}
  end

  defp stayed?(nil, _delay), do: false
  defp stayed?(came, delay), do: now() - came > delay

  defp tell(%{group: group}, member, to, error) do
    level = if to == :out, do: :warning, else: :notice
    level = if to == :in and Groups.why(group, member) == nil, do: :debug, else: level

    Logger.log(level, fn ->
      because = if error, do: ": " <> Exception.message(error), else: ""
      "cryptoki group #{inspect(group.called)}: #{inspect(member.id)} is #{words(to)}#{because}"
    end)

    reason = error && error.reason

    Events.event([:group, :member], %{
      group: group.called,
      member: member.id,
      state: to,
      reason: reason
    })
  end

  defp words(:in), do: "in"
  defp words(:out), do: "out"
  defp words(:half_open), do: "tried again, one call at a time"

  defp now, do: System.monotonic_time(:millisecond)

  # What keys are asked for by may hold the bytes of one: a crash report shows how many there are.
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)

  def format_status(status) do
    Map.new(status, fn
      {:state, %{proving: proving} = state} -> {:state, %{state | proving: map_size(proving)}}
      {:message, message} -> {:message, kind(message)}
      {:reason, {reason, [_ | _] = stack}} -> {:reason, {kind(reason), without_arguments(stack)}}
      {:log, log} -> {:log, length(log)}
      other -> other
    end)
  end

  defp kind({:"$gen_call", _from, message}), do: kind(message)
  defp kind(message) when is_tuple(message) and tuple_size(message) > 0, do: elem(message, 0)
  defp kind(message), do: message

  defp without_arguments(stack), do: Enum.map(stack, &Bytes.without_arguments/1)
end
