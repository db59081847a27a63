defmodule Cryptoki.Test.EveryCall.Check do
  @moduledoc false
  # What must be true after a run with a fault, whatever the fault was. Each answers what is not, in words.

  alias Cryptoki.{Error, Names}
  alias Cryptoki.Test.EveryCall.{Fault, Run, Scenario}

  # What the standard says of a login's answer: after these the PIN was not looked at, after those nobody
  # knows, and it is tried once more; any other is a refusal. guides/errors.md has the same for people.
  @not_tried [0x54, 0xB3, 0xE0, 0xE1, 0x100, 0x190]
  @doubtful [0x02, 0x30, 0x31, 0x32]

  # What by the standard says that nothing was done: of a library that did it all the same nobody can know. Of
  # the first of them it is asked again.
  @asked_again [0xB3, 0x101, 0x90, 0x82, 0x60, 0x150]
  @refusals @asked_again ++
              [0x07, 0x21, 0x51, 0x54, 0x63, 0x68, 0x70, 0x71, 0x91, 0xA0, 0xA4, 0xB1] ++
              [0xE2, 0x100]

  @doc "How often the work may have been done: twice for a library that denies it in words that ask for more."
  @spec most(Fault.t()) :: 1 | 2
  def most({mode, code}) when mode in [:after, :late_after] and code in @asked_again, do: 2
  def most(_fault), do: 1

  @doc "All of it. `calls` are those until the instance was whole again."
  @spec problems(Scenario.t(), Run.t(), [tuple], Fault.t()) :: [String.t()]
  def problems(scenario, run, calls, fault) do
    answered(scenario, run, fault) ++
      documented(run) ++
      told(run, calls) ++
      executed(run, calls, fault) ++
      once(scenario, run, calls, fault) ++ pin_tries(calls) ++ mailbox(run.mailbox)
  end

  # A caller with 60 ms, in an instance that itself waits a second; generously, the machine may be busy. How
  # long a stop waits for a library is its own affair.
  @patience 4_000

  defp answered(_scenario, %{ended: false}, _fault), do: ["no answer"]

  defp answered(%{name: name}, %{longest: ms}, {mode, _code})
       when mode in [:late, :late_after] and ms > @patience and name != "stop",
       do: ["the answer came after #{ms} ms"]

  defp answered(_scenario, %{steps: steps}, _fault) do
    case List.last(steps) do
      {name, _work, answer} when answer == :ok or elem(answer, 0) in [:ok, :error] ->
        if match?({:error, other} when not is_struct(other, Error), answer),
          do: ["#{name} answered #{inspect(answer)}"],
          else: []

      {name, _work, answer} ->
        ["#{name} answered #{inspect(answer)}"]

      nil ->
        []
    end
  end

  ## What the error says

  defp documented(run) do
    case Run.error(run) do
      %Error{} = error ->
        if documented?(error), do: [], else: ["not documented: #{inspect(error)}"]

      _none ->
        []
    end
  end

  @doc "Whether a caller can have read of such an error: a reason of ours, or what the standard calls the code."
  @spec documented?(Error.t()) :: boolean
  def documented?(%Error{reason: reason, code: code}) do
    # One that is not connected says why: with the reason of the cause, and no code of its own.
    reason in Error.reasons() or reason == code or (is_integer(reason) and code == nil) or
      (is_atom(reason) and named?(reason, code))
  end

  defp named?(reason, code) do
    case Names.code(:rv, reason) do
      {:ok, of_reason} -> code in [nil, of_reason]
      :error -> false
    end
  end

  # The code that it shows is one that this function has answered.
  defp told(run, calls) do
    case Run.error(run) do
      %Error{code: code, function: function} = error when code != nil ->
        if {"#{function}", Fault.hex(code)} in answers(calls),
          do: [],
          else: ["nobody answered that: #{inspect(error)}"]

      _own ->
        []
    end
  end

  @doc "What the library told its client: functions with codes."
  @spec answers([tuple]) :: [{String.t(), String.t()}]
  def answers(calls),
    do: for({function, event, rv} <- calls, event in ~w(ran faked denied), do: {function, rv})

  defp executed(_run, _calls, {mode, code})
       when mode in [:after, :late_after] and code in @refusals,
       do: []

  defp executed(run, calls, _fault) do
    with %Error{executed: false} = error <- Run.error(run),
         {_name, work, _answer} = List.last(run.steps),
         done = for({function, _times} <- work, ran(calls, function) > 0, do: function),
         # The steps before it have done theirs.
         [_ | _] <- done -- earlier(run) do
      ["#{inspect(done)} ran, and it says executed: false: #{inspect(error)}"]
    else
      _true -> []
    end
  end

  defp earlier(%{steps: steps}) do
    for {_name, work, _answer} <- Enum.drop(steps, -1), {function, _times} <- work, do: function
  end

  ## How often

  defp once(_scenario, _run, _calls, {mode, code})
       when mode in [:after, :late_after] and code in @asked_again,
       do: []

  defp once(scenario, run, calls, _fault) do
    expected = scenario.steps |> Enum.map(&elem(&1, 1)) |> Enum.reduce(%{}, &sum/2)
    whole = Run.good?(scenario, run)

    for {function, times} <- expected,
        ran = ran(calls, function),
        ran > times or (whole and ran != times),
        do: "#{inspect(function)} ran #{ran} times"
  end

  defp sum(work, all), do: Map.merge(all, work, fn _function, n, m -> n + m end)

  # After a refusal nobody but a person tries again; where nobody knows, once.
  defp pin_tries(calls) do
    tries = tries(calls)

    case tries |> Enum.reject(&(&1 in @not_tried)) |> Enum.drop_while(&(&1 == 0)) do
      [] -> []
      [_refused] -> []
      [doubtful, _once_more] when doubtful in @doubtful -> []
      _more -> tried(tries)
    end
  end

  defp hard?(code), do: code != 0 and code not in @not_tried
  defp tried(tries), do: ["a PIN was tried again: #{inspect(tries, base: :hex)}"]

  @doc "Whether the instance has to wait for a person: what its logins were told leaves no choice."
  @spec locks?([tuple]) :: boolean
  def locks?(calls) do
    tries = tries(calls)

    Enum.any?(tries, &(hard?(&1) and &1 not in @doubtful)) or
      Enum.count(tries, &(&1 in @doubtful)) > 1
  end

  # What each login was told: of one that was denied, that.
  defp tries(calls) do
    told = for {"C_Login", event, rv} <- calls, event in ~w(ran faked denied), do: {event, rv}

    for {{_event, "0x" <> hex}, next} <- Enum.zip(told, Enum.drop(told, 1) ++ [nil]),
        not match?({"denied", _rv}, next),
        do: String.to_integer(hex, 16)
  end

  @doc """
  Each session that was opened was closed, and as many as there were are there: also when the token forgot
  them. A library that was finalised has closed all of them; one in which objects were made may be kept for
  their sake.
  """
  @spec sessions(Scenario.t(), [tuple]) :: [String.t()]
  def sessions(%{objects: n}, _calls) when n > 0, do: []

  def sessions(_scenario, calls) do
    opened = Enum.count(calls, &(&1 == {"C_OpenSession", "ran", "0x0"}))
    denied = Enum.count(calls, &match?({"C_OpenSession", "denied", _rv}, &1))

    closed =
      Enum.count(calls, &match?({"C_CloseSession", event, _} when event in ~w(ran faked), &1))

    anew = Enum.any?(calls, &match?({"C_Finalize", "ran", "0x0"}, &1))

    if anew or opened - denied == closed,
      do: [],
      else: ["#{opened - denied} sessions opened, #{closed} closed"]
  end

  defp ran(calls, functions) do
    functions = List.wrap(functions)

    Enum.count(calls, fn {function, event, rv} ->
      {event, rv} == {"ran", "0x0"} and function in functions
    end)
  end

  @doc "A message that nobody waits for."
  @spec mailbox([term]) :: [String.t()]
  def mailbox(messages), do: for(message <- messages, do: "a stray message: #{inspect(message)}")
end
