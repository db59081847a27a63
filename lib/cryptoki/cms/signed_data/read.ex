defmodule Cryptoki.CMS.SignedData.Read do
  @moduledoc false
  # Signed data of others (RFC 5652, section 5), in DER: what was signed, by whom, and whether that holds. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.CMS.Form
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.{Info, OID}
  alias Cryptoki.SignatureAlgorithm
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.{Extensions, Fields, Signature}

  @data {1, 2, 840, 113_549, 1, 7, 1}
  @signed_data {1, 2, 840, 113_549, 1, 7, 2}
  @content_type {1, 2, 840, 113_549, 1, 9, 3}
  @message_digest {1, 2, 840, 113_549, 1, 9, 4}
  @signing_time {1, 2, 840, 113_549, 1, 9, 5}
  @rsa OID.rsa()

  # Each may have issued another one.
  @most_certificates 32
  @most_signers 16

  @hashes Map.new(
            ~w(sha sha256 sha384 sha512 sha3_256 sha3_384 sha3_512)a,
            &{Identifier.hash_oid(&1), &1}
          )

  @typedoc "A signer: who it is, and what it signed with what. `signed` are the attributes, as they are signed."
  @type signer :: %{
          id: {:issuer, DER.t(), serial :: DER.t()} | {:key, binary},
          hash: atom | nil,
          attributes: %{DER.oid() => [DER.t()]} | nil,
          signed: DER.t() | nil,
          algorithm: Identifier.t(),
          signature: binary
        }
  @type t :: %{
          type: DER.oid(),
          content: binary | nil,
          certificates: [DER.t()],
          signers: [signer]
        }

  @doc "What a `ContentInfo` of signed data has."
  @spec content_info(Reader.t()) :: t
  def content_info(info) do
    [type, explicit] = Reader.fields(Reader.is!(info, 0x30), [6, {"signed data", 0xA0}])
    found = Reader.oid(type)
    if found != @signed_data, do: Reader.wrong!(type, "it is #{Form.called(found)}")

    [_version, _digests, content, certificates, _lists, signers] =
      Reader.fields(Reader.is!(Reader.only(explicit), 0x30), [
        {"version", 2},
        {"digest algorithms", 0x31},
        {"content", 0x30},
        {:maybe, "certificates", 0xA0},
        {:maybe, "revocation lists", 0xA1},
        {"signers", 0x31}
      ])

    [type, bytes] = Reader.fields(content, [6, {:maybe, 0xA0}])

    %{
      type: Reader.oid(type),
      content: bytes && Reader.octets(Reader.only(bytes)),
      certificates: certificates(certificates),
      signers: Reader.map(signers, &signer/2, @most_signers)
    }
  end

  # Others than those of X.509 count for nothing.
  defp certificates(nil), do: []

  defp certificates(certificates) do
    all = Reader.map(certificates, fn value, _number -> value end, @most_certificates)
    for %{tag: 0x30, der: der} <- all, do: der
  end

  defp signer(info, number) do
    [_version, issuer, key, digest, attributes, algorithm, signature, _unsigned] =
      Reader.fields(Reader.name(Reader.is!(info, 0x30), "signer #{number}"), [
        {"version", 2},
        {:maybe, "issuer", 0x30},
        {:maybe, "key identifier", 0x80},
        {"digest algorithm", 0x30},
        {:maybe, "signed attributes", 0xA0},
        {"signature algorithm", 0x30},
        {"signature", 4},
        {:maybe, "unsigned attributes", 0xA1}
      ])

    {oid, _parameters} = Identifier.parts(digest)
    hash = @hashes[oid]

    %{
      id: id(issuer, key, info),
      hash: hash,
      attributes: attributes && attributes(attributes),
      # As the SET OF that they are, without the tag that they have here.
      signed: attributes && DER.value(0x31, attributes.contents),
      algorithm: algorithm(Identifier.read(algorithm), hash),
      signature: Reader.octets(signature)
    }
  end

  defp id(%Reader{} = id, nil, _info) do
    [issuer, serial] = Reader.fields(id, [0x30, 2])
    {:issuer, issuer.der, serial.der}
  end

  defp id(nil, %Reader{contents: key}, _info), do: {:key, key}
  defp id(_issuer, _key, info), do: Reader.wrong!(info, "it says who it is not once")

  defp attributes(attributes) do
    list =
      for attribute <- Reader.values(attributes) do
        [oid, values] = Reader.fields(Reader.is!(attribute, 0x30), [6, 0x31])
        {Reader.oid(oid), Enum.map(Reader.set(values), & &1.der)}
      end

    by_oid = Enum.group_by(list, &elem(&1, 0), &elem(&1, 1))

    # RFC 5652, section 11. Of others there may be several, such as time stamps of the content (CAdES).
    for oid <- [@content_type, @message_digest, @signing_time],
        match?([_, _ | _], by_oid[oid]),
        do: Reader.wrong!(attributes, "one of them is there twice")

    Map.new(by_oid, fn {oid, values} -> {oid, Enum.concat(values)} end)
  end

  # The key alone, as OpenSSL and others write it: the hash is that of the content.
  defp algorithm(%{scheme: :unknown, oid: @rsa} = algorithm, hash) when hash != nil,
    do: %{algorithm | scheme: :pkcs1, hash: hash, name: :"#{hash}_rsa_pkcs"}

  defp algorithm(algorithm, _hash), do: algorithm

  @doc "The certificate of a signer among some."
  @spec certificate(signer, [DER.t()]) :: {:ok, DER.t()} | :error
  def certificate(%{id: id}, certificates) do
    Enum.find_value(certificates, :error, fn der ->
      with {:ok, fields} <- Fields.read(der),
           true <- is?(id, fields),
           do: {:ok, der},
           else: (_ -> nil)
    end)
  end

  defp is?({:issuer, issuer, serial}, fields),
    do: fields.issuer == issuer and fields.serial == serial

  defp is?({:key, identifier}, fields) do
    with {:ok, extensions} <- Extensions.Read.read(fields.extensions),
         do: Extensions.Read.identifier(extensions) == {:ok, identifier},
         else: (_none -> false)
  end

  @doc """
  Whether a signer has signed this content of this type, with the key of a certificate; if not, a sentence. The
  content may be its digests by hash.
  """
  @spec signed(signer, DER.oid(), binary | %{atom => binary}, DER.t()) ::
          :ok | {:error, :unsupported | :signature_invalid, String.t()} | {:error, Error.t()}
  def signed(%{hash: nil}, _type, _content, _certificate),
    do: {:error, :unsupported, "has a digest with a hash that is not known here"}

  def signed(%{attributes: nil} = signer, type, content, certificate) do
    cond do
      type != @data ->
        {:error, :signature_invalid, "signs no attributes, which content of this type needs"}

      not is_binary(content) ->
        {:error, :unsupported,
         "signs no attributes, and then the content is not given as a stream"}

      # The attributes of another signature are no content of one without any: their bytes are signed too.
      attributes?(content) ->
        {:error, :signature_invalid, "signs no attributes, and its content would be some"}

      true ->
        verify(%{signer | signed: content}, certificate)
    end
  end

  def signed(%{attributes: attributes, hash: hash} = signer, type, content, certificate) do
    cond do
      Identifier.broken?(hash) ->
        {:error, :unsupported, "has a digest with #{hash}, and that hash is broken"}

      attributes[@content_type] != [DER.oid(type)] ->
        {:error, :signature_invalid, "is signed for content of another type"}

      attributes[@message_digest] != [DER.octet_string(digest(content, hash))] ->
        {:error, :signature_invalid, "is signed for other content"}

      true ->
        verify(signer, certificate)
    end
  end

  defp digest(content, hash) when is_binary(content), do: :crypto.hash(hash, content)
  defp digest(digests, hash), do: Map.fetch!(digests, hash)

  defp attributes?(<<0x31, _::binary>> = content) do
    case Reader.read(content, "", &attributes/1, :infinity) do
      {:ok, attributes} -> is_map_key(attributes, @message_digest)
      {:error, _other} -> false
    end
  end

  defp attributes?(_content), do: false

  defp verify(signer, certificate) do
    with {:ok, fields} <- Fields.read(certificate),
         {:ok, key} <- Reader.read(fields.public_key_info, "public key: ", &Info.read/1) do
      Signature.verify(key, signer, "the key of its signer", &SignatureAlgorithm.nowhere/3)
    end
  end
end
