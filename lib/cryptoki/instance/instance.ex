defmodule Cryptoki.Instance do
  @moduledoc false
  # The supervisor of one instance. Its pid and its name are what users call `hsm`.
  #
  #     Instance ── TokenServer    absent, locked or ready: looks for the token, logs in, heals
  #              └─ Sessions ── SessionServer ...    one a session, started by the token server
  #
  # one_for_all: sessions nobody watches and a watcher that has lost its sessions are both worse
  # than a fresh start; the library, the queue and its callers survive it.

  use Supervisor

  alias Cryptoki.{
    Cache,
    Connector,
    Environment,
    Error,
    Health,
    Instances,
    Sessions,
    Target,
    TokenServer
  }

  alias Cryptoki.Native.Wait

  @stop_timeout 10_000

  @doc """
  Opens the library, starts the processes and waits for the first attempt to reach the token. The
  library is opened here, not in a child, so that a wrong one is the plain error of `start_link`.
  """
  @spec start_link(map) :: {:ok, pid} | {:error, Error.t() | term}
  def start_link(options) do
    deadline = Wait.deadline(options.timeout)

    with :ok <- application_started(),
         {:ok, options} <- Wait.with_program(options),
         {:ok, library} <- Wait.open(Environment.opened(options), deadline) do
      name = if options.name, do: [name: options.name], else: []

      with {:ok, native} <- Wait.instance_new(library, options.queue_limit),
           {:ok, pid} <- Supervisor.start_link(__MODULE__, {options, library, native}, name) do
        TokenServer.await_first_attempt(pid, deadline)
        {:ok, pid}
      else
        not_started ->
          Instances.close(library)
          not_started
      end
    end
  end

  defp application_started do
    if Process.whereis(Instances),
      do: :ok,
      else: {:error, Error.new(:shutdown, "the application :cryptoki is not started")}
  end

  @doc "Refuses new calls, closes the sessions, gives the library back."
  @spec stop(pid) :: :ok
  def stop(pid) do
    library = Instances.release(pid)

    try do
      Supervisor.stop(pid, :normal, @stop_timeout)
    catch
      :exit, {:timeout, _call} -> Process.exit(pid, :kill)
      :exit, _not_running -> :ok
    end

    with {:ok, library} <- library, do: Instances.close(library)
    :ok
  end

  @impl true
  def init({options, library, native}) do
    cache = Cache.new()

    target = %Target{
      instance: self(),
      name: options.name,
      native: native,
      queue: native,
      library: library,
      cache: cache,
      timeout: options.timeout
    }

    :ok = Instances.register(target, options)

    children = [{Sessions, self()}, {TokenServer, self()}]
    Supervisor.init(children, strategy: :one_for_all, max_restarts: 10, max_seconds: 60)
  end

  @doc "What `Cryptoki.status/1` answers; asks no process."
  @spec status(Target.t()) :: {:ok, map} | {:error, Error.t()}
  def status(%Target{} = target) do
    # The counts come after what was said of them.
    said = Instances.state(target)

    with {:ok, info} <- Wait.instance_info(target.native),
         do: {:ok, status(target, said, info)}
  end

  defp status(%Target{instance: pid} = target, {state, health, reason}, info) do
    options = Instances.get(pid, :options) || %{sessions: 0}
    facts = Instances.get(pid, :facts)

    %{
      state: state,
      health: health,
      reason: reason,
      token: token(facts),
      login: facts && facts.login,
      sessions: %{
        wanted: options.sessions,
        open: info.sessions,
        busy: info.busy,
        overdue: info.overdue
      },
      queue: info.queue,
      oldest_call: oldest(Health.oldest(Wait.inside(target.native))),
      epoch: info.epochs
    }
  end

  defp oldest(nil), do: nil
  defp oldest({function, age}), do: %{function: function, milliseconds: age}

  defp token(nil), do: nil
  defp token(facts), do: Connector.summary(facts.slot, facts.token)
end
