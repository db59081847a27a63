defmodule Cryptoki.Bytes do
  @moduledoc false
  # What callers give as iodata. Where it is none, neither the error nor its stack trace holds any of it: it
  # is data, and stack traces are logged.

  @doc "The binary; `what` names the argument in the error."
  @spec binary!(term, String.t()) :: binary
  def binary!(data, _what) when is_binary(data), do: data
  def binary!(data, what), do: checked(data, what, &IO.iodata_to_binary/1)

  @doc "How many bytes it has."
  @spec size!(term, String.t()) :: non_neg_integer
  def size!(data, _what) when is_binary(data), do: byte_size(data)
  def size!(data, what), do: checked(data, what, &IO.iodata_length/1)

  defp checked(data, what, fun) when is_list(data) do
    fun.(data)
  rescue
    ArgumentError ->
      message = "#{what} must be iodata, got a list of something else"
      reraise ArgumentError, [message: message], Enum.map(__STACKTRACE__, &without_arguments/1)
  end

  defp checked(_data, what, _fun), do: raise(ArgumentError, "#{what} must be iodata")

  @doc "A line of a stack trace without what the function was called with: data, PINs."
  @spec without_arguments(tuple) :: tuple
  def without_arguments({module, name, arguments, place}) when is_list(arguments),
    do: {module, name, length(arguments), place}

  def without_arguments(entry), do: entry
end
