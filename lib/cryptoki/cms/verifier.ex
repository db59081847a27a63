defmodule Cryptoki.CMS.Verifier do
  @moduledoc false
  # Whether signed data of others holds: every signer's signature, and the certificate it is verified with. Pure.

  alias Cryptoki.{Chunks, DER, Each, Error}
  alias Cryptoki.CMS.{Form, SignedData}
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.{Chain, Extensions, Fields}

  @signing_time {1, 2, 840, 113_549, 1, 9, 5}
  @what "this is no signed data: "

  @doc "What is signed and by whom."
  @spec verify(binary, [DER.t()] | :any, [DER.t()], iodata | {:stream, Enumerable.t()} | nil) ::
          {:ok, map} | {:error, Error.t()}
  def verify(bytes, trusted, others, given) do
    with {:ok, signed} <- Form.read(bytes, @what, &SignedData.Read.content_info/1),
         {:ok, content} <- content(signed, given),
         {:ok, signers} <- signers(signed, content, trusted, others) do
      {:ok, %{content: signed.content, type: signed.type, signers: signers}}
    end
  end

  # Certificates alone, which nobody has signed: content would not help.
  defp content(%{content: nil, signers: []}, nil), do: {:ok, ""}

  defp content(%{content: nil}, nil),
    do:
      {:error, Error.new(:invalid_argument, "content: it is detached, and its content is needed")}

  defp content(%{content: nil, signers: signers}, {:stream, _chunks} = stream) do
    hashes = for %{hash: hash} <- signers, hash != nil, do: hash
    {:ok, Chunks.digests(Enum.uniq(hashes), stream)}
  end

  defp content(%{content: nil}, given), do: {:ok, IO.iodata_to_binary(given)}
  defp content(%{content: content}, nil), do: {:ok, content}

  # Whichever of the two was meant would be verified, and the other taken for it.
  defp content(_attached, _given),
    do:
      {:error,
       Error.new(
         :invalid_argument,
         "content: it is for a detached signature, and this one has its content"
       )}

  # Each of them, as OpenSSL has it.
  defp signers(%{signers: []}, _content, _trusted, _others), do: invalid("it has no signer")

  defp signers(%{signers: signers} = signed, content, trusted, others) do
    pool = signed.certificates ++ others
    Each.of(signers, &signer(&1, signed.type, content, pool, trusted))
  end

  defp signer(signer, type, content, pool, trusted) do
    with {:ok, certificate} <- SignedData.Read.certificate(signer, pool ++ anchors(trusted)),
         :ok <- SignedData.Read.signed(signer, type, content, certificate),
         {:ok, fields} <- Fields.read(certificate),
         {:ok, extensions} <- Extensions.Read.read(fields.extensions),
         {:signs, true} <- {:signs, Extensions.Read.signs?(extensions)},
         {:chain, :ok} <- {:chain, chain(certificate, pool, trusted)},
         {:ok, time} <- signing_time(signer.attributes) do
      {:ok,
       %{
         certificate: certificate,
         algorithm: signer.algorithm.name,
         hash: signer.hash,
         signing_time: time,
         attributes: signer.attributes || %{}
       }}
    else
      :error -> invalid("the certificate of a signer is not there")
      {:signs, false} -> invalid("the key of a signer is not for signatures (key usage)")
      {:chain, {:error, text}} -> invalid("the certificate of a signer: " <> text)
      {:error, %Error{} = error} -> {:error, error}
      {:error, reason, text} -> {:error, Error.new(reason, "a signer " <> text)}
    end
  end

  defp anchors(:any), do: []
  defp anchors(trusted), do: trusted

  defp chain(_certificate, _pool, :any), do: :ok
  defp chain(certificate, pool, trusted), do: Chain.trusted(certificate, pool, trusted)

  # What the signer says.
  defp signing_time(%{@signing_time => [der]}),
    do: Reader.read(der, "signing time: ", &Reader.time/1)

  defp signing_time(_none), do: {:ok, nil}

  defp invalid(text), do: {:error, Error.new(:signature_invalid, text)}
end
