defmodule Cryptoki.Application do
  @moduledoc false
  # The table belongs to the process that runs `start/2`, which lives as long as the application:
  # it survives a crash of `Cryptoki.Instances`.

  use Application

  alias Cryptoki.{Instance, Instances, Sealed}

  @impl true
  def start(_type, _args) do
    Instances.create_table()
    # Here, since calls have a deadline, and the first one of OpenSSL takes its time.
    _ = Sealed.hash("")
    Supervisor.start_link([Instances], strategy: :one_for_one, name: Cryptoki.Supervisor)
  end

  # Instances live in other people's trees: those that are left end before the table does.
  @impl true
  def prep_stop(state) do
    Instances.all() |> Enum.map(&Task.async(Instance, :stop, [&1])) |> Task.await_many(:infinity)
    state
  end
end
