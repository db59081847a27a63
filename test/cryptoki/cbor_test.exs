defmodule Cryptoki.CBORTest do
  use ExUnit.Case, async: true

  # CBOR, written in its one form and read within bounds; cbor2 of PyPI is the other opinion.

  alias Cryptoki.CBOR
  alias Cryptoki.CBOR.Reader
  alias Cryptoki.Test.COSE

  @most 1_048_576

  # RFC 8949, appendix A, as far as there is a form here.
  @examples [
    {0, "00"},
    {23, "17"},
    {24, "1818"},
    {255, "18ff"},
    {256, "190100"},
    {1_000_000, "1a000f4240"},
    {0xFFFFFFFFFFFFFFFF, "1bffffffffffffffff"},
    {-1, "20"},
    {-24, "37"},
    {-25, "3818"},
    {-0x10000000000000000, "3bffffffffffffffff"},
    {0.0, "f90000"},
    {1.5, "f93e00"},
    {65_504.0, "f97bff"},
    {100_000.0, "fa47c35000"},
    {1.1, "fb3ff199999999999a"},
    {5.960464477539063e-8, "f90001"},
    {false, "f4"},
    {true, "f5"},
    {nil, "f6"},
    {{:simple, 23}, "f7"},
    {{:simple, 16}, "f0"},
    {{:simple, 255}, "f8ff"},
    {{:tag, 1, 1_363_896_240}, "c11a514b67b0"},
    {"", "40"},
    {<<1, 2, 3, 4>>, "4401020304"},
    {{:text, ""}, "60"},
    {{:text, "ü"}, "62c3bc"},
    {[], "80"},
    {[1, [2, 3]], "8201820203"},
    {%{}, "a0"},
    {%{1 => 2, 3 => 4}, "a201020304"},
    {%{{:text, "a"} => 1, {:text, "b"} => [2, 3]}, "a26161016162820203"}
  ]

  test "what the standard shows is written and read so" do
    for {term, hex} <- @examples do
      bytes = Base.decode16!(hex, case: :lower)
      assert CBOR.encode!(term) == bytes
      assert Reader.decode(bytes, @most) === {:ok, term}
    end
  end

  test "keys are in the order of their bytes, and cbor2 writes the same" do
    map = %{
      10 => 1,
      100 => 2,
      -1 => 3,
      {:text, "z"} => 4,
      {:text, "aa"} => 5,
      [100] => 6,
      [-1] => 7,
      false => 8
    }

    keys = ["0a", "1864", "20", "617a", "626161", "811864", "8120", "f4"]
    <<0xA8, rest::binary>> = CBOR.encode!(map)
    assert keys_of(rest) == keys

    values = [
      {[1, -70_000, 2.5, nil, true], [1, -70_000, 2.5, nil, true]},
      {%{1 => "a", -3 => [], {:text, "k"} => {:text, "b"}},
       %{map: [["k", "b"], [-3, []], [1, %{bytes: "61"}]]}},
      {{:tag, 18, [<<0, 255>>, %{}]}, %{tag: 18, value: [%{bytes: "00ff"}, %{map: []}]}}
    ]

    answers = COSE.python(for {_term, json} <- values, do: %{do: "encode", value: json})
    assert answers == for({term, _json} <- values, do: COSE.hex(CBOR.encode!(term)))
  end

  defp keys_of(""), do: []

  defp keys_of(bytes) do
    size = Enum.find(1..4, &match?({:ok, _}, Reader.decode(binary_part(bytes, 0, &1), @most)))
    {key, <<_value, rest::binary>>} = :erlang.split_binary(bytes, size)
    [COSE.hex(key) | keys_of(rest)]
  end

  test "other lengths of heads and other orders are read" do
    for {hex, term} <- [
          {"1800", 0},
          {"190001", 1},
          {"1a00000001", 1},
          {"1b0000000000000001", 1},
          {"580161", "a"},
          {"980101", [1]},
          {"b8010203", %{2 => 3}},
          {"a203040102", %{1 => 2, 3 => 4}},
          {"fb3ff8000000000000", 1.5}
        ],
        do: assert(Reader.decode(COSE.bytes(hex), @most) === {:ok, term})
  end

  test "what is none is an error that says where" do
    for {hex, text} <- [
          {"", "byte 0: a value is missing"},
          {"0000", "byte 1: there are bytes behind its end"},
          {"18", "byte 0: its head is cut off"},
          {"1b00000000", "byte 0: its head is cut off"},
          {"1c", "byte 0: there is no such head"},
          {"5f4101ff", "byte 0: it has no length"},
          {"9f01ff", "byte 0: it has no length"},
          {"bf0101ff", "byte 0: it has no length"},
          {"ff", "byte 0: there is no such value"},
          {"f800", "there is no such value"},
          {"f818", "there is no such value"},
          {"f81f", "there is no such value"},
          {"f97c00", "there is no such value"},
          {"f97e00", "there is no such value"},
          {"fa7f800000", "there is no such value"},
          {"fc", "there is no such value"},
          {"4261", "byte 0: it has less than 2 bytes"},
          {"5bffffffffffffffff00", "it has less than 18446744073709551615 bytes"},
          {"62c3", "it has less than 2 bytes"},
          {"61ff", "its text is not UTF-8"},
          {"8201", "byte 2: a value is missing"},
          {"9bffffffffffffffff00", "a value is missing"},
          {"bbffffffffffffffff0000", "a value is missing"},
          {"a10100ff", "bytes behind"},
          {"a2010001", "byte 3: a key is there twice"},
          {"a20100180100", "byte 3: a key is there twice"},
          {"a101", "a value is missing"},
          {"c1", "a value is missing"}
        ] do
      assert {:error, said} = Reader.decode(COSE.bytes(hex), @most)
      assert said =~ text, hex
    end
  end

  test "depth, values and bytes have an end" do
    nested = fn levels, inner -> String.duplicate("81", levels) <> inner end
    assert {:ok, _} = Reader.decode(COSE.bytes(nested.(16, "00")), @most)
    assert {:error, text} = Reader.decode(COSE.bytes(nested.(17, "00")), @most)
    assert text =~ "more than 16 deep"
    assert {:error, _} = Reader.decode(COSE.bytes(String.duplicate("c1", 100_000)), @most)
    assert {:error, _} = Reader.decode(COSE.bytes(String.duplicate("a1", 100_000)), @most)

    assert {:error, text} =
             Reader.decode(<<0x9A, 1_000_000::32>> <> :binary.copy(<<0>>, 1_000_000), @most)

    assert text =~ "more than 16384 values"
    assert {:error, "it is longer than 3 bytes"} = Reader.decode("abcd", 3)
  end

  test "what has no form is a mistake, and is not shown" do
    secret = "7391pin7391"
    deep = Enum.reduce(1..17, 0, fn _, inner -> [inner] end)

    for term <- [
          0x10000000000000000,
          -0x10000000000000001,
          :atom,
          {:text, <<255>>},
          {:text, 5},
          {secret, 1},
          [1 | secret],
          {:simple, 24},
          {:simple, 20},
          {:tag, -1, 0},
          ~D[2026-01-01],
          deep,
          self()
        ] do
      error = assert_raise ArgumentError, fn -> CBOR.encode!(term) end
      refute error.message =~ secret
    end
  end
end
