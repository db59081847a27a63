defmodule Cryptoki.Test.EveryCall do
  @moduledoc false
  # A fault at each C call of a scenario, one after the other: the table is every_call/scenario.ex, the faults
  # every_call/fault.ex, and what has to hold each time every_call/check.ex.

  alias Cryptoki.Test.EveryCall.{Check, Fault, Run, Scenario, World}
  alias Cryptoki.Test.FaultyModule

  @typedoc "How many calls, cases, and faults that struck the call they were meant for; what was wrong."
  @type result :: %{
          calls: non_neg_integer,
          cases: non_neg_integer,
          struck: non_neg_integer,
          problems: [String.t()]
        }
  @type one :: {pos_integer, Fault.t()}

  # A caller that is not to wait for a library that hangs.
  @late_timeout 60

  @doc "Runs a scenario with each of the faults at each of its calls, as far as `choose` takes them."
  @spec run(Scenario.t(), ([one] -> [one])) :: result
  def run(scenario, choose) do
    context = World.new(scenario)
    # The second time all is remembered that is.
    _first = undisturbed(scenario, context)
    names = undisturbed(scenario, context)
    cases = for k <- 1..length(names)//1, fault <- Fault.all(), do: {k, fault}
    begin = %{calls: length(names), cases: 0, struck: 0, problems: []}

    {result, context} =
      cases |> choose.() |> Enum.reduce({begin, context}, &add(&1, &2, scenario, names))

    %{result | problems: Enum.reverse(result.problems) ++ World.finish(context)}
  end

  defp add({k, fault}, {result, context}, scenario, names) do
    name = Enum.at(names, k - 1)
    {calls, problems} = one(scenario, context, {k, fault})
    title = "#{scenario.name}, call #{k} #{name} #{Fault.title(fault)}: "
    struck = if struck(calls, fault) == name, do: 1, else: 0

    result = %{
      result
      | cases: result.cases + 1,
        struck: result.struck + struck,
        problems: Enum.map(problems, &(title <> &1)) ++ result.problems
    }

    {result, if(foreign?(calls), do: World.new(scenario), else: context)}
  end

  # To us it is somebody else now who has initialised the library: then we never finalise it.
  defp foreign?(calls), do: Enum.any?(calls, &match?({"C_Initialize", "denied", _rv}, &1))

  # The call that the fault has met.
  defp struck(calls, {mode, code}) do
    code = code && Fault.hex(code)
    event = %{before: "faked", after: "denied", late: "hangs", late_after: "hangs"}[mode]

    Enum.find_value(calls, fn {function, what, rv} ->
      if what == event and (event == "hangs" or rv == code), do: function
    end)
  end

  ## One case

  defp one(scenario, context, {k, fault}) do
    World.settle(context)
    held = World.held(context)
    context = Map.merge(context, scenario.before.(context))
    timeout = if Fault.late?(fault), do: @late_timeout, else: context.timeout
    run = Run.run(scenario, %{context | timeout: timeout}, Fault.rule(fault, k))
    context = Map.merge(run.context, %{timeout: context.timeout})

    over = World.over(context)
    calls = FaultyModule.since(context.module, context.mark)
    healed = over ++ World.person(context, may_lock?(scenario, run, calls))

    problems =
      Check.problems(scenario, run, calls, fault) ++
        left(scenario, run, made(context, held), fault)

    scenario.after.(context)

    gone =
      World.gone(context, held) ++
        Check.sessions(scenario, FaultyModule.since(context.module, held.mark))

    {calls,
     problems ++ healed ++ gone ++ Check.mailbox(Run.leave(run)) ++ again(scenario, context)}
  end

  defp made(context, held), do: World.held(context).objects - held.objects

  # What is on the token: all of it, or nothing where nothing was done.
  defp left(%{objects: n}, run, made, fault) do
    may = [n, n * Check.most(fault) | if(Run.error(run), do: [0], else: [])]
    if made in may, do: [], else: ["#{made} objects made: #{inspect(Run.error(run))}"]
  end

  # One that was locked before, and was not unlocked, is still.
  defp may_lock?(%{locked: true}, %{steps: [_unlock]}, _calls), do: true
  defp may_lock?(_scenario, _run, calls), do: Check.locks?(calls)

  # Nobody has to do anything for the next one.
  defp again(scenario, context) do
    _names = undisturbed(scenario, Map.drop(context, [:caller, :mark | own(scenario)]))
    []
  rescue
    error in RuntimeError -> ["the next run: " <> Exception.message(error)]
  end

  # An instance that the run has started has ended with it.
  defp own(%{instance: false}), do: [:hsm]
  defp own(_scenario), do: []

  # The functions that it calls when nothing is wrong.
  defp undisturbed(scenario, context) do
    World.settle(context)
    context = Map.merge(context, scenario.before.(context))
    run = Run.run(scenario, context, "")
    unless Run.good?(scenario, run), do: raise("#{inspect(run.steps)} #{inspect(run.mailbox)}")
    World.over(run.context)
    scenario.after.(run.context)
    Run.leave(run)
    names(run.context)
  end

  defp names(%{module: module, mark: mark}) do
    for {function, event, _rv} <- FaultyModule.since(module, mark),
        event in ~w(ran faked),
        do: function
  end
end
