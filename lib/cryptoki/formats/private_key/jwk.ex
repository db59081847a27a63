defmodule Cryptoki.PrivateKey.JWK do
  @moduledoc false
  # JSON Web Keys (RFC 7517, RFC 7518, section 6, RFC 8037): private, public and secret ones. Pure.

  alias Cryptoki.{Base64URL, DER, Error, PrivateKey, PublicKey, SecretKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.{Parts, PostQuantum}
  alias Cryptoki.PublicKey.OID

  @what "JWK: "
  @rsa OID.rsa()
  @ec OID.ec()
  # With the bytes of a coordinate.
  @curves %{
    "P-256" => {{1, 2, 840, 10_045, 3, 1, 7}, 32},
    "P-384" => {{1, 3, 132, 0, 34}, 48},
    "P-521" => {{1, 3, 132, 0, 35}, 66},
    "secp256k1" => {{1, 3, 132, 0, 10}, 32}
  }
  @sets %{"ML-DSA-44" => :ml_dsa_44, "ML-DSA-65" => :ml_dsa_65, "ML-DSA-87" => :ml_dsa_87}
  @pairs %{"Ed25519" => :ed25519, "Ed448" => :ed448, "X25519" => :x25519, "X448" => :x448}

  @type key :: PrivateKey.t() | PublicKey.Given.t() | SecretKey.t()

  @doc "The key of a JWK that was decoded."
  @spec read(map) :: {:ok, key} | {:error, Error.t()}
  def read(%{"kty" => "RSA", "oth" => _primes}),
    do: unsupported("it has more than two primes, and PKCS #11 has no place for them")

  def read(%{"kty" => "RSA", "d" => _secret} = jwk) do
    case members(jwk, ~w[n e d p q dp dq qi]) do
      {:ok, numbers} ->
        Parts.read({:rsa, Enum.map(numbers, &:binary.decode_unsigned/1)}, @what)

      {:error, "d"} ->
        wrong(~s[its "d" is no base64url])

      {:error, name} ->
        wrong(
          ~s[it has no "#{name}" in base64url, and all of RFC 7518, section 6.3.2, are needed]
        )
    end
  end

  def read(%{"kty" => "RSA"} = jwk) do
    with {:ok, numbers} <- needed(jwk, ~w[n e]) do
      numbers = Enum.map(numbers, &DER.integer(:binary.decode_unsigned(&1)))
      public([DER.oid(@rsa), DER.null()], DER.sequence(numbers))
    end
  end

  def read(%{"kty" => "EC", "crv" => curve} = jwk) when is_map_key(@curves, curve) do
    {oid, size} = @curves[curve]

    with {:ok, [x, y]} <- needed(jwk, ~w[x y]),
         :ok <- sized(x, size, "x"),
         :ok <- sized(y, size, "y"),
         {:ok, secret} <- maybe(jwk, "d") do
      if secret,
        do: Parts.read({:ec, oid, secret, <<4>> <> x <> y}, @what),
        else: public([DER.oid(@ec), DER.oid(oid)], <<4>> <> x <> y)
    end
  end

  def read(%{"kty" => "OKP", "crv" => curve} = jwk) when is_map_key(@pairs, curve) do
    with {:ok, [x]} <- needed(jwk, ~w[x]),
         {:ok, secret} <- maybe(jwk, "d") do
      {:ok, oid} = Curve.oid(@pairs[curve])

      if secret,
        do: Parts.read({:edwards, @pairs[curve], secret, x}, @what),
        else: public([DER.oid(oid)], x)
    end
  end

  # RFC 9964: the seed.
  def read(%{"kty" => "AKP", "alg" => alg, "priv" => _} = jwk) when is_map_key(@sets, alg) do
    with {:ok, [public, seed]} <- needed(jwk, ~w[pub priv]),
         {:error, error} <- PostQuantum.of_parts(@sets[alg], [seed: seed], public),
         do: {:error, %{error | detail: @what <> error.detail}}
  end

  def read(%{"kty" => "AKP", "alg" => alg} = jwk) when is_map_key(@sets, alg) do
    with {:ok, [bytes]} <- needed(jwk, ~w[pub]),
         do: public([DER.oid(PostQuantum.oid(@sets[alg]))], bytes)
  end

  def read(%{"kty" => "oct"} = jwk) do
    with {:ok, [value]} <- needed(jwk, ~w[k]), do: SecretKey.new(kind(jwk["alg"]), value)
  end

  def read(%{"kty" => kind}) when kind in ["EC", "OKP"],
    do: unsupported("its curve is not known here")

  def read(%{"kty" => "AKP"}), do: unsupported("its alg is not known here")

  def read(%{"keys" => _several}),
    do: wrong("it is a set of keys; give the one that is to be imported")

  def read(%{"ciphertext" => _sealed}),
    do: unsupported("it is encrypted (JWE), which is not read here")

  def read(%{"kty" => kind}) when is_binary(kind), do: unsupported("its kty is not known here")
  def read(_other), do: wrong("it has no kty")

  # RFC 7518: what a secret is for stands in its alg, if anywhere.
  defp kind("HS" <> _bits), do: :hmac

  defp kind("A" <> <<bits::binary-size(3), rest::binary>>)
       when bits in ~w[128 192 256] and rest in ~w[KW GCM GCMKW CBC],
       do: :aes

  defp kind(_other), do: :generic_secret

  defp public(algorithm, bits) do
    info = PrivateKey.public_info(algorithm, bits)

    with {:error, error} <- Reader.read(info, "public key: ", &PublicKey.Given.read/1),
         do: {:error, %{error | detail: @what <> error.detail}}
  end

  defp sized(bytes, size, _name) when byte_size(bytes) == size, do: :ok
  defp sized(_bytes, size, name), do: wrong(~s[its "#{name}" is not of #{size} bytes])

  defp maybe(jwk, name) do
    if is_map_key(jwk, name),
      do: with({:ok, [value]} <- needed(jwk, [name]), do: {:ok, value}),
      else: {:ok, nil}
  end

  defp needed(jwk, names) do
    with {:error, name} <- members(jwk, names), do: wrong(~s[it has no "#{name}" in base64url])
  end

  defp members(jwk, names) do
    done = for name <- names, do: {name, Base64URL.decode(jwk[name])}

    case Enum.find(done, fn {_name, read} -> not match?({:ok, <<_, _::binary>>}, read) end) do
      nil -> {:ok, for({_name, {:ok, bytes}} <- done, do: bytes)}
      {name, _none} -> {:error, name}
    end
  end

  defp wrong(text), do: {:error, Error.new(:invalid_argument, @what <> text)}
  defp unsupported(text), do: {:error, Error.new(:unsupported, @what <> text)}
end
