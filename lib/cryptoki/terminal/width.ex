defmodule Cryptoki.Width do
  @moduledoc false
  # How many columns of a terminal text takes: East Asian and emoji characters take two, marks that stand on
  # others none. Pure.

  # Wide and fullwidth by UAX #11 (EastAsianWidth.txt of Unicode 16): what is not assigned in between is wide too.
  @wide ~w[1100-115F 231A-231B 2329-232A 23E9-23EC 23F0 23F3 25FD-25FE 2614-2615 2630-2637 2648-2653 267F 268A-268F
           2693 26A1 26AA-26AB 26BD-26BE 26C4-26C5 26CE 26D4 26EA 26F2-26F3 26F5 26FA 26FD 2705 270A-270B 2728 274C
           274E 2753-2755 2757 2795-2797 27B0 27BF 2B1B-2B1C 2B50 2B55 2E80-303E 3041-3247 3250-A4C6 A960-A97C
           AC00-D7A3 F900-FAD9 FE10-FE19 FE30-FE6B FF01-FF60 FFE0-FFE6 16FE0-1B2FB 1D300-1D356 1D360-1D376 1F004
           1F0CF 1F18E 1F191-1F19A 1F200-1F320 1F32D-1F335 1F337-1F37C 1F37E-1F393 1F3A0-1F3CA 1F3CF-1F3D3
           1F3E0-1F3F0 1F3F4 1F3F8-1F43E 1F440 1F442-1F4FC 1F4FF-1F53D 1F54B-1F54E 1F550-1F567 1F57A 1F595-1F596
           1F5A4 1F5FB-1F64F 1F680-1F6C5 1F6CC 1F6D0-1F6D2 1F6D5-1F6DF 1F6EB-1F6EC 1F6F4-1F6FC 1F7E0-1F7F0
           1F90C-1F93A 1F93C-1F945 1F947-1F9FF 1FA70-1FAFF 20000-2FFFD 30000-3FFFD]

  ranges =
    for range <- @wide do
      [first | last] = range |> String.split("-") |> Enum.map(&String.to_integer(&1, 16))
      {first, List.first(last) || first}
    end

  @doc """
  The columns of a text.

      iex> Enum.map(["key", "鍵", "é", "e\\u0301"], &Cryptoki.Width.of/1)
      [3, 2, 1, 1]
  """
  @spec of(String.t()) :: non_neg_integer
  def of(text), do: text |> String.graphemes() |> Enum.map(&columns/1) |> Enum.sum()

  @doc """
  As much of a text as so many columns hold.

      iex> Cryptoki.Width.take("鍵鍵", 3)
      "鍵"
  """
  @spec take(String.t(), non_neg_integer) :: String.t()
  def take(text, columns), do: text |> String.graphemes() |> taken(columns, "")

  defp taken([grapheme | rest], left, text) do
    case columns(grapheme) do
      columns when columns <= left -> taken(rest, left - columns, text <> grapheme)
      _too_wide -> text
    end
  end

  defp taken([], _left, text), do: text

  @doc """
  A text with as many blanks behind it as fill the columns.

      iex> Cryptoki.Width.pad("鍵", 4)
      "鍵  "
  """
  @spec pad(String.t(), non_neg_integer) :: String.t()
  def pad(text, columns), do: text <> String.duplicate(" ", max(columns - of(text), 0))

  # Marks stand on what is before them, and take no more room.
  defp columns(<<c, "">>) when c < 0x80, do: 1

  defp columns(grapheme),
    do: grapheme |> String.to_charlist() |> Enum.map(&column/1) |> Enum.max()

  for {first, last} <- ranges do
    defp column(c) when c in unquote(first)..unquote(last), do: 2
  end

  defp column(c) do
    if c >= 0x300 and <<c::utf8>> =~ ~r/^[\p{Mn}\p{Me}\p{Cf}]$/u, do: 0, else: 1
  end
end
