defmodule Cryptoki.SecretKey do
  @moduledoc false
  # The bytes of a secret key and what they are for. `inspect` shows nothing of them. Pure.

  alias Cryptoki.Error

  @enforce_keys [:type, :value]
  defstruct @enforce_keys

  @type kind :: :aes | :hmac | :generic_secret
  @type t :: %__MODULE__{type: kind, value: binary}

  @kinds [:aes, :hmac, :generic_secret]
  # Longer ones are no keys of anybody.
  @most 16_384

  @doc "What secret keys may be said to be."
  @spec kinds() :: [kind]
  def kinds, do: @kinds

  @doc "The key, when it is as long as its kind says."
  @spec new(kind, binary) :: {:ok, t} | {:error, Error.t()}
  def new(:aes, value) when byte_size(value) not in [16, 24, 32],
    do: wrong("an AES key has 16, 24 or 32 bytes, and this has #{byte_size(value)}")

  def new(_kind, ""), do: wrong("it has no byte")

  def new(_kind, value) when byte_size(value) > @most,
    do: wrong("it is longer than #{@most} bytes")

  def new(kind, value) when kind in @kinds, do: {:ok, %__MODULE__{type: kind, value: value}}

  defp wrong(text), do: {:error, Error.new(:invalid_argument, "secret key: " <> text)}

  defimpl Inspect do
    def inspect(%{type: type}, _opts), do: "#Cryptoki.SecretKey<#{type}>"
  end
end
