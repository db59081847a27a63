defmodule Cryptoki.DER do
  @moduledoc false
  # As much of DER (X.690) as signed data and certificates are made of. OTP's own ASN.1 modules have
  # other names and records from one release to the next. Pure.

  @type t :: binary
  @type oid :: tuple

  @doc "One value with this tag; the contents are what they are."
  @spec value(byte, iodata) :: t
  def value(tag, contents) do
    contents = IO.iodata_to_binary(contents)
    <<tag, size(byte_size(contents))::binary, contents::binary>>
  end

  defp size(size) when size < 128, do: <<size>>

  defp size(size) do
    bytes = :binary.encode_unsigned(size)
    <<128 + byte_size(bytes), bytes::binary>>
  end

  @spec sequence([t]) :: t
  def sequence(values), do: value(0x30, values)

  @doc "A SET OF, whose values have an order (X.690, section 11.6). Another tag makes it implicit."
  @spec set_of([t], byte) :: t
  def set_of(values, tag \\ 0x31), do: value(tag, Enum.sort(values))

  @doc "A value in a context-specific tag of its own."
  @spec explicit(0..30, t) :: t
  def explicit(number, value), do: value(0xA0 + number, value)

  @spec integer(integer) :: t
  def integer(number), do: value(2, signed(number))

  # The first bit is the sign. In one step: others' numbers may have megabytes.
  defp signed(number) when number >= 0 do
    case :binary.encode_unsigned(number) do
      <<1::1, _rest::bitstring>> = bytes -> <<0, bytes::binary>>
      bytes -> bytes
    end
  end

  defp signed(number) do
    size = byte_size(signed(-number - 1))
    <<number::signed-size(size)-unit(8)>>
  end

  @spec octet_string(iodata) :: t
  def octet_string(bytes), do: value(4, bytes)

  @doc "A BIT STRING of whole bytes."
  @spec bit_string(iodata) :: t
  def bit_string(bytes), do: value(3, [0, bytes])

  @doc "A BIT STRING whose bits have names, without zeros at its end (X.690, section 11.2.2)."
  @spec named_bits([non_neg_integer]) :: t
  def named_bits([]), do: value(3, [0])

  def named_bits(numbers) do
    last = Enum.max(numbers)
    unused = 7 - rem(last, 8)
    bits = for number <- 0..last, into: <<>>, do: <<if(number in numbers, do: 1, else: 0)::1>>
    value(3, [unused, <<bits::bitstring, 0::size(unused)>>])
  end

  @spec boolean(boolean) :: t
  def boolean(value), do: value(1, [if(value, do: 0xFF, else: 0)])

  @spec null() :: t
  def null, do: <<5, 0>>

  @spec oid(oid) :: t
  def oid(oid) do
    [first, second | rest] = Tuple.to_list(oid)
    value(6, for(number <- [40 * first + second | rest], do: base128(number)))
  end

  defp base128(number) do
    [last | rest] = number |> Integer.digits(128) |> Enum.reverse()
    [for(digit <- Enum.reverse(rest), do: 128 + digit), last]
  end

  @doc "An object identifier as people write it."
  @spec dotted(oid) :: String.t()
  def dotted(oid), do: oid |> Tuple.to_list() |> Enum.join(".")

  @doc "Whether a term is an object identifier."
  @spec oid?(term) :: boolean
  def oid?(oid) when is_tuple(oid) and tuple_size(oid) > 1 do
    [first, second | _] = numbers = Tuple.to_list(oid)

    Enum.all?(numbers, &(is_integer(&1) and &1 >= 0)) and
      (first == 2 or (first < 2 and second < 40))
  end

  def oid?(_other), do: false

  @doc "What text is, where DER should stand: \"PEM\" or \"text\". In every value of DER a byte is no letter."
  @spec text(binary) :: String.t() | nil
  def text(<<0x30, _rest::binary>>), do: nil

  def text(bytes) do
    cond do
      bytes =~ ~r/\A\s*-----BEGIN / -> "PEM"
      binary_part(bytes, 0, min(byte_size(bytes), 64)) =~ ~r/\A[\t\r\n\x20-\x7e]+\z/ -> "text"
      true -> nil
    end
  end

  @doc "The time in a value of one of its two forms."
  @spec read_time(byte, binary) :: {:ok, DateTime.t()} | :error
  def read_time(23, <<year::binary-size(2), rest::binary>>) do
    century = if year < "50", do: "20", else: "19"
    read_time(24, century <> year <> rest)
  end

  # By hand: lists of revoked certificates have a million of them.
  def read_time(24, <<digits::binary-size(14), "Z">>) do
    with [century, year, month, day, hour, minute, second] <- pairs(digits, []),
         {:ok, time} <- NaiveDateTime.new(100 * century + year, month, day, hour, minute, second),
         do: DateTime.from_naive(time, "Etc/UTC"),
         else: (_no_time -> :error)
  end

  def read_time(_tag, _contents), do: :error

  defp pairs(<<ten, one, rest::binary>>, numbers) when ten in ?0..?9 and one in ?0..?9,
    do: pairs(rest, [10 * (ten - ?0) + one - ?0 | numbers])

  defp pairs("", numbers), do: Enum.reverse(numbers)
  defp pairs(_no_digits, _numbers), do: :error

  @doc "A time, in the form that its year has in X.509 and CMS (RFC 5280, section 4.1.2.5)."
  @spec time(DateTime.t()) :: t
  def time(%DateTime{} = time) do
    time = DateTime.shift_zone!(time, "Etc/UTC")

    if time.year in 1950..2049,
      do: value(23, Calendar.strftime(time, "%y%m%d%H%M%SZ")),
      else: generalized_time(time)
  end

  @doc "A time, in the one form that it has in answers of OCSP and in time stamps."
  @spec generalized_time(DateTime.t()) :: t
  def generalized_time(%DateTime{} = time) do
    time = DateTime.shift_zone!(time, "Etc/UTC")
    value(24, Calendar.strftime(time, "%Y%m%d%H%M%SZ"))
  end
end
