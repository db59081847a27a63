defmodule Cryptoki.Sealed do
  @moduledoc false
  # Terms that nothing prints and no upgrade of our code makes useless, as it would a function of ours:
  # encrypted under a key that this VM makes for itself and that ends with it.

  @key {__MODULE__, :key}
  @nonce_size 16

  @doc "A binary that only this VM can open."
  @spec seal(term) :: binary
  def seal(term) do
    nonce = :crypto.strong_rand_bytes(@nonce_size)
    nonce <> cipher(nonce, :erlang.term_to_binary(term), true)
  end

  @doc "What was sealed."
  @spec open(binary) :: term
  def open(<<nonce::binary-size(@nonce_size), sealed::binary>>),
    do: nonce |> cipher(sealed, false) |> :erlang.binary_to_term()

  @doc "A keyed hash that means nothing outside of this VM."
  @spec hash(iodata) :: binary
  def hash(data), do: :crypto.mac(:hmac, :sha256, key(), data)

  @doc "What `make` gives, for the life of the VM: made once, whoever asks first."
  @spec once(term, (() -> value)) :: value when value: term
  def once(key, make) do
    case :persistent_term.get(key, nil) do
      nil -> :global.trans({key, self()}, fn -> made(key, make) end, [node()])
      value -> value
    end
  end

  defp made(key, make) do
    with nil <- :persistent_term.get(key, nil) do
      value = make.()
      :persistent_term.put(key, value)
      value
    end
  end

  defp cipher(nonce, data, encrypt?),
    do: :crypto.crypto_one_time(:aes_256_ctr, key(), nonce, data, encrypt?)

  defp key, do: once(@key, fn -> :crypto.strong_rand_bytes(32) end)
end
