defmodule Cryptoki.TokenServer do
  @moduledoc false
  # Keeps one token usable. Its state is what the token is:
  #
  #     absent ──connected──> ready ──token gone, session count zero──> absent
  #        └──────PIN refused──┴──> locked ──unlock──> ready
  #
  # It never waits for the library. One job at a time (connect, log in again, open sessions) runs in
  # a `Cryptoki.Connector`; `next_job/1` decides which from what is wanted, after every event. A
  # look at the slots every now and then (`watch:`) runs beside it while the token is absent or somebody
  # subscribed. A PIN the token refused stops everything until `Cryptoki.unlock/3`.

  use GenServer, restart: :permanent, shutdown: 5_000

  import Cryptoki.TokenServer.State, only: [open: 1, token: 1]

  alias Cryptoki.{Reconnect, Cache, Connector, Error, Events, Instances, Job, Login, Pin}
  alias Cryptoki.{Recovery, Report, Sessions, SessionServer, Supply, Target, Unlocks, Watch}
  alias Cryptoki.Native.Wait
  alias Cryptoki.TokenServer.State

  ## Calls

  @spec start_link(pid) :: GenServer.on_start()
  def start_link(instance), do: GenServer.start_link(__MODULE__, instance)

  @doc "Returns when the first attempt to reach the token is over, or the time is."
  @spec await_first_attempt(pid, Wait.deadline()) :: :ok
  def await_first_attempt(instance, deadline) do
    _ = Instances.ask(instance, :await_first_attempt, deadline)
    :ok
  end

  @doc "Logs in again after the library has forgotten the login."
  @spec login(Target.t()) :: :ok | {:error, Error.t()}
  def login(%Target{} = target), do: Instances.ask(target.instance, :login, target.deadline)

  @doc "Logs in with another PIN, which does not go through the mailbox."
  @spec unlock(Target.t(), Pin.t(), force :: boolean) :: :ok | {:error, Error.t()}
  def unlock(%Target{} = target, pin, force) do
    case Instances.ask(target.instance, :locked?, target.deadline) do
      :locked ->
        row = {:unlock, make_ref()}
        Instances.put(target.instance, row, pin)
        Instances.ask(target.instance, {:unlock, row, force}, target.deadline)

      :ok when force ->
        Login.forgive(target, pin)

      answer ->
        answer
    end
  end

  ## Start and end

  @impl true
  def init(instance) do
    Process.flag(:trap_exit, true)

    case Instances.lookup(instance) do
      {:ok, target} ->
        # Before the start is over: whoever asks at once after it waits for the first attempt.
        Instances.introduce(instance)
        {:ok, State.new(target, Instances.get(instance, :options)), {:continue, :start}}

      # The instance is being stopped.
      :error ->
        :ignore
    end
  end

  @impl true
  def handle_continue(:start, state) do
    {:ok, :ok} = Wait.instance_state(state.target.native, :absent)
    new_epoch(state)
    proceed(state)
  end

  @impl true
  def terminate(_reason, state), do: Wait.instance_state(state.target.native, :shutdown)

  ## What callers ask

  @impl true
  def handle_call(:await_first_attempt, _from, %{state: now} = state) when now != :starting,
    do: {:reply, :ok, state}

  def handle_call(:await_first_attempt, from, state),
    do: {:noreply, %{state | first_waiters: [from | state.first_waiters]}}

  def handle_call(:login, from, %{state: :ready} = state),
    do: proceed(%{state | login_waiters: [from | state.login_waiters]})

  def handle_call(:login, _from, state), do: {:reply, {:error, refusal(state)}, state}

  def handle_call(:locked?, _from, %{state: :ready, facts: %{logged_in: true}} = state),
    do: {:reply, :ok, state}

  def handle_call(:locked?, _from, state), do: {:reply, :locked, state}

  def handle_call({:unlock, pin, force}, from, state),
    do: proceed(%{state | unlocks: Unlocks.add(state.unlocks, from, pin, force)})

  def handle_call({:subscribe, pid, ref, deadline}, _from, state) do
    if Wait.remaining(deadline) == 0,
      do: {:noreply, state},
      else: proceed(%{state | watch: Watch.subscribe(state.watch, pid, ref)}, :ok)
  end

  def handle_call({:unsubscribe, ref}, _from, state),
    do: proceed(%{state | watch: Watch.unsubscribe(state.watch, ref)}, :ok)

  ## What sessions and callers tell

  @impl true
  def handle_cast({:unsubscribe, ref}, state),
    do: proceed(%{state | watch: Watch.unsubscribe(state.watch, ref)})

  # These are of all sessions, whichever has told of it.
  def handle_cast({:session, _pid, {:failing, failure}}, state),
    do: proceed(%{state | failing: Wait.error(failure)})

  def handle_cast({:session, _pid, :working}, state), do: proceed(state)

  # A session is used before the job that opens it, and perhaps others, has told of it.
  def handle_cast({:session, pid, event}, %{job: %{} = job} = state)
      when not is_map_key(state.sessions, pid),
      do: {:noreply, %{state | job: %{job | early: [{pid, event} | job.early]}}}

  def handle_cast({:session, pid, event}, state), do: told({pid, event}, state) |> proceed()

  defp told({pid, event}, state) when is_map_key(state.sessions, pid) do
    tell_session(state, event)
    session(event, pid, state)
  end

  defp told(_of_one_let_go, state), do: state

  # Something closed our session, perhaps a reboot: then the login is gone as well.
  defp session({:reopened, {:rv, _, _, lost}}, _pid, %{facts: facts} = state)
       when lost in [:session, :session_closed],
       do: %{state | login_due: facts != nil and facts.logged_in}

  defp session({:reopened, {:rv, _, _, :device} = failure}, _pid, %{state: :ready} = state) do
    {:ok, %{worked: worked}} = Wait.instance_info(state.target.native)

    case Reconnect.reopened(state.reconnect, failure, worked) do
      {:stuck, reconnect} -> lose(%{state | reconnect: reconnect}, Wait.error(failure))
      {:usual, reconnect} -> %{state | reconnect: reconnect}
    end
  end

  defp session({:reopened, _failure}, _pid, state), do: state

  defp session(:overdue, pid, state),
    do: %{state | sessions: Map.put(state.sessions, pid, :overdue), open_due: true}

  defp session({:lost, failure}, pid, state) do
    state = %{state | sessions: Map.delete(state.sessions, pid), open_due: true}
    error = Wait.error(failure)

    if Recovery.lost(failure) == :absent and state.state == :ready,
      do: lose(state, error),
      else: state
  end

  # One that is gone makes room, if the token had none.
  defp session({:ended, _why}, pid, state) do
    sessions = Map.delete(state.sessions, pid)
    %{state | sessions: sessions, supply: Supply.again(state.supply), open_due: true}
  end

  ## Messages: jobs, looks at the slots, timers, the ends of processes

  @impl true
  def handle_info({:connector, pid, result}, %{job: %{pid: pid} = job} = state) do
    Process.cancel_timer(job.timer)
    {answer, state} = finish(job, result, %{state | job: nil})
    state = List.foldr(job.early, state, &told/2)
    Enum.each(job.serves, &GenServer.reply(&1, answer))
    Enum.each(state.first_waiters, &GenServer.reply(&1, :ok))
    proceed(%{state | first_waiters: []})
  end

  def handle_info({:connector, pid, result}, %{looker: pid} = state) do
    case result do
      {:ok, look} -> %{state | looker: nil} |> looked(look) |> proceed()
      {:error, _error} -> {:noreply, %{state | looker: nil}}
    end
  end

  def handle_info(:look, state), do: look(%{state | look_timer: nil}) |> proceed()
  def handle_info(:kill, state), do: %{state | kill_timer: nil} |> kill() |> proceed()
  def handle_info(:connect, state), do: proceed(%{state | connect_due: true})

  def handle_info(:open, state),
    do: proceed(%{state | open_due: true, supply: Supply.reminded(state.supply)})

  def handle_info({:job_limit, pid}, %{job: %{pid: pid}} = state) do
    Process.exit(pid, :kill)
    {:noreply, state}
  end

  # A job that ended without a result: killed, by its time limit or by somebody.
  def handle_info({:EXIT, pid, _reason}, %{job: %{pid: pid}} = state) do
    error = Error.new(:timeout, "connecting to the token took too long and was given up")
    close_sessions(stray_sessions(state))
    handle_info({:connector, pid, {:error, error}}, state)
  end

  def handle_info({:EXIT, pid, _reason}, %{looker: pid} = state),
    do: {:noreply, %{state | looker: nil}}

  def handle_info({:DOWN, ref, :process, pid, _reason}, state) do
    state = %{state | watch: Watch.ended(state.watch, ref)}

    case Map.pop(state.sessions, pid) do
      {nil, _sessions} -> proceed(state)
      {_, sessions} -> proceed(%{state | sessions: sessions, open_due: true})
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  ## Jobs: what is wanted decides which one is next

  defp proceed(state), do: {:noreply, settle(state)}
  defp proceed(state, reply), do: {:reply, reply, settle(state)}

  defp settle(state), do: state |> next_job() |> next_look() |> remind() |> judge() |> hanging()

  defp next_job(%{job: nil} = state) do
    missing = missing(state)

    cond do
      state.unlocks.waiting != [] and state.state != :starting ->
        {unlock, unlocks} = Unlocks.next(state.unlocks)
        kind = if state.state == :ready, do: :login, else: :connect
        start_job(%{state | unlocks: unlocks, connect_due: false}, kind, [], unlock)

      state.state == :ready and (state.login_due or state.login_waiters != []) ->
        waiters = state.login_waiters
        start_job(%{state | login_due: false, login_waiters: []}, :login, waiters)

      state.state == :ready and state.open_due and missing > 0 ->
        start_job(%{state | open_due: false}, {:open, missing}, [])

      state.state in [:starting, :absent] and state.connect_due ->
        kind = if Reconnect.reinitialize?(state.reconnect), do: :reinitialize, else: :connect
        unlock = if kind == :connect, do: state.unlocks.later
        start_job(%{state | connect_due: false}, kind, [], unlock)

      true ->
        state
    end
  end

  defp next_job(state), do: state

  defp start_job(state, kind, waiters, unlock \\ nil),
    do: %{state | job: Job.start(state, kind, waiters, unlock)}

  # How many sessions to open now, as far as the token is known to allow.
  defp missing(state) do
    open = open(state)
    max(min(state.supply.limit, Connector.room(Job.context(state))) - open, 0)
  end

  ## What a job has brought

  defp finish(%{unlock: nil, kind: kind}, result, state), do: done(kind, result, state)

  # Whatever becomes of a PIN that was given by hand, the instance's own is as good as before.
  defp finish(%{unlock: unlock, kind: kind}, result, state) do
    outcome = Unlocks.outcome(result)

    {answer, state} =
      if outcome == :own,
        do: {{:error, elem(result, 1)}, go_on(state, result)},
        else: done(kind, result, state)

    unlocks = Unlocks.settle(state.unlocks, {state.instance, state.state}, unlock, outcome)
    {answer, %{state | unlocks: unlocks}}
  end

  defp go_on(%{state: :locked} = state, {:locked, error}), do: lock(state, error)
  defp go_on(%{state: :absent} = state, _result), do: %{state | connect_due: true}
  defp go_on(state, _result), do: state

  defp done(:connect, {:ok, _facts, {[], shortage}}, state),
    do: {{:error, shortage}, lose(state, shortage)}

  defp done(:connect, {:ok, facts, {servers, shortage}}, state) do
    reconnect = Reconnect.connected(state.reconnect)
    supply = Supply.asked(Supply.again(state.supply), length(servers), shortage)
    state = %{state | facts: facts, supply: supply, reconnect: reconnect, looker: nil}
    state = %{state | watch: Watch.inserted(state.watch, token(state))}
    {:ok, state |> adopt(servers) |> enter(:ready, shortage)}
  end

  defp done(:reinitialize, result, state) do
    reconnect = Reconnect.reinitialized(state.reconnect, result)
    Events.reinitialized(Target.called(state.target), result, state.reconnect.refused)

    case result do
      {:error, %Error{reason: reason} = error} when reason != :busy ->
        {{:error, error}, lose(%{state | reconnect: reconnect}, error)}

      _done_or_refused ->
        {:ok, %{state | reconnect: reconnect, connect_due: true}}
    end
  end

  # The token went while the job was running.
  defp done({:open, _count}, result, %{facts: nil} = state) do
    with {servers, _shortage} when is_list(servers) <- result, do: close_sessions(servers)
    {:ok, state}
  end

  defp done(:login, _result, %{facts: nil} = state), do: {{:error, refusal(state)}, state}

  defp done(:login, {:ok, login}, state) when login in [:accepted, :shared] do
    state = %{state | facts: %{state.facts | logged_in: true, login: login}}
    Instances.put(state.instance, :facts, state.facts)
    {:ok, state}
  end

  defp done(:login, {:ok, _none}, state),
    do: {{:error, Error.new(:user_not_logged_in, "the instance has no PIN (option pin:)")}, state}

  defp done({:open, _count}, {servers, shortage}, state) when is_list(servers) do
    state = adopt(state, servers)

    gone = shortage != nil and shortage.reason in [:token_absent, :library_crashed]

    if gone or (shortage != nil and state.sessions == %{}),
      do: {:ok, lose(state, shortage)},
      else: {:ok, %{state | supply: Supply.asked(state.supply, open(state), shortage)}}
  end

  # The library is slow, or busy with somebody else's login: what needs none goes on.
  defp done(:login, {:error, %Error{reason: reason} = error}, state)
       when reason in [:timeout, :busy],
       do: {{:error, error}, state}

  defp done(:connect, {:others, others, error}, state),
    do: {{:error, error}, lose(state, error, others)}

  defp done(_kind, {:locked, error}, state), do: {{:error, error}, lock(state, error)}
  defp done(_kind, {:error, error}, state), do: {{:error, error}, lose(state, error)}

  defp adopt(state, servers) do
    Enum.each(servers, &Process.monitor/1)
    for _server <- servers, do: tell_session(state, :opened)
    %{state | sessions: Map.merge(state.sessions, Map.new(servers, &{&1, :open}))}
  end

  ## Changes of state

  defp lose(state, error, others \\ []) do
    state = %{state | watch: Watch.removed(state.watch, token(state), error)}
    state = state |> crashed(error) |> let_go(:absent, error) |> enter(:absent, error)
    if state.connect_timer, do: Process.cancel_timer(state.connect_timer)
    reconnect = Reconnect.failed(state.reconnect, error, others)
    delay = Reconnect.delay(reconnect, state.options.reconnect)
    %{state | connect_timer: Process.send_after(self(), :connect, delay), reconnect: reconnect}
  end

  defp crashed(%{state: :ready} = state, %Error{reason: :library_crashed}) do
    {:ok, %{worked: worked}} = Wait.instance_info(state.target.native)
    %{state | reconnect: Reconnect.crashed(state.reconnect, worked)}
  end

  defp crashed(state, _error), do: state

  # The token was reached.
  defp lock(state, error) do
    state = %{state | reconnect: Reconnect.connected(state.reconnect)}
    state |> let_go(:locked, error) |> enter(:locked, error)
  end

  defp let_go(state, now, error) do
    close_sessions(Map.keys(state.sessions))
    new_epoch(state)

    refusal = Recovery.refused(now, error)
    for from <- state.login_waiters, do: GenServer.reply(from, {:error, refusal})

    %{state | facts: nil, sessions: %{}, login_waiters: [], login_due: false}
  end

  # Before sessions are opened, never after: a session remembers the epoch it was opened in.
  defp new_epoch(state) do
    {:ok, :ok} = Wait.bump_epoch(state.target.native)
    Cache.clear(state.target.cache)
  end

  defp close_sessions(servers), do: Enum.each(servers, &SessionServer.close/1)

  defp stray_sessions(state), do: Sessions.all(state.instance) -- Map.keys(state.sessions)

  defp enter(state, now, reason), do: Report.enter(%{state | reason: reason}, now, open(state))

  defp refusal(%{state: :locked, reason: why}), do: Recovery.refused(:locked, why)

  defp refusal(state),
    do: Instances.refusal(state.target) || Recovery.refused(:absent, state.reason)

  # Sessions that are being opened are not missing.
  defp judge(%{job: %{kind: {:open, _count}}} = state), do: state
  defp judge(state), do: Report.judge(state, open(state))

  # Whatever sessions are missing are asked for again.
  defp remind(%{state: :ready, job: nil} = state) do
    supply = Supply.remind(state.supply, open(state), state.options.reconnect, :open)
    %{state | supply: supply}
  end

  defp remind(state), do: state

  # A process from which nothing returns is killed, when there is time for that: nothing else brings it back.
  defp hanging(%{options: %{kill_after: limit}, health: {:unresponsive, _why}} = state)
       when limit != nil,
       do: %{state | kill_timer: state.kill_timer || Process.send_after(self(), :kill, limit)}

  defp hanging(%{kill_timer: nil} = state), do: state

  defp hanging(state) do
    Process.cancel_timer(state.kill_timer)
    %{state | kill_timer: nil}
  end

  defp kill(%{health: {:unresponsive, _why}, options: options} = state) do
    Events.killed(Target.called(state.target), options.kill_after)
    why = "nothing had returned from it for #{options.kill_after} ms (kill_after:)"
    Wait.kill(state.target.library, why)
    state
  end

  defp kill(state), do: state

  defp tell_session(state, event), do: Events.session(Target.called(state.target), event)

  ## Looks at the slots

  defp next_look(%{look_timer: nil} = state) do
    if state.state == :absent or Watch.anybody?(state.watch),
      do: %{state | look_timer: Process.send_after(self(), :look, pause(state))},
      else: state
  end

  defp next_look(state), do: state

  defp look(%{looker: nil} = state) do
    context = Job.context(state)
    watch = state.watch
    slots_due = Watch.slots_due?(watch, state.options.watch)
    %{state | looker: Connector.start(fn -> Connector.watch(context, watch, slots_due) end)}
  end

  defp look(state), do: state

  defp pause(state), do: Watch.pause(state.watch, state.options.watch)

  defp looked(state, :nothing), do: state

  defp looked(state, seen) do
    {news, watch} = Watch.looked(state.watch, seen, state.options.watch)
    state = %{state | watch: watch}

    cond do
      state.state == :ready and token(state) not in watch.tokens ->
        lose(state, Error.new(:token_absent, "the token was removed"))

      state.state == :absent and Reconnect.hopeful?(state.reconnect, news) ->
        %{state | connect_due: true, reconnect: Reconnect.news(state.reconnect, news)}

      true ->
        state
    end
  end
end
