defmodule Cryptoki.Test.EveryCall.Run do
  @moduledoc false
  # One run of a scenario in a process of its own, with its calls of the library.

  alias Cryptoki.Error
  alias Cryptoki.Test.FaultyModule
  alias Cryptoki.Test.EveryCall.Scenario

  defstruct steps: [], mailbox: [], ended: true, longest: 0, context: %{}

  @typedoc "`steps` are those that were begun, with what they answered, `longest` the milliseconds of one."
  @type t :: %__MODULE__{
          steps: [{atom, work :: map, answer :: term}],
          mailbox: [term],
          ended: boolean,
          longest: non_neg_integer,
          context: map
        }

  # Longer than any deadline of ours, that of a stop among them.
  @patience 30_000

  @doc "Runs it under these lines of the control file, and takes them away again."
  @spec run(Scenario.t(), map, String.t()) :: t
  def run(scenario, context, lines) do
    mark = FaultyModule.mark(context.module)
    FaultyModule.control(context.module, scenario.lines <> "\n" <> lines)
    run = in_process(scenario, Map.put(context, :mark, mark))
    FaultyModule.control(context.module, "")
    %{run | context: Map.put(run.context, :mark, mark)}
  end

  # It stays until its mailbox was looked at, and after that it is killed, as callers are.
  defp in_process(scenario, context) do
    owner = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        {steps, context} = steps(scenario.steps, context)
        longest = Process.get(:longest, 0)
        send(owner, {self(), %__MODULE__{steps: steps, longest: longest, context: context}})
        receive do: (:never -> :ok)
      end)

    receive do
      {^pid, run} ->
        Process.demonitor(monitor, [:flush])
        {:messages, mailbox} = Process.info(pid, :messages)
        Map.put(%{run | mailbox: mailbox}, :context, Map.put(run.context, :caller, pid))

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        %__MODULE__{steps: [{:crash, %{}, {:crashed, reason}}], context: context}
    after
      @patience ->
        Process.demonitor(monitor, [:flush])
        Process.exit(pid, :kill)
        %__MODULE__{ended: false, context: context}
    end
  end

  defp steps([], context), do: {[], context}

  defp steps([{name, work, call} | rest], context) do
    {time, answer} = :timer.tc(fn -> call.(context) end)
    Process.put(:longest, max(div(time, 1000), Process.get(:longest, 0)))

    case answer do
      :ok -> more({name, work, :ok}, rest, context)
      {:ok, value} -> more({name, work, {:ok, value}}, rest, Map.put(context, name, value))
      {:after, error} -> {[{name, %{}, {:error, error}}], context}
      failed -> {[{name, work, failed}], context}
    end
  end

  defp more(step, rest, context) do
    {steps, context} = steps(rest, context)
    {[step | steps], context}
  end

  @doc "What the caller finds in its mailbox when all is over; it ends with this."
  @spec leave(t) :: [term]
  def leave(%__MODULE__{context: %{caller: pid}}) do
    {:messages, mailbox} = Process.info(pid, :messages)
    Process.exit(pid, :kill)
    mailbox
  end

  def leave(_run), do: []

  @doc "The error it ended with, if it did."
  @spec error(t) :: Error.t() | nil
  def error(%__MODULE__{steps: steps}) do
    case List.last(steps) do
      {_name, _work, {:error, error}} -> error
      _good -> nil
    end
  end

  @doc "Whether all of it was done, and rightly."
  @spec good?(Scenario.t(), t) :: boolean
  def good?(scenario, %__MODULE__{steps: steps}) do
    length(steps) == length(scenario.steps) and
      Enum.all?(steps, fn {_name, _work, answer} ->
        answer == :ok or match?({:ok, _value}, answer)
      end)
  end
end
