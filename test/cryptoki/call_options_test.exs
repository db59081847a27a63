defmodule Cryptoki.CallOptionsTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{CallOptions, Options.Table}

  @table [
    hash: [
      cast: {:one_of, [:sha256, :sha512]},
      must: ":sha256 or :sha512",
      type: ":sha256 | :sha512",
      default: :sha512,
      doc: "the hash"
    ],
    count: [
      cast: {:integer, 1, :infinity},
      must: "1 or more",
      type: "pos_integer",
      doc: "how many"
    ],
    even: [cast: &__MODULE__.even/1, must: "an even number", type: "integer", doc: "another"],
    key_id: [cast: :line, must: "text on one line", type: "String.t()", doc: "a name"],
    at: [cast: :datetime, must: "a DateTime", type: "DateTime.t()", doc: "when"],
    word: [cast: :iodata, must: "iodata", secret: true, type: "iodata", doc: "a word"]
  ]

  def even(0), do: {:error, "is nothing"}
  def even(n), do: is_integer(n) and rem(n, 2) == 0 and {:ok, div(n, 2)}

  test "own options are cast and have their defaults, those of calls are handed on as they are" do
    pin = fn -> "1234" end

    for opts <- [
          [timeout: 5, pin: pin, count: 3, even: 8, at: nil],
          %{timeout: 5, pin: pin, count: 3, even: 8}
        ] do
      {own, call} = CallOptions.split!(opts, @table)
      assert Enum.sort(own) == [count: 3, even: 4, hash: :sha512]
      assert Enum.sort(call) == [pin: pin, timeout: 5]
    end

    assert CallOptions.split!([], @table) == {[hash: :sha512], []}

    # In the order of a map, which is another one since OTP 26.
    {own, call} = CallOptions.split!([x: 1, y: false, timeout: 1], [:x, :y])
    assert {Enum.sort(own), call} == {[x: 1, y: false], [timeout: 1]}
  end

  test "mistakes are told by name, with what it must be" do
    for {opts, message} <- [
          {[hash: :sha1], "hash: must be :sha256 or :sha512, got: :sha1"},
          {[hash: false], "hash: must be :sha256 or :sha512, got: false"},
          {[hahs: :sha256],
           ~r/^unknown option :hahs, did you mean :hash\?; known: :hash, :count/},
          {%{hahs: :sha256}, ~r/did you mean :hash\?/},
          {%{"hash" => :sha256}, ~r/^unknown option "hash"; known: :hash/},
          {[count: 0], "count: must be 1 or more, got: 0"},
          {[count: 1.0], "count: must be 1 or more, got: 1.0"},
          {[even: 3], "even: must be an even number, got: 3"},
          {[even: 0], "even: is nothing"},
          {[key_id: "a\nb"], ~S(key_id: must be text on one line, got: "a\nb")},
          {[key_id: <<255>>], "key_id: must be text on one line, got: <<255>>"},
          {[at: ~D[2026-01-01]], "at: must be a DateTime, got: ~D[2026-01-01]"},
          {[word: {"hush"}], "word: must be iodata, got: a tuple of 1"},
          {[timeout: 0], ~r/^timeout: must be milliseconds/},
          {[timeout: "5"], ~r/^timeout: must be milliseconds/},
          {[metadata: [a: 1]], "metadata: must be a map, got: [a: 1]"},
          {[pin: {"hush"}], ~r/^pin: must be .*, got: a tuple of 1$/},
          {[hash: :sha256, hash: :sha512], "hash: is given twice"},
          {[count: 1, timeout: 1, timeout: 2], "timeout: is given twice"},
          {:none, "expected a keyword list or a map, got: an atom"},
          {["a"], "expected a keyword list or a map, got: a list"},
          {[{:count, 1} | :count], "expected a keyword list or a map, got: a list"},
          {~D[2026-01-01], ~r/^unknown option/}
        ] do
      assert_raise ArgumentError, message, fn -> CallOptions.split!(opts, @table) end
    end

    assert_raise ArgumentError, ~r/^unknown option :pin; known: :hash.*:timeout$/, fn ->
      CallOptions.split!([pin: "1"], @table, [:timeout])
    end
  end

  test "the documentation and the type come from the table" do
    assert Table.docs(Keyword.take(@table, [:hash, :count])) ==
             "  * `hash:` (`:sha256 | :sha512`): the hash. Default: `:sha512`.\n" <>
               "  * `count:` (`pos_integer`): how many."

    assert @table |> Keyword.take([:hash, :count]) |> Table.type() |> Macro.to_string() ==
             "{:hash, :sha256 | :sha512} | {:count, pos_integer}"
  end
end
