defmodule Cryptoki.X509.PublicKeyInfo do
  @moduledoc false
  # The `SubjectPublicKeyInfo` of what users give for a public key.

  alias Cryptoki.{DER, Error, Key, PEM}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.X509.Extensions

  @doc "Its DER; of what is none of the forms it raises `ArgumentError`."
  @spec fetch(Cryptoki.hsm(), term, keyword) :: {:ok, DER.t()} | {:error, Error.t()}
  def fetch(hsm, "pkcs11:" <> _ = uri, opts), do: on_token(hsm, uri, opts)
  def fetch(hsm, %Key{} = key, opts), do: on_token(hsm, key, opts)

  def fetch(_hsm, bytes, _opts) when is_binary(bytes) do
    with {:ok, der} <- of_file(bytes), do: checked(der)
  end

  def fetch(hsm, selector, opts) when is_list(selector) or is_map(selector),
    do: on_token(hsm, selector, opts)

  def fetch(_hsm, key, _opts) when is_tuple(key) do
    key |> info!() |> checked()
  end

  def fetch(_hsm, _other, _opts), do: none!()

  defp info!(key), do: with(:none <- der(key), do: none!())

  @doc "The DER of a public key as `:public_key` has it."
  @spec der(tuple) :: DER.t() | :none
  def der(key) do
    Extensions.public_key_info(key)
  rescue
    _no_key -> :none
  end

  @spec none!() :: no_return
  defp none!,
    do:
      raise(
        ArgumentError,
        "public_key: is PEM, DER, a key as :public_key has it, or what names one on the token"
      )

  defp on_token(hsm, selector, opts) do
    with {:ok, key} <- Cryptoki.public_key(hsm, selector, opts),
         do: key |> Extensions.public_key_info() |> checked()
  end

  defp of_file(bytes) do
    case PEM.ders(bytes, :public_key) do
      {:ok, [der | _]} -> {:ok, der}
      {:error, text} -> {:error, Error.new(:invalid_argument, "public_key: " <> text)}
    end
  end

  @doc "The DER of one that a certificate may be made of, written anew."
  @spec checked(DER.t()) :: {:ok, DER.t()} | {:error, Error.t()}
  def checked(der) do
    with {:ok, info} <- Reader.read(der, "public_key: this is none: ", &Info.read/1) do
      case check(info) do
        :ok -> {:ok, info.der}
        {:error, reason, text} -> {:error, Error.new(reason, text)}
      end
    end
  end

  @agreeing [:x25519, :x448]

  # Those who only agree on keys need no signature: OpenSSL does not agree with the points of small order,
  # whose secrets everybody knows (RFC 7748, section 6).
  defp check(%{type: type, key: {{:ECPoint, point}, _curve}}) when type in @agreeing do
    if type in :crypto.supports(:curves) do
      {_public, private} = :crypto.generate_key(:ecdh, type)
      _ = :crypto.compute_key(:ecdh, point, private, type)
      :ok
    else
      {:error, :unsupported, "public key: #{type} is not known to this OTP"}
    end
  rescue
    _weak ->
      {:error, :invalid_argument,
       "public key: its point is one of the few of #{type} with which secrets are none"}
  end

  defp check(info), do: Info.check(info)
end
