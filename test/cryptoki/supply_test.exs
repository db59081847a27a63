defmodule Cryptoki.SupplyTest do
  # How many sessions a token is asked for, after what it has said.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, Supply}

  test "only what means a limit is one" do
    for reason <- [:session_count, :device_memory, :token_resource_exceeded],
        do: assert(asked(reason).limit == 2)

    for reason <- [
          :device_error,
          :general_error,
          :function_failed,
          :timeout,
          :host_memory
        ] do
      supply = asked(reason)
      assert supply.limit == 4 and supply.shortage.reason == reason
    end
  end

  test "a limit holds until one has gone, or the pause is over" do
    limited = asked(:session_count)
    assert Supply.again(limited).limit == 4
    assert Supply.reminded(limited).limit == 4
    assert Supply.asked(Supply.again(limited), 4, nil).shortage == nil
  end

  defp asked(reason), do: Supply.asked(Supply.new(4), 2, Error.new(reason, nil))
end
