defmodule Cryptoki.Test.Fuzz.Mutation do
  @moduledoc false
  # Small changes at random to bytes and to terms. The random numbers are those of `:rand`, so that a
  # seed gives the same changes again.

  @doc "The bytes with one to four changes; `others` are what pieces are taken from."
  @spec bytes(binary, tuple) :: binary
  def bytes(bytes, others) do
    Enum.reduce(1..:rand.uniform(4), bytes, fn _, bytes -> change(pick(8), bytes, others) end)
  end

  defp change(_, "", others), do: other(others)

  defp change(0, bytes, _), do: replace(bytes, 1, <<byte()>>)
  defp change(1, bytes, _), do: replace(bytes, 0, <<byte()>>)
  defp change(2, bytes, _), do: replace(bytes, pick(byte_size(bytes)) + 1, "")
  defp change(3, bytes, _), do: binary_part(bytes, 0, pick(byte_size(bytes)))

  defp change(4, bytes, _) do
    {at, size} = span(bytes)
    replace(bytes, 0, binary_part(bytes, at, size))
  end

  defp change(5, bytes, others) do
    other = other(others)
    {at, size} = span(other)
    replace(bytes, pick(4), binary_part(other, at, size))
  end

  defp change(6, bytes, _) do
    at = pick(byte_size(bytes))
    {before, <<byte, rest::binary>>} = :erlang.split_binary(bytes, at)
    <<before::binary, Bitwise.bxor(byte, Bitwise.bsl(1, pick(8))), rest::binary>>
  end

  defp change(7, bytes, _), do: replace(bytes, 0, :binary.copy(<<byte()>>, pick(300)))

  # `size` bytes at a random place give way to `new`.
  defp replace(bytes, size, new) do
    at = pick(byte_size(bytes) + 1)
    size = min(size, byte_size(bytes) - at)
    {before, rest} = :erlang.split_binary(bytes, at)
    {_gone, rest} = :erlang.split_binary(rest, size)
    <<before::binary, new::binary, rest::binary>>
  end

  defp span(""), do: {0, 0}

  defp span(bytes) do
    at = pick(byte_size(bytes))
    {at, pick(byte_size(bytes) - at) + 1}
  end

  defp other(others), do: elem(others, pick(tuple_size(others)))

  # Those that lengths, tags, signs and separators are made of come more often.
  defp byte do
    case pick(3) do
      0 -> elem({0, 1, 2, 4, 6, 0x30, 0x7F, 0x80, 0x81, 0x82, 0xFF, ?%, ?;, ?=, ?&}, pick(15))
      _ -> pick(256)
    end
  end

  @doc "The term with one of its parts, or itself, replaced by another of a random type."
  @spec term(term) :: term
  def term(term) do
    case {pick(4), term} do
      {0, _} -> strange()
      {_, list} when is_list(list) and list != [] -> in_list(list)
      {_, tuple} when is_tuple(tuple) and tuple_size(tuple) > 0 -> in_tuple(tuple)
      {_, map} when is_map(map) and not is_struct(map) and map_size(map) > 0 -> in_map(map)
      {1, bytes} when is_binary(bytes) -> bytes(bytes, {<<0>>})
      _ -> strange()
    end
  end

  defp in_list(list) do
    {before, [element | rest]} = Enum.split(list, pick(length(list)))

    case pick(6) do
      0 -> before ++ rest
      1 -> before ++ [element, element | rest]
      2 -> before ++ [strange(), element | rest]
      3 -> before ++ [element | strange()]
      _ -> before ++ [term(element) | rest]
    end
  rescue
    # It was an improper one already.
    _improper -> strange()
  end

  defp in_tuple(tuple) do
    at = pick(tuple_size(tuple))

    case pick(6) do
      0 -> Tuple.delete_at(tuple, at)
      1 -> Tuple.insert_at(tuple, at, strange())
      _ -> put_elem(tuple, at, term(elem(tuple, at)))
    end
  end

  defp in_map(map) do
    {key, value} = Enum.at(map, pick(map_size(map)))

    case pick(4) do
      0 -> Map.delete(map, key)
      1 -> map |> Map.delete(key) |> Map.put(strange(), value)
      _ -> Map.put(map, key, term(value))
    end
  end

  @numbers {0, 1, -1, 2, 255, 256, 4096, 0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF_FFFF_FFFF,
            0xFFFF_FFFF_FFFF_FFFE, 0xFFFF_FFFF_FFFF_FFFF, 0x1_0000_0000_0000_0000,
            Integer.pow(2, 200), -Integer.pow(2, 64)}
  @names {nil, true, false, :sha256, :sha_1, :iv, :key, :aes_gcm, :aes_cbc, :null, :label, :class,
          :unavailable, :struct, :ulong, :bytes, :template, :secp256r1, :"no such name"}

  defp strange do
    case pick(14) do
      0 -> elem(@numbers, pick(tuple_size(@numbers)))
      1 -> pick(1000)
      2 -> elem(@names, pick(tuple_size(@names)))
      3 -> :rand.bytes(pick(40))
      4 -> :binary.copy(<<pick(256)>>, pick(70_000))
      5 -> []
      6 -> [strange()]
      7 -> [{elem(@names, pick(tuple_size(@names))), strange()}]
      8 -> {strange(), strange()}
      9 -> %{elem(@names, pick(tuple_size(@names))) => strange()}
      10 -> elem({1.5, self(), make_ref(), &Function.identity/1, 1..3, ~D[2030-01-01]}, pick(6))
      11 -> <<pick(8)::size(3)>>
      12 -> [strange() | strange()]
      13 -> {}
    end
  end

  defp pick(n), do: :rand.uniform(n) - 1
end
