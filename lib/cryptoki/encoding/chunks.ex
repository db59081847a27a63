defmodule Cryptoki.Chunks do
  @moduledoc false
  # The iodata of a stream in pieces worth a call: small chunks are collected, nothing is held for
  # longer than a piece takes.

  alias Cryptoki.Bytes

  @piece 64 * 1024

  @doc "Data that callers give, checked: a binary, or a stream of which nothing is read yet."
  @spec data!(term) :: binary | {:stream, Enumerable.t()}
  def data!({:stream, enumerable} = stream) do
    if enumerable?(enumerable),
      do: stream,
      else: raise(ArgumentError, "{:stream, enumerable} needs something that can be enumerated")
  end

  def data!(data), do: Bytes.binary!(data, "data")

  @doc "Whether it can be enumerated: of functions those with two arguments."
  @spec enumerable?(term) :: boolean
  def enumerable?(function) when is_function(function), do: is_function(function, 2)
  def enumerable?(other), do: Enumerable.impl_for(other) != nil

  @doc """
  Pieces of at least 64 KiB, but for the last one; one of no data when there is none, for a
  multi-part operation has one update at least (PKCS #11 v3.2, section 5.13.1).
  """
  @spec regroup(Enumerable.t()) :: Enumerable.t()
  def regroup(enumerable) do
    Stream.chunk_while(
      enumerable,
      {[], 0, :nothing_yet},
      fn chunk, {held, size, sent} ->
        size = size + Bytes.size!(chunk, "a chunk of a stream")

        if size < @piece,
          do: {:cont, {[held, chunk], size, sent}},
          else: {:cont, [held, chunk], {[], 0, :sent}}
      end,
      fn
        {_held, 0, :sent} -> {:cont, nil}
        {held, _size, _sent} -> {:cont, held, nil}
      end
    )
  end

  @doc "A binary in pieces of at most 64 KiB, at least one."
  @spec cut(binary) :: [binary, ...]
  def cut(<<piece::binary-size(@piece), rest::binary>>) when rest != "", do: [piece | cut(rest)]
  def cut(rest), do: [rest]

  @doc "Hands the pieces of an enumerable to `send`; what came back, or the first error."
  @spec feed(Enumerable.t(), (iodata -> :ok | {:ok, iodata} | {:error, error})) ::
          {:ok, iodata} | {:error, error}
        when error: term
  def feed(enumerable, send), do: enumerable |> regroup() |> send_all(send)

  @doc "The same for pieces that are pieces already."
  @spec send_all(Enumerable.t(), (iodata -> :ok | {:ok, iodata} | {:error, error})) ::
          {:ok, iodata} | {:error, error}
        when error: term
  def send_all(pieces, send) do
    Enum.reduce_while(pieces, {:ok, []}, fn piece, {:ok, out} ->
      case send.(piece) do
        :ok -> {:cont, {:ok, out}}
        {:ok, bytes} -> {:cont, {:ok, [out, bytes]}}
        {:error, _error} = error -> {:halt, error}
      end
    end)
  end

  @doc "The digest of data, outside of the token, as `:crypto` names the hash."
  @spec digest(atom, iodata | {:stream, Enumerable.t()}) :: binary
  def digest(hash, data), do: Map.fetch!(digests([hash], data), hash)

  @doc "The digests with several hashes; a stream is read once."
  @spec digests([atom], iodata | {:stream, Enumerable.t()}) :: %{atom => binary}
  def digests(hashes, {:stream, chunks}) do
    states = for hash <- hashes, do: {hash, :crypto.hash_init(hash)}

    states =
      Enum.reduce(chunks, states, fn chunk, states ->
        for {hash, state} <- states,
            do: {hash, :crypto.hash_update(state, Bytes.binary!(chunk, "a chunk of a stream"))}
      end)

    Map.new(states, fn {hash, state} -> {hash, :crypto.hash_final(state)} end)
  end

  def digests(hashes, data), do: Map.new(hashes, &{&1, :crypto.hash(&1, data)})
end
