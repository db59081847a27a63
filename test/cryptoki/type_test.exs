defmodule Cryptoki.TypeTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Type

  test "types of terms are told without showing them" do
    terms = [nil, true, :a, -1, 1, 1.0, "s", <<1::3>>, [], {}, %{}, Date.utc_today(), &is_atom/1]

    assert Enum.map(terms, &Type.of/1) == [
             "nil",
             "a boolean",
             "an atom",
             "a negative integer",
             "an integer",
             "a float",
             "a binary",
             "a bitstring",
             "a list",
             "a tuple of 0",
             "a map",
             "a %Date{}",
             "a function"
           ]
  end
end
