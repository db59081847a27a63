defmodule Cryptoki.Random do
  @moduledoc false
  # Random numbers, and seeds, in pieces that the library takes: NSS gives 64 KiB a call, others 1 KiB or
  # less, and what they say to more differs. What is found out is remembered for the instance.

  alias Cryptoki.{Call, Error, Instances, Target}

  # What is tried next when a library takes less than it was given.
  @pieces [64 * 1024, 1024, 256, 64, 32, 16]
  # Nobody's limit is smaller, and nothing is looked up for so little.
  @always 16
  # They speak of the length; of the others one may, and a size is tried that is likely to be taken.
  @too_much [:data_len_range, :arguments_bad, :data_invalid, :buffer_too_small]
  @vague [:function_failed, :general_error, :device_error, :device_memory] ++
           [:token_resource_exceeded]
  @likely 1024

  @doc "So many bytes; of none there are libraries that say they cannot be had."
  @spec bytes(Target.t(), non_neg_integer) :: {:ok, binary} | {:error, Error.t()}
  def bytes(_target, 0), do: {:ok, ""}

  def bytes(target, count) do
    get = fn _at, size, _limit -> Call.run(target, {:random, size}) end

    case pieces(target, :random_limit, count, get) do
      {:ok, [bytes]} -> {:ok, bytes}
      {:ok, pieces} -> {:ok, IO.iodata_to_binary(pieces)}
      {:error, _error} = error -> error
    end
  end

  @doc "Mixes a seed in."
  @spec seed(Target.t(), binary) :: :ok | {:error, Error.t()}
  def seed(_target, ""), do: :ok

  def seed(target, seed) do
    # Kryoptic takes no seed of less than 32 bytes: the last piece begins as early as it may.
    mix = fn at, size, limit ->
      from = max(at + size - limit, 0)
      op = {:seed_random, binary_part(seed, from, at + size - from)}
      with :ok <- Call.run(target, op), do: {:ok, ""}
    end

    with {:ok, _nothing} <- pieces(target, :seed_limit, byte_size(seed), mix), do: :ok
  end

  # `get` takes where a piece begins, how long it is and how long it might be.
  defp pieces(target, what, count, get) do
    limit = if count > @always, do: Instances.get(target.instance, what)
    pieces(target, what, count, get, {0, limit || count, []})
  end

  defp pieces(_target, _what, count, _get, {count, _limit, done}), do: {:ok, Enum.reverse(done)}

  defp pieces(target, what, count, get, {at, limit, done}) do
    size = min(count - at, limit)

    case piece(get, at, size, limit) do
      {:ok, bytes, ^size, _why} ->
        pieces(target, what, count, get, {at + size, limit, [bytes | done]})

      {:ok, bytes, less, why} ->
        if why in @too_much, do: Instances.put(target.instance, what, less)
        pieces(target, what, count, get, {at + less, less, [bytes | done]})

      {:error, _error} = error ->
        error
    end
  end

  defp piece(get, at, size, limit, why \\ nil) do
    case get.(at, size, limit) do
      {:ok, bytes} -> {:ok, bytes, size, why}
      {:error, error} -> smaller(get, at, less(size, error.reason), error)
    end
  end

  # What the library has said to all is not said of the length.
  defp smaller(_get, _at, nil, error), do: {:error, error}

  defp smaller(get, at, less, error) do
    with {:error, _the_same} <- piece(get, at, less, less, error.reason), do: {:error, error}
  end

  defp less(size, reason) when reason in @too_much, do: Enum.find(@pieces, &(&1 < size))
  defp less(size, reason) when reason in @vague and size > @likely, do: @likely
  defp less(_size, _reason), do: nil
end
