defmodule Cryptoki.ReconnectTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Reconnect, Error}

  @absent Error.new(:token_absent, "no token")

  # The library is initialised anew whenever it is due, and `answer` comes of it.
  defp after_failures(errors_and_others, answer \\ :ok) do
    Enum.scan(errors_and_others, %Reconnect{}, fn {error, others}, reconnect ->
      reconnect =
        if Reconnect.reinitialize?(reconnect),
          do: Reconnect.reinitialized(reconnect, answer),
          else: reconnect

      refute Reconnect.reinitialize?(reconnect)
      Reconnect.failed(reconnect, error, others)
    end)
  end

  # After which of them it is due.
  defp due(reconnect),
    do: for({one, n} <- Enum.with_index(reconnect, 1), Reconnect.reinitialize?(one), do: n)

  defp seen(labels), do: for(label <- labels, do: {@absent, List.wrap(label && {0, label})})
  defp failures(reconnect), do: Enum.map(reconnect, & &1.failures)

  test "where other tokens are, the library is initialised anew less and less often" do
    assert due(after_failures(seen(List.duplicate("a", 100)))) == [4, 8, 16, 32, 64]
  end

  test "while others use it, it stays due" do
    busy = {:error, Error.new(:busy, "in use")}
    reconnect = after_failures(seen(List.duplicate("a", 7)), busy)
    assert due(reconnect) == [4, 5, 6, 7]
    assert Enum.map(reconnect, & &1.refused) == [false, false, false, false, true, true, true]
  end

  test "other tokens than before are looked at anew" do
    reconnect = after_failures(seen(~w(a a a b b b b b a a a a)))
    assert due(reconnect) == [7, 12]
    # The first of each is tried again as soon as can be.
    assert failures(reconnect) == [1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3, 4]
  end

  test "what looks different because the library was initialised anew does not begin anew" do
    reconnect = after_failures(seen(~w(a a a a b b b b c c c c c c c c)))
    assert due(reconnect) == [4, 8, 16]
    assert failures(reconnect) == Enum.to_list(1..16)
    # Nor do readers that it finds a little later.
    reconnect = after_failures(seen(~w(a a a a) ++ [nil] ++ List.duplicate("a", 9)))
    assert due(reconnect) == [4, 13]
    assert failures(reconnect) == Enum.to_list(1..14)
  end

  test "empty slots are no reason, nor is another trouble in between" do
    assert due(after_failures(seen(List.duplicate(nil, 20)))) == []
    [other] = seen(["a"])
    gone = {Error.new(:timeout, "late"), []}
    assert due(after_failures([other, other, other, gone, other])) == []
  end

  test "a library that says it is not initialised is initialised at once, one in trouble after three" do
    failure = fn name, n -> List.duplicate({Error.new(name, "no"), []}, n) end
    assert due(after_failures(failure.(:cryptoki_not_initialized, 3))) == [1, 2, 3]
    assert due(after_failures(failure.(:general_error, 7))) == [3, 6]
  end

  test "the delay doubles to the longest, less up to a half" do
    pauses = %{min: 100, max: 800}
    failed = after_failures(seen(List.duplicate(nil, 6)))

    for {reconnect, full} <- Enum.zip(failed, [100, 200, 400, 800, 800, 800]),
        _ <- 1..50,
        do: assert(Reconnect.delay(reconnect, pauses) in div(full, 2)..full)

    assert Reconnect.connected(List.last(failed)) == %Reconnect{}
  end

  test "a library that crashes at its first work each time is started less and less often, until something works" do
    crash = fn worked, reconnect ->
      crashed = Error.new(:library_crashed, "SIGSEGV")
      reconnect |> Reconnect.crashed(worked) |> Reconnect.failed(crashed, [])
    end

    crashes = fn worked ->
      worked
      |> Enum.map_reduce(%Reconnect{}, fn worked, reconnect ->
        lost = crash.(worked, reconnect)
        {lost.failures, Reconnect.connected(lost)}
      end)
      |> elem(0)
    end

    assert crashes.([0, 0, 0, 0]) == [1, 2, 3, 4]
    assert crashes.([7, 7, 8, 8, 8, 9]) == [1, 2, 1, 2, 3, 1]
    # What fails while it connects comes on top.
    twice = crash.(7, Reconnect.connected(crash.(7, %Reconnect{})))
    assert Reconnect.failed(twice, @absent, []).failures == 3
  end

  test "a token that comes is reason for hope; others only for one that found none" do
    [absent] = after_failures(seen(["a"]))
    assert Reconnect.hopeful?(absent, :came)
    assert Reconnect.hopeful?(absent, :changed)
    refute Reconnect.hopeful?(absent, :same)
    assert Reconnect.news(absent, :came) == %Reconnect{}
    assert Reconnect.news(absent, :changed) == absent

    [silent] = after_failures([{Error.new(:timeout, "the PIN was not typed"), []}])
    assert Reconnect.hopeful?(silent, :came)
    refute Reconnect.hopeful?(silent, :changed)
  end
end
