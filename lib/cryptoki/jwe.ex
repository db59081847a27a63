defmodule Cryptoki.JWE do
  alias Cryptoki.{Bytes, CallOptions, Certificates, Error}
  alias Cryptoki.ContentKey.Holder
  alias Cryptoki.JWE.{Algorithm, Encryption, Message, Opener, Options, Sealer}
  alias Cryptoki.JWK.Public
  alias Cryptoki.Options.Table

  @moduledoc """
  JSON Web Encryption (RFC 7516) for keys of the token: what is encrypted for it is decrypted with a key that
  stays there.

      {:ok, %{plaintext: text}} = Cryptoki.JWE.decrypt(MyApp.HSM, [label: "inbox"], jwe)

  Algorithms (RFC 7518): #{Enum.map_join(Algorithm.names(), ", ", &"`#{&1}`")}; of content
  #{Enum.map_join(Encryption.names(), ", ", &"`#{&1}`")}. `RSA1_5`, passwords (`PBES2-...`) and compressed content
  (`zip`) are not taken.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @typedoc "The protected header, that which anybody may have written, and the content."
  @type decrypted :: %{header: map, unprotected: map, plaintext: binary}

  @doc """
  Decrypts a JWE, compact or JSON with one or several recipients: `{:ok, %{header: map, unprotected: map,
  plaintext: binary}}`. `header` is the protected one.

  With RSA the token decrypts the key of the content; with a key on a curve it agrees on it (it has to be
  readable); with an AES key it unwraps it or, with `dir`, decrypts the content. Of several recipients those
  with an algorithm of the key's kind are tried, 16 at most.

  #{Table.docs(Options.decrypt())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.decrypt/5`

  Errors: `:encrypted_data_invalid` for all that is wrong with the JWE itself, which anybody may have sent. What
  all can see, `detail` says: no JWE, an algorithm that is not here, not expected or not of this kind of key, a
  critical extension that nobody understands. What becomes of the keys in it, it does not say. Besides it
  those of `Cryptoki.decrypt/5`, `Cryptoki.derive_key/5` and `Cryptoki.unwrap_key/6`. PKCS #11 v3.2, sections 5.10
  (C_Decrypt) and 5.18 (C_DeriveKey, C_UnwrapKey).

      iex> {:ok, public_key} = Cryptoki.public_key(MyApp.HSM, label: "invoice")
      iex> {:ok, jwe} = Cryptoki.JWE.encrypt(public_key, "a secret", header: %{kid: "invoice"})
      iex> Cryptoki.JWE.decrypt(MyApp.HSM, [label: "invoice"], jwe)
      {:ok, %{header: %{"alg" => "RSA-OAEP-256", "enc" => "A256GCM", "kid" => "invoice"}, unprotected: %{}, plaintext: "a secret"}}
      iex> {:error, error} = Cryptoki.JWE.decrypt(MyApp.HSM, [label: "invoice"], binary_part(jwe, 0, byte_size(jwe) - 4) <> "AAAA")
      iex> {error.reason, error.detail}
      {:encrypted_data_invalid, "it is for another key, or was changed"}
  """
  @spec decrypt(hsm, key, jwe :: String.t(), opts) :: {:ok, decrypted} | {:error, Error.t()}
  def decrypt(hsm, key, jwe, opts \\ []) do
    {own, call} = CallOptions.split!(opts, Options.decrypt())
    unless is_binary(jwe), do: raise(ArgumentError, "jwe: must be a string")
    :ok = Certificates.selector!(key, :decrypt, "key")

    with {:ok, message} <- Message.read(jwe, own[:crit], own[:enc]),
         {:ok, holder} <- Holder.fetch(hsm, key, call),
         {:ok, content} <- Opener.open(holder, message, own[:alg]) do
      {:ok, %{header: message.protected, unprotected: message.unprotected, plaintext: content}}
    end
  end

  bang(decrypt(hsm, key, jwe :: String.t(), opts) :: decrypted)

  @doc """
  Encrypts for the owner of a public key: a compact JWE. The key is a JWK, a map as `Cryptoki.JWK.public/3`
  answers it, or one of `:public_key`. No token is asked.

  #{Table.docs(Options.encrypt())}

  Errors: `:unsupported` for keys that nothing is encrypted for, and an algorithm that does not go with the key;
  `:key_size_range`, and `:invalid_argument` for what is no public key.

      iex> {:ok, jwk} = Cryptoki.JWK.public(MyApp.HSM, [label: "invoice"], kid: "2026-1")
      iex> {:ok, jwe} = Cryptoki.JWE.encrypt(jwk, "a secret", alg: "RSA-OAEP", enc: "A128CBC-HS256")
      iex> jwe |> String.split(".") |> length()
      5
  """
  @spec encrypt(map | :public_key.public_key(), iodata, opts) ::
          {:ok, String.t()} | {:error, Error.t()}
  def encrypt(public_key, data, opts \\ []) do
    {own, []} = CallOptions.split!(opts, Options.encrypt(), [])
    data = Bytes.binary!(data, "data")
    with {:ok, key} <- public(public_key), do: Sealer.seal(key, data, own)
  end

  bang(encrypt(public_key :: map | :public_key.public_key(), data :: iodata, opts) :: String.t())

  defp public(%{"kty" => _} = jwk) do
    with {:error, error} <- Public.read(jwk),
         do: {:error, %{error | detail: "public_key: #{error.detail}"}}
  end

  defp public(key) when is_tuple(key), do: {:ok, key}

  defp public(_other),
    do: raise(ArgumentError, "public_key: must be a JWK, a map, or a key of :public_key")
end
