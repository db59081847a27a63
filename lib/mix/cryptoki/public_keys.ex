defmodule Mix.Cryptoki.PublicKeys do
  @moduledoc false
  # Public keys and certificates as other programs read them.

  alias Cryptoki.{Error, Key, PEM}
  alias Cryptoki.X509.Extensions

  @doc "The public key of what a selector names, as PEM (RFC 7468, section 13)."
  @spec pem(pid, Key.t() | keyword) :: {:ok, String.t()} | {:error, Error.t()}
  def pem(hsm, key),
    do: with({:ok, der} <- der(hsm, key), do: {:ok, PEM.encode(der, "PUBLIC KEY")})

  @doc "Its SubjectPublicKeyInfo."
  @spec der(pid, Key.t() | keyword) :: {:ok, binary} | {:error, Error.t()}
  def der(hsm, key) do
    with {:ok, public_key} <- Cryptoki.public_key(hsm, key),
         do: {:ok, Extensions.public_key_info(public_key)}
  end

  @doc "DER where `--der` says so, else PEM."
  @spec encoded(binary, String.t(), keyword) :: binary
  def encoded(der, label, options), do: if(options[:der], do: der, else: PEM.encode(der, label))
end
