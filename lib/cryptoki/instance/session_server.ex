defmodule Cryptoki.SessionServer do
  @moduledoc false
  # Owns one session. Callers never talk to it: the session's thread takes its work from the
  # instance's queue and tells this process what becomes of the session; it tells the token server.

  use GenServer, restart: :temporary, shutdown: 5_000

  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Native.Wait

  # Below the shutdown time of the child: a session that hangs is left to its thread.
  @close_timeout 2_000

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_arg), do: GenServer.start_link(__MODULE__, nil)

  @doc "Opens the session; the server ends when that fails."
  @spec open(pid, map) :: :ok | {:error, Error.t()}
  def open(server, facts) do
    GenServer.call(server, {:open, facts}, :infinity)
  catch
    :exit, _ended -> {:error, Error.new(:session_lost, "its process ended while it was opened")}
  end

  @doc "Closes the session and ends, without making anybody wait."
  @spec close(pid) :: :ok
  def close(server), do: GenServer.cast(server, :close)

  @impl true
  def init(nil) do
    Process.flag(:trap_exit, true)
    {:ok, nil}
  end

  @impl true
  def handle_call({:open, facts}, _from, nil) do
    deadline = Wait.deadline(facts.timeout)

    with {:ok, session} <-
           Wait.session_open(facts.native, facts.token_in_slot, deadline),
         {:ok, id} <- Wait.session_id(session) do
      state = %{session: session, id: id, instance: facts.instance, closes: true}
      {:reply, :ok, Map.merge(state, %{timeout: facts.timeout, cleaning: nil})}
    else
      {:error, error} -> {:stop, :normal, {:error, error}, nil}
    end
  end

  @impl true
  def handle_cast(:close, state), do: {:stop, :normal, state}

  # The session's thread makes calls that no caller waits for: somebody has to look at the time.
  @impl true
  def handle_info({:cryptoki_session, id, :cleaning}, %{id: id} = state) do
    timer = if state.timeout != :infinity, do: Process.send_after(self(), :overdue, state.timeout)
    {:noreply, %{state | cleaning: timer}}
  end

  def handle_info({:cryptoki_session, id, :clean}, %{id: id} = state) do
    if state.cleaning, do: Process.cancel_timer(state.cleaning)
    {:noreply, %{state | cleaning: nil}}
  end

  # One that came in time after all is told so by the thread, and this does nothing.
  def handle_info(:overdue, state) do
    Wait.session_overdue(state.session)
    {:noreply, state}
  end

  def handle_info({:cryptoki_session, id, event}, %{id: id} = state) do
    Instances.tell(state.instance, {:session, self(), event})

    case event do
      {news, _failure} when news in [:reopened, :failing] -> {:noreply, state}
      :working -> {:noreply, state}
      # Closing would wait for a call that does not return; its thread closes it when it does.
      :overdue -> {:noreply, %{state | closes: false}}
      {_ended, _why} -> {:stop, :normal, %{state | closes: false}}
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, %{closes: true, session: session}) do
    with {:error, %Error{reason: :timeout}} <-
           Wait.session_close(session, Wait.deadline(@close_timeout)),
         do: Wait.session_overdue(session)
  end

  def terminate(_reason, _state), do: :ok
end
