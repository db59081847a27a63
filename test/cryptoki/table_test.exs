defmodule Cryptoki.TableTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Table, Width}

  doctest Cryptoki.Table
  doctest Cryptoki.Width

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

  test "columns stand below each other, whatever the width of a character is" do
    rows = [["1", "鍵", "a"], ["2", "e\u0301t\u00e9", "b"], ["3", "🔑", "c"], ["4", "한글 ключ", "d"]]
    lines = ~w[slot label state] |> Table.format(rows, 80) |> String.split("\n", trim: true)

    for line <- Enum.drop(lines, 2) do
      [before, _last] = String.split(line, ~r/(?=[abcd]$)/)
      assert Width.of(before) == Width.of("slot  ---------  "), line
    end

    # A wide character is not cut in two.
    cut = ~w[slot label state] |> Table.format([["1", String.duplicate("鍵", 20), "a"]], 24)
    for line <- String.split(cut, "\n"), do: assert(Width.of(line) <= 24, line)
    assert cut =~ "鍵鍵..   a\n"
  end

  test "a label does not turn the line around" do
    assert Table.format(["label"], [["a\u202Eb\u2066c\u200Bd"]], 80) =~ "\na?b?c?d\n"
  end

  test "widths are those of Python's tables of Unicode" do
    script = """
    import unicodedata as u
    print(u.unidata_version)
    for c in range(0x110000):
        category = u.category(chr(c))
        if category in ("Cn", "Cs", "Co", "Cc", "Cf", "Mn", "Me", "Zl", "Zp"): continue
        print(c, 2 if u.east_asian_width(chr(c)) in "WF" else 1)
    """

    assert {text, 0} = System.cmd("python3", ["-c", script])
    [version | lines] = String.split(text, "\n", trim: true)
    assert length(lines) > 100_000

    other =
      for line <- lines,
          [code, width] = line |> String.split() |> Enum.map(&String.to_integer/1),
          # What is a mark has changed from one Unicode to the next.
          not (<<code::utf8>> =~ ~r/\p{M}/u),
          Width.of(<<code::utf8>>) != width,
          do: code

    # Hexagrams and their like are wide since 16, of which our table is; a later one may have a few new emoji.
    case version |> String.split(".") |> hd() |> String.to_integer() do
      before when before < 16 ->
        hexagram? = &(&1 in 0x2630..0x268F or &1 in 0x4DC0..0x4DFF or &1 in 0x1D300..0x1D376)
        assert Enum.reject(other, hexagram?) == []

      16 ->
        assert other == []

      _later ->
        assert length(other) < 100
    end
  end
end
