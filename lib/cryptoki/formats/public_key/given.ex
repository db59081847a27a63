defmodule Cryptoki.PublicKey.Given do
  @moduledoc false
  # A public key of a file (SubjectPublicKeyInfo), with the attributes that a token has of it. Pure.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.PostQuantum
  alias Cryptoki.PublicKey.Info

  @enforce_keys [:type, :public, :public_attributes]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          type: :rsa | :ec | :ed25519 | :ed448 | :x25519 | :x448 | :ml_dsa | :ml_kem | :slh_dsa,
          public: :public_key.public_key() | tuple,
          public_attributes: keyword
        }

  @types ~w[rsa ec ed25519 ed448 x25519 x448]a

  @doc "The key, held to what is asked of that of a certificate."
  @spec read(Reader.t()) :: t
  def read(value) do
    case PostQuantum.of_public(value) do
      nil ->
        of_numbers(value)

      key ->
        attributes = key.public_attributes ++ [value: PostQuantum.public(key)]
        %__MODULE__{type: key.type, public: key.public, public_attributes: attributes}
    end
  end

  defp of_numbers(value) do
    info = Info.read(value)

    case info.type in [:x25519, :x448] or Info.check(info) do
      {:error, reason, text} -> Reader.refuse!(reason, text)
      _good -> :ok
    end

    cond do
      info.type in @types ->
        :ok

      info.type == :rsa_pss ->
        Reader.refuse!(:unsupported, "public key: RSA for PSS only, a limit that no token keeps")

      true ->
        Reader.refuse!(:unsupported, "public key: keys of #{info.type} are not imported")
    end

    %__MODULE__{type: info.type, public: info.key, public_attributes: attributes(info)}
  end

  defp attributes(%{type: :rsa, key: {:RSAPublicKey, modulus, exponent}}) do
    numbers = [modulus: modulus, public_exponent: exponent]
    [key_type: :rsa] ++ for {name, number} <- numbers, do: {name, :binary.encode_unsigned(number)}
  end

  defp attributes(%{type: :ec, curve: curve, key: {{:ECPoint, point}, _}}),
    do: [key_type: :ec, curve: curve, ec_point: Curve.wrap_point(point)]

  defp attributes(%{type: type, key: {{:ECPoint, point}, _}}) do
    kind = if type in [:ed25519, :ed448], do: :ec_edwards, else: :ec_montgomery
    [key_type: kind, curve: type, ec_point: point]
  end
end
