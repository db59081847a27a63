defmodule Cryptoki.Build.JSON do
  @moduledoc false
  # Reads the lines of cargo's --message-format=json. OTP has a JSON reader from 27 on only, and a
  # library that stands before the compiler cannot have a dependency.

  @spec decode(binary) :: {:ok, term} | :error
  def decode(text) do
    {value, rest} = value(skip(text))
    if skip(rest) == "", do: {:ok, value}, else: :error
  catch
    :not_json -> :error
  end

  defp value("{" <> rest), do: object(skip(rest), %{})
  defp value("[" <> rest), do: array(skip(rest), [])
  defp value("\"" <> rest), do: string(rest, [])
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("null" <> rest), do: {nil, rest}

  defp value(text) do
    case Float.parse(text) do
      {_, rest} -> {number(binary_part(text, 0, byte_size(text) - byte_size(rest))), rest}
      :error -> throw(:not_json)
    end
  end

  defp number(digits) do
    case Integer.parse(digits) do
      {n, ""} -> n
      _ -> digits |> Float.parse() |> elem(0)
    end
  end

  defp object("}" <> rest, map), do: {map, rest}

  defp object("\"" <> rest, map) do
    {key, rest} = string(rest, [])
    {value, rest} = rest |> skip() |> expect(":") |> skip() |> value()
    map = Map.put(map, key, value)

    case skip(rest) do
      "," <> rest -> object(skip(rest), map)
      "}" <> rest -> {map, rest}
      _ -> throw(:not_json)
    end
  end

  defp object(_, _), do: throw(:not_json)

  defp array("]" <> rest, list), do: {Enum.reverse(list), rest}

  defp array(text, list) do
    {value, rest} = value(text)

    case skip(rest) do
      "," <> rest -> array(skip(rest), [value | list])
      "]" <> rest -> {Enum.reverse([value | list]), rest}
      _ -> throw(:not_json)
    end
  end

  defp string("\"" <> rest, parts), do: {IO.iodata_to_binary(Enum.reverse(parts)), rest}
  defp string("\\u" <> rest, parts), do: unicode(rest, parts)
  defp string(<<?\\, c, rest::binary>>, parts), do: string(rest, [escape(c) | parts])

  defp string(text, parts) do
    case :binary.match(text, ["\"", "\\"]) do
      {at, 1} when at > 0 ->
        {plain, rest} = :erlang.split_binary(text, at)
        string(rest, [plain | parts])

      _ ->
        throw(:not_json)
    end
  end

  defp unicode(<<high::binary-4, "\\u", low::binary-4, rest::binary>>, parts)
       when binary_part(high, 0, 1) in ["d", "D"] and
              binary_part(high, 1, 1) in ["8", "9", "a", "b", "A", "B"] do
    point = 0x10000 + (hex(high) - 0xD800) * 0x400 + (hex(low) - 0xDC00)
    string(rest, [<<point::utf8>> | parts])
  end

  defp unicode(<<digits::binary-4, rest::binary>>, parts) do
    point = hex(digits)
    point = if point in 0xD800..0xDFFF, do: 0xFFFD, else: point
    string(rest, [<<point::utf8>> | parts])
  end

  defp unicode(_, _), do: throw(:not_json)

  defp hex(digits) do
    case Integer.parse(digits, 16) do
      {n, ""} -> n
      _ -> throw(:not_json)
    end
  end

  defp escape(?n), do: "\n"
  defp escape(?t), do: "\t"
  defp escape(?r), do: "\r"
  defp escape(?b), do: "\b"
  defp escape(?f), do: "\f"
  defp escape(c) when c in [?", ?\\, ?/], do: <<c>>
  defp escape(_), do: throw(:not_json)

  defp expect(":" <> rest, ":"), do: rest
  defp expect(_, _), do: throw(:not_json)

  defp skip(<<c, rest::binary>>) when c in [?\s, ?\t, ?\r, ?\n], do: skip(rest)
  defp skip(text), do: text
end
