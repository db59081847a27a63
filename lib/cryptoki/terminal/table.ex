defmodule Cryptoki.Table do
  @moduledoc false
  # Columns of text, no wider than the terminal: what is too long ends in `..`. Pure.

  alias Cryptoki.Width

  @gap "  "
  # No column that is cut gets narrower than this.
  @least 8

  @type width :: pos_integer | :infinity

  @doc """
  The rows below a header, each cell a string or nil.

      iex> Cryptoki.Table.format(["slot", "label"], [["3", "payments"], ["4", nil]], 80)
      "slot  label\\n----  --------\\n3     payments\\n4\\n"
  """
  @spec format([String.t()], [[String.t() | nil]], width) :: String.t()
  def format(header, rows, width) do
    rows = for row <- [header | rows], do: Enum.map(row, &printable/1)
    widths = rows |> Enum.zip_with(&longest/1) |> fit(width)
    [header | rows] = rows
    rule = Enum.map(widths, &String.duplicate("-", &1))
    Enum.map_join([header, rule | rows], &(line(&1, widths) <> "\n"))
  end

  @doc "Names and values below each other, each value cut to what is left of the line."
  @spec pairs([{String.t(), String.t()}], width) :: String.t()
  def pairs(pairs, width) do
    names = pairs |> Enum.map(&elem(&1, 0)) |> longest()
    left = if width == :infinity, do: :infinity, else: max(width - names - 2, @least)

    Enum.map_join(pairs, fn {name, value} ->
      Width.pad(name, names) <> @gap <> cut(printable(value), left) <> "\n"
    end)
  end

  # A label is what somebody wrote on the token: it must not drive the terminal, nor turn the line around. Joiners
  # are part of how some languages are written.
  @doc "A text without what would drive the terminal."
  @spec printable(String.t() | nil) :: String.t()
  def printable(nil), do: ""

  def printable(text) do
    text = if String.valid?(text), do: text, else: inspect(text)
    String.replace(text, ~r/[^[:print:]]|(?![\x{200C}\x{200D}])\p{Cf}/u, "?")
  end

  defp longest(texts), do: texts |> Enum.map(&Width.of/1) |> Enum.max()

  defp fit(widths, :infinity), do: widths

  defp fit(widths, width) do
    widest = Enum.max(widths)
    total = Enum.sum(widths) + (length(widths) - 1) * String.length(@gap)

    if total <= width or widest <= @least do
      widths
    else
      at = Enum.find_index(widths, &(&1 == widest))
      widths |> List.update_at(at, &(&1 - 1)) |> fit(width)
    end
  end

  defp line(cells, widths) do
    cells
    |> Enum.zip_with(widths, &(&1 |> cut(&2) |> Width.pad(&2)))
    |> Enum.join(@gap)
    |> String.trim_trailing()
  end

  defp cut(text, :infinity), do: text

  defp cut(text, width) do
    if Width.of(text) <= width, do: text, else: Width.take(text, width - 2) <> ".."
  end
end
