defmodule Cryptoki.Envelope.Pieces do
  @moduledoc false
  # Streams into a box and out of one. The data key is made, or opened, when the stream is consumed: one that is
  # consumed twice has two, for the text may be another.

  alias Cryptoki.{Bytes, Error}
  alias Cryptoki.Envelope.Box

  @spec sealed(
          Enumerable.t(),
          (() -> {:ok, binary, Box.sealed_key()} | {:error, Error.t()}),
          binary
        ) ::
          Enumerable.t()
  def sealed(chunks, new, aad) do
    start = fn ->
      case new.() do
        {:ok, key, sealed_key} -> {:header, Box.header(sealed_key), key, Box.start()}
        {:error, error} -> raise error
      end
    end

    Stream.transform(
      ends(chunks),
      start,
      fn
        chunk, {:header, header, key, state} ->
          {out, state} = step(:seal, chunk, key, state, aad)
          {[header | out], {:key, key, state}}

        chunk, {:key, key, state} ->
          {out, state} = step(:seal, chunk, key, state, aad)
          {out, {:key, key, state}}
      end,
      fn _state -> :ok end
    )
  end

  @spec opened(Enumerable.t(), (Box.sealed_key() -> {:ok, binary} | {:error, Error.t()}), binary) ::
          Enumerable.t()
  def opened(chunks, open, aad) do
    Stream.transform(
      ends(chunks),
      fn -> {:header, ""} end,
      fn
        :end, {:header, held} ->
          {:ok, key, rest} = whole(held, open)
          {first, state} = step(:open, rest, key, Box.start(), aad)
          {last, state} = step(:open, :end, key, state, aad)
          {first ++ last, {:key, key, state}}

        chunk, {:header, held} ->
          held = held <> chunk

          case Box.read(held) do
            :more ->
              {[], {:header, held}}

            {:error, error} ->
              raise error

            {:ok, _sealed_key, _rest} ->
              {:ok, key, rest} = whole(held, open)
              {out, state} = step(:open, rest, key, Box.start(), aad)
              {out, {:key, key, state}}
          end

        chunk, {:key, key, state} ->
          {out, state} = step(:open, chunk, key, state, aad)
          {out, {:key, key, state}}
      end,
      fn _state -> :ok end
    )
  end

  # Each chunk as a binary, and then that there are no more.
  defp ends(chunks) do
    chunks
    |> Stream.map(&Bytes.binary!(&1, "a chunk of a stream"))
    |> Stream.concat([:end])
  end

  defp whole(held, open) do
    with {:ok, sealed_key, rest} <- with(:more <- Box.read(held), do: Box.no_envelope()),
         {:ok, key} <- open.(sealed_key) do
      {:ok, key, rest}
    else
      {:error, error} -> raise error
    end
  end

  defp step(how, :end, key, state, aad) do
    case Box.last(how, state, key, aad) do
      {:ok, ""} -> {[], state}
      {:ok, last} -> {[last], state}
      {:error, error} -> raise error
    end
  end

  defp step(how, chunk, key, state, aad) do
    case Box.more(how, state, chunk, key, aad) do
      {:ok, out, state} -> {out, state}
      {:error, error} -> raise error
    end
  end
end
