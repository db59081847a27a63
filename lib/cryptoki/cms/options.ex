defmodule Cryptoki.CMS.Options do
  @moduledoc false
  # The options of `Cryptoki.CMS`, as a table. Pure.

  alias Cryptoki.{Chunks, DER, DER.Reader, Options.Table, SignatureAlgorithm}
  alias Cryptoki.CMS.{Cipher, Signer}

  @doc "Of `sign/5`."
  @spec sign() :: Table.t()
  def sign do
    [
      detached: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: false,
        doc:
          "leaves the data out; then it may be `{:stream, enumerable}`, of which the token signs the digest"
      ],
      chain: [
        # Looked at as all certificates are, by `Certificates.source!/2`.
        cast: :any,
        type: "Cryptoki.CMS.certificate() | []",
        default: [],
        doc: "further certificates to go along, without the root"
      ],
      signers: [
        cast: &signers/1,
        must: "a list of {key, certificate} or {hsm, key, certificate}",
        type: "[{key, certificate} | {hsm, key, certificate}]",
        default: [],
        doc:
          "further signers of the same data, with three elements on another token. The options that " <>
            "follow hold for them, too"
      ]
    ] ++
      SignatureAlgorithm.options() ++
      [
        signing_time: [
          cast: &((&1 == false or is_struct(&1, DateTime)) and {:ok, &1}),
          must: "a DateTime or false",
          type: "DateTime.t() | false",
          doc: "when it was signed, or `false` for no word of it. Default: now"
        ],
        timestamp: [
          cast: &(is_function(&1, 1) and {:ok, &1}),
          must: "a function of a request",
          type: "(request :: binary -> {:ok, response :: binary} | {:error, term})",
          doc:
            "has the time of each signature stamped (RFC 3161), which makes it a CAdES-T signature: sends a " <>
              "request to an authority, as `Cryptoki.Timestamp.request/2` makes it, and answers what came back. " <>
              "It has to be a stamp of this signature, with the certificate of who made it; whom to trust is " <>
              "said by who verifies"
        ],
        attributes: [
          cast: &attributes/1,
          must: "a list of {object_identifier, values}",
          type: "[{tuple, [binary]}]",
          default: [],
          doc:
            "further signed attributes: an object identifier, a tuple of numbers, and a list of DER"
        ]
      ]
  end

  @doc "Of `decrypt/4`."
  @spec decrypt() :: Table.t()
  def decrypt do
    [
      certificate: [
        # Looked at as all certificates are, by `Certificates.source!/2`.
        cast: :any,
        type: "Cryptoki.CMS.certificate()",
        doc:
          "that of the key, by whose issuer and serial number, or key identifier, its recipient is found. Without " <>
            "it each recipient with such a key is tried, 16 at most"
      ]
    ] ++ by_password()
  end

  @doc "Of `decrypt_with_password/3`."
  @spec by_password() :: Table.t()
  def by_password do
    [
      authenticated: [
        cast: :boolean,
        must: "true or false",
        type: "boolean",
        default: false,
        doc: "whether what has no tag, and may have been changed by anybody, is refused"
      ]
    ]
  end

  @doc "Of `verify/3`."
  @spec verify() :: Table.t()
  def verify do
    [
      content: [
        cast: &content/1,
        must: "iodata or {:stream, enumerable}",
        secret: true,
        type: "iodata | {:stream, Enumerable.t()}",
        doc: "that of a detached signature"
      ],
      certificates: [
        cast: :any,
        type: "binary | [binary]",
        default: [],
        doc: "certificates of signers, and of those above them, that are not in it: DER or PEM"
      ]
    ]
  end

  defp content({:stream, chunks} = content),
    do: Chunks.enumerable?(chunks) and {:ok, content}

  defp content(content), do: Table.cast(:iodata, content)

  @doc "Of `encrypt/3`."
  @spec encrypt() :: Table.t()
  def encrypt do
    [
      cipher: [
        cast: {:one_of, Cipher.names()},
        must: "one of " <> Enum.map_join(Cipher.names(), ", ", &inspect/1),
        type: Enum.map_join(Cipher.names(), " | ", &inspect/1),
        default: :aes_256_gcm,
        doc:
          "what encrypts the content. Old mail programs read CBC only, which does not show that it was changed"
      ],
      padding: [
        cast: {:one_of, [:oaep, :pkcs1]},
        must: ":oaep or :pkcs1",
        type: ":oaep | :pkcs1",
        default: :oaep,
        doc: "of RSA keys: OAEP with SHA-256, or PKCS #1 v1.5, which old mail programs read only"
      ]
    ]
  end

  defp signers([]), do: {:ok, []}

  defp signers(signers) do
    signer? = &(match?({_key, _certificate}, &1) or match?({_hsm, _key, _certificate}, &1))

    is_list(signers) and not List.improper?(signers) and Enum.all?(signers, signer?) and
      {:ok, signers}
  end

  ## Attributes

  defp attributes([]), do: {:ok, []}

  defp attributes(attributes) do
    with true <- is_list(attributes) and List.improper?(attributes) == false,
         nil <- Enum.find_value(attributes, &complaint/1),
         oids = Enum.map(attributes, &elem(&1, 0)),
         [] <- for(oid <- oids, oid in Signer.attributes(), do: oid) ++ (oids -- Enum.uniq(oids)) do
      {:ok, attributes}
    else
      [oid | _others] -> {:error, "must not have one that is there already, got: #{inspect(oid)}"}
      other -> other
    end
  end

  defp complaint({oid, [_ | _] = values}) do
    cond do
      not DER.oid?(oid) ->
        {:error, "must have object identifiers as tuples, got: #{inspect(oid)}"}

      List.improper?(values) or not Enum.all?(values, &Reader.one?/1) ->
        {:error, "must have values in DER, got: #{inspect(values)}"}

      true ->
        nil
    end
  end

  defp complaint(other),
    do:
      {:error,
       "must be pairs of an object identifier and a list of values, got: #{inspect(other)}"}
end
