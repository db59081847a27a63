# One attribute value between Elixir and the native border, by value type. A binary always passes
# as it is, so that nothing a token understands is out of reach; only a nested template has no
# bytes.
defmodule Cryptoki.Attribute.Value do
  @moduledoc false

  import Cryptoki.Names, only: [is_proper_list: 1]

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Names
  alias Cryptoki.Type

  @type type ::
          :boolean
          | :ulong
          | :ulongs
          | :string
          | :bytes
          | :big_integer
          | :date
          | :version
          | :curve
          | :template
          | :any
          | {:name, Names.kind()}
          | {:names, Names.kind()}

  @type wire :: binary | boolean | non_neg_integer | {:ulongs, [non_neg_integer]}

  # CK_ULONG is as wide as a pointer wherever the Erlang VM runs on a Unix.
  @word :erlang.system_info(:wordsize)
  @unavailable Bitwise.bsl(1, 8 * @word) - 1

  @doc "A value for the native side, or what was expected."
  @spec encode(type, term) :: {:ok, wire} | {:error, String.t()}
  def encode(_, value) when is_binary(value), do: {:ok, value}
  def encode(:boolean, value) when is_boolean(value), do: {:ok, value}
  def encode(:ulong, :unavailable), do: {:ok, @unavailable}
  def encode({:name, _}, :unavailable), do: {:ok, @unavailable}
  def encode(:ulong, value) when value in 0..@unavailable, do: {:ok, value}
  def encode({:name, _}, value) when value in 0..@unavailable, do: {:ok, value}

  def encode({:name, kind}, value) when is_atom(value) and value not in [nil, true, false] do
    with :error <- Names.code(kind, value) do
      {:error, "#{expected({:name, kind})}, got #{inspect(value)}#{Names.hint(kind, value)}"}
    end
  end

  def encode({:names, kind}, values) when is_proper_list(values), do: list(values, {:name, kind})
  def encode(:ulongs, values) when is_proper_list(values), do: list(values, :ulong)

  def encode(:big_integer, value) when is_integer(value) and value >= 0,
    do: {:ok, :binary.encode_unsigned(value)}

  def encode(:date, nil), do: {:ok, ""}
  def encode(:date, %Date{} = date), do: {:ok, Date.to_iso8601(date, :basic)}

  def encode(:version, {major, minor}) when major in 0..255 and minor in 0..255,
    do: {:ok, <<major, minor>>}

  def encode(:curve, name) when is_atom(name) and name not in [nil, true, false] do
    with :error <- Curve.encode(name) do
      {:error, "#{expected(:curve)}, got #{inspect(name)}#{Names.hint(Curve.names(), name)}"}
    end
  end

  def encode(:any, value) when is_boolean(value) or value in 0..@unavailable, do: {:ok, value}
  def encode(:any, values) when is_proper_list(values), do: list(values, :ulong)
  def encode(type, value), do: {:error, "#{expected(type)}, got #{Type.of(value)}"}

  # The first element that does not fit decides, so that the message can be about it.
  defp list(values, type) do
    case values |> Enum.map(&element(type, &1)) |> Enum.split_with(&match?({:ok, _}, &1)) do
      {codes, []} -> {:ok, {:ulongs, Keyword.values(codes)}}
      {_, [error | _]} -> error
    end
  end

  defp element(type, value) when is_binary(value),
    do: {:error, "#{expected(type)} in the list, got a binary"}

  defp element(type, value), do: encode(type, value)

  @doc "A value as the token gave it. Bytes that do not fit the type stay bytes."
  @spec decode(type, binary) :: term
  def decode(:boolean, <<value>>), do: value != 0
  def decode(:ulong, bytes), do: ulong(bytes)

  def decode({:name, kind}, bytes),
    do: with(code when is_integer(code) <- ulong(bytes), do: Names.name(kind, code))

  def decode({:names, kind}, bytes), do: ulongs(bytes, &Names.name(kind, &1))
  def decode(:ulongs, bytes), do: ulongs(bytes, & &1)
  def decode(:version, <<major, minor>>), do: {major, minor}
  def decode(:date, ""), do: nil

  def decode(:date, <<year::binary-4, month::binary-2, day::binary-2>> = bytes) do
    case Date.from_iso8601("#{year}-#{month}-#{day}") do
      {:ok, date} -> date
      {:error, _} -> bytes
    end
  end

  def decode(:curve, bytes) do
    case Curve.decode(bytes) do
      {:ok, name} -> name
      :error -> bytes
    end
  end

  def decode(_, bytes), do: bytes

  for size <- [1, 2, 4, 8] do
    bits = 8 * size
    ones = Bitwise.bsl(1, bits) - 1

    # CK_UNAVAILABLE_INFORMATION is ~0 in whatever width the token has.
    if size >= 4, do: defp(ulong(<<unquote(ones)::native-unquote(bits)>>), do: :unavailable)
    defp ulong(<<value::native-unquote(bits)>>), do: value
  end

  defp ulong(bytes), do: bytes

  defp ulongs(bytes, fun) when rem(byte_size(bytes), @word) == 0 do
    for <<code::native-unit(8)-size(@word) <- bytes>>, do: fun.(code)
  end

  defp ulongs(bytes, _), do: bytes

  defp expected(:boolean), do: "expected a boolean"
  defp expected(:ulong), do: "expected an integer of at least 0 that fits CK_ULONG"
  defp expected(:ulongs), do: "expected a list of integers"
  defp expected(:string), do: "expected a UTF-8 string"
  defp expected(:bytes), do: "expected a binary"
  defp expected(:big_integer), do: "expected a big-endian binary or an integer of at least 0"
  defp expected(:date), do: "expected a Date or nil"
  defp expected(:version), do: "expected {major, minor}"
  defp expected(:curve), do: "expected the name of a curve or its DER"
  defp expected(:template), do: "expected a template: a keyword list or a map"

  defp expected(:any),
    do: "expected a binary, a boolean, an integer of at least 0 or a list of such integers"

  defp expected({:name, kind}), do: "expected the name of #{Names.in_words(kind)} or its number"

  defp expected({:names, kind}), do: "expected a list of #{kind}s by name or number"
end
