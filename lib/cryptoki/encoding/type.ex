defmodule Cryptoki.Type do
  @moduledoc false
  # What callers are told of a term that is not what it should be, and may be a secret.

  @doc "What a term is, for messages that must not show it."
  @spec of(term) :: String.t()
  def of(nil), do: "nil"
  def of(term) when is_boolean(term), do: "a boolean"
  def of(term) when is_atom(term), do: "an atom"
  def of(term) when is_integer(term) and term < 0, do: "a negative integer"
  def of(term) when is_integer(term), do: "an integer"
  def of(term) when is_float(term), do: "a float"
  def of(term) when is_binary(term), do: "a binary"
  def of(term) when is_bitstring(term), do: "a bitstring"
  def of(term) when is_list(term), do: "a list"
  def of(term) when is_tuple(term), do: "a tuple of #{tuple_size(term)}"
  def of(%name{}), do: "a %#{inspect(name)}{}"
  def of(term) when is_map(term), do: "a map"
  def of(term) when is_function(term), do: "a function"
  def of(_), do: "something else"
end
