defmodule Cryptoki.Keys.Together do
  @moduledoc false
  # The attributes of many objects, many in a request: one request each costs more than most tokens take to answer.

  alias Cryptoki.{Attribute, Call, Error, Target}
  alias Cryptoki.Native.Wait

  @type handle :: Cryptoki.Native.handle()
  @typedoc """
  An object and its values in the order of `Cryptoki.Attribute.types!/1`, nil where it has none; the error where it
  cannot be read alone.
  """
  @type read :: {handle, [binary | nil] | {:error, Error.t()}}

  # At most; a session answers with fewer where they take it longer than its turn.
  @size 512

  @doc "Handles, as many as are asked for together, and the others."
  @spec split([handle]) :: {[handle], [handle]}
  def split(handles), do: Enum.split(handles, @size)

  @doc """
  What the token says of the first of some objects, the handles of those that are to be read yet, and what `work` has
  answered meanwhile.
  """
  @spec some(Target.t(), [handle], [Attribute.name()], (() -> done)) ::
          {:ok, [read], rest :: [handle], done} | {:error, Error.t()}
        when done: term
  def some(target, handles, names, work) do
    {now, later} = split(handles)
    op = {:attributes_of, now, Attribute.types!(names)}

    with {:ok, {answers, done}} <- Call.run_beside(target, op, work) do
      {read, rest} = paired(now, answers, [])
      {:ok, read, rest ++ later, done}
    end
  end

  # The handles that have no answer come next.
  defp paired([handle | now], [answer | answers], read),
    do: paired(now, answers, [{handle, answer(answer)} | read])

  defp paired(now, [], read), do: {Enum.reverse(read), now}

  defp answer({:error, failure}), do: {:error, Wait.error(failure)}
  defp answer(values), do: values

  @doc "What it says of all of them."
  @spec all(Target.t(), [handle], [Attribute.name()]) :: {:ok, [read]} | {:error, Error.t()}
  def all(target, handles, names), do: all(target, handles, names, [])

  defp all(_target, [], _names, read), do: {:ok, Enum.concat(Enum.reverse(read))}

  defp all(target, handles, names, read) do
    with {:ok, now, rest, nil} <- some(target, handles, names, fn -> nil end),
         do: all(target, rest, names, [now | read])
  end
end
