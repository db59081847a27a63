defmodule Cryptoki.Each do
  @moduledoc false
  # What a function makes of each of some things, or why not of the first of which it makes nothing.

  @doc "`{:ok, values}`, in order; else the first answer that is no `{:ok, value}`: no other is asked for."
  @spec of([item], (item -> {:ok, value} | other)) :: {:ok, [value]} | other
        when item: term, value: term, other: term
  def of(items, fun), do: of(items, fun, [])

  defp of([], _fun, values), do: {:ok, Enum.reverse(values)}

  defp of([item | rest], fun, values) do
    with {:ok, value} <- fun.(item), do: of(rest, fun, [value | values])
  end
end
