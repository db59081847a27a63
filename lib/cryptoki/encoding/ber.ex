defmodule Cryptoki.BER do
  @moduledoc false
  # What CMS and PKCS #12 of others may be written in (RFC 5652, section 1; RFC 7292, section 4): BER, with lengths that only the end tells and
  # strings in parts, as programs write that do not know yet how much there will be. It is made DER as far as
  # `Cryptoki.DER.Reader` goes into it: lengths, and OCTET STRINGs in one. What is DER stays byte for byte what
  # it is. In one pass, each byte copied once for each level around it. Pure.

  alias Cryptoki.DER.Reader

  @depth 32
  # Values, and one more for so many bytes: each has a price in memory, and two bytes make one.
  @values 65_536
  @bytes 64

  @doc "The same values with the lengths and strings of DER, or a sentence that says what is wrong where."
  @spec to_der(binary) :: {:ok, binary} | {:error, String.t()}
  def to_der(bytes), do: first(bytes, &(&1 == ""))

  @doc "The same of what may have zeros behind it: in PDF a signature has more room than it needs (ISO 32000-1, 12.8.3.3)."
  @spec padded_to_der(binary) :: {:ok, binary} | {:error, String.t()}
  def padded_to_der(bytes), do: first(bytes, &(&1 == <<0::unit(8)-size(byte_size(&1))>>))

  defp first("", _behind), do: {:ok, ""}

  defp first(bytes, behind?) do
    {der, _size, rest, _left} = value(bytes, 0, @depth, @values + div(byte_size(bytes), @bytes))

    if behind?.(rest),
      do: {:ok, IO.iodata_to_binary(der)},
      else: wrong(byte_size(bytes) - byte_size(rest), "there are bytes behind its end")
  catch
    :throw, {__MODULE__, at, text} -> {:error, "byte #{at}: #{text}"}
  end

  @doc "The bytes of an OCTET STRING with a tag of its own, in one or in parts: which it is only its reader knows."
  @spec octets(Reader.t()) :: binary
  def octets(%{tag: 0x80, contents: contents}), do: contents

  def octets(%{tag: 0xA0} = parts) do
    parts
    |> Reader.map(fn part, _number -> Reader.octets(part) end, :infinity)
    |> IO.iodata_to_binary()
  end

  def octets(other), do: Reader.wrong!(other, "it is no encrypted content")

  # The values of some bytes in DER, how long that is, what is behind them, and how many more there may be. `until`
  # is what ends them: the bytes, or two zeros.
  defp values("", _at, :end, _depth, left, done, size),
    do: {Enum.reverse(done), size, "", left}

  defp values("", at, :zeros, _depth, _left, _done, _size), do: wrong(at, "it has no end")

  defp values(<<0, 0, rest::binary>>, _at, :zeros, _depth, left, done, size),
    do: {Enum.reverse(done), size, rest, left}

  defp values(bytes, at, until, depth, left, done, size) do
    {value, value_size, rest, left} = value(bytes, at, depth, left - 1)
    at = at + byte_size(bytes) - byte_size(rest)
    values(rest, at, until, depth, left, [value | done], size + value_size)
  end

  defp value(_bytes, at, 0, _left), do: wrong(at, "it is more than #{@depth} levels deep")

  defp value(_bytes, at, _depth, -1), do: wrong(at, "there are too many values before it")

  defp value(bytes, at, depth, left) do
    {tag, behind} = tag(bytes, at)
    constructed? = Bitwise.band(:binary.first(tag), 0x20) != 0
    head = at + byte_size(bytes) - byte_size(behind)

    case length(behind, head) do
      {:until_zeros, rest} when constructed? ->
        {inside, size, rest, left} = values(rest, head + 1, :zeros, depth - 1, left, [], 0)
        {whole, size, rest} = whole(tag, inside, size, rest, at)
        {whole, size, rest, left}

      {:until_zeros, _rest} ->
        wrong(head, "a value without parts has no length")

      {size, rest} when constructed? ->
        {contents, rest} = :erlang.split_binary(rest, size)
        start = at + byte_size(bytes) - byte_size(rest) - size
        {inside, size, "", left} = values(contents, start, :end, depth - 1, left, [], 0)
        {whole, size, rest} = whole(tag, inside, size, rest, at)
        {whole, size, rest, left}

      {size, rest} ->
        {contents, rest} = :erlang.split_binary(rest, size)
        head = [tag | size(size)]
        {[head, contents], IO.iodata_length(head) + size, rest, left}
    end
  end

  # An OCTET STRING in parts is one; of its parts each is one.
  defp whole(<<0x24>>, parts, _size, rest, at) do
    contents = for part <- parts, do: part(part, at)
    size = IO.iodata_length(contents)
    head = [4 | size(size)]
    {[head | contents], IO.iodata_length(head) + size, rest}
  end

  defp whole(tag, inside, size, rest, _at) do
    head = [tag | size(size)]
    {[head | inside], IO.iodata_length(head) + size, rest}
  end

  defp part([[tag | _size] | contents], _at) when tag in [4, <<4>>], do: contents
  defp part(_other, at), do: wrong(at, "a part of this OCTET STRING is none")

  # Numbers of 31 and above stand in bytes of their own.
  defp tag(<<first, number, rest::binary>>, _at)
       when Bitwise.band(first, 31) == 31 and number < 128,
       do: {<<first, number>>, rest}

  defp tag(<<first, _rest::binary>>, at) when Bitwise.band(first, 31) == 31,
    do: wrong(at, "its tag is a number that nothing has")

  defp tag(<<tag, rest::binary>>, _at), do: {<<tag>>, rest}

  defp length(<<size, rest::binary>>, at) when size < 128, do: there(size, rest, at)
  defp length(<<128, rest::binary>>, _at), do: {:until_zeros, rest}

  defp length(<<1::1, count::7, size::unit(8)-size(count), rest::binary>>, at)
       when count in 1..4,
       do: there(size, rest, at)

  defp length(_other, at), do: wrong(at, "it is cut off")

  defp there(size, rest, _at) when size <= byte_size(rest), do: {size, rest}
  defp there(_size, _rest, at), do: wrong(at, "it is cut off")

  defp size(size) when size < 128, do: [size]

  defp size(size) do
    bytes = :binary.encode_unsigned(size)
    [128 + byte_size(bytes), bytes]
  end

  @spec wrong(non_neg_integer, String.t()) :: no_return
  defp wrong(at, text), do: throw({__MODULE__, at, text})
end
