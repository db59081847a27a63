defmodule Cryptoki.COSE.Algorithm do
  @moduledoc false
  # The numbers of algorithms in COSE (RFC 9053, RFC 8812, RFC 9864, RFC 9964), which are those of JOSE otherwise: with
  # the key that goes with each, and its mechanism. Pure.

  alias Cryptoki.JWS

  # Number, and what JOSE calls it where the name is another one. Each of ECDSA is for its own curve.
  @algorithms %{
    "ES256" => {-7, nil},
    "ES384" => {-35, nil},
    "ES512" => {-36, nil},
    "ES256K" => {-47, nil},
    "ESP256" => {-9, "ES256"},
    "ESP384" => {-51, "ES384"},
    "ESP512" => {-52, "ES512"},
    "EdDSA" => {-8, nil},
    "Ed25519" => {-19, nil},
    "Ed448" => {-53, nil},
    "PS256" => {-37, nil},
    "PS384" => {-38, nil},
    "PS512" => {-39, nil},
    "RS256" => {-257, nil},
    "RS384" => {-258, nil},
    "RS512" => {-259, nil},
    "ML-DSA-44" => {-48, nil},
    "ML-DSA-65" => {-49, nil},
    "ML-DSA-87" => {-50, nil}
  }
  @by_number Map.new(@algorithms, fn {name, {number, _jose}} -> {number, name} end)

  @doc "The names, for messages and docs."
  @spec names() :: [String.t()]
  def names, do: @algorithms |> Map.keys() |> Enum.sort()

  @spec number(String.t()) :: integer
  def number(name), do: elem(@algorithms[name], 0)

  @doc "The name behind a number, which may be anything."
  @spec name(term) :: {:ok, String.t()} | :error
  def name(number), do: Map.fetch(@by_number, number)

  @doc "What JOSE calls it; `nil` and names that are none are as they are."
  @spec in_jose(String.t() | nil) :: String.t() | nil
  def in_jose(name) do
    case @algorithms[name] do
      {_number, jose} when jose != nil -> jose
      _same_or_none -> name
    end
  end

  @doc "A name, in a message."
  defdelegate quoted(name), to: JWS.Algorithm
end
