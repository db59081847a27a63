defmodule Cryptoki.Instances do
  @moduledoc false
  # Everything about the running instances that callers need without asking a process, and the
  # libraries that have to be given back when an instance is gone.
  #
  # Rows: `{pid, %Target{}}`, and `{{what, pid}, value}` for `:options`, `:pin`, `{:unlock, ref}` (a PIN
  # given by `unlock/3`), `:server` (the token server), `:sessions` (their supervisor), `:facts` (about the
  # token), `:state`, and what the library has shown itself to be: `:own_iv` (how it is asked for an IV),
  # `:random_limit` and `:seed_limit` (how much it takes at once), `:unread` (what was told of
  # objects that it cannot read); and
  # `{{:turn, token}, pid}`, who logs in to a token. The process only watches.

  use GenServer

  require Logger

  alias Cryptoki.{Error, Health, Native, Recovery, Target, Type}
  alias Cryptoki.Native.Wait

  @table __MODULE__
  @close_timeout 5_000
  @restart_pause 10

  @type state :: Health.state()
  @type what ::
          :options
          | :pin
          | {:unlock, reference}
          | :server
          | :sessions
          | :facts
          | :state
          | :own_iv
          | :random_limit
          | :seed_limit
          | :unread
          | {:there, node}

  @doc "Makes the table, owned by the caller."
  @spec create_table() :: :ok
  def create_table do
    :ets.new(@table, [:set, :public, :named_table, read_concurrency: true])
    :ok
  end

  ## Instances

  @doc "Registers the calling supervisor as an instance."
  @spec register(Target.t(), options :: map) :: :ok
  def register(%Target{instance: pid} = target, options) when pid == self() do
    # Watched before there are rows: they cannot be left behind.
    :ok = GenServer.call(__MODULE__, {:watch, pid})
    {pin, options} = Map.pop(options, :pin)

    :ets.insert(@table, [
      {{:options, pid}, options},
      {{:pin, pid}, pin},
      {{:state, pid}, not_yet()},
      {pid, target}
    ])

    :ok
  end

  @doc "Ends an instance for callers; whoever gets the library has to give it back."
  @spec release(pid) :: {:ok, Native.library()} | :error
  def release(pid) do
    case :ets.take(@table, pid) do
      [{_pid, target}] ->
        Wait.instance_state(target.native, :shutdown)
        {:ok, target.library}

      [] ->
        :error
    end
  end

  @doc "Gives a library back; a library in which calls still run is not finalised, and that is told."
  @spec close(Native.library()) :: :ok
  def close(library) do
    with {:error, error} <- Wait.close(library, Wait.deadline(@close_timeout)),
         do: Logger.warning("cryptoki: a library was not finalised: #{Exception.message(error)}")

    :ok
  end

  @doc "The pids of all instances."
  @spec all() :: [pid]
  def all, do: for([pid] <- :ets.match(@table, {:"$1", :_}), is_pid(pid), do: pid)

  @doc "Finds an instance by pid or by name."
  @spec lookup(term) :: {:ok, Target.t()} | :error
  def lookup(hsm) do
    with pid when is_pid(pid) <- whereis(hsm),
         [{_pid, target}] <- rows(pid) do
      {:ok, target}
    else
      _not_running -> :error
    end
  end

  # The table goes with the application.
  defp rows(pid) do
    :ets.lookup(@table, pid)
  rescue
    ArgumentError -> []
  end

  @doc "Why there is no such instance: it is elsewhere, or does not run; then those that do are named."
  @spec missing(term) :: Error.t()
  def missing(hsm) do
    case elsewhere(hsm) do
      nil ->
        known =
          for pid <- all(), {:ok, target} <- [lookup(pid)], do: inspect(Target.called(target))

        running = if known == [], do: "none is", else: "running: " <> Enum.join(known, ", ")
        Error.new(:shutdown, "no instance #{inspect(hsm)} is running on this node; #{running}")

      node ->
        detail =
          "#{inspect(hsm)} is on #{node}, and an instance takes calls on its own node: " <>
            "call it there, by :erpc.call/4"

        Error.new(:unsupported, detail)
    end
  end

  defp elsewhere({name, node}) when name != :global and is_atom(node) and node != node(), do: node

  defp elsewhere(hsm) do
    pid = whereis(hsm)
    if pid != nil and node(pid) != node(), do: node(pid)
  end

  @doc "The pid that a name stands for."
  @spec whereis(term) :: pid | nil
  def whereis(pid) when is_pid(pid), do: pid
  def whereis(name) when is_atom(name) and name != nil, do: Process.whereis(name)
  def whereis({:global, _term} = name), do: GenServer.whereis(name)
  def whereis({:via, _module, _term} = name), do: GenServer.whereis(name)
  def whereis({name, node}) when is_atom(name) and node == node(), do: whereis(name)
  def whereis({name, node}) when is_atom(name) and is_atom(node), do: nil

  # A PIN may stand in the place of the instance: it is not shown.
  def whereis(other) do
    raise ArgumentError,
          "expected an instance (a pid, a name, {:global, term} or {:via, module, term}) " <>
            "or a session of with_session/3, got: #{Type.of(other)}"
  end

  @doc "One of the facts about an instance."
  @spec get(pid | atom, what) :: term
  def get(pid, what) do
    case :ets.lookup(@table, {what, pid}) do
      [{_key, value}] -> value
      [] -> nil
    end
  end

  @spec put(pid | atom, what, term) :: true
  def put(pid, what, value), do: :ets.insert(@table, {{what, pid}, value})

  @spec delete(pid | atom, what) :: true
  def delete(pid, what), do: :ets.delete(@table, {what, pid})

  @doc "What the token server says of an instance, in one piece."
  @spec put_state(pid, state, Health.t(), Error.t() | nil) :: true
  def put_state(pid, state, health, reason), do: put(pid, :state, {state, health, reason})

  @doc "The calling process is the token server of an instance from here on, and has reached nothing yet."
  @spec introduce(pid) :: true
  def introduce(instance) do
    {:absent, health, reason} = not_yet()
    put_state(instance, :absent, health, reason)
    put(instance, :facts, nil)
    put(instance, :server, self())
  end

  # Of one whose token server has not said anything yet.
  defp not_yet, do: {:absent, :down, Error.new(:token_absent, "it was not reached yet")}

  @doc "The state of an instance, its health and the reason for that, as they are now."
  @spec state(Target.t()) :: {state, Health.t(), Error.t() | nil}
  def state(%Target{instance: pid} = target) do
    case said(pid) do
      {:absent, health, reason} ->
        inside = Wait.inside(target.native)
        {health, reason} = Health.connecting({health, reason}, inside, target.timeout)
        {:absent, health, reason}

      state ->
        state
    end
  end

  # What a token server has said that ended since does not hold any more.
  defp said(pid) do
    server = get(pid, :server)

    if server != nil and Process.alive?(server),
      do: get(pid, :state) || not_yet(),
      else: not_yet()
  end

  @doc "Why an instance takes no calls, nil when it does."
  @spec refusal(Target.t()) :: Error.t() | nil
  def refusal(target) do
    case state(target) do
      {:ready, _health, _reason} -> nil
      {state, _health, reason} -> Recovery.refused(state, reason)
    end
  end

  @doc "What is known of an instance's token; why there is none, while it is not connected."
  @spec facts(Target.t()) :: {:ok, map} | {:error, Error.t()}
  def facts(%Target{instance: pid} = target) do
    case get(pid, :facts) do
      nil -> {:error, refusal(target) || Error.new(:token_absent, "it was lost a moment ago")}
      facts -> {:ok, facts}
    end
  end

  @doc "Asks the token server of an instance, also while its supervisor starts another one."
  @spec ask(pid, question :: term, Wait.deadline()) :: term | {:error, Error.t()}
  def ask(instance, question, deadline) do
    case get(instance, :server) do
      nil -> stopping()
      server -> GenServer.call(server, question, Wait.remaining(deadline))
    end
  catch
    :exit, {:timeout, _call} -> {:error, Error.new(:timeout, "the token was not reached in time")}
    :exit, {:noproc, _call} -> ask_the_next(instance, question, deadline)
    :exit, _ended -> stopping()
  end

  # Its supervisor is starting another one, or is stopping itself.
  defp ask_the_next(instance, question, deadline) do
    if Process.alive?(instance) and Wait.remaining(deadline) != 0 do
      receive after: (@restart_pause -> ask(instance, question, deadline))
    else
      stopping()
    end
  end

  @doc "Tells the token server of an instance, if there is one now."
  @spec tell(pid, news :: term) :: :ok
  def tell(instance, news) do
    with server when is_pid(server) <- get(instance, :server), do: GenServer.cast(server, news)
    :ok
  end

  defp stopping, do: {:error, Error.new(:shutdown, "the instance is stopping")}

  ## Tokens

  @doc """
  Waits until no other process logs in to the token. The turn ends with the process that has it.
  """
  @spec take_turn(token :: map, Wait.deadline()) :: :ok | {:error, Error.t()}
  def take_turn(token, deadline) do
    turn = {:turn, identity(token)}

    case not :ets.insert_new(@table, {turn, self()}) and :ets.lookup(@table, turn) do
      false -> :ok
      [{^turn, holder}] -> wait_for_turn(token, {turn, holder}, deadline)
      [] -> take_turn(token, deadline)
    end
  end

  defp wait_for_turn(token, {_turn, holder} = row, deadline) do
    ref = Process.monitor(holder)

    receive do
      {:DOWN, ^ref, :process, ^holder, _reason} ->
        :ets.delete_object(@table, row)
        take_turn(token, deadline)
    after
      Wait.remaining(deadline) ->
        Process.demonitor(ref, [:flush])
        detail = "another login to this token has not returned"
        {:error, Error.new(:timeout, detail, executed: false)}
    end
  end

  @doc "The token in a slot as it is now, if it still is the one that was found there."
  @spec still_there(Native.library(), non_neg_integer, found :: map, Wait.deadline()) ::
          {:ok, now :: map} | {:error, Error.t()}
  def still_there(library, slot, found, deadline) do
    with {:ok, now} <- Wait.job(library, {:token_info, slot}, deadline) do
      if identity(found) == identity(now) do
        {:ok, now}
      else
        detail = "#{inspect(found.label)} was in the slot, now there is #{inspect(now.label)}"
        {:error, Error.new(:token_absent, detail)}
      end
    end
  end

  @doc "What stays the same of a token through whatever instance, library or slot it is reached."
  @spec identity(token :: map) :: Native.identity()
  def identity(token), do: {token.manufacturer, token.model, token.serial, token.label}

  ## The process

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_args), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    Enum.each(all(), &Process.monitor/1)
    {:ok, nil}
  end

  @impl true
  def handle_call({:watch, pid}, _from, nil) do
    Process.monitor(pid)
    {:reply, :ok, nil}
  end

  @impl true
  def handle_info({:DOWN, _ref, :process, pid, _reason}, nil) do
    # Not linked and not waited for: a library that hangs on its way out concerns nobody here.
    with {:ok, library} <- release(pid), do: spawn(__MODULE__, :close, [library])
    :ets.match_delete(@table, {{:_, pid}, :_})
    {:noreply, nil}
  end

  def handle_info(_other, nil), do: {:noreply, nil}
end
