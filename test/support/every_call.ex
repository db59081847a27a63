defmodule Cryptoki.Test.EveryCall do
  @moduledoc false
  # A fault at each C call of a scenario, one after the other: the table is every_call/scenario.ex, the faults
  # every_call/fault.ex, and what has to hold each time every_call/check.ex.

  alias Cryptoki.Error
  alias Cryptoki.Test.EveryCall.{Check, Fault, Run, Scenario, World}
  alias Cryptoki.Test.FaultyModule

  @typedoc """
  How many calls, cases, faults that struck the call they were meant for, and of those that taught the instance
  to do it otherwise from then on; those that did not strike, and what was wrong.
  """
  @type result :: %{
          calls: non_neg_integer,
          cases: non_neg_integer,
          struck: non_neg_integer,
          taught: non_neg_integer,
          missed: [String.t()],
          problems: [String.t()]
        }
  @type one :: {pos_integer, Fault.t()}

  # A caller that is not to wait for a library that hangs: in haste, and less so where its call was not reached.
  @hastes [60, 120, 240, 480]

  @doc "Runs a scenario with each of the faults at each of its calls, as far as `choose` takes them."
  @spec run(Scenario.t(), ([one] -> [one])) :: result
  def run(scenario, choose) do
    context = World.new(scenario)
    # The second time all is remembered that is.
    _first = undisturbed(scenario, context)
    names = undisturbed(scenario, context)
    cases = for k <- 1..length(names)//1, fault <- Fault.all(), do: {k, fault}
    context = Map.put(context, :clean, names)
    begin = %{calls: length(names), cases: 0, struck: 0, taught: 0, missed: [], problems: []}

    {result, context} =
      cases |> choose.() |> Enum.reduce({begin, context}, &add(&1, &2, scenario))

    problems = Enum.reverse(result.problems) ++ World.finish(context)
    %{result | missed: Enum.reverse(result.missed), problems: problems}
  end

  # Once more where it was not reached: a caller in haste may have gone before its run was there, on a busy machine,
  # and what the fault before left in a session may have led another way.
  defp add({k, fault} = one, {result, context}, scenario, [haste | more] \\ @hastes) do
    {name, nth} = meant(context.clean, k)
    timeout = if Fault.late?(fault), do: haste, else: context.timeout

    {calls, problems, state} =
      one(scenario, context, {Fault.rule(fault, name, nth), fault}, timeout)

    anew? = state == :taught or foreign?(calls)
    context = if anew?, do: anew(scenario, context), else: context
    struck? = struck?(calls, fault, name)

    if struck? or problems != [] or more == [] do
      title = "#{scenario.name}, call #{k} #{name} #{Fault.title(fault)}"
      {counted(result, title, struck?, {problems, state}), context}
    else
      add(one, {result, context}, scenario, more)
    end
  end

  defp counted(result, title, struck?, {problems, state}) do
    %{
      result
      | cases: result.cases + 1,
        struck: result.struck + if(struck?, do: 1, else: 0),
        taught: result.taught + if(state == :taught, do: 1, else: 0),
        missed: if(struck?, do: [], else: [title]) ++ result.missed,
        problems: Enum.map(problems, &"#{title}: #{&1}") ++ result.problems
    }
  end

  # By its function, and which of the calls of that: threads that call beside each other do it in no order.
  defp meant(names, k) do
    name = Enum.at(names, k - 1)
    {name, names |> Enum.take(k) |> Enum.count(&(&1 == name))}
  end

  defp anew(scenario, %{clean: clean}) do
    context = World.new(scenario)
    _first = undisturbed(scenario, context)
    Map.put(context, :clean, clean)
  end

  # To us it is somebody else now who has initialised the library: then we never finalise it.
  defp foreign?(calls), do: Enum.any?(calls, &match?({"C_Initialize", "denied", _rv}, &1))

  # Whether the fault has met a call of this function; a token that forgets its sessions answers others so, too.
  defp struck?(calls, {mode, code}, name) do
    code = code && Fault.hex(code)
    event = %{before: "faked", after: "denied", late: "hangs", late_after: "hangs"}[mode]

    Enum.any?(calls, fn {function, what, rv} ->
      {function, what} == {name, event} and (event == "hangs" or rv == code)
    end)
  end

  ## One case

  defp one(scenario, context, {rule, fault}, timeout) do
    World.settle(context)
    held = World.held(context)
    context = Map.merge(context, scenario.before.(context))
    run = Run.run(scenario, %{context | timeout: timeout}, rule)
    context = Map.merge(run.context, %{timeout: context.timeout})

    over = World.over(context)
    calls = FaultyModule.since(context.module, context.mark)
    healed = over ++ World.person(context, may_lock?(scenario, run, calls))

    problems =
      Check.problems(scenario, run, calls, fault) ++
        left(scenario, run, made(context, held), fault)

    scenario.after.(context)

    gone = World.gone(context, held) ++ unclosed(scenario, context, held)

    stray = Check.mailbox(Run.leave(run))
    unheard = if unheard?(calls, fault), do: told(scenario, fresh(scenario, context)), else: []
    {next, state} = again(scenario, context)
    {calls, problems ++ healed ++ gone ++ stray ++ unheard ++ next, state}
  end

  # What closes them is no thread of a session always.
  defp unclosed(scenario, context, held) do
    open = fn -> Check.sessions(scenario, FaultyModule.since(context.module, held.mark)) end
    if World.until(fn -> open.() == [] end, 5_000), do: [], else: open.()
  end

  defp made(context, held), do: World.held(context).objects - held.objects

  # What is on the token: all of it, or nothing where nothing was done.
  defp left(%{objects: n}, run, made, fault) do
    may = [n, n * Check.most(fault) | if(Run.error(run), do: [0], else: [])]
    if made in may, do: [], else: ["#{made} objects made: #{inspect(Run.error(run))}"]
  end

  # One that was locked before, and was not unlocked, is still; or is again, where the PIN that was given did not
  # come to be tried, since somebody was said to be logged in.
  defp may_lock?(%{locked: true}, %{steps: [_unlock]}, _calls), do: true

  defp may_lock?(%{locked: true}, _run, calls),
    do: Check.locks?(calls) or {"C_Login", "ran", "0x0"} not in calls

  defp may_lock?(_scenario, _run, calls), do: Check.locks?(calls)

  defp unheard?(calls, fault), do: Fault.late?(fault) and struck?(calls, fault, "C_Login")

  # What a token said of a PIN when nobody listened any more is told to the next who comes with it, in place of
  # another try. After that a person comes.
  defp told(scenario, context) do
    World.settle(context)
    run = Run.run(scenario, Map.merge(context, scenario.before.(context)), "")
    World.over(run.context)
    scenario.after.(run.context)
    stray = Check.mailbox(Run.leave(run))
    if Run.good?(scenario, run), do: stray, else: stray ++ told_once(run)
  end

  defp told_once(%{context: context} = run) do
    calls = for {name, "ran", _rv} <- FaultyModule.since(context.module, context.mark), do: name

    case {Run.error(run), for_use?(calls)} do
      {%Error{function: :C_Login}, false} -> World.person(context, true)
      other -> ["after a login that nobody heard of: #{inspect(other)}"]
    end
  end

  # That of an instance comes after C_OpenSession.
  defp for_use?(calls) do
    calls
    |> Enum.zip(Enum.drop(calls, 1))
    |> Enum.any?(fn {before, name} -> name == "C_Login" and String.ends_with?(before, "Init") end)
  end

  # Nobody has to do anything for the next one; and what the fault left in a session is met here, each session
  # having its turn, and not by the next fault. What it taught an instance or a library for good another need not
  # know; without an instance the second run shows it.
  @turns 4

  defp again(scenario, context, turns \\ @turns) do
    fresh = fresh(scenario, context)
    clean? = for _turn <- 1..World.sessions(), do: same?(undisturbed(scenario, fresh), context)

    cond do
      Enum.all?(clean?) -> {[], :clean}
      turns > 1 -> again(scenario, context, turns - 1)
      true -> {[], :taught}
    end
  rescue
    error in RuntimeError -> {["the next run: " <> Exception.message(error)], :taught}
  end

  defp fresh(scenario, context), do: Map.drop(context, [:caller, :mark | own(scenario)])

  defp same?(names, %{clean: clean}),
    do: Enum.uniq(names) -- clean == [] and Enum.uniq(clean) -- names == []

  # An instance that the run has started has ended with it.
  defp own(%{instance: false}), do: [:hsm]
  defp own(_scenario), do: []

  # The functions that it calls when nothing is wrong.
  defp undisturbed(scenario, context) do
    World.settle(context)
    context = World.patient(context)
    context = Map.merge(context, scenario.before.(context))
    run = Run.run(scenario, context, "")
    unless Run.good?(scenario, run), do: raise("#{inspect(run.steps)} #{inspect(run.mailbox)}")
    World.over(run.context)
    # What tidies up gets no faults.
    names = names(run.context)
    scenario.after.(run.context)
    Run.leave(run)
    names
  end

  defp names(%{module: module, mark: mark}) do
    for {function, event, _rv} <- FaultyModule.since(module, mark),
        event in ~w(ran faked),
        do: function
  end
end
