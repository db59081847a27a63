defmodule Cryptoki.JWK do
  alias Cryptoki.{Base64URL, CallOptions, Error, JSON, Keys}
  alias Cryptoki.Options.Table

  @moduledoc """
  JSON Web Keys (RFC 7517) of the public keys on a token, as maps: what others verify with.

      {:ok, jwk} = Cryptoki.JWK.public(MyApp.HSM, [label: "contract"], kid: :thumbprint, use: "sig")
      {:ok, jwks} = Cryptoki.JWK.set(MyApp.HSM, [[label: "contract"], [label: "invoice"]], use: "sig")
      Cryptoki.JWK.to_json(jwks)

  Secret keys are never shown.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @text [cast: :line, must: "a string", type: "String.t()"]
  @members [
    kid: [
      cast: {:line_or, [:thumbprint]},
      must: "a string or :thumbprint",
      type: "String.t() | :thumbprint",
      doc: "what names the key, or `:thumbprint` for that of `thumbprint/2`"
    ],
    use: [doc: "what it is for, such as `\"sig\"`"] ++ @text,
    alg: [doc: "the algorithm that it is for, such as `\"ES256\"`"] ++ @text
  ]
  @call [:timeout, :metadata]

  # RFC 7518, section 6.2.1.1, and RFC 8812; with the bytes of a coordinate.
  @weierstrass %{
    {1, 2, 840, 10045, 3, 1, 7} => {"P-256", 32},
    {1, 3, 132, 0, 34} => {"P-384", 48},
    {1, 3, 132, 0, 35} => {"P-521", 66},
    {1, 3, 132, 0, 10} => {"secp256k1", 32}
  }

  # RFC 8037, section 2.
  @octet_pairs %{
    {1, 3, 101, 110} => "X25519",
    {1, 3, 101, 111} => "X448",
    {1, 3, 101, 112} => "Ed25519",
    {1, 3, 101, 113} => "Ed448"
  }

  # RFC 7638, section 3.2, and RFC 8037, section 2: what a thumbprint is of.
  @required %{
    "RSA" => ~w[e kty n],
    "EC" => ~w[crv kty x y],
    "OKP" => ~w[crv kty x]
  }

  @typedoc "The members of a key by name."
  @type t :: %{String.t() => term}
  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map

  @doc """
  The JWK of a public key: RSA, P-256, P-384, P-521, secp256k1, Ed25519, Ed448, X25519 or X448.

  #{Table.docs(@members)}
    * `timeout:` and `metadata:` as in `Cryptoki.public_key/3`

  Errors: `:unsupported` for other curves, and those of `Cryptoki.public_key/3`. PKCS #11 v3.2, section
  5.7.5 (C_GetAttributeValue).

      iex> {:ok, jwk} = Cryptoki.JWK.public(MyApp.HSM, [label: "contract"], kid: "2026-1", use: "sig")
      iex> {jwk["kty"], jwk["crv"], jwk["kid"], jwk["use"], byte_size(jwk["x"])}
      {"EC", "P-256", "2026-1", "sig", 43}
  """
  @spec public(hsm, key, opts) :: {:ok, t} | {:error, Error.t()}
  def public(hsm, key, opts \\ []) do
    {members, call} = CallOptions.split!(opts, @members, @call)

    with {:ok, public_key} <- Cryptoki.public_key(hsm, key, call),
         {:ok, jwk} <- from_public_key(public_key),
         do: {:ok, with_members(jwk, members)}
  end

  bang(public(hsm, key, opts) :: t)

  @doc """
  The JWKS (RFC 7517, section 5) of several keys, to be served as `jwks.json`. Each `kid` is the key's
  thumbprint; the options are those of `public/3`, without `kid:`.

  Errors: those of `public/3`, for the first key that has one.

      iex> {:ok, %{"keys" => keys}} = Cryptoki.JWK.set(MyApp.HSM, [[label: "contract"], [label: "invoice"]])
      iex> Enum.map(keys, & &1["kty"])
      ["EC", "RSA"]
  """
  @spec set(hsm, [key], opts) :: {:ok, t} | {:error, Error.t()}
  def set(hsm, keys, opts \\ []) do
    {members, call} = CallOptions.split!(opts, Keyword.delete(@members, :kid), @call)

    unless is_list(keys) and not List.improper?(keys),
      do: raise(ArgumentError, "keys: must be a list of what names keys")

    for key <- keys, do: Keys.wanted!(key, :public_key)

    keys
    |> Enum.reduce_while({:ok, []}, fn key, {:ok, done} ->
      case public(hsm, key, [kid: :thumbprint] ++ members ++ call) do
        {:ok, jwk} -> {:cont, {:ok, [jwk | done]}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
    |> case do
      {:ok, jwks} -> {:ok, %{"keys" => Enum.reverse(jwks)}}
      error -> error
    end
  end

  bang(set(hsm, keys :: [key], opts) :: t)

  @doc """
  The JWK of a public key of `:public_key`, such as `Cryptoki.public_key/3` answers.

  Errors: `:unsupported` for a curve that JOSE has no name for.

      iex> Cryptoki.JWK.from_public_key({:RSAPublicKey, 0xC0FFEE, 65537})
      {:ok, %{"kty" => "RSA", "n" => "wP_u", "e" => "AQAB"}}
  """
  @spec from_public_key(:public_key.public_key()) :: {:ok, t} | {:error, Error.t()}
  def from_public_key({:RSAPublicKey, modulus, exponent}) do
    number = &(&1 |> :binary.encode_unsigned() |> Base64URL.encode())
    {:ok, %{"kty" => "RSA", "n" => number.(modulus), "e" => number.(exponent)}}
  end

  def from_public_key({{:ECPoint, point}, {:namedCurve, oid}}) do
    case {@weierstrass[oid], @octet_pairs[oid]} do
      {{name, size}, nil} when byte_size(point) == 1 + 2 * size ->
        <<4, both::binary>> = point
        {x, y} = :erlang.split_binary(both, size)

        {:ok,
         %{"kty" => "EC", "crv" => name, "x" => Base64URL.encode(x), "y" => Base64URL.encode(y)}}

      {nil, name} when name != nil ->
        {:ok, %{"kty" => "OKP", "crv" => name, "x" => Base64URL.encode(point)}}

      _other ->
        unsupported()
    end
  end

  def from_public_key(_other), do: unsupported()

  defp unsupported,
    do: {:error, Error.new(:unsupported, "JOSE has no name for keys of this kind")}

  @doc """
  The thumbprint of a public key (RFC 7638) in base64url: the same for everybody who has the key.

      iex> Cryptoki.JWK.thumbprint(%{"kty" => "OKP", "crv" => "Ed25519",
      ...>   "x" => "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
      "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
  """
  @spec thumbprint(t, :sha256 | :sha384 | :sha512) :: String.t()
  def thumbprint(jwk, hash \\ :sha256)

  def thumbprint(%{"kty" => type} = jwk, hash) when is_map_key(@required, type) do
    unless hash in [:sha256, :sha384, :sha512],
      do: raise(ArgumentError, "hash: must be :sha256, :sha384 or :sha512, got: #{inspect(hash)}")

    members = Map.take(jwk, @required[type])

    if map_size(members) == length(@required[type]) and Enum.all?(members, &member?/1),
      do: hash |> :crypto.hash(JSON.encode!(members)) |> Base64URL.encode(),
      else: no_key!()
  end

  def thumbprint(_other, _hash), do: no_key!()

  defp member?({name, text}) when name in ["kty", "crv"], do: is_binary(text) and text != ""
  defp member?({_name, text}), do: text != "" and match?({:ok, _bytes}, Base64URL.decode(text))

  @spec no_key!() :: no_return
  defp no_key!,
    do: raise(ArgumentError, "a thumbprint is of an RSA, EC or OKP key as public/3 answers it")

  @doc """
  The text of a JWK or a JWKS.

      iex> Cryptoki.JWK.to_json(%{"keys" => []})
      ~S({"keys":[]})
  """
  @spec to_json(t) :: String.t()
  def to_json(jwk), do: JSON.encode!(jwk)

  @doc """
  A key of the erlang-jose library, when that is there (the application `jose`), for everything that
  is made for such keys: `:jose_jws`, `:jose_jwt`, and in Elixir `JOSE.JWK.from_record/1`. It signs on
  the token and verifies with the public key; the private key does not leave the token.

  Errors: `:unsupported` without erlang-jose, and those of `public/3`. When the token refuses to sign,
  `:jose_jws.sign/3` raises its `Cryptoki.Error`.

      {:ok, jwk} = Cryptoki.JWK.to_jose(hsm, label: "contract")
      {_, jwt} = jwk |> :jose_jwt.sign(%{"alg" => "ES256"}, %{"sub" => "alice"}) |> :jose_jws.compact()
  """
  @spec to_jose(hsm, key, opts) :: {:ok, tuple} | {:error, Error.t()}
  def to_jose(hsm, key, opts \\ []) do
    with {:ok, jwk} <- public(hsm, key, opts), do: Cryptoki.JWK.JOSE.new(hsm, key, jwk)
  end

  bang(to_jose(hsm, key, opts) :: tuple)

  defp with_members(jwk, members) do
    for {name, value} <- members, into: jwk do
      {Atom.to_string(name), if(value == :thumbprint, do: thumbprint(jwk), else: value)}
    end
  end
end
