defmodule Cryptoki.ContentKey.Wrapped do
  @moduledoc false
  # A content key that a secret key of the token has wrapped: with AES key wrap, or AES-GCM.

  alias Cryptoki.ContentKey.{Failure, Holder}
  alias Cryptoki.Error

  @doc "The content key of so many bytes; `:none` for what is not wrapped so."
  @spec open(Holder.t(), :key_wrap | {:gcm, binary, binary}, binary, pos_integer) ::
          {:ok, binary} | :none | {:error, Error.t()}
  def open(holder, :key_wrap, wrapped, size),
    do: holder |> Holder.made(:unwrap_key, [:aes_key_wrap, wrapped]) |> of_size(size)

  def open(holder, {:gcm, iv, tag}, wrapped, size),
    do: holder |> decrypt(iv, "", wrapped, tag) |> of_size(size)

  # What the key of the token itself has encrypted with AES-GCM.
  defp decrypt(%{hsm: hsm, key: key, call: call}, iv, aad, ciphertext, tag) do
    mechanism = {:aes_gcm, iv: iv, aad: aad, tag_bits: 128}
    Cryptoki.decrypt(hsm, key, mechanism, ciphertext <> tag, call)
  end

  @doc "The same for a content, without a word about what was wrong with it."
  @spec content(Holder.t(), binary, binary, binary, binary) ::
          {:ok, binary} | :none | {:error, Error.t()}
  def content(holder, iv, aad, ciphertext, tag),
    do: holder |> decrypt(iv, aad, ciphertext, tag) |> untold()

  defp of_size({:ok, key}, size), do: if(byte_size(key) == size, do: {:ok, key}, else: :none)
  defp of_size({:error, _error} = error, _size), do: untold(error)

  defp untold({:error, error}),
    do: if(Failure.unrelated?(error), do: {:error, error}, else: :none)

  defp untold(answer), do: answer
end
