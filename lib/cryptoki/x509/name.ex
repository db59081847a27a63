defmodule Cryptoki.X509.Name do
  @moduledoc false
  # Distinguished names (RFC 5280, section 4.1.2.4): from what users write to DER, and back. Pure.

  alias Cryptoki.DER

  @utf8 12
  @printable 19
  @ia5 22

  # Name, object identifier, type of string, and how long it may be (RFC 5280, appendix A.1).
  @attributes [
    {"C", {2, 5, 4, 6}, @printable, 2},
    {"ST", {2, 5, 4, 8}, @utf8, 128},
    {"L", {2, 5, 4, 7}, @utf8, 128},
    {"street", {2, 5, 4, 9}, @utf8, 128},
    {"O", {2, 5, 4, 10}, @utf8, 64},
    {"OU", {2, 5, 4, 11}, @utf8, 64},
    {"organizationIdentifier", {2, 5, 4, 97}, @utf8, 256},
    {"CN", {2, 5, 4, 3}, @utf8, 64},
    {"SN", {2, 5, 4, 4}, @utf8, 64},
    {"GN", {2, 5, 4, 42}, @utf8, 64},
    {"title", {2, 5, 4, 12}, @utf8, 64},
    {"serialNumber", {2, 5, 4, 5}, @printable, 64},
    {"DC", {0, 9, 2342, 19_200_300, 100, 1, 25}, @ia5, 63},
    {"UID", {0, 9, 2342, 19_200_300, 100, 1, 1}, @utf8, 256},
    {"emailAddress", {1, 2, 840, 113_549, 1, 9, 1}, @ia5, 255}
  ]

  @by_name Map.new(@attributes, fn {name, oid, tag, most} ->
             {String.downcase(name), {oid, tag, most}}
           end)
  @by_oid Map.new(@attributes, fn {name, oid, _tag, _most} -> {oid, name} end)

  @type source :: String.t() | [{atom | String.t(), String.t()}]

  @doc "The names of attributes that there are."
  @spec attributes :: [String.t()]
  def attributes, do: for({name, _oid, _tag, _most} <- @attributes, do: name)

  @doc "The DER of a name; mistakes raise `ArgumentError` with the argument's name."
  @spec encode!(source, String.t()) :: DER.t()
  def encode!(source, argument) do
    source
    |> pairs!(argument)
    |> Enum.map(fn {name, value} -> DER.value(0x31, attribute!(name, value, argument)) end)
    |> DER.sequence()
  end

  defp pairs!("/" <> text, argument) do
    # Slashes and backslashes of a value have a backslash before them.
    for part <- Regex.split(~r{(?<!\\)(?:\\\\)*\K/}, text) do
      case String.split(part, "=", parts: 2) do
        [name, value] -> {name, Regex.replace(~r/\\(.)/su, value, "\\1")}
        _no_pair -> wrong!(argument, "#{inspect(part)} is not NAME=VALUE")
      end
    end
  end

  defp pairs!(list, argument) when is_list(list) do
    unless Enum.all?(list, &match?({_name, _value}, &1)), do: no_name!(argument)
    list
  end

  defp pairs!(_other, argument), do: no_name!(argument)

  @spec no_name!(String.t()) :: no_return
  defp no_name!(argument),
    do: wrong!(argument, ~s(is "/C=DE/O=Acme/CN=www" or [C: "DE", O: "Acme", CN: "www"]))

  defp attribute!(name, value, argument) do
    with true <- is_atom(name) or is_binary(name),
         %{^name => row} <- %{name => @by_name[String.downcase(to_string(name))]},
         {oid, tag, most} <- row do
      text!(name, value, tag, most, argument)
      DER.sequence([DER.oid(oid), DER.value(tag, value)])
    else
      _unknown ->
        known = Enum.join(attributes(), ", ")
        wrong!(argument, "there is no attribute #{inspect(name)}; known: #{known}")
    end
  end

  defp text!(name, value, tag, most, argument) do
    unless is_binary(value) and String.valid?(value) and String.length(value) in 1..most and
             fits?(tag, value),
           do: wrong!(argument, "#{name} is text of #{kind(tag)}, 1 to #{most} characters")

    if to_string(name) in ["C", "c"] and not (value =~ ~r/\A[A-Z]{2}\z/),
      do: wrong!(argument, "C is a country's two letters (ISO 3166), such as DE")
  end

  # No control characters: a NUL once made one name out of two.
  defp fits?(@utf8, value), do: not (value =~ ~r/[\x00-\x1f\x7f]/)
  defp fits?(@printable, value), do: value =~ ~r/\A[A-Za-z0-9 '()+,.\/:=?-]+\z/
  defp fits?(@ia5, value), do: value =~ ~r/\A[\x20-\x7e]+\z/

  defp kind(@utf8), do: "UTF-8 without control characters"
  defp kind(@printable), do: "the letters, digits and signs of PrintableString"
  defp kind(@ia5), do: "ASCII"

  @doc "A name as `encode!/2` takes it, from the contents of its DER."
  @spec text(binary) :: {:ok, String.t()} | :error
  def text(contents) do
    with {:ok, parts} <- DER.split(contents),
         texts = Enum.map(parts, &part/1),
         false <- :error in texts,
         do: {:ok, Enum.join(texts)},
         else: (_no_name -> :error)
  end

  # More than one attribute in a part has a plus between them, as OpenSSL has it.
  defp part({0x31, set, _}) do
    with {:ok, [_ | _] = attributes} <- DER.split(set),
         texts = Enum.map(attributes, &pair/1),
         false <- :error in texts,
         do: "/" <> Enum.join(texts, "+"),
         else: (_no_part -> :error)
  end

  defp part(_other), do: :error

  defp pair({0x30, attribute, _}) do
    with {:ok, [{6, oid, _}, {tag, value, _}]} <- DER.split(attribute),
         {:ok, oid} <- DER.read_oid(oid) do
      name = @by_oid[oid] || Enum.join(Tuple.to_list(oid), ".")
      "#{name}=#{Regex.replace(~r{[/\\]}, string(tag, value), "\\\\\\0")}"
    else
      _no_pair -> :error
    end
  end

  defp pair(_other), do: :error

  @bmp 30
  defp string(@bmp, value),
    do: readable(:unicode.characters_to_binary(value, {:utf16, :big}), value)

  defp string(_tag, value), do: readable(value, value)

  defp readable(text, value) do
    if is_binary(text) and String.valid?(text),
      do: text,
      else: :unicode.characters_to_binary(value, :latin1)
  end

  @spec wrong!(String.t(), String.t()) :: no_return
  defp wrong!(argument, text), do: raise(ArgumentError, "#{argument}: #{text}")
end
