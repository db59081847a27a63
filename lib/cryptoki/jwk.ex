defmodule Cryptoki.JWK do
  alias Cryptoki.{Base64URL, CallOptions, Each, Error, JSON, Keys}
  alias Cryptoki.JWK.Public
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

  # RFC 7638, section 3.2, RFC 8037, section 2, and RFC 9964: what a thumbprint is of.
  @required %{
    "AKP" => ~w[alg kty pub],
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
  The JWK of a public key: RSA, P-256, P-384, P-521, secp256k1, Ed25519, Ed448, X25519, X448, or ML-DSA, which is of
  the type AKP and has its `alg` always; another one for `alg:` is an error.

  #{Table.docs(@members)}
    * `timeout:` and `metadata:` as in `Cryptoki.public_key/3`

  Errors: `:unsupported` for other curves and for SLH-DSA, `:invalid_argument` for such an `alg:`, and those of `Cryptoki.public_key/3`. PKCS #11 v3.2, section
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
         :ok <- agrees(jwk, members[:alg]),
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
    opts = [kid: :thumbprint] ++ members ++ call
    with {:ok, jwks} <- Each.of(keys, &public(hsm, &1, opts)), do: {:ok, %{"keys" => jwks}}
  end

  bang(set(hsm, keys :: [key], opts) :: t)

  @doc """
  The JWK of a public key of `:public_key`, such as `Cryptoki.public_key/3` answers.

  Errors: `:unsupported` for a curve that JOSE has no name for.

      iex> Cryptoki.JWK.from_public_key({:RSAPublicKey, 0xC0FFEE, 65537})
      {:ok, %{"kty" => "RSA", "n" => "wP_u", "e" => "AQAB"}}
  """
  @spec from_public_key(:public_key.public_key() | tuple) :: {:ok, t} | {:error, Error.t()}
  def from_public_key(public_key), do: Public.write(public_key)

  @doc """
  The public key of a JWK, as `:public_key` has it and `Cryptoki.public_key/3` answers it: what others publish, read
  strictly. Members that it does not need are left, but for those of a private key.

  Errors: `:unsupported` for other types and curves, secret keys (`oct`) among them; `:invalid_argument` for a member that
  is missing or no base64url, a number of the wrong length, a point that is on no curve or proves nothing, RSA of less
  than 2048 bits, a private key in it, which whoever reads it can sign with, too. RFC 7518, section 6; RFC 8037; RFC 9964.

      iex> {:ok, jwk} = Cryptoki.JWK.public(MyApp.HSM, label: "contract")
      iex> Cryptoki.JWK.to_public_key(jwk) == Cryptoki.public_key(MyApp.HSM, label: "contract")
      true
      iex> {:error, error} = Cryptoki.JWK.to_public_key(%{jwk | "x" => "AQAB"})
      iex> error.reason
      :invalid_argument
  """
  @spec to_public_key(t) :: {:ok, :public_key.public_key() | tuple} | {:error, Error.t()}
  def to_public_key(jwk) when is_map(jwk), do: Public.read(jwk)
  def to_public_key(_other), do: raise(ArgumentError, "jwk: must be a map")

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

  defp member?({name, text}) when name in ["kty", "crv", "alg"],
    do: is_binary(text) and text != ""

  defp member?({_name, text}), do: text != "" and match?({:ok, _bytes}, Base64URL.decode(text))

  @spec no_key!() :: no_return
  defp no_key!,
    do:
      raise(ArgumentError, "a thumbprint is of an RSA, EC, OKP or AKP key as public/3 answers it")

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

  defp agrees(%{"alg" => alg}, another) when another not in [nil, alg] do
    {:error, Error.new(:invalid_argument, "alg: the key is one of #{alg}, not of #{another}")}
  end

  defp agrees(_jwk, _alg), do: :ok

  defp with_members(jwk, members) do
    for {name, value} <- members, into: jwk do
      {Atom.to_string(name), if(value == :thumbprint, do: thumbprint(jwk), else: value)}
    end
  end
end
