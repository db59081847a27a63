defmodule Cryptoki.AttemptsTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Attempts, Error}

  @absent Error.new(:token_absent, "no token")

  defp after_failures(errors_and_others) do
    Enum.scan(errors_and_others, %Attempts{}, fn {error, others}, attempts ->
      Attempts.failed(attempts, error, others)
    end)
  end

  defp reinitializes(attempts),
    do: for({one, n} <- Enum.with_index(attempts, 1), Attempts.reinitialize?(one), do: n)

  test "where other tokens are, the library is initialised anew less and less often" do
    same = List.duplicate({@absent, [{0, "other"}]}, 100)
    assert reinitializes(after_failures(same)) == [4, 8, 16, 32, 64]
  end

  test "other tokens than before are looked at anew" do
    seen = for label <- ~w(a a a b b b b a a a a), do: {@absent, [{0, label}]}
    assert reinitializes(after_failures(seen)) == [7, 11]
    # The first of each is tried again as soon as can be.
    assert [1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4] = after_failures(seen) |> Enum.map(& &1.failures)
  end

  test "empty slots are no reason, nor is another trouble in between" do
    assert reinitializes(after_failures(List.duplicate({@absent, []}, 20))) == []
    other = {@absent, [{0, "other"}]}
    gone = {Error.new(:timeout, "late"), []}
    assert reinitializes(after_failures([other, other, other, gone, other])) == []
  end

  test "a library that says it is not initialised is initialised at once, one in trouble after three" do
    failure = fn name, n -> List.duplicate({Error.new(name, "no"), []}, n) end
    assert reinitializes(after_failures(failure.(:cryptoki_not_initialized, 3))) == [1, 2, 3]
    assert reinitializes(after_failures(failure.(:general_error, 7))) == [3, 6]
  end

  test "the delay doubles to the longest, less up to a half, and begins anew with hope" do
    pauses = %{min: 100, max: 800}
    failed = after_failures(List.duplicate({@absent, []}, 6))

    for {attempts, full} <- Enum.zip(failed, [100, 200, 400, 800, 800, 800]),
        _ <- 1..50,
        do: assert(Attempts.delay(attempts, pauses) in div(full, 2)..full)

    assert Attempts.delay(Attempts.hopeful(List.last(failed)), pauses) <= 100
    assert Attempts.connected(List.last(failed)) == %Attempts{}
  end
end
