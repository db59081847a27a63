defmodule Cryptoki.X509.Signature do
  @moduledoc false
  # Whether what others signed, a request, a list or a certificate, is signed by a key, with an algorithm that
  # such a key signs with and that is believed. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.Certificate
  alias Cryptoki.X509.NameConstraints.Subtree

  @doc "If not, why: the end of a sentence of what is signed, with `by` for the key, and its reason."
  @spec verify(Info.t(), Identifier.t(), binary, binary, by :: String.t()) ::
          :ok | {:error, :unsupported | :signature_invalid, String.t()}
  def verify(key, algorithm, data, signature, by) do
    cond do
      algorithm.scheme == :unknown or is_tuple(algorithm.hash) or is_tuple(algorithm.mgf) ->
        {:error, :unsupported, "is signed with an algorithm that is not known here"}

      Identifier.broken?(algorithm.hash) or Identifier.broken?(algorithm.mgf) ->
        text = "is signed with #{algorithm.name}, and that hash is broken"
        {:error, :unsupported, text}

      not fits?(key, algorithm) ->
        text = "names another algorithm: #{by} does not sign with #{algorithm.name}"
        {:error, :signature_invalid, text}

      true ->
        verified(key, algorithm, data, signature, by)
    end
  end

  @doc "Whether a certificate names an issuer, and is signed by the key of it; if not, a sentence."
  @spec of_certificate(DER.t(), issuer :: DER.t(), public_key_info :: DER.t()) ::
          :ok | {:error, String.t()}
  def of_certificate(der, issuer, public_key_info) do
    with {:ok, certificate} <- Certificate.signed(der),
         {:ok, key} <- Reader.read(public_key_info, "public key: ", &Info.read/1),
         true <- Subtree.same?(certificate.issuer, issuer) || {:error, "it is of another issuer"},
         %{algorithm: algorithm, signed: signed, signature: signature} = certificate,
         :ok <- verify(key, algorithm, signed, signature, "the key of its issuer") do
      :ok
    else
      {:error, _reason, text} -> {:error, "it " <> text}
      {:error, %Error{detail: text}} -> {:error, text}
      {:error, text} -> {:error, text}
    end
  end

  defp fits?(%{type: :rsa}, %{scheme: scheme}), do: scheme in [:pkcs1, :pss]
  defp fits?(%{type: :rsa_pss, pss: nil}, %{scheme: scheme}), do: scheme == :pss

  # A key may be for one hash, and for salts from a length on (RFC 4055, section 3.1).
  defp fits?(%{type: :rsa_pss, pss: pss}, algorithm) do
    algorithm.scheme == :pss and algorithm.hash == pss.hash and algorithm.mgf == pss.mgf and
      algorithm.salt >= pss.salt
  end

  defp fits?(%{type: :ec}, %{scheme: scheme}), do: scheme == :ecdsa
  defp fits?(%{type: :ed25519}, %{scheme: :eddsa, oid: oid}), do: oid == {1, 3, 101, 112}
  defp fits?(%{type: :ed448}, %{scheme: :eddsa, oid: oid}), do: oid == {1, 3, 101, 113}
  defp fits?(_another, _algorithm), do: false

  defp verified(key, algorithm, data, signature, by) do
    key = Info.shown(key).public_key
    hash = algorithm.hash || :none

    case SignatureAlgorithm.signed?(data, hash, signature, key, options(algorithm)) do
      true ->
        :ok

      false ->
        {:error, :signature_invalid, "is not signed by #{by}"}

      :unsupported ->
        {:error, :unsupported, "is signed with an algorithm that this OTP does not know"}
    end
  end

  defp options(%{scheme: :pss, mgf: mgf, salt: salt}),
    do: SignatureAlgorithm.pss_options(mgf, salt)

  defp options(_other), do: []
end
