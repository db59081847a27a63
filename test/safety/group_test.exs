defmodule Cryptoki.GroupSafetyTest do
  # A million signatures by a group among whose members everything goes wrong, in turn with rounds in which all is well:
  # what else a machine does is in both. CRYPTOKI_GROUP_CALLS says how many.
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
  @healthy 5_000
  @good ~w[hangs reboots busy slow]a

  test "none wrong, none lost, none executed twice" do
    five = Test.Group.five(__MODULE__.Group)
    rounds = for _ <- 1..max(div(@calls, @round), 1), do: in_turn(five)
    sum = fn what -> rounds |> Enum.map(&elem(&1, 1)[what]) |> Enum.sum() end
    assert sum.(:ok) + sum.(:maybe) == sum.(:asked)
    assert sum.(:signed) in sum.(:ok)..(sum.(:ok) + sum.(:maybe))
    assert sum.(:another) == 0

    number("group: signatures, of which errors", "#{sum.(:ok)}, #{sum.(:maybe)}")
    p99 = fn side -> rounds |> Enum.map(&elem(&1, side).p99) |> median() end

    number(
      "group: p99 in microseconds, healthy and disturbed, medians of #{length(rounds)} rounds in turn",
      "#{p99.(0)}, #{p99.(1)}"
    )

    ratio = rounds |> Enum.map(fn {healthy, disturbed} -> disturbed.p99 / healthy.p99 end)
    number("group: p99 disturbed by healthy, median of the rounds", decimals(median(ratio)))

    before = well(five)

    after_all =
      five |> Test.Group.sign(@callers, div(@healthy, @callers), false) |> Map.fetch!(:ok)

    assert after_all == div(@healthy, @callers) * @callers
    shares = five |> calls() |> Enum.map(fn {kind, calls} -> {kind, calls - before[kind]} end)
    assert Enum.all?(shares, fn {kind, calls} -> kind == :another or calls > 0 end)
    all = shares |> Enum.map(&elem(&1, 1)) |> Enum.sum()

    number(
      "group: shares when all is well again",
      Enum.map_join(shares, ", ", fn {kind, calls} -> "#{kind} #{decimals(calls / all)}" end)
    )
  end

  defp in_turn(five) do
    well(five)
    healthy = signed(five, @healthy, false)
    Test.Group.disturb(five)
    disturbed = signed(five, min(@calls, @round), true)
    Test.Group.calm(five)
    {healthy, disturbed}
  end

  # All are in, and what hung has ended.
  defp well(five) do
    Test.Group.calm(five)
    in? = fn status, kind -> Test.Group.of(status, five.names[kind]).state == :in end
    _ = Test.Group.sign(five, @callers, 2, false)
    {:ok, status} = Group.status(five.group)
    if Enum.all?(@good, &in?.(status, &1)), do: calls(five), else: well(five)
  end

  defp calls(five) do
    {:ok, status} = Group.status(five.group)
    Map.new(five.names, fn {kind, name} -> {kind, Test.Group.of(status, name).calls} end)
  end

  defp signed(five, calls, reboots?) do
    each = max(div(calls, @callers), 1)

    %{ok: ok, times: times, errors: errors, signed: signed} =
      Test.Group.sign(five, @callers, each, reboots?)

    assert Enum.all?(errors, &(&1.executed == :maybe)),
           inspect(Enum.frequencies_by(errors, & &1.reason))

    %{
      asked: each * @callers,
      ok: ok,
      maybe: length(errors),
      signed: Enum.sum(Map.values(signed)),
      another: signed.another,
      p99: Enum.at(times, div(length(times) * 99, 100))
    }
  end

  defp median(numbers), do: numbers |> Enum.sort() |> Enum.at(div(length(numbers), 2))
  defp decimals(number), do: :erlang.float_to_binary(number / 1, decimals: 2)
  defp number(what, reached), do: Reliability.record(:number, what, reached)
end
