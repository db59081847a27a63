defmodule Cryptoki.SSH.Signer do
  @moduledoc false
  # Signatures of a token in the form of SSH (RFC 8332, RFC 5656, RFC 8709): the name of the algorithm
  # and what the token gave. ssh-rsa, which is PKCS #1 with SHA-1, is no such name any more.

  alias Cryptoki.{Ecdsa, Error, PublicKey, SignatureAlgorithm, SSH.Wire}

  @enforce_keys [:hsm, :key, :call, :public, :public_key, :algorithm, :mechanism]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          hsm: Cryptoki.hsm(),
          key: Cryptoki.key(),
          call: keyword,
          public: Wire.key(),
          public_key: PublicKey.otp_key(),
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
    with {:ok, public_key} <- PublicKey.to_sign(hsm, key, Keyword.delete(call, :pin)),
         {:ok, public} <- Wire.encode(public_key) do
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
         public_key: public_key,
         algorithm: algorithm,
         mechanism: mechanism
       }}
    end
  end

  @doc "The public key of one that logs in."
  @spec own(Cryptoki.hsm(), Cryptoki.key(), keyword) :: {:ok, Wire.key()} | {:error, Error.t()}
  def own(hsm, key, call) do
    with {:ok, public_key} <- PublicKey.to_sign(hsm, key, Keyword.delete(call, :pin)),
         do: Wire.encode(public_key)
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

  @doc "What stands behind the name of the algorithm; it verifies with the public key."
  @spec raw(t, iodata) :: {:ok, iodata} | {:error, Error.t()}
  def raw(%__MODULE__{mechanism: mechanism} = signer, data) do
    with {:ok, raw} <- Cryptoki.sign(signer.hsm, signer.key, mechanism, data, signer.call),
         {plain, form} = form(signer.algorithm, raw),
         :ok <- SignatureAlgorithm.verify(signer.public_key, mechanism, data, plain),
         do: {:ok, form}
  end

  # As OTP verifies it, and as it is written.
  defp form("ecdsa-" <> _curve, raw) do
    {r, s} = :erlang.split_binary(raw, div(byte_size(raw), 2))
    mpints = for half <- [r, s], do: half |> :binary.decode_unsigned() |> Wire.mpint()
    {Ecdsa.to_der(raw), mpints}
  end

  defp form(_other, signature), do: {signature, signature}
end
