defmodule Cryptoki.JSON.Reader do
  @moduledoc false
  # Reads JSON (RFC 8259) to the letter, for releases of OTP without `json`. Objects and arrays stand in
  # each other only so deep: a text of strangers is not to say how much of the stack is used.

  @whitespace [?\s, ?\t, ?\r, ?\n]
  # More than any number has that means something; the time to read one grows with the square of that.
  @digits 400
  @number ~r/\A-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/
  @escapes %{
    ?" => "\"",
    ?\\ => "\\",
    ?/ => "/",
    ?b => "\b",
    ?f => "\f",
    ?n => "\n",
    ?r => "\r",
    ?t => "\t"
  }

  @doc """
  What a text says; `:error` when it is not JSON, has a name twice in one object, or is deeper than
  `levels`.
  """
  @spec decode(binary, pos_integer) :: {:ok, term} | :error
  def decode(text, levels) do
    with true <- String.valid?(text),
         {value, rest} <- text |> skip() |> value(levels),
         "" <- skip(rest) do
      {:ok, value}
    else
      _not_json -> :error
    end
  catch
    :not_json -> :error
  end

  defp value(<<c, _rest::binary>>, 0) when c in [?{, ?[], do: throw(:not_json)
  defp value("{" <> rest, levels), do: rest |> skip() |> object(%{}, levels - 1)
  defp value("[" <> rest, levels), do: rest |> skip() |> array(levels - 1)
  defp value("\"" <> rest, _levels), do: string(rest, [])
  defp value("true" <> rest, _levels), do: {true, rest}
  defp value("false" <> rest, _levels), do: {false, rest}
  defp value("null" <> rest, _levels), do: {nil, rest}

  defp value(text, _levels) do
    case Regex.run(@number, text) do
      [digits] when byte_size(digits) <= @digits ->
        {String.to_integer(digits), after_prefix(text, digits)}

      [_digits] ->
        throw(:not_json)

      [digits | _] ->
        {float(digits), after_prefix(text, digits)}

      nil ->
        throw(:not_json)
    end
  end

  defp after_prefix(text, prefix),
    do: binary_part(text, byte_size(prefix), byte_size(text) - byte_size(prefix))

  # 1e5 is a number of JSON, but not of Erlang.
  defp float(digits) do
    digits = if digits =~ ".", do: digits, else: String.replace(digits, ~r/[eE]/, ".0e")
    String.to_float(digits)
  rescue
    ArgumentError -> throw(:not_json)
  end

  defp object("}" <> rest, object, _levels) when object == %{}, do: {object, rest}

  defp object("\"" <> rest, object, levels) do
    {name, rest} = string(rest, [])
    {value, rest} = rest |> skip() |> expect(?:) |> skip() |> value(levels)
    if is_map_key(object, name), do: throw(:not_json)
    object = Map.put(object, name, value)

    case skip(rest) do
      "," <> rest -> rest |> skip() |> member(object, levels)
      "}" <> rest -> {object, rest}
      _other -> throw(:not_json)
    end
  end

  defp object(_other, _object, _levels), do: throw(:not_json)

  defp member("\"" <> _ = text, object, levels), do: object(text, object, levels)
  defp member(_other, _object, _levels), do: throw(:not_json)

  defp array("]" <> rest, _levels), do: {[], rest}
  defp array(text, levels), do: elements(text, [], levels)

  defp elements(text, done, levels) do
    {value, rest} = value(text, levels)

    case skip(rest) do
      "," <> rest -> rest |> skip() |> elements([value | done], levels)
      "]" <> rest -> {Enum.reverse([value | done]), rest}
      _other -> throw(:not_json)
    end
  end

  defp string("\"" <> rest, parts), do: {parts |> Enum.reverse() |> IO.iodata_to_binary(), rest}
  defp string("\\u" <> rest, parts), do: unicode(rest, parts)

  defp string(<<?\\, c, rest::binary>>, parts) when is_map_key(@escapes, c),
    do: string(rest, [@escapes[c] | parts])

  defp string(<<c, rest::binary>>, parts) when c >= 0x20 and c != ?\\,
    do: string(rest, [c | parts])

  defp string(_other, _parts), do: throw(:not_json)

  defp unicode(<<high::binary-4, "\\u", low::binary-4, rest::binary>> = text, parts) do
    case {hex(high), hex(low)} do
      {high, low} when high in 0xD800..0xDBFF and low in 0xDC00..0xDFFF ->
        point = 0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)
        string(rest, [<<point::utf8>> | parts])

      _two_of_their_own ->
        single(text, parts)
    end
  end

  defp unicode(text, parts), do: single(text, parts)

  defp single(<<digits::binary-4, rest::binary>>, parts) do
    case hex(digits) do
      half when half in 0xD800..0xDFFF -> throw(:not_json)
      point -> string(rest, [<<point::utf8>> | parts])
    end
  end

  defp single(_other, _parts), do: throw(:not_json)

  defp hex(digits) do
    if digits =~ ~r/\A[0-9a-fA-F]{4}\z/, do: String.to_integer(digits, 16), else: throw(:not_json)
  end

  defp expect(<<c, rest::binary>>, c), do: rest
  defp expect(_other, _c), do: throw(:not_json)

  defp skip(<<c, rest::binary>>) when c in @whitespace, do: skip(rest)
  defp skip(text), do: text
end
