defmodule Cryptoki.Job do
  @moduledoc false
  # The job that a token server has running: what it does, for whom, and with which PIN.

  alias Cryptoki.{Connector, Target, Unlocks}

  @limit 180_000

  @enforce_keys [:pid, :kind, :serves, :timer, :unlock]
  defstruct [:pid, :kind, :serves, :timer, :unlock, early: []]

  @type kind :: :connect | :login | :reinitialize | {:open, pos_integer}

  @typedoc "`early`: what sessions told that the job has just opened."
  @type t :: %__MODULE__{
          pid: pid,
          kind: kind,
          serves: [GenServer.from()],
          timer: reference,
          unlock: Unlocks.unlock() | nil,
          early: [{pid, term}]
        }

  @doc """
  Starts one for the calling token server, in its state; it answers as `Cryptoki.Connector.start/1` says,
  or is given up with `{:job_limit, pid}`. A PIN that was given by hand has a caller of its own.
  """
  @spec start(Cryptoki.TokenServer.State.t(), kind, [GenServer.from()], Unlocks.unlock() | nil) ::
          t
  def start(state, kind, serves, unlock \\ nil) do
    context = Map.merge(context(state), Unlocks.context(unlock))
    facts = state.facts
    pid = Connector.start(fn -> run(kind, context, facts) end)
    timer = Process.send_after(self(), {:job_limit, pid}, @limit)
    serves = Unlocks.callers(unlock) ++ serves
    %__MODULE__{pid: pid, kind: kind, serves: serves, timer: timer, unlock: unlock}
  end

  defp run(:connect, context, _facts), do: Connector.connect(context)
  defp run(:login, context, facts), do: Connector.login_again(context, facts)
  defp run(:reinitialize, context, _facts), do: Connector.reinitialize(context)
  defp run({:open, count}, context, facts), do: Connector.open(context, facts, count)

  @doc "What the slow work has to know of the instance."
  @spec context(Cryptoki.TokenServer.State.t()) :: map
  def context(state) do
    %{
      instance: state.instance,
      name: Target.called(state.target),
      native: state.target.native,
      library: state.target.library,
      options: state.options
    }
  end
end
