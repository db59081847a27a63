defmodule Cryptoki.TableTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Table

  doctest Cryptoki.Table

  @header ~w[slot label state]
  @rows [["1", String.duplicate("l", 40), "ready"], ["2", "short", nil]]

  test "fits any width, the widest column giving way first" do
    for width <- [30, 40, 79, 200, :infinity] do
      lines = @header |> Table.format(@rows, width) |> String.split("\n")
      for line <- lines, do: assert(String.length(line) <= width, line)
      assert Enum.at(lines, 2) =~ ~r/^1 +l+(\.\.)? +ready$/
    end

    assert Table.format(@header, @rows, 30) =~ "llll..  ready"
    refute Table.format(@header, @rows, :infinity) =~ ".."
  end

  test "no column gets so narrow that it says nothing" do
    assert Table.format(@header, @rows, 3) =~ "1     llllll..  ready"
  end

  test "what is written on a token does not drive the terminal" do
    text = Table.format(["label"], [["a\e[2Jb\nc\u009bd"], [<<255, 0>>]], 80)

    assert text ==
             "label\n---------\na?[2Jb?c?d\n<<255, 0>>\n"
             |> String.replace("---------", "----------")

    assert Table.pairs([{"label", "a\rb"}], 80) == "label  a?b\n"
  end
end
