defmodule Cryptoki.Sessions do
  @moduledoc false
  # The supervisor of an instance's sessions, each a process.

  alias Cryptoki.{Instances, SessionServer}
  alias Cryptoki.Native.Wait

  # Longer than a session server waits for its session.
  @closing 3_000

  @spec child_spec(pid) :: Supervisor.child_spec()
  def child_spec(instance),
    do: %{id: :sessions, type: :supervisor, start: {__MODULE__, :start_link, [instance]}}

  @doc "Starts the supervisor of the sessions and says where it is."
  @spec start_link(pid) :: Supervisor.on_start()
  def start_link(instance) do
    with {:ok, pid} <- DynamicSupervisor.start_link(strategy: :one_for_one) do
      Instances.put(instance, :sessions, pid)
      {:ok, pid}
    end
  end

  @doc "Starts a session server; it opens nothing yet."
  @spec start(pid) :: DynamicSupervisor.on_start_child()
  def start(instance),
    do: instance |> Instances.get(:sessions) |> DynamicSupervisor.start_child(SessionServer)

  @doc "The processes of an instance's sessions, those being opened or closed among them."
  @spec all(pid) :: [pid]
  def all(instance) do
    children = instance |> Instances.get(:sessions) |> DynamicSupervisor.which_children()
    for {_id, pid, _type, _modules} <- children, is_pid(pid), do: pid
  end

  @doc "Returns when the sessions there are, which are all being closed, have ended, or hang."
  @spec await_closed(pid) :: :ok
  def await_closed(instance) do
    deadline = Wait.deadline(@closing)

    for ref <- instance |> all() |> Enum.map(&Process.monitor/1) do
      receive do
        {:DOWN, ^ref, :process, _server, _reason} -> :ok
      after
        Wait.remaining(deadline) -> Process.demonitor(ref, [:flush])
      end
    end

    :ok
  end
end
