defmodule Cryptoki.CBOR.Reader do
  @moduledoc false
  # Reads CBOR (RFC 8949) that others wrote, in one pass: what is well-formed, has each key of a map once and its texts in
  # UTF-8. Heads need not be the shortest, and maps have any order; of indefinite lengths there are none. How deep and how
  # many values it takes is said here, not by who wrote it. Pure.

  alias Cryptoki.CBOR

  # Values within one another, each of a byte at least.
  @values 16_384

  @doc "The one value that these bytes are, or the end of a sentence that says where they are none."
  @spec decode(binary, most :: pos_integer) :: {:ok, CBOR.t()} | {:error, String.t()}
  def decode(bytes, most) when byte_size(bytes) > most,
    do: {:error, "it is longer than #{most} bytes"}

  def decode(bytes, _most) do
    case value(bytes, CBOR.levels(), %{all: byte_size(bytes), left: @values}) do
      {value, "", _state} -> {:ok, value}
      {_value, rest, state} -> wrong!(rest, state, "there are bytes behind its end")
    end
  catch
    {__MODULE__, text} -> {:error, text}
  end

  defp value(bytes, _levels, %{left: 0} = state),
    do: wrong!(bytes, state, "there are more than #{@values} values in it")

  defp value(<<major::3, info::5, rest::binary>> = bytes, levels, state) do
    state = %{state | left: state.left - 1}

    if major == 7,
      do: simple(info, rest, bytes, state),
      else: sized(major, head(info, rest, bytes, state), bytes, levels, state)
  end

  defp value("", _levels, state), do: wrong!("", state, "a value is missing")

  defp head(info, rest, _bytes, _state) when info < 24, do: {info, rest}
  defp head(24, <<number, rest::binary>>, _bytes, _state), do: {number, rest}
  defp head(25, <<number::16, rest::binary>>, _bytes, _state), do: {number, rest}
  defp head(26, <<number::32, rest::binary>>, _bytes, _state), do: {number, rest}
  defp head(27, <<number::64, rest::binary>>, _bytes, _state), do: {number, rest}

  defp head(31, _rest, bytes, state),
    do: wrong!(bytes, state, "it has no length, which is not read here")

  defp head(info, _rest, bytes, state) when info in 28..30,
    do: wrong!(bytes, state, "there is no such head")

  defp head(_info, _rest, bytes, state), do: wrong!(bytes, state, "its head is cut off")

  defp sized(0, {number, rest}, _bytes, _levels, state), do: {number, rest, state}
  defp sized(1, {number, rest}, _bytes, _levels, state), do: {-1 - number, rest, state}

  defp sized(major, {size, rest}, bytes, _levels, state) when major in [2, 3] do
    if byte_size(rest) < size, do: wrong!(bytes, state, "it has less than #{size} bytes")
    {string, rest} = :erlang.split_binary(rest, size)

    if major == 2 do
      {string, rest, state}
    else
      unless String.valid?(string), do: wrong!(bytes, state, "its text is not UTF-8")
      {{:text, string}, rest, state}
    end
  end

  defp sized(_major, _head, bytes, 0, state),
    do: wrong!(bytes, state, "it is more than #{CBOR.levels()} deep")

  defp sized(4, {count, rest}, _bytes, levels, state),
    do: list(count, rest, levels - 1, state, [])

  defp sized(5, {count, rest}, _bytes, levels, state),
    do: map(count, rest, levels - 1, state, %{})

  defp sized(6, {number, rest}, _bytes, levels, state) do
    {value, rest, state} = value(rest, levels - 1, state)
    {{:tag, number, value}, rest, state}
  end

  defp list(0, rest, _levels, state, done), do: {Enum.reverse(done), rest, state}

  defp list(count, rest, levels, state, done) do
    {value, rest, state} = value(rest, levels, state)
    list(count - 1, rest, levels, state, [value | done])
  end

  defp map(0, rest, _levels, state, map), do: {map, rest, state}

  defp map(count, bytes, levels, state, map) do
    {key, rest, state} = value(bytes, levels, state)
    if is_map_key(map, key), do: wrong!(bytes, state, "a key is there twice")
    {value, rest, state} = value(rest, levels, state)
    map(count - 1, rest, levels, state, Map.put(map, key, value))
  end

  defp simple(20, rest, _bytes, state), do: {false, rest, state}
  defp simple(21, rest, _bytes, state), do: {true, rest, state}
  defp simple(22, rest, _bytes, state), do: {nil, rest, state}

  defp simple(number, rest, _bytes, state) when number in 0..19 or number == 23,
    do: {{:simple, number}, rest, state}

  defp simple(24, <<number, rest::binary>>, _bytes, state) when number >= 32,
    do: {{:simple, number}, rest, state}

  # Without infinities, and what is no number.
  defp simple(25, <<number::float-16, rest::binary>>, _bytes, state), do: {number, rest, state}
  defp simple(26, <<number::float-32, rest::binary>>, _bytes, state), do: {number, rest, state}
  defp simple(27, <<number::float-64, rest::binary>>, _bytes, state), do: {number, rest, state}

  defp simple(_other, _rest, bytes, state),
    do: wrong!(bytes, state, "there is no such value here")

  @spec wrong!(binary, map, String.t()) :: no_return
  defp wrong!(rest, %{all: all}, text),
    do: throw({__MODULE__, "byte #{all - byte_size(rest)}: #{text}"})
end
