defmodule Cryptoki.SSH.Signer do
  @moduledoc false
  # Signatures of a token in the form of SSH (RFC 8332, RFC 5656, RFC 8709): the name of the algorithm
  # and what the token gave. ssh-rsa, which is PKCS #1 with SHA-1, is no such name any more.

  alias Cryptoki.{Error, SSH.Wire}

  @enforce_keys [:hsm, :key, :call, :public, :algorithm, :mechanism]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          hsm: Cryptoki.hsm(),
          key: Cryptoki.key(),
          call: keyword,
          public: Wire.key(),
          algorithm: String.t(),
          mechanism: atom
        }

  @rsa %{
    sha256: {"rsa-sha2-256", :sha256_rsa_pkcs},
    sha512: {"rsa-sha2-512", :sha512_rsa_pkcs}
  }

  @fixed %{
    "ecdsa-sha2-nistp256" => :ecdsa_sha256,
    "ecdsa-sha2-nistp384" => :ecdsa_sha384,
    "ecdsa-sha2-nistp521" => :ecdsa_sha512,
    "ssh-ed25519" => :eddsa
  }

  @doc "A key of the token, and how it signs: RSA keys with `hash`, all others with their own."
  @spec fetch(Cryptoki.hsm(), Cryptoki.key(), :sha256 | :sha512, keyword) ::
          {:ok, t} | {:error, Error.t()}
  def fetch(hsm, key, hash, call) do
    with {:ok, public} <- public(hsm, key, call) do
      {algorithm, mechanism} =
        if public.type == "ssh-rsa",
          do: @rsa[hash],
          else: {public.type, Map.fetch!(@fixed, public.type)}

      {:ok,
       %__MODULE__{
         hsm: hsm,
         key: key,
         call: call,
         public: public,
         algorithm: algorithm,
         mechanism: mechanism
       }}
    end
  end

  @doc "The public key of one on the token."
  @spec public(Cryptoki.hsm(), Cryptoki.key(), keyword) :: {:ok, Wire.key()} | {:error, Error.t()}
  def public(hsm, key, call) do
    with {:ok, public_key} <- Cryptoki.public_key(hsm, key, Keyword.delete(call, :pin)),
         do: Wire.encode(public_key)
  end

  @doc "The signature: two strings, the name of the algorithm first."
  @spec sign(t, iodata) :: {:ok, iodata} | {:error, Error.t()}
  def sign(%__MODULE__{} = signer, data) do
    with {:ok, raw} <- raw(signer, data),
         do: {:ok, [Wire.string(signer.algorithm), Wire.string(raw)]}
  end

  @doc "What stands behind the name of the algorithm."
  @spec raw(t, iodata) :: {:ok, iodata} | {:error, Error.t()}
  def raw(%__MODULE__{algorithm: algorithm} = signer, data) do
    with {:ok, signature} <-
           Cryptoki.sign(signer.hsm, signer.key, signer.mechanism, data, signer.call),
         do: {:ok, form(algorithm, signature)}
  end

  defp form("ecdsa-" <> _curve, raw) do
    {r, s} = :erlang.split_binary(raw, div(byte_size(raw), 2))
    for half <- [r, s], do: half |> :binary.decode_unsigned() |> Wire.mpint()
  end

  defp form(_other, signature), do: signature
end
