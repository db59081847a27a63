defmodule Cryptoki.TokenServer.State do
  @moduledoc false
  # What a token server knows of its token, and what it has to do next.

  alias Cryptoki.{Reconnect, Connector, Error, Health, Job, Supply, Target, Unlocks, Watch}

  @typedoc """
  What it is of:

    * `instance`, `target`, `options`: the supervisor, what callers reach it by, and the start options

  What it is:

    * `state`: what the token is; `reason`: why it is not ready, or has too few sessions
    * `facts`: of the token that was found, as long as there is one
    * `sessions`: the processes of those that were opened, and whether they can serve
    * `supply`: how many there may be, as far as the token has shown it
    * `failing`: the last device error, while they are all that operations end with
    * `health`: what is said of the instance; `told`: what the log has said of it since all was well

  What is to be done:

    * `job`: the one that runs; `connect_due`, `login_due`, `open_due`: what is wanted next
    * `reconnect`: how connecting went so far, and when it is tried again
    * `first_waiters`, `login_waiters`: who waits for the first attempt, and for a login
    * `unlocks`: the PINs that people have given
    * `watch`: what slots have shown, and who is told; `looker`: the process that looks at them
    * `look_timer`, `connect_timer`: when it looks, and tries to connect, again
    * `kill_timer`: when the process of the library is killed, if it has returned from nothing until then
  """
  @type t :: %__MODULE__{
          instance: pid,
          target: Target.t(),
          options: map,
          state: :starting | :absent | :locked | :ready,
          reason: Error.t() | nil,
          facts: Connector.facts() | nil,
          sessions: %{pid => :open | :overdue},
          supply: Supply.t(),
          failing: Error.t() | nil,
          health: {Health.t(), Error.t() | nil},
          told: [Health.t()],
          job: Job.t() | nil,
          connect_due: boolean,
          login_due: boolean,
          open_due: boolean,
          reconnect: Reconnect.t(),
          first_waiters: [GenServer.from()],
          login_waiters: [GenServer.from()],
          unlocks: Unlocks.t(),
          watch: Watch.t(),
          looker: pid | nil,
          look_timer: reference | nil,
          connect_timer: reference | nil,
          kill_timer: reference | nil
        }

  @enforce_keys [:instance, :target, :options, :supply, :unlocks, :watch, :reconnect]
  defstruct [
    :instance,
    :target,
    :options,
    :supply,
    :unlocks,
    :watch,
    :reconnect,
    :reason,
    :facts,
    :failing,
    :job,
    :looker,
    :look_timer,
    :connect_timer,
    :kill_timer,
    state: :starting,
    sessions: %{},
    health: {:down, nil},
    told: [],
    connect_due: true,
    login_due: false,
    open_due: true,
    first_waiters: [],
    login_waiters: []
  ]

  @doc "That of one that has not begun."
  @spec new(Target.t(), options :: map) :: t
  def new(target, options) do
    %__MODULE__{
      instance: target.instance,
      target: target,
      options: options,
      supply: Supply.new(options.sessions),
      unlocks: %Unlocks{},
      watch: %Watch{},
      reconnect: %Reconnect{}
    }
  end

  @doc "How many sessions can serve."
  @spec open(t) :: non_neg_integer
  def open(state), do: Enum.count(state.sessions, &match?({_pid, :open}, &1))

  @doc "What subscribers are told of its token."
  @spec token(t) :: map | nil
  def token(%{facts: nil}), do: nil
  def token(%{facts: facts}), do: Connector.summary(facts.slot, facts.token)
end
