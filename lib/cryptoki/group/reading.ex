defmodule Cryptoki.Group.Reading do
  @moduledoc false
  # A stream of which something was read is not there for a second member.

  alias Cryptoki.{Chunks, Elsewhere}

  @typedoc "A verb, and what says whether its stream was read; nil when it has none."
  @type t :: {Elsewhere.verb(), :atomics.atomics_ref() | nil}

  @doc "The verb, with a stream among its arguments that is seen to be read."
  @spec watched(Elsewhere.verb()) :: t
  def watched({module, function, arguments} = verb) do
    with {:stream, enumerable} = stream <- stream(arguments),
         true <- Chunks.enumerable?(enumerable) do
      read = :atomics.new(1, [])
      watched = {:stream, Stream.map(enumerable, &seen(&1, read))}
      arguments = Enum.map(arguments, &if(&1 === stream, do: watched, else: &1))
      {{module, function, arguments}, read}
    else
      _none -> {verb, nil}
    end
  end

  defp stream([{:stream, _enumerable} = stream | _rest]), do: stream
  defp stream([_argument | rest]), do: stream(rest)
  defp stream([]), do: nil

  defp seen(piece, read) do
    :atomics.put(read, 1, 1)
    piece
  end

  @doc "Whether something was read."
  @spec begun?(t) :: boolean
  def begun?({_verb, nil}), do: false
  def begun?({_verb, read}), do: :atomics.get(read, 1) == 1
end
