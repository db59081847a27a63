defmodule Cryptoki.ContentKey.Wrap do
  @moduledoc false
  # AES key wrap (RFC 3394), with a key that two have agreed on. Pure.

  @iv <<0xA6A6A6A6A6A6A6A6::64>>

  @doc "A key of whole blocks of eight bytes, two at least, wrapped."
  @spec wrap(binary, binary) :: binary
  def wrap(kek, key) when rem(byte_size(key), 8) == 0 and byte_size(key) >= 16 do
    blocks = for <<block::binary-8 <- key>>, do: block

    {a, blocks} =
      Enum.reduce(0..5, {@iv, blocks}, fn round, {a, blocks} ->
        {blocks, a} =
          blocks
          |> Enum.with_index(round * length(blocks) + 1)
          |> Enum.map_reduce(a, fn {block, t}, a ->
            <<a::64, block::binary-8>> = ecb(kek, a <> block, true)
            {block, <<Bitwise.bxor(a, t)::64>>}
          end)

        {a, blocks}
      end)

    IO.iodata_to_binary([a | blocks])
  end

  @doc "What was wrapped so; `:error` when it was not, or not with this key."
  @spec unwrap(binary, binary) :: {:ok, binary} | :error
  def unwrap(kek, <<a::binary-8, rest::binary>>)
      when rem(byte_size(rest), 8) == 0 and byte_size(rest) in 16..64 do
    blocks = for <<block::binary-8 <- rest>>, do: block

    {a, blocks} =
      Enum.reduce(5..0//-1, {a, blocks}, fn round, {a, blocks} ->
        {blocks, a} =
          blocks
          |> Enum.with_index(round * length(blocks) + 1)
          |> Enum.reverse()
          |> Enum.map_reduce(a, fn {block, t}, <<a::64>> ->
            <<a::binary-8, block::binary-8>> =
              ecb(kek, <<Bitwise.bxor(a, t)::64, block::binary>>, false)

            {block, a}
          end)

        {a, Enum.reverse(blocks)}
      end)

    if :crypto.exor(a, @iv) == <<0::64>>, do: {:ok, IO.iodata_to_binary(blocks)}, else: :error
  end

  def unwrap(_kek, _other), do: :error

  defp ecb(kek, block, encrypt?),
    do: :crypto.crypto_one_time(:"aes_#{bit_size(kek)}_ecb", kek, block, encrypt?)
end
