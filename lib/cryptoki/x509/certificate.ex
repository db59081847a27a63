defmodule Cryptoki.X509.Certificate do
  @moduledoc false
  # Certificates (RFC 5280, section 4.1): what is signed of our own, and those of others: `read/1`
  # looks at all of what `Cryptoki.X509.Fields` takes apart. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.{AltName, Extensions, Fields, Name}

  @typedoc "Whom it is for, from when until when, and all of its extensions."
  @type content :: %{
          required(:holder) => Extensions.holder(),
          required(:valid) => {DateTime.t(), DateTime.t()},
          required(:extensions) => [Extensions.t()],
          optional(atom) => term
        }

  @doc "What is signed of a certificate; without a serial number it has one by chance."
  @spec to_be_signed(content, issuer :: DER.t(), algorithm :: DER.t(), pos_integer | nil) ::
          DER.t()
  def to_be_signed(%{holder: holder, valid: {from, to}} = content, issuer, algorithm, serial) do
    DER.sequence([
      DER.explicit(0, DER.integer(2)),
      DER.integer(serial || serial()),
      algorithm,
      issuer,
      DER.sequence([DER.time(from), DER.time(to)]),
      holder.subject,
      holder.info,
      DER.explicit(3, Extensions.encode(content.extensions))
    ])
  end

  @doc "A serial number: positive, and hard to guess (RFC 5280, section 4.1.2.2)."
  @spec serial() :: pos_integer
  def serial,
    do: Bitwise.bor(Bitwise.bsl(1, 126), :binary.decode_unsigned(:crypto.strong_rand_bytes(15)))

  @typedoc "Who signed what with which algorithm."
  @type signed :: %{
          issuer: DER.t(),
          algorithm: Identifier.t(),
          signed: DER.t(),
          signature: binary
        }

  @doc "What it takes to verify the signature of a certificate."
  @spec signed(binary) :: {:ok, signed} | {:error, Error.t()}
  def signed(der) do
    Fields.parts(der, fn parts ->
      %{
        issuer: parts.issuer.der,
        signed: parts.signed.der,
        algorithm: Identifier.twice(parts.inner, parts.algorithm),
        signature: Reader.bytes(parts.signature)
      }
    end)
  end

  @doc "From when until when."
  @spec validity(DER.t()) :: {:ok, {DateTime.t(), DateTime.t()}} | {:error, Error.t()}
  def validity(der), do: Reader.read(der, "this is no certificate: validity: ", &period/1)

  defp period(validity) do
    case Reader.sequence(validity) do
      [from, to] -> {Reader.time(from), Reader.time(to)}
      _other -> Reader.wrong!(validity, "two times should be in it")
    end
  end

  @doc "All of a certificate, as people and programs look at it."
  @spec read(binary) :: {:ok, map} | {:error, Error.t()}
  def read(der) do
    Fields.parts(der, fn parts ->
      {from, to} = period(parts.validity)
      info = Info.read(parts.key)
      extensions = if parts.extensions, do: Extensions.Read.list(parts.extensions), else: []

      extensions
      |> Extensions.Read.known(&AltName.one/1)
      |> Map.merge(Info.shown(info))
      |> Map.merge(%{
        version: parts.version,
        serial: Reader.integer(parts.serial, 64),
        issuer: Name.text(Name.read(parts.issuer)),
        subject: Name.text(Name.read(parts.subject)),
        not_before: from,
        not_after: to,
        extensions: Extensions.Read.raw(extensions),
        signature_algorithm: Identifier.read(parts.algorithm).name
      })
    end)
  end
end
