defmodule Cryptoki.GroupProofTest do
  # A group among whose members everything goes wrong at once, signed with by 64 callers: no signature is wrong, no
  # call is lost, none is executed twice. test/safety/group_test.exs does it for longer.
  use ExUnit.Case, async: false

  alias Cryptoki.Group
  alias Cryptoki.Test

  test "hanging, rebooting, with another key, full and slow members: every signature is right and made once" do
    five = Test.Group.five(__MODULE__.Group)
    {:ok, _} = Cryptoki.sign(five.group, [label: "invoice"], :sha256_rsa_pkcs, "data")
    Test.Group.disturb(five)
    %{ok: ok, errors: errors, signed: signed} = Test.Group.sign(five, 64, 40)

    # None is lost: each has its signature, or an error that says that it may have been made.
    assert ok + length(errors) == 64 * 40
    assert Enum.uniq(for error <- errors, do: error.executed) -- [:maybe] == []
    assert Enum.all?(errors, &(&1.member in Map.values(five.names)))
    # What a token has signed somebody has, or was told of.
    assert Enum.sum(Map.values(signed)) in ok..(ok + length(errors))
    assert signed.another == 0

    # All is well again: they come back one by one, and the load spreads.
    Test.Group.calm(five)
    before = calls(five)

    spread(five, fn now ->
      for kind <- ~w[hangs reboots busy slow]a,
          do: now[five.names[kind]] > before[five.names[kind]] + 50
    end)

    {:ok, status} = Group.status(five.group)
    assert Test.Group.of(status, five.names.another).calls == 0
    alone(five, %{five.names.another => :another_key})
  end

  defp calls(five) do
    {:ok, status} = Group.status(five.group)
    Map.new(status.members, &{&1.member, &1.calls})
  end

  # A member that had too much to do to say which key it has is asked again.
  defp alone(five, not_on) do
    _ = Test.Group.sign(five, 4, 5)
    {:ok, status} = Group.status(five.group)
    unless match?([%{not_on: ^not_on}], status.keys.not_everywhere), do: alone(five, not_on)
  end

  defp spread(five, all) do
    _ = Test.Group.sign(five, 16, 20)
    if Enum.all?(all.(calls(five))), do: :ok, else: spread(five, all)
  end
end
