defmodule Cryptoki.CrashTest do
  # `isolation: :process`: a library that ends its process in each of the functions that an instance calls. Those who wait
  # are told how, the instance comes back and finds its keys, and another one in this VM has noticed nothing. All
  # functions by SIGSEGV, and every way in five, with `bin/test --safety`, a sample always.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.{Crashes, MainToken, Token, Workers}

  @moduletag :capture_log
  @moduletag timeout: :infinity

  @names Path.expand("../../native/cryptoki_ffi/src/names.rs", __DIR__)

  # Of the control thread, of a session that is opened, of one that looks for a key, and of one that works.
  @every_way ~w(C_OpenSession C_GetTokenInfo C_FindObjects C_GetAttributeValue C_Sign)

  # No case for these: the loader calls them, before there is a session or a slot; and what nobody calls.
  @no_case ~w(C_GetFunctionList C_GetInterface C_GetInterfaceList C_CloseAllSessions C_GetFunctionStatus C_CancelFunction
              C_AsyncComplete C_AsyncGetID C_AsyncJoin)

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
      assert %{problems: [], struck: [_ | _]} = Crashes.run(scenario(@name), &sample/1)
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

  @tag :safety
  @tag skip: if(Token.library(:kryoptic) == nil, do: "no Kryoptic", else: false)
  test "there is no function without a case" do
    called = Enum.flat_map(Crashes.scenarios(), &Crashes.functions/1)
    assert (functions() -- @no_case) -- called == []
  end

  # As the native code has them all.
  defp functions do
    [_all, names] = Regex.run(~r/^names! \{(.*?)^\}/ms, File.read!(@names))
    String.split(names)
  end

  @tag :safety
  test "every way", %{works: works} do
    scenario = scenario("sign by selector")

    choose = fn functions ->
      assert @every_way -- functions == []
      for function <- @every_way, way <- Crashes.ways(), do: {function, way}
    end

    assert %{problems: [], struck: struck} = Crashes.run(scenario, choose)
    assert length(struck) == length(@every_way) * length(Crashes.ways())
    assert undisturbed?(works)
  end

  defp scenario(name), do: Enum.find(Crashes.scenarios(), &(&1.name == name))

  # Another one in each.
  defp sample(functions) do
    function = Enum.random(functions)
    [{function, Enum.random(Crashes.ways())}]
  end
end
