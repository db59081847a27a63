defmodule Cryptoki.SearchTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Test.FaultyModule

  test "what a selector says is for the token to look for, however much there is on it" do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    for n <- 1..200, do: Cryptoki.create!(hsm, class: :data, label: "#{n}", application: "many")

    {object, calls} =
      FaultyModule.calls(module, fn -> Cryptoki.find_one!(hsm, class: :data, label: "77") end)

    assert object.label == "77"
    assert count(calls, "C_FindObjectsInit") == 1
    # Of the one that was found: its description and its fingerprint, each a length and a value.
    assert count(calls, "C_GetAttributeValue") <= 24
  end

  defp count(calls, function), do: Enum.count(calls, &(elem(&1, 0) == function))
end
