defmodule Cryptoki.PublicKey.Edwards do
  @moduledoc false
  # Whether bytes are a point of edwards25519 or edwards448 (RFC 8032, sections 5.1.3 and 5.2.3), and none
  # of the few of small order, with which signatures of anybody verify. Pure.

  @p25519 Integer.pow(2, 255) - 19
  @p448 Integer.pow(2, 448) - Integer.pow(2, 224) - 1
  # -121665 / 121666
  @d25519 37_095_705_934_669_439_343_138_083_508_754_565_189_542_113_879_843_219_016_388_785_533_085_940_283_555
  @d448 @p448 - 39_081

  @doc "Looks at a public key."
  @spec check(:ed25519 | :ed448, binary) :: :ok | :error | :small
  def check(:ed25519, <<low::binary-size(31), _sign::1, high::7>>) do
    y = :binary.decode_unsigned(<<low::binary, high>>, :little)
    check(y, y * y - 1, @d25519 * y * y + 1, @p25519)
  end

  def check(:ed448, <<low::binary-size(56), _sign::1, 0::7>>) do
    y = :binary.decode_unsigned(low, :little)
    check(y, y * y - 1, @d448 * y * y - 1, @p448)
  end

  def check(_curve, _bytes), do: :error

  # The square of x is u / v.
  defp check(y, _u, _v, p) when y >= p, do: :error

  defp check(y, u, v, p) do
    square = Integer.mod(u * power(v, p - 2, p), p)

    cond do
      # Of order 1, 2 and 4; those of order 8, where there are any, have one of order 4 as their double.
      square == 0 or y == 0 -> :small
      power(square, div(p - 1, 2), p) != 1 -> :error
      p == @p25519 and square == Integer.mod(-y * y, p) -> :small
      true -> :ok
    end
  end

  defp power(base, exponent, p),
    do: base |> Integer.mod(p) |> :crypto.mod_pow(exponent, p) |> :binary.decode_unsigned()
end
