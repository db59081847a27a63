defmodule Cryptoki.PrivateKey do
  @moduledoc false
  # A private key that others have kept in a file: its parts fit each other. `inspect` shows nothing that is
  # secret. Pure.

  alias Cryptoki.DER

  @enforce_keys [:type, :public, :public_attributes, :attributes]
  defstruct @enforce_keys

  @typedoc """
  `public` is the public half as `:public_key` has it, `nil` where neither the file nor what is computed here tells it (of
  ML-DSA and ML-KEM); the attributes are those that a token needs of the
  public and, with what is secret, of the private half.
  """
  @type t :: %__MODULE__{
          type: :rsa | :ec | :ed25519 | :ed448 | :x25519 | :x448 | :ml_dsa | :ml_kem | :slh_dsa,
          public: :public_key.public_key() | nil,
          public_attributes: keyword,
          attributes: keyword
        }

  @doc "A public key in the form that certificates have of it."
  @spec public_info([DER.t()], iodata) :: DER.t()
  def public_info(algorithm, bits),
    do: DER.sequence([DER.sequence(algorithm), DER.bit_string(bits)])

  defimpl Inspect do
    def inspect(%{type: type}, _opts), do: "#Cryptoki.PrivateKey<#{type}>"
  end
end
