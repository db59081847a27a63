defmodule Cryptoki.ManyObjectsTest do
  # Ten thousand objects on a token. Not async: it watches the memory of the VM.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.FaultyModule

  @objects 10_000
  @most 16 * 1024 * 1024

  setup_all do
    module = FaultyModule.new()
    options = FaultyModule.options(module, sessions: 1, timeout: :infinity)
    hsm = start_supervised!({Cryptoki, options})

    for n <- 1..@objects do
      Cryptoki.create!(hsm, class: :data, label: "#{n}", application: "many", token: true)
    end

    %{module: module, hsm: hsm}
  end

  @tag timeout: :infinity
  test "all of them are found, and none is held longer than it is looked at", %{hsm: hsm} do
    :erlang.garbage_collect()
    before = :erlang.memory(:total)

    {labels, most} =
      hsm
      |> Cryptoki.stream(class: :data, application: "many")
      |> Enum.reduce({MapSet.new(), 0}, fn object, {labels, most} ->
        {MapSet.put(labels, object.label), max(most, :erlang.memory(:total) - before)}
      end)

    assert MapSet.size(labels) == @objects
    assert most < @most

    assert {:ok, objects} = Cryptoki.find(hsm, class: :data, application: "many")
    assert objects |> MapSet.new(& &1.label) |> MapSet.equal?(labels)
  end

  test "what a selector says is for the token to look for", %{hsm: hsm, module: module} do
    {object, calls} =
      FaultyModule.calls(module, fn -> Cryptoki.find_one!(hsm, class: :data, label: "7777") end)

    assert object.label == "7777"
    assert count(calls, "C_FindObjectsInit") == 1
    # Of the one that was found: its description and its fingerprint, each a length and a value.
    assert count(calls, "C_GetAttributeValue") <= 24
    assert length(calls) < 40
  end

  defp count(calls, function), do: Enum.count(calls, &(elem(&1, 0) == function))
end
