defmodule Cryptoki.DER.Reader do
  @moduledoc false
  # Reads DER (X.690) that others wrote, strictly and in one pass: a value knows which part it is and
  # where it stands, so that an error can say so. What a part should be is said by who reads it; the
  # first that is not ends the reading, by a throw that `read/3` alone catches. Pure.

  alias Cryptoki.{DER, Error}

  @enforce_keys [:tag, :contents, :der, :at, :inside, :path]
  defstruct @enforce_keys ++ [secret: false]

  # Where the contents begin is `at` and `inside`, from the first byte of all. Of what is secret, and all that
  # is in it, no error tells a byte: a length that is wrong makes a tag of what is none.
  @type t :: %__MODULE__{
          tag: byte,
          contents: binary,
          der: binary,
          at: non_neg_integer,
          inside: non_neg_integer,
          path: [String.t()],
          secret: boolean
        }

  @most 1_048_576
  # Values within one, and one within the other.
  @values 16_384
  @depth 32
  # An object identifier: arcs, and bytes of one (UUIDs have 128 bits).
  @arcs 128
  @arc 19

  @types %{
    1 => "BOOLEAN",
    2 => "INTEGER",
    3 => "BIT STRING",
    4 => "OCTET STRING",
    5 => "NULL",
    6 => "OBJECT IDENTIFIER",
    10 => "ENUMERATED",
    12 => "UTF8String",
    18 => "NumericString",
    19 => "PrintableString",
    20 => "TeletexString",
    22 => "IA5String",
    23 => "UTCTime",
    24 => "GeneralizedTime",
    26 => "VisibleString",
    28 => "UniversalString",
    30 => "BMPString",
    0x30 => "SEQUENCE",
    0x31 => "SET"
  }

  @strings [12, 18, 19, 20, 22, 26, 28, 30]

  @doc """
  What `fun` makes of the one value that these bytes are; `what` begins the sentence of an error, as in
  "this is no certificate: ", which is "certificate: " where it may well be one. Others' bytes are no more
  than `most`.
  """
  @spec read(binary, String.t(), (t -> answer), pos_integer | :infinity) ::
          {:ok, answer} | {:error, Error.t()}
        when answer: term
  def read(bytes, what, fun, most \\ @most)

  def read(bytes, what, _fun, most) when byte_size(bytes) > most,
    do: {:error, Error.new(:invalid_argument, "#{what}it is longer than #{most} bytes")}

  def read(bytes, what, fun, _most) do
    {:ok, bytes |> top() |> fun.()}
  catch
    :throw, {__MODULE__, reason, place, text} ->
      what = if reason == :invalid_argument, do: what, else: subject(what)
      {:error, Error.new(reason, what <> place <> text)}

    :throw, {__MODULE__, %Error{} = error} ->
      {:error, error}
  end

  defp subject(what), do: String.replace(what, ["this is no ", "it is no ", "this is none: "], "")

  defp top(bytes) do
    outside = %__MODULE__{tag: 0, contents: bytes, der: bytes, at: 0, inside: 0, path: []}
    if bytes == "", do: wrong!(outside, "nothing is there")
    if text = DER.text(bytes), do: wrong!(outside, "it is #{text}, and DER is wanted")

    with {:ok, one} when one != bytes <- first(bytes),
         do: wrong!(%{outside | at: byte_size(one)}, "there are bytes behind its end"),
         else: (_one_or_none -> hd(values(outside)))
  end

  @doc "The first value of some bytes, as it stands there."
  @spec first(binary) :: {:ok, binary} | :error
  def first(bytes) do
    case header(bytes) do
      {:ok, _tag, head, size} when head + size <= byte_size(bytes) ->
        {:ok, binary_part(bytes, 0, head + size)}

      _none ->
        :error
    end
  end

  @doc "Whether a term is one value in DER, with all that is in it."
  @spec one?(term) :: boolean
  def one?(bytes), do: is_binary(bytes) and match?({:ok, :ok}, read(bytes, "", &check/1))

  @doc "Ends the reading: what is wrong with a value."
  @spec wrong!(t, String.t()) :: no_return
  @spec wrong!(t, String.t(), Error.reason()) :: no_return
  def wrong!(%__MODULE__{} = value, text, reason \\ :invalid_argument) do
    place = Enum.join(Enum.reverse(["byte #{value.at}" | value.path]), ", ")
    throw({__MODULE__, reason, place <> ": ", text})
  end

  @doc "Ends the reading with a sentence that has its own place in it."
  @spec refuse!(Error.reason(), String.t()) :: no_return
  def refuse!(reason, text), do: throw({__MODULE__, Error.new(reason, text)})

  @doc "The value as one of which, and of all within, nothing is told but what should stand there."
  @spec secret(t) :: t
  def secret(%__MODULE__{} = value), do: %{value | secret: true}

  @doc "The value as a part with a name, or a number among its like."
  @spec name(t, String.t()) :: t
  def name(%__MODULE__{} = value, name), do: %{value | path: [name | value.path]}

  ## Values within values

  @doc "The values within one, whatever its tag is."
  @spec values(t) :: [t]
  def values(%__MODULE__{} = value), do: map(value, &one/2)

  defp one(value, _number), do: value

  @doc """
  What `fun` makes of each value within one and its number, from 1: of lists that have no end, `most` is
  how many they may have. One after the other, so that not all of them are held at once.
  """
  @spec map(t, (t, pos_integer -> made), pos_integer | :infinity) :: [made] when made: term
  def map(%__MODULE__{contents: contents} = value, fun, most \\ @values),
    do: map(contents, value, value.at + value.inside, fun, most, [], 0)

  defp map("", _outer, _at, _fun, _most, made, _count), do: Enum.reverse(made)

  defp map(_bytes, outer, _at, _fun, most, _made, most),
    do: wrong!(outer, "it has more than #{most} parts")

  defp map(bytes, outer, at, fun, most, made, count) do
    case header(bytes) do
      {:ok, tag, head, size} when head + size <= byte_size(bytes) ->
        {der, rest} = :erlang.split_binary(bytes, head + size)
        contents = binary_part(der, head, size)
        value = %{outer | tag: tag, contents: contents, der: der, at: at, inside: head}
        made = [fun.(value, count + 1) | made]
        map(rest, outer, at + head + size, fun, most, made, count + 1)

      {:ok, _tag, _head, _size} ->
        wrong!(%{outer | at: at}, "it is cut off")

      {:error, text} ->
        wrong!(%{outer | at: at}, text)
    end
  end

  # Tag, bytes of tag and length, and the length of the contents.
  defp header(<<tag, rest::binary>>) do
    with {:ok, behind} <- rest_of_tag(tag, rest),
         {:ok, size, behind} <- size(behind),
         do: {:ok, tag, 1 + byte_size(rest) - byte_size(behind), size}
  end

  defp header(""), do: {:error, "it is cut off"}

  # Numbers of 31 and above stand in bytes of their own.
  defp rest_of_tag(tag, <<first, rest::binary>>) when Bitwise.band(tag, 31) == 31 do
    cond do
      first in 31..127 -> {:ok, rest}
      first in 0x81..0xFF -> number_of_tag(rest, 3)
      true -> {:error, "its tag is written longer than it is"}
    end
  end

  defp rest_of_tag(_tag, rest), do: {:ok, rest}

  defp number_of_tag(<<last, rest::binary>>, _most) when last < 128, do: {:ok, rest}
  defp number_of_tag(<<_, rest::binary>>, most) when most > 0, do: number_of_tag(rest, most - 1)
  defp number_of_tag(_other, _most), do: {:error, "its tag has no end"}

  defp size(<<size, rest::binary>>) when size < 128, do: {:ok, size, rest}
  defp size(<<128, _rest::binary>>), do: {:error, "it has no length, as only BER allows"}

  defp size(<<1::1, count::7, size::unit(8)-size(count), rest::binary>>) when count in 1..4 do
    if size < 128 or size < Bitwise.bsl(1, 8 * (count - 1)),
      do: {:error, "its length is written longer than it is"},
      else: {:ok, size, rest}
  end

  defp size(_other), do: {:error, "it is cut off"}

  @doc "The values within a SEQUENCE."
  @spec sequence(t) :: [t]
  def sequence(%__MODULE__{} = value), do: value |> is!(0x30) |> values()

  @doc "The values within a SET."
  @spec set(t) :: [t]
  def set(%__MODULE__{} = value), do: value |> is!(0x31) |> values()

  @doc "The one value within another, such as one with a tag of its own."
  @spec only(t) :: t
  def only(%__MODULE__{} = value) do
    case values(value) do
      [one] -> one
      _none_or_several -> wrong!(value, "one value should be in it")
    end
  end

  @typedoc "The tag of a value; a time has one of two."
  @type tag :: byte | :time

  defguardp fits(tag, wanted) when tag == wanted or (wanted == :time and tag in [23, 24])

  @doc "The value, when it has this tag."
  @spec is!(t, tag) :: t
  def is!(%__MODULE__{tag: tag} = value, wanted) when fits(tag, wanted), do: value

  def is!(%__MODULE__{secret: true} = value, tag),
    do: wrong!(value, "#{type(tag)} should stand here, and does not")

  def is!(value, tag), do: wrong!(value, "#{type(tag)} should stand here, not #{type(value.tag)}")

  @doc "What a tag is called."
  @spec type(tag) :: String.t()
  def type(:time), do: "a time"
  def type(tag) when is_map_key(@types, tag), do: article(@types[tag])
  def type(tag), do: "a value with the tag 0x#{Integer.to_string(tag, 16)}"

  # By their sound: a UTF8String.
  defp article(<<letter, _::binary>> = name) when letter in [?A, ?E, ?I, ?O], do: "an " <> name
  defp article(name), do: "a " <> name

  @typedoc "The tag of a field, with what the field is called when it has a name."
  @type field :: tag | {String.t(), tag} | {:maybe, tag} | {:maybe, String.t(), tag}

  @doc "What is signed, the algorithm and the signature (RFC 5280, section 4.1.1; RFC 2986, section 4.2)."
  @spec signed_parts(t) :: [t]
  def signed_parts(%__MODULE__{} = value) do
    fields(is!(value, 0x30), [0x30, {"signature algorithm", 0x30}, {"signature", 3}])
  end

  @doc "One value for each field, `nil` for those that may be missing: `[0x30, {:maybe, 0xA0}]`."
  @spec fields(t, [field]) :: [t | nil]
  def fields(%__MODULE__{} = value, fields), do: fields(values(value), fields, value)

  defp fields([], [], _outer), do: []
  defp fields([extra | _], [], _outer), do: wrong!(extra, "nothing should stand here")

  defp fields([%{tag: tag} = value | rest], [{:maybe, wanted} | fields], outer)
       when fits(tag, wanted),
       do: [value | fields(rest, fields, outer)]

  defp fields([%{tag: tag} = value | rest], [{:maybe, name, wanted} | fields], outer)
       when fits(tag, wanted),
       do: [name(value, name) | fields(rest, fields, outer)]

  defp fields(rest, [maybe | fields], outer) when elem(maybe, 0) == :maybe,
    do: [nil | fields(rest, fields, outer)]

  defp fields([value | rest], [{name, tag} | fields], outer),
    do: [value |> name(name) |> is!(tag) | fields(rest, fields, outer)]

  defp fields([value | rest], [tag | fields], outer),
    do: [is!(value, tag) | fields(rest, fields, outer)]

  defp fields([], [{name, _tag} | _], outer), do: wrong!(outer, "it has no #{name}")
  defp fields([], [tag | _], outer), do: wrong!(outer, "#{type(tag)} is missing at its end")

  ## Values

  @doc "A number of at most so many bytes, from its contents."
  @spec integer(t, pos_integer) :: integer
  def integer(%__MODULE__{} = value, most \\ 20), do: value |> is!(2) |> number(most)

  @doc "The number of one of several things that have numbers."
  @spec enumerated(t) :: integer
  def enumerated(%__MODULE__{} = value), do: value |> is!(10) |> number(4)

  defp number(value, most) do
    contents = minimal(value)
    if byte_size(contents) > most, do: wrong!(value, "it is a number of more than #{most} bytes")
    signed(contents)
  end

  defp signed(<<1::1, _::bitstring>> = contents),
    do: :binary.decode_unsigned(contents) - Bitwise.bsl(1, bit_size(contents))

  defp signed(contents), do: :binary.decode_unsigned(contents)

  @doc "The contents of a number."
  @spec integer_bytes(t) :: binary
  def integer_bytes(%__MODULE__{} = value), do: value |> is!(2) |> minimal()

  defp minimal(%{contents: contents} = value) do
    case contents do
      "" ->
        wrong!(value, "it is a number without a byte")

      <<0, 0::1, _::bitstring>> ->
        wrong!(value, "it is a number that is written longer than it is")

      <<255, 1::1, _::bitstring>> ->
        wrong!(value, "it is a number that is written longer than it is")

      _number ->
        contents
    end
  end

  @doc "True or false."
  @spec boolean(t) :: boolean
  def boolean(%__MODULE__{} = value) do
    case is!(value, 1).contents do
      <<0>> -> false
      <<0xFF>> -> true
      _other -> wrong!(value, "it is neither true nor false")
    end
  end

  @doc "The same of what may be BER, where each byte but zero is true."
  @spec truth(t) :: boolean
  def truth(%__MODULE__{contents: <<byte>>, tag: 1}), do: byte != 0
  def truth(value), do: boolean(value)

  @spec null(t) :: nil
  def null(%__MODULE__{} = value) do
    if is!(value, 5).contents != "", do: wrong!(value, "it is a NULL with something in it")
  end

  @spec oid(t) :: tuple
  def oid(%__MODULE__{} = value) do
    with {:ok, [first | rest]} <- arcs(is!(value, 6).contents, []) do
      head = min(div(first, 40), 2)
      List.to_tuple([head, first - 40 * head | rest])
    else
      _none -> wrong!(value, "it is no object identifier")
    end
  end

  defp arcs("", arcs) when arcs != [] and length(arcs) <= @arcs, do: {:ok, Enum.reverse(arcs)}
  defp arcs(bytes, _arcs) when bytes == "" or byte_size(bytes) > @arcs * @arc, do: :error

  defp arcs(bytes, arcs) do
    with {:ok, arc, rest} <- arc(bytes, 0, @arc), do: arcs(rest, [arc | arcs])
  end

  # Not with zeros before it.
  defp arc(<<0x80, _::binary>>, 0, _most), do: :error

  defp arc(<<0::1, n::7, rest::binary>>, high, most) when most > 0,
    do: {:ok, high * 128 + n, rest}

  defp arc(<<1::1, n::7, rest::binary>>, high, most) when most > 0,
    do: arc(rest, high * 128 + n, most - 1)

  defp arc(_cut_off, _high, _most), do: :error

  @spec octets(t) :: binary
  def octets(%__MODULE__{} = value), do: is!(value, 4).contents

  @doc "The value in the contents of a string of bytes."
  @spec within(t) :: t
  def within(%__MODULE__{contents: contents} = value) do
    case values(%{value | contents: contents}) do
      [one] -> one
      _none_or_several -> wrong!(value, "one value should be in it, and nothing else")
    end
  end

  @doc "A BIT STRING, whose last byte may not be whole."
  @spec bits(t) :: bitstring
  def bits(%__MODULE__{} = value) do
    with <<unused, bytes::binary>> when unused < 8 <- is!(value, 3).contents,
         true <- unused == 0 or bytes != "",
         true <- unused == 0 or rem(:binary.last(bytes), Bitwise.bsl(1, unused)) == 0 do
      <<bytes::bitstring-size(bit_size(bytes) - unused)>>
    else
      _other -> wrong!(value, "it is a BIT STRING with bits where none should be")
    end
  end

  @doc "A BIT STRING of whole bytes."
  @spec bytes(t) :: binary
  def bytes(%__MODULE__{} = value) do
    case is!(value, 3).contents do
      <<0, bytes::binary>> -> bytes
      _other -> wrong!(value, "it is a BIT STRING not of whole bytes")
    end
  end

  @doc "The numbers of the bits that are set, of a BIT STRING whose bits have names."
  @spec named_bits(t) :: [non_neg_integer]
  def named_bits(%__MODULE__{} = value) do
    bits = bits(value)
    if bit_size(bits) > 64, do: wrong!(value, "it has more than 64 bits")
    for {1, number} <- Enum.with_index(for <<bit::1 <- bits>>, do: bit), do: number
  end

  @doc "A time, in either form."
  @spec time(t) :: DateTime.t()
  def time(%__MODULE__{tag: tag} = value) do
    case DER.read_time(tag, value.contents) do
      {:ok, time} -> time
      :error -> wrong!(value, "it is no time as DER has them")
    end
  end

  @doc "The text in a string of characters, of whichever type."
  @spec string(t) :: String.t()
  def string(%__MODULE__{tag: tag} = value) do
    case text(tag, value.contents) do
      {:ok, text} -> text
      :error when tag in @strings -> wrong!(value, "it is #{type(tag)} with what is none")
      :error -> wrong!(value, "text should stand here, not #{type(tag)}")
    end
  end

  @doc "The same of a tag and contents."
  @spec text(byte, binary) :: {:ok, String.t()} | :error
  def text(12, bytes), do: if(String.valid?(bytes), do: {:ok, bytes}, else: :error)
  def text(18, bytes), do: only?(bytes, ~r/\A[0-9 ]*\z/)
  def text(19, bytes), do: only?(bytes, ~r/\A[A-Za-z0-9 '()+,.\/:=?-]*\z/)
  # As everybody reads it: what ISO 8859-1 has at these numbers.
  def text(20, bytes), do: {:ok, :unicode.characters_to_binary(bytes, :latin1)}
  def text(22, bytes), do: only?(bytes, ~r/\A[\x00-\x7f]*\z/)
  def text(26, bytes), do: only?(bytes, ~r/\A[\x20-\x7e]*\z/)
  def text(28, bytes), do: unicode(bytes, {:utf32, :big})

  # Without the pairs that stand for what is not in it.
  def text(30, bytes) do
    if rem(byte_size(bytes), 2) == 0 and
         not Enum.any?(for(<<n::16 <- bytes>>, do: n in 0xD800..0xDFFF)),
       do: unicode(bytes, {:utf16, :big}),
       else: :error
  end

  def text(_tag, _bytes), do: :error

  defp only?(bytes, regex), do: if(bytes =~ regex, do: {:ok, bytes}, else: :error)

  defp unicode(bytes, encoding) do
    case :unicode.characters_to_binary(bytes, encoding) do
      text when is_binary(text) -> {:ok, text}
      _not_so -> :error
    end
  end

  ## Anything

  @doc "Reads a value of any kind with all that is in it."
  @spec check(t) :: :ok
  def check(%__MODULE__{} = value), do: check(value, @depth)

  defp check(value, 0), do: wrong!(value, "it is more than #{@depth} levels deep")

  defp check(%{tag: tag} = value, depth) when Bitwise.band(tag, 0x20) != 0 do
    # Of the types that everybody knows only two have parts.
    if tag < 0x40 and tag not in [0x30, 0x31, 0x28, 0x2B],
      do: wrong!(value, "#{type(tag - 0x20)} in parts, as only BER allows")

    value |> values() |> Enum.each(&check(&1, depth - 1))
  end

  defp check(%{tag: tag} = value, _depth) do
    case tag do
      0 -> wrong!(value, "an end of contents, as only BER has")
      1 -> boolean(value)
      2 -> integer_bytes(value)
      3 -> bits(value)
      5 -> null(value)
      6 -> oid(value)
      10 -> minimal(value)
      tag when tag in [16, 17] -> wrong!(value, "#{type(tag + 0x20)} without parts")
      tag when tag in [23, 24] -> any_time(value)
      tag when tag in @strings -> string(value)
      _bytes -> :ok
    end

    :ok
  end

  # GeneralizedTime of others may have parts of a second.
  defp any_time(%{contents: contents} = value) do
    unless contents =~ ~r/\A(\d{2})?\d{12}(\.\d*[1-9])?Z\z/,
      do: wrong!(value, "it is no time as DER has them")
  end
end
