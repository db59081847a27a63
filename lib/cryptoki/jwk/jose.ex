defmodule Cryptoki.JWK.JOSE do
  @moduledoc false
  # A key of the token as a key type of erlang-jose: the module that `jose_jwk:from_map/1` takes in
  # `#{kty => Module}`, with the functions that its behaviours jose_jwk, jose_jwk_kty and
  # jose_jwk_use_sig ask for. They are not named as such: the library need not be there.

  alias Cryptoki.Error
  alias Cryptoki.JWS.Algorithm

  @compile {:no_warn_undefined, :jose_jwk}

  @enforce_keys [:hsm, :key, :public, :verifier]
  defstruct [:hsm, :key, :public, :verifier]

  @typedoc "`verifier` is erlang-jose's own module and key for the public half."
  @type t :: %__MODULE__{hsm: term, key: term, public: map, verifier: {module, term}}

  @doc "The `jose_jwk` record of a key."
  @spec new(term, term, map) :: {:ok, tuple} | {:error, Error.t()}
  def new(_hsm, _key, %{"kty" => "AKP"}),
    do: {:error, Error.new(:unsupported, "erlang-jose has no keys of ML-DSA")}

  def new(hsm, key, jwk) do
    if Code.ensure_loaded?(:jose_jwk) do
      {:ok, record({%{kty: __MODULE__}, Map.put(jwk, "cryptoki", {hsm, key})})}
    else
      {:error, Error.new(:unsupported, "erlang-jose, the application jose, is not there")}
    end
  end

  ## jose_jwk

  @spec from_map(map) :: {t, map}
  def from_map(%{"kty" => _} = map) do
    # What erlang-jose makes a public key of has no key of ours.
    {{hsm, key}, jwk} = Map.pop(map, "cryptoki", {nil, nil})
    public = Map.take(jwk, ~w[kty crv x y n e])
    verifier = public |> record() |> kty()

    {%__MODULE__{hsm: hsm, key: key, public: public, verifier: verifier},
     Map.drop(jwk, Map.keys(public))}
  end

  # By a variable: where it is there, Mix would have it among our applications.
  defp record(map) do
    jose_jwk = :jose_jwk
    jose_jwk.from_map(map)
  end

  # The record is {jose_jwk, keys, kty, fields}.
  defp kty(record), do: elem(record, 2)

  @spec to_key(t) :: term
  def to_key(%{verifier: {module, key}}), do: module.to_key(key)

  # All that there is of it.
  @spec to_map(t, map) :: map
  def to_map(%{public: public}, fields), do: Map.merge(fields, public)

  @spec to_public_map(t, map) :: map
  def to_public_map(key, fields), do: to_map(key, fields)

  @spec to_thumbprint_map(t, map) :: map
  def to_thumbprint_map(%{verifier: {module, key}}, fields),
    do: module.to_thumbprint_map(key, fields)

  ## jose_jwk_kty: keys are made on the token, and none is encrypted

  @spec generate_key(term) :: no_return
  def generate_key(_parameters), do: :erlang.error(:not_supported)

  @spec generate_key(term, map) :: no_return
  def generate_key(_key, _fields), do: :erlang.error(:not_supported)

  @spec key_encryptor(term, map, term) :: no_return
  def key_encryptor(_key, _fields, _secret), do: :erlang.error(:not_supported)

  ## jose_jwk_use_sig

  @spec sign(iodata, atom, t) :: binary
  def sign(_message, _alg, %{key: nil}), do: :erlang.error(:not_supported)

  def sign(message, alg, key) do
    {_name, mechanism} = choose!(key, Atom.to_string(alg))
    Cryptoki.sign!(key.hsm, key.key, mechanism, message)
  end

  @spec verify(iodata, atom, binary, t) :: boolean
  def verify(message, alg, signature, %{verifier: {module, key}}),
    do: module.verify(message, alg, signature, key)

  @spec signer(t, map) :: map
  def signer(_key, %{"alg" => alg, "use" => "sig"}), do: %{"alg" => alg}
  def signer(key, _fields), do: %{"alg" => key |> choose!(nil) |> elem(0)}

  defp choose!(%{hsm: hsm, key: key}, name) do
    case Algorithm.for_key(hsm, key, :sign, name, []) do
      {:ok, chosen} -> chosen
      {:error, error} -> raise error
    end
  end

  @spec verifier(t, map) :: [String.t()]
  def verifier(%{verifier: {module, key}}, fields), do: module.verifier(key, fields)
end
