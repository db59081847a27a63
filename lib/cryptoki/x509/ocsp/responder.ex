defmodule Cryptoki.X509.OCSP.Responder do
  @moduledoc false
  # Who answers: the authority with its own key, or with that of a certificate that it issued for this (RFC
  # 6960, section 4.2.2.2).

  alias Cryptoki.{Certificates, DER, Error}
  alias Cryptoki.Certificates.ByToken
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.X509.{Authority, Extensions, Signature}
  alias Cryptoki.X509.Extensions.Read

  @type t :: %{
          public: term,
          identifier: binary,
          certificate: DER.t(),
          issuer: %{name: DER.t(), key: binary}
        }

  @doc "Who it is, and whether the key on the token is theirs."
  @spec fetch(Cryptoki.hsm(), Cryptoki.key(), Certificates.source()) ::
          {:ok, t} | {:error, Error.t()}
  def fetch(hsm, key, certificate) do
    with {:ok, [der | above]} <- Certificates.fetch(hsm, certificate, "certificate"),
         {:ok, signer} <- Authority.read(hsm, der, "certificate"),
         {:ok, authority} <- authority(hsm, signer, der, above),
         :ok <- Authority.answers(authority),
         :ok <- Certificates.same_key(hsm, key, signer.public) do
      {_algorithm, key} = Info.parts(authority.public_key_info)

      {:ok,
       %{
         public: signer.public,
         identifier: Extensions.key_identifier(signer.public_key_info),
         certificate: der,
         issuer: %{name: authority.subject, key: key}
       }}
    end
  end

  defp authority(hsm, signer, der, above) do
    case {Read.basic_constraints(signer.extensions), above} do
      {{:ok, _length}, _above} -> {:ok, signer}
      {:error, [issuer | _]} -> delegated(hsm, signer, der, issuer)
      {:error, []} -> invalid("it is not that of an authority; with that of its issuer behind it")
    end
  end

  defp delegated(hsm, signer, der, issuer) do
    with {:ok, authority} <- Authority.read(hsm, issuer, "certificate"),
         :ok <- answers(signer),
         :ok <- Authority.now(signer),
         :ok <- issued(der, authority, ByToken.verifier(hsm, [])) do
      {:ok, authority}
    else
      {:error, text} when is_binary(text) -> invalid(text)
      {:error, error} -> {:error, error}
    end
  end

  defp issued(der, authority, elsewhere),
    do: Signature.of_certificate(der, authority.subject, authority.public_key_info, elsewhere)

  # For this: what is for everything is not.
  defp answers(signer) do
    with {:ok, purposes} <- Read.purposes(signer.extensions),
         true <- :ocsp_signing in purposes do
      if Read.signs?(signer.extensions),
        do: :ok,
        else: {:error, "its key is not for signatures (key usage digital_signature)"}
    else
      _none -> {:error, "it is not for answers (extended key usage ocsp_signing)"}
    end
  end

  defp invalid(text), do: {:error, Error.new(:invalid_argument, "certificate: " <> text)}
end
