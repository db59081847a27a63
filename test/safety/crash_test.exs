defmodule Cryptoki.CrashTest do
  # `isolation: :process`: a library that ends its process in each of the functions that an instance calls. Those who wait
  # are told how, the instance comes back and finds its keys, and another one in this VM has noticed nothing. Every
  # function in every way with `bin/test --safety`, a sample always.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.{Crashes, MainToken, Token, Workers}

  @moduletag :capture_log
  @moduletag timeout: :infinity

  @names Path.expand("../../native/cryptoki_ffi/src/names.rs", __DIR__)

  # What nobody calls.
  @no_case ~w(C_CloseAllSessions C_GetFunctionStatus C_CancelFunction C_AsyncComplete C_AsyncGetID C_AsyncJoin)

  setup do
    bystander = start_supervised!({Cryptoki, MainToken.options(isolation: :none)})
    works = Task.async(fn -> works(bystander, 0) end)
    before = Workers.all()

    on_exit(fn -> assert Workers.all() -- before == [] end)
    %{works: works}
  end

  defp works(bystander, count) do
    {:ok, <<_::64>>} = Cryptoki.random(bystander, 8)

    receive do
      :enough -> count + 1
    after
      20 -> works(bystander, count + 1)
    end
  end

  defp undisturbed?(works) do
    send(works.pid, :enough)
    Task.await(works, :infinity) > 0
  end

  for scenario <- Crashes.scenarios() do
    @name scenario.name
    @missing if scenario.token == :kryoptic and Token.library(:kryoptic) == nil, do: "no Kryoptic"
    @tag skip: @missing || false
    test "a sample: #{@name}", %{works: works} do
      assert sampled(scenario(@name), 5) == []
      assert undisturbed?(works)
    end

    @tag :safety
    @tag skip: @missing || false
    test "each function: #{@name}", %{works: works} do
      result = Crashes.run(scenario(@name), &for(function <- &1, do: {function, "segv"}))
      assert result.problems == []
      assert undisturbed?(works)
    end
  end

  test "a sample: the functions that the others are got from", %{works: works} do
    assert Crashes.at_load(Enum.random(Crashes.loading()), Enum.random(Crashes.ways())) == []
    assert undisturbed?(works)
  end

  @tag :safety
  test "each of the functions that the others are got from, in every way", %{works: works} do
    problems =
      for function <- Crashes.loading(),
          way <- Crashes.ways(),
          do: Crashes.at_load(function, way)

    assert Enum.concat(problems) == []
    assert undisturbed?(works)
  end

  # By SIGSEGV each function in each scenario, see above; by the others in the first one that calls it.
  @tag :safety
  @tag skip: if(Token.library(:kryoptic) == nil, do: "no Kryoptic", else: false)
  test "each function in every way, and there is none without a case", %{works: works} do
    ways = Crashes.ways() -- ["segv"]

    {called, problems} =
      Enum.reduce(Crashes.scenarios(), {[], []}, fn scenario, {called, problems} ->
        result = Crashes.run(scenario, &for(name <- &1 -- called, way <- ways, do: {name, way}))
        {Enum.uniq(called ++ Enum.map(result.struck, &elem(&1, 0))), problems ++ result.problems}
      end)

    assert problems == []
    assert ((functions() -- @no_case) -- Crashes.loading()) -- called == []
    assert undisturbed?(works)
  end

  # As the native code has them all.
  defp functions do
    [_all, names] = Regex.run(~r/^names! \{(.*?)^\}/ms, File.read!(@names))
    String.split(names)
  end

  defp scenario(name), do: Enum.find(Crashes.scenarios(), &(&1.name == name))

  # What a scenario has called once it need not call again: then another one is taken.
  defp sampled(_scenario, 0), do: ["nothing that was taken was called"]

  defp sampled(scenario, left) do
    case Crashes.run(scenario, &sample/1) do
      %{struck: [], problems: []} -> sampled(scenario, left - 1)
      %{problems: problems} -> problems
    end
  end

  # Another one in each.
  defp sample(functions) do
    function = Enum.random(functions)
    [{function, Enum.random(Crashes.ways())}]
  end
end
