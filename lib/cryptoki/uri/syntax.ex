defmodule Cryptoki.URI.Syntax do
  @moduledoc false
  # The grammar of RFC 7512, section 2.3: the table of attributes, from text to values and back.
  # Positions in messages count from 1; no message shows a value, which may be a PIN.

  import Cryptoki.Names, only: [is_proper_list: 1]

  # {attribute, kind of its value}, in the order in which they are written.
  @path [
    {"library-manufacturer", :text},
    {"library-description", :text},
    {"library-version", :version},
    {"slot-description", :text},
    {"slot-manufacturer", :text},
    {"slot-id", :number},
    {"token", :text},
    {"manufacturer", :text},
    {"model", :text},
    {"serial", :text},
    {"object", :text},
    {"id", :bytes},
    {"type", :type}
  ]
  @query [
    {"module-name", :file},
    {"module-path", :file},
    {"pin-source", :file},
    {"pin-value", :text}
  ]
  @kinds %{
    text: "UTF-8 text",
    bytes: "bytes",
    file: "a name or path without NUL bytes",
    number: "a number from 0 to 18446744073709551615",
    version: "M or M.N, two numbers from 0 to 255",
    type: "one of public, private, cert, secret-key, data",
    vendor: "a list of {name, value}, with names that the RFC does not define"
  }
  in_elixir = &String.to_atom(String.replace(&1, "-", "_"))
  @types for name <- ~w[public private cert secret-key data], do: {name, in_elixir.(name)}

  # What may stand as it is.
  @unreserved Enum.concat([?A..?Z, ?a..?z, ?0..?9, ~c"-._~"])
  @raw %{path: @unreserved ++ ~c":[]@!$'()*+,=&", query: @unreserved ++ ~c":[]@!$'()*+,=/?|"}
  @any Enum.to_list(0..255) -- ~c"%"

  @attributes for {part, rows} <- [path: @path, query: @query],
                  {name, kind} <- rows,
                  do: {part, name, in_elixir.(name), kind}
  @by_name Map.new(@attributes, fn {part, name, field, kind} -> {name, {part, field, kind}} end)
  @by_field for({_part, _name, field, kind} <- @attributes, into: %{}, do: {field, kind})
            |> Map.merge(%{vendor: :vendor, vendor_query: :vendor})
  @empty for({_part, _name, field, _kind} <- @attributes, do: {field, nil}) ++
           [vendor: [], vendor_query: []]

  @type part :: :path | :query
  @type show :: (name :: String.t(), encoded :: String.t() -> String.t())

  @doc "All fields in their order, with the value that says that a URI does not have them."
  @spec empty() :: keyword
  def empty, do: @empty

  @doc "The fields behind the `?`."
  @spec query_fields() :: [atom]
  def query_fields, do: for({:query, _name, field, _kind} <- @attributes, do: field)

  @doc "The fields that the text says, or the sentence that says what is wrong with it."
  @spec read(binary) :: {:ok, map} | {:error, String.t()}
  def read(text) do
    with {:ok, path, query} <- split(text),
         {:ok, uri} <- add_all(path, Map.new([seen: %{}] ++ @empty), :path),
         {:ok, uri} <- add_all(query, uri, :query),
         do: {:ok, uri |> Map.delete(:seen) |> in_order(:vendor) |> in_order(:vendor_query)}
  end

  defp in_order(uri, field), do: Map.update!(uri, field, &Enum.reverse/1)

  @doc "The canonical text; `show` may replace the encoded value of a query attribute."
  @spec write(map, show) :: String.t()
  def write(uri, show) do
    path = for {name, value} <- written(uri, :path), do: name <> "=" <> value
    query = for {name, value} <- written(uri, :query), do: name <> "=" <> show.(name, value)
    path = "pkcs11:" <> Enum.join(path, ";")
    if query == [], do: path, else: path <> "?" <> Enum.join(query, "&")
  end

  @doc "Whether the field exists and may have the value, or the sentence that says why not."
  @spec check(term, term) :: :ok | {:error, String.t()}
  def check(field, value) when is_map_key(@by_field, field) do
    kind = @by_field[field]
    if valid?(kind, value), do: :ok, else: {:error, "#{field}: must be #{@kinds[kind]}"}
  end

  def check(field, _value) do
    fields = Enum.map_join(@empty, ", ", fn {field, _none} -> inspect(field) end)
    {:error, "a PKCS #11 URI has no #{inspect(field)}, only #{fields}"}
  end

  @doc "The bytes of a percent-encoded text in which everything may stand as it is."
  @spec unescape(binary) :: {:ok, binary} | {:error, offset :: non_neg_integer}
  def unescape(text), do: unescape(text, @any, 0, "")

  # Reading

  defp split(<<scheme::binary-size(7), rest::binary>>) do
    [path | query] = String.split(rest, "?", parts: 2)

    if String.downcase(scheme, :ascii) == "pkcs11:",
      do: {:ok, pieces(path, ";", 8), pieces(Enum.join(query), "&", 9 + byte_size(path))},
      else: split("")
  end

  defp split(_other), do: {:error, "a PKCS #11 URI begins with pkcs11:"}

  defp pieces("", _separator, _at), do: []

  defp pieces(text, separator, at) do
    text
    |> String.split(separator)
    |> Enum.map_reduce(at, fn piece, at -> {{piece, at}, at + byte_size(piece) + 1} end)
    |> elem(0)
  end

  defp add_all(pieces, uri, part) do
    Enum.reduce_while(pieces, {:ok, uri}, fn {piece, at}, {:ok, uri} ->
      case add(piece, at, uri, part) do
        {:ok, uri} -> {:cont, {:ok, uri}}
        {:error, sentence} -> {:halt, {:error, sentence}}
      end
    end)
  end

  defp add(piece, at, uri, part) do
    with {:ok, name, raw} <- name_and_value(piece, at),
         subject = "#{name}, at character #{at} of the PKCS #11 URI,",
         {:ok, field, kind} <- room(name, uri, part, subject),
         {:ok, bytes} <- decode(raw, part, subject, at + byte_size(name) + 1),
         {:ok, value} <- cast(kind, bytes, subject) do
      {:ok, put(uri, field, name, value)}
    end
  end

  defp name_and_value(piece, at) do
    with [name, raw] <- String.split(piece, "=", parts: 2),
         true <- standard?(name) or vendor?(name) do
      {:ok, name, raw}
    else
      _other -> {:error, "no name=value begins at character #{at} of the PKCS #11 URI"}
    end
  end

  # Where the attribute goes, if it may stand in this part and is not there already.
  defp room(name, uri, part, subject) do
    case @by_name[String.downcase(name, :ascii)] do
      nil -> vendor_room(name, uri, part, subject)
      {^part, field, kind} -> if uri[field], do: twice(subject), else: {:ok, field, kind}
      {:path, _field, _kind} -> {:error, "#{subject} belongs before the ?"}
      {:query, _field, _kind} -> {:error, "#{subject} belongs behind the ?"}
    end
  end

  # Only vendor attributes of the query may come twice.
  defp vendor_room(_name, _uri, :query, _subject), do: {:ok, :vendor_query, :bytes}

  defp vendor_room(name, uri, :path, subject) do
    if is_map_key(uri.seen, name), do: twice(subject), else: {:ok, :vendor, :bytes}
  end

  defp twice(subject), do: {:error, "#{subject} is given twice"}

  # The last one first: a text may have any number of them.
  defp put(uri, field, name, value) when field in [:vendor, :vendor_query],
    do: %{uri | :seen => Map.put(uri.seen, name, field), field => [{name, value} | uri[field]]}

  defp put(uri, field, _name, value), do: %{uri | field => value}

  defp decode(raw, part, subject, at) do
    with {:error, offset} <- unescape(raw, @raw[part], 0, ""),
         do: {:error, "#{subject} must have character #{at + offset} percent-encoded"}
  end

  defp unescape("", _raw, _at, done), do: {:ok, done}

  defp unescape(<<?%, hex::binary-size(2), rest::binary>>, raw, at, done) do
    case Base.decode16(hex, case: :mixed) do
      {:ok, byte} -> unescape(rest, raw, at + 3, done <> byte)
      :error -> {:error, at}
    end
  end

  defp unescape(<<byte, rest::binary>>, raw, at, done) do
    if byte in raw,
      do: unescape(rest, raw, at + 1, <<done::binary, byte>>),
      else: {:error, at}
  end

  defp cast(kind, bytes, subject) do
    value = value(kind, bytes)
    if valid?(kind, value), do: {:ok, value}, else: {:error, "#{subject} must be #{@kinds[kind]}"}
  end

  defp value(:number, text), do: if(text =~ ~r/\A\d{1,64}\z/, do: String.to_integer(text))

  defp value(:version, text) do
    case Regex.run(~r/\A(\d{1,64})(?:\.(\d{1,64}))?\z/, text) do
      [_text, major] -> {String.to_integer(major), 0}
      [_text, major, minor] -> {String.to_integer(major), String.to_integer(minor)}
      nil -> nil
    end
  end

  defp value(:type, text) do
    {_text, type} = List.keyfind(@types, String.downcase(text, :ascii), 0, {text, nil})
    type
  end

  defp value(_kind, bytes), do: bytes

  # Checking

  defp valid?(:text, value), do: is_binary(value) and String.valid?(value)
  defp valid?(:bytes, value), do: is_binary(value)
  defp valid?(:file, value), do: is_binary(value) and not String.contains?(value, <<0>>)
  defp valid?(:number, value), do: is_integer(value) and value in 0..0xFFFFFFFFFFFFFFFF
  defp valid?(:version, {major, minor}), do: major in 0..255 and minor in 0..255
  defp valid?(:version, _other), do: false
  defp valid?(:type, value), do: List.keymember?(@types, value, 1)
  defp valid?(:vendor, pairs), do: is_proper_list(pairs) and Enum.all?(pairs, &vendor_pair?/1)

  defp vendor_pair?({name, value}) when is_binary(name) and is_binary(value),
    do: vendor?(name) and not standard?(name)

  defp vendor_pair?(_other), do: false

  defp vendor?(name), do: name =~ ~r/\A[A-Za-z0-9_-]+\z/
  defp standard?(name), do: is_map_key(@by_name, String.downcase(name, :ascii))

  # Writing

  defp written(uri, part) do
    standard =
      for {^part, name, field, kind} <- @attributes,
          value = Map.fetch!(uri, field),
          do: {name, to_text(kind, value, part)}

    vendor = if part == :path, do: uri.vendor, else: uri.vendor_query
    standard ++ for {name, value} <- vendor, do: {name, escape(value, @raw[part])}
  end

  # The RFC wants ids encoded whole.
  defp to_text(:bytes, value, _part), do: escape(value, [])
  defp to_text(:number, value, _part), do: Integer.to_string(value)
  defp to_text(:version, {major, minor}, _part), do: "#{major}.#{minor}"
  defp to_text(:type, value, _part), do: @types |> List.keyfind!(value, 1) |> elem(0)
  defp to_text(_text, value, part), do: escape(value, @raw[part])

  defp escape(value, raw) do
    for <<byte <- value>>, into: "" do
      if byte in raw, do: <<byte>>, else: "%" <> Base.encode16(<<byte>>)
    end
  end
end
