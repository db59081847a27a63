defmodule Cryptoki.CMS.Signer do
  @moduledoc false
  # One signer of signed data (RFC 5652, section 5.3): who it is, how its key signs, and the
  # attributes that it signs.

  alias Cryptoki.{Certificates, DER, Error, SignatureAlgorithm}
  alias Cryptoki.CMS.Stamp
  alias Cryptoki.X509.{Fields, OnToken}
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  @enforce_keys [:hsm, :key, :certificates, :public, :algorithm, :hash, :digest_algorithm, :id]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          hsm: Cryptoki.hsm(),
          key: Cryptoki.key(),
          certificates: [binary, ...],
          public: term,
          algorithm: SignatureAlgorithm.t(),
          hash: atom,
          digest_algorithm: DER.t(),
          id: DER.t()
        }

  @content_type {1, 2, 840, 113_549, 1, 9, 3}
  @message_digest {1, 2, 840, 113_549, 1, 9, 4}
  @signing_time {1, 2, 840, 113_549, 1, 9, 5}
  @signing_certificate {1, 2, 840, 113_549, 1, 9, 16, 2, 47}
  @ours [@content_type, @message_digest, @signing_time, @signing_certificate]

  @doc "The attributes that are there without asking."
  @spec attributes() :: [DER.oid()]
  def attributes, do: @ours

  @doc "What there is to know of a signer before it signs."
  @spec fetch({Cryptoki.hsm(), Cryptoki.key(), OnToken.source(), String.t()}, keyword) ::
          {:ok, t} | {:error, Error.t()}
  def fetch({hsm, key, certificate, argument}, options) do
    with {:ok, certificates} <- OnToken.fetch(hsm, key, certificate, argument),
         {:ok, public} <- Certificates.public_key(hd(certificates), argument),
         {:ok, fields} <- Fields.read(hd(certificates), argument),
         {:ok, algorithm} <- SignatureAlgorithm.choose(public, options),
         {:ok, hash} <- digest_hash(algorithm, public) do
      {:ok,
       %__MODULE__{
         hsm: hsm,
         key: key,
         certificates: certificates,
         public: public,
         algorithm: algorithm,
         hash: hash,
         digest_algorithm: SignatureAlgorithm.digest(hash),
         # IssuerAndSerialNumber, byte for byte as they stand in the certificate.
         id: DER.sequence([fields.issuer, fields.serial])
       }}
    end
  end

  # RFC 8419, section 3.1: what the content is hashed with, for a key that hashes by itself.
  defp digest_hash(%{mechanism: :eddsa}, _public), do: {:ok, :sha512}
  defp digest_hash(%{hash: hash}, _public) when hash != nil, do: {:ok, hash}

  defp digest_hash(_hashes_itself, public) do
    with {:ok, set, _bytes} <- PostQuantum.parts(public),
         hash when hash != nil <- PostQuantum.content_hash(set) do
      {:ok, hash}
    else
      :error -> unsupported("Ed448 wants SHAKE256")
      nil -> unsupported("SLH-DSA on SHAKE wants SHAKE128 or SHAKE256")
    end
  end

  defp unsupported(text),
    do: {:error, Error.new(:unsupported, "CMS with #{text}, which is not here")}

  @doc "A `SignerInfo`, signed."
  @spec info(t, %{atom => binary}, DER.oid(), keyword, keyword) ::
          {:ok, DER.t()} | {:error, Error.t()}
  def info(%__MODULE__{} = signer, digests, content_type, options, call) do
    attributes =
      for {oid, values} <- attributes(signer, digests[signer.hash], content_type, options),
          do: DER.sequence([DER.oid(oid), DER.set_of(values)])

    # Signed as the SET OF that they are, without the tag that they have here.
    signed = DER.set_of(attributes)

    with {:ok, signature} <-
           Certificates.sign(
             signer.hsm,
             signer.key,
             signer.public,
             signer.algorithm,
             signed,
             call
           ),
         {:ok, unsigned} <- Stamp.attributes(signature, options[:timestamp]) do
      {:ok,
       DER.sequence(
         [
           DER.integer(1),
           signer.id,
           signer.digest_algorithm,
           DER.set_of(attributes, 0xA0),
           signer.algorithm.identifier,
           DER.octet_string(signature)
         ] ++ if(unsigned == [], do: [], else: [DER.set_of(unsigned, 0xA1)])
       )}
    end
  end

  defp attributes(signer, digest, content_type, options) do
    time = for time <- [options[:signing_time]], time, do: {@signing_time, [DER.time(time)]}

    [
      {@content_type, [DER.oid(content_type)]},
      {@message_digest, [DER.octet_string(digest)]},
      {@signing_certificate, [signing_certificate(hd(signer.certificates))]}
    ] ++ time ++ options[:attributes]
  end

  # SigningCertificateV2 with one ESSCertIDv2, whose hash is SHA-256 when it does not say.
  defp signing_certificate(der) do
    hash = :crypto.hash(:sha256, der)
    DER.sequence([DER.sequence([DER.sequence([DER.octet_string(hash)])])])
  end
end
