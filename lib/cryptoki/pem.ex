defmodule Cryptoki.PEM do
  @moduledoc false
  # PEM and its relatives (RFC 7468): text around base64. Pure.

  @doc "Bytes with a label, in lines of so many characters."
  @spec encode(iodata, String.t(), pos_integer) :: String.t()
  def encode(bytes, label, width \\ 64) do
    base64 = bytes |> IO.iodata_to_binary() |> Base.encode64()
    lines = Regex.replace(~r/.{1,#{width}}/, base64, "\\0\n")
    "-----BEGIN #{label}-----\n#{lines}-----END #{label}-----\n"
  end

  @doc "Whether it looks like PEM rather than DER."
  @spec text?(binary) :: boolean
  def text?(bytes), do: bytes =~ "-----BEGIN "

  @doc "The DER of the entries of this type that are not encrypted; `:error` for a text that is cut off."
  @spec decode(String.t(), atom) :: {:ok, [binary]} | :error
  def decode(text, type) do
    {:ok, for({^type, der, :not_encrypted} <- :public_key.pem_decode(text), do: der)}
  rescue
    # One that begins and does not end.
    FunctionClauseError -> :error
  end
end
