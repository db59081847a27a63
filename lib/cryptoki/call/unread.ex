defmodule Cryptoki.Unread do
  @moduledoc false
  # Objects that a token shows and cannot read, of which a list tells in the log and goes without.

  require Logger

  alias Cryptoki.{Error, Instances, Target}

  @answers [:device_error, :function_failed, :general_error, :attribute_value_invalid] ++
             [:data_invalid, :device_memory, :arguments_bad, :function_rejected]

  # So many first objects that cannot be read mean that none can.
  @patience 3

  @doc "Whether it may be this object alone."
  @spec one?(Error.t()) :: boolean
  def one?(%Error{reason: reason, code: code}),
    do: reason in @answers or (is_integer(code) and code >= 0x80000000)

  @doc "Whether there is no use in asking for more."
  @spec all?(read :: [term], unread :: [Error.t()]) :: boolean
  def all?(read, unread), do: read == [] and length(unread) >= @patience

  @doc "The list, without what could not be read; the error when that was all."
  @spec rest(Target.t(), [item], [Error.t()]) :: {:ok, [item]} | {:error, Error.t()}
        when item: term
  def rest(_target, items, []), do: {:ok, items}
  def rest(_target, [], [error | _more]), do: {:error, error}

  def rest(target, items, unread) do
    tell(target, unread)
    {:ok, items}
  end

  @doc "Tells of them, once for each reason: calls are no news."
  @spec tell(Target.t(), [Error.t()]) :: :ok
  def tell(_target, []), do: :ok

  def tell(target, [%Error{reason: reason} = error | _more] = unread) do
    told = Instances.get(target.instance, :unread) || []

    if reason not in told do
      Instances.put(target.instance, :unread, [reason | told])

      Logger.warning(
        "cryptoki #{inspect(Target.called(target))}: #{length(unread)} of the objects cannot be read and are " <>
          "left out of lists: #{Exception.message(error)}"
      )
    end

    :ok
  end
end
