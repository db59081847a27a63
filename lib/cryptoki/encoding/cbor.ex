defmodule Cryptoki.CBOR do
  @moduledoc false
  # CBOR (RFC 8949) in its one deterministic form (section 4.2.1): the shortest heads, no indefinite lengths, keys of
  # maps in the order of their bytes. That of others is read in `Cryptoki.CBOR.Reader`. Pure.
  #
  # A binary is a byte string; text is `{:text, text}`, for here bytes are the rule.

  @typedoc "Floats that are no number have no form in Erlang, and none here."
  @type t ::
          integer
          | binary
          | {:text, String.t()}
          | [t]
          | %{t => t}
          | {:tag, non_neg_integer, t}
          | {:simple, 0..255}
          | boolean
          | nil
          | float

  # Lists, maps and tags stand in each other this deep at most, both ways.
  @levels 16
  @most 0xFFFFFFFFFFFFFFFF

  @doc "How deep they stand."
  @spec levels() :: pos_integer
  def levels, do: @levels

  @doc "The bytes; raises `ArgumentError` for what has no form, without showing it."
  @spec encode!(t) :: binary
  def encode!(term), do: term |> value(@levels) |> IO.iodata_to_binary()

  defp value(number, _levels) when is_integer(number) and number in 0..@most, do: head(0, number)

  defp value(number, _levels) when is_integer(number) and number in (-1 - @most)..-1//1,
    do: head(1, -1 - number)

  defp value(number, _levels) when is_float(number), do: float(number)
  defp value(bytes, _levels) when is_binary(bytes), do: [head(2, byte_size(bytes)), bytes]

  defp value({:text, text}, _levels) when is_binary(text) do
    unless String.valid?(text), do: raise(ArgumentError, "CBOR: a text must be UTF-8")
    [head(3, byte_size(text)), text]
  end

  defp value(false, _levels), do: <<0xF4>>
  defp value(true, _levels), do: <<0xF5>>
  defp value(nil, _levels), do: <<0xF6>>
  # Those between are reserved, and those before have a name (section 3.3).
  defp value({:simple, number}, _levels) when number in 0..19 or number == 23, do: head(7, number)
  defp value({:simple, number}, _levels) when number in 32..255, do: <<0xF8, number>>

  defp value(deep, 0) when is_list(deep) or is_map(deep) or is_tuple(deep) do
    raise ArgumentError, "CBOR: lists, maps and tags stand in each other at most #{@levels} deep"
  end

  # No improper one, which has no length.
  defp value(list, levels) when length(list) >= 0,
    do: [head(4, length(list)) | Enum.map(list, &value(&1, levels - 1))]

  defp value(map, levels) when is_map(map) and not is_struct(map) do
    pairs =
      for {key, value} <- map,
          do: {IO.iodata_to_binary(value(key, levels - 1)), value(value, levels - 1)}

    [head(5, map_size(map)) | for({key, value} <- List.keysort(pairs, 0), do: [key, value])]
  end

  defp value({:tag, number, value}, levels) when is_integer(number) and number in 0..@most,
    do: [head(6, number), value(value, levels - 1)]

  # Only what kind of thing it is: it may be a secret in the wrong place.
  defp value(other, _levels),
    do: raise(ArgumentError, "CBOR has no form of #{Cryptoki.Type.of(other)}")

  defp head(major, number) when number < 24, do: <<major::3, number::5>>
  defp head(major, number) when number < 0x100, do: <<major::3, 24::5, number>>
  defp head(major, number) when number < 0x10000, do: <<major::3, 25::5, number::16>>
  defp head(major, number) when number < 0x100000000, do: <<major::3, 26::5, number::32>>
  defp head(major, number), do: <<major::3, 27::5, number::64>>

  # The shortest that is the same number.
  defp float(number) do
    cond do
      same?(<<number::float-16>>, number) -> <<0xF9, number::float-16>>
      same?(<<number::float-32>>, number) -> <<0xFA, number::float-32>>
      true -> <<0xFB, number::float-64>>
    end
  end

  # Bits that are no number are none of these.
  defp same?(<<half::float-16>>, number), do: half == number
  defp same?(<<single::float-32>>, number), do: single == number
  defp same?(_infinite, _number), do: false
end
