defmodule Cryptoki.Test.Fuzz.DERMutation do
  @moduledoc false
  # Changes at random to one of the values in some DER, at whatever depth; the lengths around it are made
  # anew, so that what is changed is what is read. Strings that hold DER are gone into as well.

  alias Cryptoki.Test.Fuzz.Mutation

  @tags {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0C, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1C, 0x1E,
         0x30, 0x31, 0x80, 0x81, 0x82, 0x86, 0x87, 0x88, 0xA0, 0xA1, 0xA3, 0xA4, 0x1F, 0xBF, 0x00}

  @doc "The DER with one to three changes; `others` are what values are taken from."
  @spec change(binary, tuple) :: binary
  def change(der, others) do
    Enum.reduce(1..pick(3), der, fn _, der -> somewhere(der, others) end)
  end

  defp somewhere(bytes, others) do
    case values(bytes, []) do
      [] -> Mutation.bytes(bytes, others)
      values -> values |> in_one(pick(length(values)) - 1, others) |> IO.iodata_to_binary()
    end
  end

  defp in_one(values, at, others) do
    {before, [value | rest]} = Enum.split(values, at)
    {tag, contents} = value

    # The deeper, the more there is.
    if pick(5) > 1 and nested?(value),
      do: encode(before) ++ [inside(tag, contents, others) | encode(rest)],
      else: here(before, value, rest, others)
  end

  defp inside(3, <<unused, contents::binary>>, others),
    do: tlv(3, [unused, somewhere(contents, others)])

  defp inside(tag, contents, others), do: tlv(tag, somewhere(contents, others))

  defp nested?({3, <<_unused, contents::binary>>}), do: nested?({4, contents})
  defp nested?({tag, contents}), do: (tag == 4 or tag >= 0x30) and values(contents, []) != []

  defp here(before, {tag, contents} = value, rest, others) do
    all = fn changed -> encode(before) ++ List.wrap(changed) ++ encode(rest) end

    case pick(12) do
      1 -> all.(tlv(elem(@tags, pick(tuple_size(@tags)) - 1), contents))
      2 -> all.([])
      3 -> all.([encode(value), encode(value)])
      4 -> encode(rest) ++ [encode(value)] ++ encode(before)
      5 -> all.(tlv(tag, ""))
      6 -> all.(tlv(tag, Mutation.bytes(contents, others)))
      7 -> all.(tlv(tag, [contents, 0]))
      8 -> all.(tlv(tag, [0, contents]))
      9 -> all.([tag, 0x84, <<byte_size(contents)::32>>, contents])
      10 -> all.([tag, 0x80, contents, 0, 0])
      11 -> all.(other(others))
      12 -> all.(tlv(0x30, encode(value)))
    end
  end

  # A value of another input.
  defp other(others) do
    found = others |> elem(pick(tuple_size(others)) - 1) |> all_values()
    if found == [], do: <<5, 0>>, else: encode(Enum.random(found))
  end

  defp all_values(bytes) do
    for {_tag, contents} = value <- values(bytes, []),
        one <- [value | if(nested?(value), do: all_values(contents), else: [])],
        do: one
  end

  # As far as it can be told apart; what cannot is no value.
  defp values("", values), do: Enum.reverse(values)

  defp values(<<tag, 0::1, size::7, contents::binary-size(size), rest::binary>>, values),
    do: values(rest, [{tag, contents} | values])

  defp values(<<tag, 0x81, size, contents::binary-size(size), rest::binary>>, values),
    do: values(rest, [{tag, contents} | values])

  defp values(<<tag, 0x82, size::16, contents::binary-size(size), rest::binary>>, values),
    do: values(rest, [{tag, contents} | values])

  defp values(_other, _values), do: []

  defp encode(values) when is_list(values), do: Enum.map(values, &encode/1)
  defp encode({tag, contents}), do: tlv(tag, contents)

  defp tlv(tag, contents), do: Cryptoki.DER.value(tag, contents)

  # From 1, as `:rand` has it; the seed of a run is its.
  defp pick(n), do: :rand.uniform(n)
end
