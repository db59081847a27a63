defmodule Cryptoki.Test.Crashes do
  @moduledoc false
  # A library that ends its process, with `isolation: :process`, in each of the functions that it is called by: what is
  # done are the scenarios of Cryptoki.Test.EveryCall and of crashes/scenario.ex.

  alias Cryptoki.Error
  alias Cryptoki.Test.Crashes.Scenario
  alias Cryptoki.Test.EveryCall.{Run, World}
  alias Cryptoki.Test.{FaultyModule, Workers}

  # How the error says that it has ended. A ready-made process has an unwinder of its own: that of a library in C++ calls it
  # with what it cannot read.
  @ways %{
    "segv" => "SIGSEGV",
    "abort" => "SIGABRT",
    "cxx" => ~r/SIG(ABRT|SEGV)/,
    "quit" => "status 5",
    "close" => "it had closed its connection",
    "memory" => "SIGABRT",
    "threads" => "SIGABRT"
  }

  # What bounds endless memory and endless threads, and no library that works.
  @memory 512 * 1024 * 1024
  @options [isolation: :process, memory: @memory, timeout: 60_000]
  @patience 20_000

  @typedoc "A function, and how the process ends in it."
  @type one :: {function :: String.t(), way :: String.t()}

  @doc "The ways, as the fault module has them."
  @spec ways :: [String.t()]
  def ways, do: Map.keys(@ways)

  @doc "What the error says of how the process has ended."
  @spec ending(String.t()) :: String.t() | Regex.t()
  def ending(way), do: @ways[way]

  # What they are called in the fault module; C_GetFunctionList is called where the other is of no use.
  @loading %{
    "C_GetFunctionList" => "interface=fail;list",
    "C_GetInterface" => "interface",
    "C_GetInterfaceList" => "interface_list"
  }

  @doc "The functions that the others are got from, before there is a slot or a session."
  @spec loading :: [String.t()]
  def loading, do: Map.keys(@loading)

  @doc "Ends the process in one of those; what was wrong."
  @spec at_load(String.t(), String.t()) :: [String.t()]
  def at_load(function, way) do
    module = FaultyModule.new(token: :softhsm2, load: "#{@loading[function]}=#{way}")

    problems =
      case Cryptoki.start_link(FaultyModule.options(module, @options)) do
        {:error, %Error{reason: :library_crashed} = error} -> crashed(error, way, [:maybe, false])
        other -> ["answered #{inspect(other)}"]
      end

    Enum.map(problems, &"#{function} #{way}: #{&1}")
  end

  @doc "The scenarios: those of every call, and what they do not call."
  @spec scenarios :: [struct]
  defdelegate scenarios, to: Scenario, as: :all

  @doc "Ends the process in the cases that `choose` takes of all functions; what struck, and what was wrong."
  @spec run(struct, ([String.t()] -> [one])) :: %{struck: [one], problems: [String.t()]}
  def run(scenario, choose) do
    context = begin(scenario)
    cases = scenario |> called(context) |> choose.()

    results =
      for {function, way} = one <- cases do
        {struck?, problems} = one(scenario, context, one)
        title = "#{scenario.name}, #{function} #{way}"
        {if(struck?, do: [one], else: []), Enum.map(problems, &"#{title}: #{&1}")}
      end

    finish(context)
    {struck, problems} = Enum.unzip(results)
    %{struck: Enum.concat(struck), problems: Enum.concat(problems)}
  end

  # Functions are called by instances, too, before they work.
  defp begin(scenario), do: World.new(%{scenario | options: @options ++ scenario.options})

  defp finish(%{hsm: hsm}) do
    Process.unlink(hsm)
    :ok = Cryptoki.stop(hsm)
  end

  defp finish(_context), do: :ok

  # What it calls when all is well, in a process that has everything before it; of an instance also what its start calls.
  defp called(scenario, context) do
    mark = FaultyModule.mark(context.module)
    anew(context)
    calls = undisturbed(scenario, context, mark)
    Enum.uniq(for {name, event, _rv} <- calls, event in ["ran", "faked"], do: name)
  end

  # The calls since the start of its process, where it has one of its own before it runs.
  defp undisturbed(scenario, context, since \\ nil) do
    settle(context)
    run = run_with(scenario, context, "")
    unless Run.good?(scenario, run), do: raise("#{inspect(run.steps)} #{inspect(run.mailbox)}")
    settle(run.context)
    since = if scenario.instance, do: since
    calls = FaultyModule.since(context.module, since || run.context.mark)
    scenario.after.(run.context)
    Run.leave(run)
    calls
  end

  # The process of an instance is another one, and has called nothing yet but what a start does.
  defp anew(%{hsm: _hsm} = context) do
    before = kill()
    await(fn -> List.last(Workers.all()) not in [before, nil] end)
    settle(context)
  end

  defp anew(_context), do: :ok

  defp kill do
    worker = List.last(Workers.all())
    {_, 0} = System.cmd("kill", ["-KILL", worker])
    worker
  end

  # What a run has started itself lives on under the lines of its scenario.
  defp run_with(scenario, context, rule) do
    run = Run.run(scenario, context |> patient() |> before(scenario), rule)
    unless scenario.instance, do: FaultyModule.control(context.module, scenario.lines)
    run
  end

  defp patient(context), do: %{context | timeout: @patience}
  defp before(context, scenario), do: Map.merge(context, scenario.before.(context))

  defp one(scenario, context, {function, way}) do
    settle(context)
    anew(context)
    worker = List.last(Workers.all())
    rule = "#{function} crash=#{way}"
    run = run_with(scenario, context, rule)
    struck? = struck?(run.context, function)
    if struck?, do: settle(context, worker)
    told = if struck?, do: told(scenario, run, function, way), else: []
    struck? = struck? or (scenario.instance and at_the_start?(run.context, function, rule))
    settle(run.context)
    scenario.after.(run.context)
    stray = if run.mailbox == [], do: [], else: ["in the mailbox: #{inspect(run.mailbox)}"]
    Run.leave(run)
    # Nobody has to do anything for the next one, which finds its keys again.
    _calls = undisturbed(scenario, context)
    {struck?, told ++ stray}
  end

  defp struck?(%{module: module, mark: mark}, function) do
    calls = FaultyModule.since(module, mark)
    Enum.any?(calls, &match?({^function, "crashes", _rv}, &1))
  end

  # Longer than a start takes anywhere: what it does not call is not struck.
  @start 60_000

  defp at_the_start?(context, function, rule) do
    FaultyModule.control(context.module, rule)
    kill()
    struck? = World.until(fn -> struck?(context, function) end, @start)
    FaultyModule.control(context.module, "")
    struck?
  end

  defp await(holds?) do
    unless holds?.() do
      receive after: (5 -> :ok)
      await(holds?)
    end
  end

  defp told(_scenario, %{ended: false}, _function, _way), do: ["no answer"]

  defp told(scenario, run, function, way) do
    case {Run.error(run), work?(scenario, function)} do
      {nil, false} ->
        if Run.good?(scenario, run), do: [], else: ["answered #{inspect(run.steps)}"]

      {%Error{reason: :library_crashed} = error, work?} ->
        crashed(error, way, if(work?, do: [:maybe], else: [:maybe, false]))

      # Whoever comes while nobody may log in.
      {%Error{reason: :locked}, _work?} when function in ["C_Login", "C_LoginUser"] ->
        []

      {other, _work?} ->
        ["answered #{inspect(other)}"]
    end
  end

  defp crashed(error, way, executed) do
    said = Exception.message(error)
    how = if said =~ @ways[way], do: [], else: ["says #{said}"]
    if error.executed in executed, do: how, else: ["executed: #{error.executed}" | how]
  end

  # Whether it is a function that does the work, in the process of the caller's answer.
  defp work?(scenario, function) do
    works = for {_name, work, _fun} <- scenario.steps, {names, _times} <- work, do: names
    function in List.flatten(works)
  end

  # Until it is whole again, in another process than one that has died and that it may not have missed yet; or a person
  # comes: a crash in C_Login counts as a try.
  defp settle(context, dead \\ nil)

  defp settle(%{hsm: hsm} = context, dead) do
    await(fn ->
      if Cryptoki.status!(hsm).state == :locked,
        do: Cryptoki.unlock(hsm, context.pin, force: true, timeout: @patience)

      List.last(Workers.all()) not in [dead, nil] and World.whole?(hsm)
    end)
  end

  defp settle(_context, _dead), do: :ok
end
