defmodule Cryptoki.JWK.Public do
  @moduledoc false
  # Public keys as JWKs (RFC 7518, section 6; RFC 8037; RFC 9964), both ways. Those of others are read as files are. Pure.

  alias Cryptoki.{Base64URL, Error, PrivateKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  # RFC 7518, section 6.2.1.1, and RFC 8812; with the bytes of a coordinate.
  @weierstrass %{
    secp256r1: {"P-256", 32},
    secp384r1: {"P-384", 48},
    secp521r1: {"P-521", 66},
    secp256k1: {"secp256k1", 32}
  }
  # RFC 8037, section 2; with the bytes of a key.
  @octet_pairs %{
    x25519: {"X25519", 32},
    x448: {"X448", 56},
    ed25519: {"Ed25519", 32},
    ed448: {"Ed448", 57}
  }
  # There a key has its algorithm. SLH-DSA has no name in JOSE.
  @algorithms %{ml_dsa_44: "ML-DSA-44", ml_dsa_65: "ML-DSA-65", ml_dsa_87: "ML-DSA-87"}

  @by_oid for {curve, row} <- Map.merge(@weierstrass, @octet_pairs),
              {:ok, oid} = Curve.oid(curve),
              into: %{},
              do: {oid, row}
  @names for {table, type} <- [{@weierstrass, "EC"}, {@octet_pairs, "OKP"}],
             {curve, {name, _size}} <- table,
             into: %{},
             do: {{type, name}, curve}
  @sets Map.new(@algorithms, fn {set, name} -> {name, set} end)

  # What no public key has.
  @private ~w[d p q dp dq qi oth k priv]

  @doc "The JWK of a key of `:public_key`."
  @spec write(term) :: {:ok, map} | {:error, Error.t()}
  def write({:RSAPublicKey, modulus, exponent}) do
    number = &(&1 |> :binary.encode_unsigned() |> Base64URL.encode())
    {:ok, %{"kty" => "RSA", "n" => number.(modulus), "e" => number.(exponent)}}
  end

  def write({{:ECPoint, point}, {:namedCurve, oid}}) when is_map_key(@by_oid, oid) do
    {name, size} = @by_oid[oid]

    case point do
      <<4, both::binary>> when byte_size(both) == 2 * size ->
        {x, y} = :erlang.split_binary(both, size)
        {x, y} = {Base64URL.encode(x), Base64URL.encode(y)}
        {:ok, %{"kty" => "EC", "crv" => name, "x" => x, "y" => y}}

      point when byte_size(point) == size and is_map_key(@names, {"OKP", name}) ->
        {:ok, %{"kty" => "OKP", "crv" => name, "x" => Base64URL.encode(point)}}

      _compressed ->
        unnamed()
    end
  end

  def write(other) do
    with {:ok, set, bytes} when is_map_key(@algorithms, set) <- PostQuantum.parts(other),
         do:
           {:ok, %{"kty" => "AKP", "alg" => @algorithms[set], "pub" => Base64URL.encode(bytes)}},
         else: (_another -> unnamed())
  end

  defp unnamed, do: no(:unsupported, "JOSE has no name for keys of this kind")

  ## Those of others

  @doc "Which kind of key it says it is: `:rsa`, a curve, a parameter set, or nil for what is not known."
  @spec kind(map) :: atom
  def kind(%{"kty" => "RSA"}), do: :rsa
  def kind(%{"kty" => "AKP", "alg" => name}) when is_map_key(@sets, name), do: @sets[name]
  def kind(%{"kty" => type, "crv" => name}), do: @names[{type, name}]
  def kind(_other), do: nil

  @doc "The key of a JWK, as `:public_key` of this OTP has it."
  @spec read(map) :: {:ok, term} | {:error, Error.t()}
  def read(jwk) do
    with :ok <- public(jwk),
         {:ok, key} <- key(jwk),
         do: {:ok, PostQuantum.shown(key)}
  end

  defp public(%{"kty" => "oct"}), do: no(:unsupported, "it is a secret key, and none for others")

  defp public(jwk) do
    case Enum.find(@private, &is_map_key(jwk, &1)) do
      nil -> :ok
      name -> no(:invalid_argument, "it has the member #{name} of a private key")
    end
  end

  # Without a member of a private one it is none.
  defp key(jwk), do: with({:ok, given} <- PrivateKey.JWK.read(jwk), do: {:ok, given.public})

  defp no(reason, text), do: {:error, Error.new(reason, text)}
end
