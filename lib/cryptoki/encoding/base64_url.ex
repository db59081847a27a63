defmodule Cryptoki.Base64URL do
  @moduledoc false
  # base64url as JOSE has it (RFC 7515, section 2): without padding, and one text for each bytes. Pure.

  @spec encode(iodata) :: String.t()
  def encode(bytes), do: bytes |> IO.iodata_to_binary() |> Base.url_encode64(padding: false)

  @doc "`:error` for what is none: another character, padding, bits behind the last byte, no text."
  @spec decode(term) :: {:ok, binary} | :error
  def decode(text) do
    with true <- is_binary(text),
         {:ok, bytes} <- Base.url_decode64(text, padding: false),
         true <- encode(bytes) == text,
         do: {:ok, bytes},
         else: (_not_canonical -> :error)
  end
end
