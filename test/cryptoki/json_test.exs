defmodule Cryptoki.JSONTest do
  use ExUnit.Case, async: true

  # The same of both readers: OTP's, where it has one, and the one for releases without.

  alias Cryptoki.JSON

  @readers [&JSON.decode/1, &__MODULE__.read/1]

  @values %{
    ~S({}) => %{},
    ~S( { "a" : [ 1 , -0 , 12 ] , "b" : { "c" : null } } ) => %{
      "a" => [1, 0, 12],
      "b" => %{"c" => nil}
    },
    ~S([true,false,null,""]) => [true, false, nil, ""],
    ~S(1.5) => 1.5,
    ~S(-1e2) => -100.0,
    ~S(1.25E-2) => 0.0125,
    ~S("\"\\\/\b\f\n\r\t") => "\"\\/\b\f\n\r\t",
    ~S("\u00e9é\ud83d\ude00😀") => "éé😀😀",
    "\t\n\r []" => [],
    "[] \t\n\r" => []
  }

  for {text, value} <- @values do
    test "#{text}" do
      for reader <- @readers,
          do: assert(reader.(unquote(text)) == {:ok, unquote(Macro.escape(value))})

      again = JSON.encode!(unquote(Macro.escape(value)))
      assert read(again) == {:ok, unquote(Macro.escape(value))}
    end
  end

  test "anything else is no JSON" do
    for text <- [
          "",
          " ",
          "{",
          "{\"a\"}",
          "{\"a\":1,}",
          "{a:1}",
          "{1:1}",
          "{,}",
          "[1,]",
          "[,]",
          "[1 2]",
          "[1",
          "01",
          "-",
          "+1",
          "1.",
          ".5",
          "1e",
          "1e999",
          "NaN",
          "nul",
          "True",
          "\"",
          "\"\\x\"",
          "\"\\u12\"",
          "\"\\u+123\"",
          "\"\\ud800\"",
          "\"\\ud800\\u0041\"",
          "\"\\udc00\"",
          "\"\n\"",
          <<?", 0, ?">>,
          <<?", 255, ?">>,
          "[] []",
          "{}x",
          "\uFEFF{}"
        ],
        reader <- @readers,
        do: assert(reader.(text) == :error, inspect({text, reader}))
  end

  test "what stands in itself too deep, however long it is" do
    nested = fn opening, closing, levels ->
      String.duplicate(opening, levels) <> "1" <> String.duplicate(closing, levels)
    end

    for reader <- @readers, {opening, closing} <- [{"[", "]"}, {~s({"a":), "}"}] do
      assert {:ok, _value} = reader.(nested.(opening, closing, 64))
      assert reader.(nested.(opening, closing, 65)) == :error
      assert reader.(String.duplicate(opening, 1_000_000)) == :error
      # Side by side is not deep.
      many = Enum.map_join(1..1000, ",", fn _ -> nested.(opening, closing, 3) end)
      assert {:ok, [_ | _]} = reader.("[#{many}]")
    end

    deep = fn levels -> Enum.reduce(1..levels, 1, fn _, inner -> %{a: [inner]} end) end
    assert JSON.encode!(deep.(32)) =~ ~S({"a":[{"a":)
    assert_raise ArgumentError, ~r/at most 64 deep/, fn -> JSON.encode!(deep.(33)) end
    assert_raise ArgumentError, ~r/at most 64 deep/, fn -> JSON.encode!(deep.(100_000)) end
  end

  test "a number of more digits than any has that means something, by both readers" do
    for {digits, expected} <- [{400, {:ok, 10 ** 399}}, {401, :error}, {1_000_000, :error}] do
      text = "1" <> String.duplicate("0", digits - 1)
      assert JSON.decode(text) == expected
      assert JSON.Reader.decode(text, 64) == expected
    end
  end

  test "a name that is there twice in one object" do
    for reader <- @readers do
      assert reader.(~S({"a":1,"a":1})) == :error
      assert reader.(~S({"b":{"a":1,"\u0061":1}})) == :error
      assert reader.(~S([{"a":1},{"a":1}])) == {:ok, [%{"a" => 1}, %{"a" => 1}]}
    end
  end

  test "what is written has its members in order" do
    assert JSON.encode!(%{"B" => [1.0, true], b: 1, a: nil}) ==
             ~S({"B":[1.0,true],"a":null,"b":1})

    assert JSON.encode!("a\"\\\n\u0001é") == ~S("a\"\\\n\u0001é")
  end

  test "what has no form is refused" do
    for {term, text} <- [
          {{1}, "JSON has no form of a tuple of 1"},
          {:atom, "JSON has no form of an atom"},
          {%{1 => 2}, "the names of a map are strings or atoms"},
          {~D[2026-01-01], "JSON has no form of a %Date{}"},
          {<<255>>, "must be UTF-8"},
          {%{"a" => 1, a: 2}, "twice"}
        ],
        do: assert_raise(ArgumentError, ~r/#{text}/, fn -> JSON.encode!([term]) end)
  end

  def read(text), do: JSON.Reader.decode(text, 64)
end
