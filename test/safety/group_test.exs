defmodule Cryptoki.GroupSafetyTest do
  # A million signatures by a group among whose members everything goes wrong. CRYPTOKI_GROUP_CALLS says how many.
  use ExUnit.Case, async: false

  alias Cryptoki.Group
  alias Cryptoki.Test
  alias Cryptoki.Test.Reliability

  @moduletag :safety
  @moduletag :capture_log
  @moduletag timeout: :infinity

  @callers 64
  @calls System.get_env("CRYPTOKI_GROUP_CALLS", "1000000") |> String.to_integer()
  # What is answered is kept until it is counted.
  @round 50_000

  test "none wrong, none lost, none executed twice" do
    five = Test.Group.five(__MODULE__.Group)
    healthy = rounds(five, min(@calls, @round))
    Test.Group.disturb(five)
    disturbed = rounds(five, @calls)
    assert disturbed.ok + disturbed.maybe == disturbed.asked
    assert disturbed.signed in disturbed.ok..(disturbed.ok + disturbed.maybe)
    assert disturbed.another == 0

    Reliability.record(
      :number,
      "group: signatures, of which errors",
      "#{disturbed.ok}, #{disturbed.maybe}"
    )

    p99 = "#{healthy.p99}, #{disturbed.p99}"
    Reliability.record(:number, "group: p99 in microseconds, healthy and disturbed", p99)
    Test.Group.calm(five)
    _ = rounds(five, @round)
    {:ok, status} = Group.status(five.group)

    shares =
      for member <- status.members,
          do: "#{inspect(member.member)} #{Float.round(member.share, 3)}"

    Reliability.record(:number, "group: shares at the end", Enum.join(shares, ", "))
    good = for kind <- ~w[hangs reboots busy slow]a, do: five.names[kind]

    Test.Group.await(
      five.group,
      &Enum.all?(&1.members, fn one -> one.member not in good or one.state == :in end)
    )
  end

  defp rounds(five, calls) do
    none = %{asked: 0, ok: 0, maybe: 0, signed: 0, another: 0, p99: 0}

    Enum.reduce(1..max(div(calls, @round), 1), none, fn _round, sum ->
      each = max(div(min(calls, @round), @callers), 1)

      %{ok: ok, times: times, errors: errors, signed: signed} =
        Test.Group.sign(five, @callers, each)

      assert Enum.all?(errors, &(&1.executed == :maybe)),
             inspect(Enum.frequencies_by(errors, & &1.reason))

      %{
        asked: sum.asked + each * @callers,
        ok: sum.ok + ok,
        maybe: sum.maybe + length(errors),
        signed: sum.signed + Enum.sum(Map.values(signed)),
        another: sum.another + signed.another,
        # The worst of the rounds.
        p99: max(sum.p99, Enum.at(times, div(length(times) * 99, 100)))
      }
    end)
  end
end
