defmodule Cryptoki.X509.Signature do
  @moduledoc false
  # Whether what others signed, a request, a list or a certificate, is signed by a key, with an algorithm that
  # such a key signs with and that is believed. Pure.

  alias Cryptoki.{DER, Error, SignatureAlgorithm}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm.{Identifier, PostQuantum}
  alias Cryptoki.X509.Certificate
  alias Cryptoki.X509.NameConstraints.Subtree

  @typedoc "What was signed, with which algorithm, and the signature."
  @type signed :: %{
          required(:signed) => binary,
          required(:algorithm) => Identifier.t(),
          required(:signature) => binary,
          optional(atom) => term
        }

  @doc """
  If not, why: the end of a sentence of what is signed, with `by` for the key, and its reason. What this OTP cannot
  verify is asked `elsewhere`, which may have an error of its own.
  """
  @spec verify(Info.t(), signed, by :: String.t(), SignatureAlgorithm.elsewhere()) ::
          :ok | {:error, :unsupported | :signature_invalid, String.t()} | {:error, Error.t()}
  def verify(key, %{algorithm: algorithm} = signed, by, elsewhere) do
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
        verified(key, signed, by, elsewhere)
    end
  end

  @doc """
  Whether a certificate names an issuer, and is signed by the key of it; if not, a sentence, or the error of who was
  asked elsewhere.
  """
  @spec of_certificate(
          DER.t(),
          issuer :: DER.t(),
          public_key_info :: DER.t(),
          SignatureAlgorithm.elsewhere()
        ) :: :ok | {:error, String.t() | Error.t()}
  def of_certificate(der, issuer, public_key_info, elsewhere) do
    with {:signed, {:ok, certificate}} <- {:signed, Certificate.signed(der)},
         {:error, _reason, text} <- of_issuer(certificate, issuer, public_key_info, elsewhere) do
      {:error, "it " <> text}
    else
      {:signed, {:error, error}} -> {:error, error.detail}
      answer -> answer
    end
  end

  @doc "The same of what was read of a certificate or a list, as `verify/4` has it."
  @spec of_issuer(
          signed,
          issuer :: DER.t(),
          public_key_info :: DER.t(),
          SignatureAlgorithm.elsewhere()
        ) :: :ok | {:error, :unsupported | :signature_invalid, String.t()} | {:error, Error.t()}
  def of_issuer(signed, issuer, public_key_info, elsewhere) do
    with {:ok, key} <- Reader.read(public_key_info, "public key: ", &Info.read/1) do
      if Subtree.same?(signed.issuer, issuer),
        do: verify(key, signed, "the key of its issuer", elsewhere),
        else: {:error, :signature_invalid, "is of another issuer"}
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
  # A parameter set is that of the key and of the signature.
  defp fits?(%{type: set}, %{scheme: :post_quantum, oid: oid}),
    do: PostQuantum.named(oid) == {:ok, set}

  defp fits?(_another, _algorithm), do: false

  defp verified(key, %{algorithm: algorithm} = signed, by, elsewhere) do
    %{signed: data, signature: signature} = signed
    key = SignatureAlgorithm.bare(key.key)
    hash = algorithm.hash || :none

    case SignatureAlgorithm.signed?(data, hash, signature, key, options(algorithm), elsewhere) do
      true ->
        :ok

      false ->
        {:error, :signature_invalid, "is not signed by #{by}"}

      :unsupported ->
        {:error, :unsupported, "is signed with an algorithm that this OTP does not know"}

      {:error, _error} = error ->
        error
    end
  end

  defp options(%{scheme: :pss, mgf: mgf, salt: salt}),
    do: SignatureAlgorithm.pss_options(mgf, salt)

  defp options(_other), do: []
end
