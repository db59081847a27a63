defmodule Cryptoki.PrivateKey.SHAKE do
  @moduledoc false
  # SHAKE256 (FIPS 202) of one block, which is all that the seed of an ML-DSA key is expanded with first: not every
  # OTP has it. Pure.

  import Bitwise

  @rate 136
  @lanes 0xFFFFFFFFFFFFFFFF
  # By x + 5y.
  @offsets [
    0,
    1,
    62,
    28,
    27,
    36,
    44,
    6,
    55,
    20,
    3,
    10,
    43,
    25,
    39,
    41,
    45,
    15,
    21,
    8,
    18,
    2,
    61,
    56,
    14
  ]
  @rounds [
    0x0000000000000001,
    0x0000000000008082,
    0x800000000000808A,
    0x8000000080008000,
    0x000000000000808B,
    0x0000000080000001,
    0x8000000080008081,
    0x8000000000008009,
    0x000000000000008A,
    0x0000000000000088,
    0x0000000080008009,
    0x000000008000000A,
    0x000000008000808B,
    0x800000000000008B,
    0x8000000000008089,
    0x8000000000008003,
    0x8000000000008002,
    0x8000000000000080,
    0x000000000000800A,
    0x800000008000000A,
    0x8000000080008081,
    0x8000000000008080,
    0x0000000080000001,
    0x8000000080008008
  ]

  @doc "So many bytes of the digest, no more than a block, of bytes that are less than one."
  @spec shake256(binary, 1..136) :: binary
  def shake256(bytes, size) when byte_size(bytes) < @rate - 1 and size <= @rate do
    fill = @rate - byte_size(bytes) - 2
    block = <<bytes::binary, 0x1F, 0::size(fill)-unit(8), 0x80, 0::size(200 - @rate)-unit(8)>>
    lanes = for <<lane::little-64 <- block>>, do: lane
    out = Enum.reduce(@rounds, lanes, &round/2)
    binary_part(for(lane <- out, into: <<>>, do: <<lane::little-64>>), 0, size)
  end

  defp round(constant, lanes) do
    state = List.to_tuple(lanes)
    columns = for x <- 0..4, do: Enum.reduce(0..4, 0, &bxor(elem(state, x + 5 * &1), &2))
    columns = List.to_tuple(columns)

    mixed =
      for x <- 0..4,
          do: bxor(elem(columns, rem(x + 4, 5)), rotated(elem(columns, rem(x + 1, 5)), 1))

    turned =
      for {offset, at} <- Enum.with_index(@offsets), into: %{} do
        {x, y} = {rem(at, 5), div(at, 5)}
        lane = bxor(elem(state, at), Enum.at(mixed, x))
        {{y, rem(2 * x + 3 * y, 5)}, rotated(lane, offset)}
      end

    [first | rest] =
      for y <- 0..4, x <- 0..4 do
        [a, b, c] = for step <- 0..2, do: turned[{rem(x + step, 5), y}]
        bxor(a, band(bxor(b, @lanes), c))
      end

    [bxor(first, constant) | rest]
  end

  defp rotated(lane, 0), do: lane
  defp rotated(lane, by), do: band(lane <<< by, @lanes) ||| lane >>> (64 - by)
end
