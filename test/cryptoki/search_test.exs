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
    # Of the one that was found.
    assert count(calls, "C_GetAttributeValue") <= 2
  end

  test "a list is whole, however long the token takes to read each" do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    labels = for n <- 1..9, do: "slow #{n}"
    for label <- labels, do: Cryptoki.create!(hsm, class: :data, label: label)
    FaultyModule.control(module, "C_GetAttributeValue delay=11")
    assert Enum.sort(for key <- Cryptoki.find!(hsm, class: :data), do: key.label) == labels
  end

  # Private objects are not shown then, and that is called success.
  test "a token that has lost the login has not lost its keys" do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    names = [label: "private", token: true, private: [private: true]]
    Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, [curve: :secp256r1] ++ names)
    private = [class: :private_key, label: "private"]

    for find <- [&Cryptoki.find(hsm, &1), &List.wrap(Cryptoki.find_one!(hsm, &1))] do
      FaultyModule.control(module, "logout # #{inspect(find)}")
      found = with {:ok, keys} <- find.(private), do: keys
      assert [%{class: :private_key}] = found
    end

    assert {:ok, []} = Cryptoki.find(hsm, class: :private_key, label: "another")
  end

  defp count(calls, function), do: Enum.count(calls, &(elem(&1, 0) == function))
end
