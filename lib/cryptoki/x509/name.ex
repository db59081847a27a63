defmodule Cryptoki.X509.Name do
  @moduledoc false
  # Distinguished names (RFC 5280, section 4.1.2.4): from what users write to DER, and back. What others
  # ask for is checked as what users write is, by `check/1`. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader

  @bits 3
  @utf8 12
  @printable 19
  @ia5 22

  # T61String, UniversalString, BMPString.
  @old [20, 28, 30]
  # What a DirectoryString may be; the one that is written first.
  @directory [@utf8, @printable | @old]
  @country {2, 5, 4, 6}
  @jurisdiction_country {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3}
  # Of the upper bounds that of names, which is the largest.
  @most 32_768

  # Name, object identifier, types of string, and how long it may be (RFC 5280, appendix A.1).
  @attributes [
    {"C", @country, [@printable], 2},
    {"ST", {2, 5, 4, 8}, @directory, 128},
    {"L", {2, 5, 4, 7}, @directory, 128},
    {"street", {2, 5, 4, 9}, @directory, 128},
    {"postalCode", {2, 5, 4, 17}, @directory, 40},
    {"O", {2, 5, 4, 10}, @directory, 64},
    {"OU", {2, 5, 4, 11}, @directory, 64},
    {"organizationIdentifier", {2, 5, 4, 97}, @directory, 256},
    {"businessCategory", {2, 5, 4, 15}, @directory, 128},
    {"jurisdictionC", @jurisdiction_country, [@printable], 2},
    {"jurisdictionST", {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 2}, @directory, 128},
    {"jurisdictionL", {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 1}, @directory, 128},
    {"CN", {2, 5, 4, 3}, @directory, 64},
    {"SN", {2, 5, 4, 4}, @directory, @most},
    {"GN", {2, 5, 4, 42}, @directory, @most},
    {"initials", {2, 5, 4, 43}, @directory, @most},
    {"generationQualifier", {2, 5, 4, 44}, @directory, @most},
    {"name", {2, 5, 4, 41}, @directory, @most},
    {"pseudonym", {2, 5, 4, 65}, @directory, 128},
    {"title", {2, 5, 4, 12}, @directory, 64},
    {"description", {2, 5, 4, 13}, @directory, 1024},
    {"serialNumber", {2, 5, 4, 5}, [@printable], 64},
    {"dnQualifier", {2, 5, 4, 46}, [@printable], 64},
    {"telephoneNumber", {2, 5, 4, 20}, [@printable], 32},
    {"DC", {0, 9, 2342, 19_200_300, 100, 1, 25}, [@ia5], 63},
    {"UID", {0, 9, 2342, 19_200_300, 100, 1, 1}, @directory, 256},
    {"emailAddress", {1, 2, 840, 113_549, 1, 9, 1}, [@ia5], 255},
    {"unstructuredName", {1, 2, 840, 113_549, 1, 9, 2}, [@ia5 | @directory], 255},
    {"unstructuredAddress", {1, 2, 840, 113_549, 1, 9, 8}, @directory, 255}
  ]

  # The one of them whose values are no text.
  @unique_identifier {2, 5, 4, 45}

  @by_name Map.new(@attributes, fn {name, oid, _types, _most} -> {String.downcase(name), oid} end)
  @by_oid Map.new(@attributes, fn {name, oid, types, most} -> {oid, {name, types, most}} end)

  @type value :: String.t() | {:der, DER.t()}
  @type pair :: {atom | String.t() | DER.oid(), value}
  @type source :: String.t() | [pair | [pair]]
  @typedoc "Each part of a name has one attribute or several."
  @type t :: [[{DER.oid(), tag :: byte, contents :: binary}]]

  @doc "The names of attributes that there are."
  @spec attributes :: [String.t()]
  def attributes, do: for({name, _oid, _types, _most} <- @attributes, do: name)

  ## What users write

  @doc "The DER of a name; mistakes raise `ArgumentError` with the argument's name."
  @spec encode!(source, String.t()) :: DER.t()
  def encode!(source, argument) do
    parts =
      for part <- parts!(source, argument) do
        part |> Enum.map(&attribute!(&1, argument)) |> Enum.sort_by(&encode_attribute/1)
      end

    case check(parts) do
      :ok -> encode(parts)
      {:error, text} -> wrong!(argument, text)
    end
  end

  defp encode(parts),
    do: DER.sequence(for(part <- parts, do: DER.set_of(Enum.map(part, &encode_attribute/1))))

  @doc """
  The DER of a name as an authority writes it: what came in one of the old types of string, which not
  every program reads, becomes UTF-8 (RFC 5280, section 4.1.2.4).
  """
  @spec certified(t) :: DER.t()
  def certified(parts),
    do: encode(for(part <- parts, do: Enum.map(part, &modern/1)))

  defp modern({oid, tag, contents} = attribute) do
    with {_title, [@utf8 | _], _most} when tag in @old <- @by_oid[oid],
         {:ok, text} <- Reader.text(tag, contents),
         do: {oid, @utf8, text},
         else: (_as_it_is -> attribute)
  end

  defp encode_attribute({oid, tag, contents}),
    do: DER.sequence([DER.oid(oid), DER.value(tag, contents)])

  defp parts!("", _argument), do: []

  defp parts!("/" <> text, argument) do
    for part <- split(text, ?/), do: for(pair <- split(part, ?+), do: written!(pair, argument))
  end

  defp parts!(list, argument) when is_list(list) do
    for part <- list do
      pairs = List.wrap(part)
      unless pairs != [] and Enum.all?(pairs, &match?({_, _}, &1)), do: no_name!(argument)
      pairs
    end
  end

  defp parts!(_other, argument), do: no_name!(argument)

  @spec no_name!(String.t()) :: no_return
  defp no_name!(argument),
    do: wrong!(argument, ~s(is "/C=DE/O=Acme/CN=www" or [C: "DE", O: "Acme", CN: "www"]))

  # At each sign that has no backslash before it.
  defp split(text, sign), do: split(text, sign, "", [])
  defp split("", _sign, part, parts), do: Enum.reverse([part | parts])

  defp split(<<?\\, byte, rest::binary>>, sign, part, parts),
    do: split(rest, sign, <<part::binary, ?\\, byte>>, parts)

  defp split(<<sign, rest::binary>>, sign, part, parts), do: split(rest, sign, "", [part | parts])

  defp split(<<byte, rest::binary>>, sign, part, parts),
    do: split(rest, sign, <<part::binary, byte>>, parts)

  defp written!(text, argument) do
    case String.split(text, "=", parts: 2) do
      [name, value] ->
        {name, value!(value)}

      _no_pair ->
        wrong!(argument, "#{inspect(text)} is not NAME=VALUE; / and + in a value are \\/ and \\+")
    end
  end

  # The DER of a value in hexadecimal digits, as RFC 4514 has it.
  defp value!("#" <> digits = text) do
    with {:ok, <<_, _::binary>> = der} <- Base.decode16(digits, case: :mixed),
         do: {:der, der},
         else: (_no_digits -> unescape(text))
  end

  defp value!(text), do: unescape(text)

  defp unescape(text) do
    Regex.replace(~r/\\([0-9A-Fa-f]{2}|.)/s, text, fn
      _whole, <<_, _>> = digits -> Base.decode16!(digits, case: :mixed)
      _whole, byte -> byte
    end)
  end

  defp attribute!({name, {:der, der}}, argument) when is_binary(der) do
    oid = oid!(name, argument)

    case Reader.read(der, "", & &1) do
      {:ok, %{tag: tag, contents: contents}} -> {oid, tag, contents}
      {:error, _error} -> wrong!(argument, "the value of #{title(oid)} is not DER")
    end
  end

  defp attribute!({name, value}, argument) do
    oid = oid!(name, argument)
    {_title, [tag | _], most} = row(oid)

    unless is_binary(value) and String.valid?(value),
      do: wrong!(argument, fitting(title(oid), tag, most))

    {oid, tag, value}
  end

  defp oid!(oid, argument) when is_tuple(oid) do
    if DER.oid?(oid), do: oid, else: unknown!(oid, argument)
  end

  defp oid!(name, argument) when is_atom(name) or is_binary(name) do
    text = to_string(name)
    @by_name[String.downcase(text)] || dotted(text) || unknown!(name, argument)
  end

  defp oid!(name, argument), do: unknown!(name, argument)

  defp dotted(text) do
    if text =~ ~r/\A\d{1,39}(\.\d{1,39}){1,127}\z/ do
      oid = text |> String.split(".") |> Enum.map(&String.to_integer/1) |> List.to_tuple()
      if DER.oid?(oid), do: oid
    end
  end

  @spec unknown!(term, String.t()) :: no_return
  defp unknown!(name, argument) do
    known = Enum.join(attributes(), ", ")

    wrong!(
      argument,
      "there is no attribute #{inspect(name)}; known: #{known}, or 1.2.3 for others"
    )
  end

  ## What anybody asks for

  @doc "Whether a name may stand in a certificate; if not, a sentence about the first that is to blame."
  @spec check(t) :: :ok | {:error, String.t()}
  def check(parts), do: Enum.find_value(parts, :ok, &wrong_part/1)

  defp wrong_part(part) do
    ders = Enum.map(part, &encode_attribute/1)
    oids = Enum.map(part, &elem(&1, 0))

    cond do
      part == [] ->
        {:error, "a part of it is empty"}

      Enum.uniq(oids) != oids ->
        {:error, "#{title(hd(oids -- Enum.uniq(oids)))} is there twice"}

      Enum.any?(oids, &too_long?/1) ->
        {:error, "a type has more than 63 bytes, or a number of more than 128 bits"}

      Enum.sort(ders) != ders ->
        {:error, "#{titles(oids)} are not in the order of DER"}

      true ->
        Enum.find_value(part, &wrong_attribute/1)
    end
  end

  # Others do not read a name with such a type.
  defp too_long?(oid),
    do: byte_size(DER.oid(oid)) > 65 or Enum.any?(Tuple.to_list(oid), &(&1 >= 2 ** 128))

  defp titles(oids), do: Enum.map_join(oids, " and ", &title/1)

  defp wrong_attribute({@unique_identifier, @bits, bits}) do
    with {:error, _error} <- Reader.read(DER.value(@bits, bits), "", &Reader.bits/1),
         do: {:error, "#{title(@unique_identifier)} is no BIT STRING of DER"},
         else: (_bits -> nil)
  end

  defp wrong_attribute({oid, tag, contents}) do
    {title, types, most} = row(oid)

    if tag in types do
      with {:ok, text} <- Reader.text(tag, contents),
           true <- String.length(text) in 1..most and text =~ ~r/\A\P{Cc}+\z/u do
        wrong_country(oid, text)
      else
        _no_text -> {:error, fitting(title, tag, most)}
      end
    else
      {:error,
       "#{title} is #{Enum.map_join(types, " or ", &Reader.type/1)}, not #{Reader.type(tag)}"}
    end
  end

  defp wrong_country(oid, text) when oid in [@country, @jurisdiction_country] do
    unless text =~ ~r/\A[A-Z]{2}\z/,
      do: {:error, "#{title(oid)} is a country's two letters (ISO 3166), such as DE"}
  end

  defp wrong_country(_oid, _text), do: nil

  defp fitting(title, tag, most),
    do: "#{title} is text of #{kind(tag)}, 1 to #{most} characters"

  # No control characters: a NUL once made one name out of two.
  defp kind(@utf8), do: "UTF-8 without control characters"
  defp kind(@printable), do: "the letters, digits and signs of PrintableString"
  defp kind(@ia5), do: "ASCII without control characters"
  defp kind(tag), do: "#{Reader.type(tag)} without control characters"

  defp row(oid), do: Map.get(@by_oid, oid, {DER.dotted(oid), @directory ++ [@ia5, 18, 26], @most})

  defp title(oid), do: oid |> row() |> elem(0)

  ## What others have

  @doc "The attributes of a name, whatever they are."
  @spec read(Reader.t()) :: t
  def read(name) do
    for {part, number} <- Enum.with_index(Reader.sequence(name), 1) do
      part = Reader.name(part, "part #{number}")
      Enum.map(Reader.set(part), &read_attribute/1)
    end
  end

  defp read_attribute(attribute) do
    case Reader.sequence(attribute) do
      [oid, %{tag: tag} = value] when Bitwise.band(tag, 31) != 31 ->
        {Reader.oid(oid), tag, value.contents}

      _other ->
        Reader.wrong!(attribute, "it is not an attribute and its value")
    end
  end

  @doc "A name as `text/1` has it, from its DER."
  @spec shown(DER.t()) :: {:ok, String.t()} | {:error, Error.t()}
  def shown(der), do: Reader.read(der, "this is no name: ", &text(read(&1)))

  @doc """
  A name as `encode!/2` takes it. No two look the same: what has a meaning has a backslash before it,
  what cannot be seen is in hexadecimal digits, and a value that is no text is its DER.
  """
  @spec text(t) :: String.t()
  def text(parts), do: Enum.map_join(parts, &("/" <> Enum.map_join(&1, "+", fn a -> pair(a) end)))

  defp pair({oid, tag, contents}) do
    case Reader.text(tag, contents) do
      {:ok, text} -> "#{title(oid)}=#{escape(text)}"
      :error -> "#{title(oid)}=##{Base.encode16(DER.value(tag, contents))}"
    end
  end

  defp escape(text) do
    text = Regex.replace(~r{[/\\+]|\A#|\A | \z}, text, "\\\\\\0")
    Regex.replace(~r/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u, text, &hexadecimal/1)
  end

  defp hexadecimal(bytes),
    do: for(<<byte <- bytes>>, into: "", do: "\\" <> Base.encode16(<<byte>>))

  @spec wrong!(String.t(), String.t()) :: no_return
  defp wrong!(argument, text), do: raise(ArgumentError, "#{argument}: #{text}")
end
