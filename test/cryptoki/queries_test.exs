defmodule Cryptoki.QueriesTest do
  # How long an answer is: some libraries refuse to say, or leave the length as it was.
  use ExUnit.Case, async: false

  alias Cryptoki.Test.FaultyModule

  setup do: FaultyModule.own()

  @told "rv=0x150 after_forward only=query"
  @not_told "rv=0x150 only=query"
  @bad "rv=0x7 only=query"

  for {name, rule} <- [
        refused: "C_GetMechanismList #{@told}\nC_GetSlotList #{@told}",
        refused_without_a_count: "C_GetMechanismList #{@not_told}\nC_GetSlotList #{@not_told}",
        arguments_bad: "C_GetMechanismList #{@bad}\nC_GetSlotList #{@bad}",
        untouched:
          "lie C_GetMechanismList count=untouched only=query\n" <>
            "lie C_GetSlotList count=untouched only=query"
      ] do
    test "slots and mechanisms are read though the question is answered so: #{name}", context do
      %{module: module} = context
      place = Keyword.take(FaultyModule.options(module), [:library, :init_args])
      {:ok, slots} = Cryptoki.slots(place)
      FaultyModule.control(module, unquote(rule))

      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
      assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
      assert {:ok, found} = Cryptoki.slots(hsm)
      assert Enum.map(found, & &1.id) == Enum.map(slots, & &1.id)
      {:ok, mechanisms} = Cryptoki.mechanisms(hsm)
      assert :sha256 in mechanisms

      FaultyModule.control(module, "")
      assert {:ok, ^mechanisms} = Cryptoki.mechanisms(hsm)
    end
  end

  test "attributes are read though their lengths are not told", %{module: module} do
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 1)})
    pair = [label: "pair", modulus_bits: 2048]
    {public, _private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, pair)
    # Longer than what is tried first.
    long = Cryptoki.create!(hsm, class: :data, label: "long", value: :binary.copy("v", 70_000))

    names = [:class, :label, :id, :modulus, :modulus_bits, :verify]

    read = fn ->
      {Cryptoki.attributes!(hsm, public, names), Cryptoki.attributes!(hsm, long, [:value])}
    end

    expected = read.()

    FaultyModule.control(module, "lie C_GetAttributeValue length=untouched only=query")
    assert read.() == expected
    assert {:ok, %{label: "pair"}} = Cryptoki.find_one(hsm, label: "pair", class: :public_key)
  end
end
