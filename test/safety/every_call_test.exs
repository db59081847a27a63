defmodule Cryptoki.EveryCallTest do
  # A fault at each C call of what users do, that is at each of the calls of each function, whichever thread makes it:
  # each strikes, but where an instance calls by itself (`by_chance`). Codes in place of the work and after it, and
  # answers that come behind the deadline. All of them with `bin/test --safety`, a sample always.
  # CRYPTOKI_EVERY_CALL, a regular expression, takes the cases that it matches: "call 3 .* before 0x30".
  use ExUnit.Case, async: false

  alias Cryptoki.Test.{EveryCall, Reliability, Token}
  alias Cryptoki.Test.EveryCall.{Fault, Scenario}

  @moduletag :capture_log
  @moduletag timeout: :infinity

  test "thirty codes and more, twelve scenarios and more" do
    assert length(Enum.uniq(Fault.codes())) >= 30
    assert length(Scenario.all()) >= 12
  end

  for scenario <- Scenario.all() do
    @name scenario.name
    @by_chance scenario.by_chance
    @missing if scenario.token == :kryoptic and Token.library(:kryoptic) == nil, do: "no Kryoptic"

    @tag skip: @missing || false
    test "a sample: #{@name}" do
      result = @name |> scenario() |> EveryCall.run(&sample/1)
      assert result.problems == []
    end

    @tag :safety
    @tag skip: @missing || false
    test "all of them: #{@name}" do
      result = @name |> scenario() |> EveryCall.run(&chosen/1)
      IO.puts("\n#{@name}: #{inspect(Map.drop(result, [:problems]), limit: :infinity)}")
      assert result.problems == []
      unless @by_chance, do: assert(result.missed == [])
      numbers = "#{result.calls}, #{result.cases}, #{result.struck}"

      what =
        "#{@name}: calls, faults at them, of which struck the call that was meant" <>
          if(@by_chance, do: " (the instance's threads call when they like)", else: "")

      Reliability.record(:number, what, numbers)
    end
  end

  defp scenario(name), do: Enum.find(Scenario.all(), &(&1.name == name))

  # Other codes at other calls: a step that has no factor with the number of faults takes each in its turn.
  @sample 12
  defp sample(cases) do
    faults = length(Fault.all())
    step = cases |> length() |> div(@sample) |> max(faults)
    step = Enum.find(step..(step + faults), &(Integer.gcd(&1, faults) == 1))
    Enum.take_every(cases, step)
  end

  defp chosen(cases) do
    case System.get_env("CRYPTOKI_EVERY_CALL") do
      nil ->
        cases

      wanted ->
        Enum.filter(cases, fn {k, fault} ->
          "call #{k} #{Fault.title(fault)}" =~ Regex.compile!(wanted)
        end)
    end
  end
end
