defmodule Cryptoki.Beside do
  @moduledoc false
  # What some mechanisms answer in their parameter: several keys in the place of one, bytes beside
  # the key, or bytes alone. `answer:` in the tables of `Cryptoki.Mechanism` says which.

  alias Cryptoki.{Each, Error, Keys, Target}

  @typedoc """
  `{:keys, names, ivs}` a map of keys and IVs, `{:more_keys, argument}` a list of keys, `{:read,
  argument}` the key and what was written for that argument, `:bytes` no key at all.
  """
  @type answer ::
          {:keys, [atom], [atom]} | {:more_keys, atom} | {:read, atom} | :bytes

  @typedoc "What a verb gives for such a mechanism."
  @type result :: Cryptoki.beside()

  @doc "The answer of the native side in the form that callers see."
  @spec result(answer, {Keys.handle() | nil, [Keys.handle() | nil], [binary]}, Target.t()) ::
          {:ok, result} | {:error, Error.t()}
  def result({:keys, names, ivs}, {_none, handles, written}, target) do
    with :ok <- given(Enum.any?(handles)),
         {:ok, keys} <- made(handles, target) do
      ivs = Enum.zip(ivs, written ++ List.duplicate(nil, length(ivs) - length(written)))
      {:ok, Map.new(Enum.zip(names, keys) ++ ivs)}
    end
  end

  def result({:more_keys, _argument}, {handle, handles, _written}, target) do
    all = [handle | handles]
    with :ok <- given(Enum.all?(all)), do: made(all, target)
  end

  def result({:read, argument}, {handle, _none, [written | _]}, target) do
    with :ok <- given(handle != nil),
         {:ok, key} <- Keys.made(target, handle),
         do: {:ok, {key, value(argument, written)}}
  end

  def result(:bytes, {_key, _keys, [bytes | _]}, _target), do: {:ok, bytes}

  # Of some keys a mechanism makes none, and their handle stays invalid; of others it must not.
  defp given(true), do: :ok

  defp given(false),
    do: {:error, Error.new(:module_misbehaved, "a key was made, and its handle is invalid")}

  defp value(:version, <<major, minor>>), do: {major, minor}
  defp value(_argument, bytes), do: bytes

  defp made(handles, target),
    do: Each.of(handles, &if(&1 == nil, do: {:ok, nil}, else: Keys.made(target, &1)))
end
