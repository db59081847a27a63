defmodule Cryptoki.AttemptsTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Attempts, Error}

  @absent Error.new(:token_absent, "no token")

  # The library is initialised anew whenever it is due, and `answer` comes of it.
  defp after_failures(errors_and_others, answer \\ :ok) do
    Enum.scan(errors_and_others, %Attempts{}, fn {error, others}, attempts ->
      attempts =
        if Attempts.reinitialize?(attempts),
          do: Attempts.reinitialized(attempts, answer),
          else: attempts

      refute Attempts.reinitialize?(attempts)
      Attempts.failed(attempts, error, others)
    end)
  end

  # After which of them it is due.
  defp due(attempts),
    do: for({one, n} <- Enum.with_index(attempts, 1), Attempts.reinitialize?(one), do: n)

  defp seen(labels), do: for(label <- labels, do: {@absent, List.wrap(label && {0, label})})
  defp failures(attempts), do: Enum.map(attempts, & &1.failures)

  test "where other tokens are, the library is initialised anew less and less often" do
    assert due(after_failures(seen(List.duplicate("a", 100)))) == [4, 8, 16, 32, 64]
  end

  test "while others use it, it stays due" do
    busy = {:error, Error.new(:busy, "in use")}
    attempts = after_failures(seen(List.duplicate("a", 7)), busy)
    assert due(attempts) == [4, 5, 6, 7]
    assert Enum.map(attempts, & &1.refused) == [false, false, false, false, true, true, true]
  end

  test "other tokens than before are looked at anew" do
    attempts = after_failures(seen(~w(a a a b b b b b a a a a)))
    assert due(attempts) == [7, 12]
    # The first of each is tried again as soon as can be.
    assert failures(attempts) == [1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3, 4]
  end

  test "what looks different because the library was initialised anew does not begin anew" do
    attempts = after_failures(seen(~w(a a a a b b b b c c c c c c c c)))
    assert due(attempts) == [4, 8, 16]
    assert failures(attempts) == Enum.to_list(1..16)
    # Nor do readers that it finds a little later.
    attempts = after_failures(seen(~w(a a a a) ++ [nil] ++ List.duplicate("a", 9)))
    assert due(attempts) == [4, 13]
    assert failures(attempts) == Enum.to_list(1..14)
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

    for {attempts, full} <- Enum.zip(failed, [100, 200, 400, 800, 800, 800]),
        _ <- 1..50,
        do: assert(Attempts.delay(attempts, pauses) in div(full, 2)..full)

    assert Attempts.connected(List.last(failed)) == %Attempts{}
  end

  test "a token that comes is reason for hope; others only for one that found none" do
    [absent] = after_failures(seen(["a"]))
    assert Attempts.hopeful?(absent, :came)
    assert Attempts.hopeful?(absent, :changed)
    refute Attempts.hopeful?(absent, :same)
    assert Attempts.news(absent, :came) == %Attempts{}
    assert Attempts.news(absent, :changed) == absent

    [silent] = after_failures([{Error.new(:timeout, "the PIN was not typed"), []}])
    assert Attempts.hopeful?(silent, :came)
    refute Attempts.hopeful?(silent, :changed)
  end
end
