defmodule Cryptoki.X509.Certificate do
  @moduledoc false
  # Certificates (RFC 5280, section 4.1): what is signed of our own, and those of others, read as DER:
  # `fields/1` takes one apart and looks at no more than who needs a part asks for, `read/1` reads all. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.{AltName, Extensions, Name}

  @typedoc "Whom it is for, from when until when, and all of its extensions."
  @type content :: %{
          required(:holder) => Extensions.holder(),
          required(:valid) => {DateTime.t(), DateTime.t()},
          required(:extensions) => [Extensions.t()],
          optional(atom) => term
        }
  @type fields :: %{
          serial: DER.t(),
          issuer: DER.t(),
          validity: DER.t(),
          subject: DER.t(),
          key: binary,
          public_key_info: DER.t(),
          extensions: binary
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

  @what "this is no certificate: "

  @fields [
    {:maybe, "version", 0xA0},
    {"serial number", 2},
    {"signature algorithm", 0x30},
    {"issuer", 0x30},
    {"validity", 0x30},
    {"subject", 0x30},
    {"public key", 0x30},
    {:maybe, 0x81},
    {:maybe, 0x82},
    {:maybe, "extensions", 0xA3}
  ]

  @doc """
  What stands in a certificate: `serial`, `issuer`, `validity`, `subject` and `public_key_info` as DER, the
  contents of its `key` and of its `extensions`.
  """
  @spec fields(binary) :: {:ok, fields} | {:error, Error.t()}
  def fields(der) do
    Reader.read(der, @what, fn certificate ->
      parts = parts(certificate)

      %{
        serial: parts.serial.der,
        issuer: parts.issuer.der,
        validity: parts.validity.der,
        subject: parts.subject.der,
        key: parts.key.contents,
        public_key_info: parts.key.der,
        extensions: if(parts.extensions, do: parts.extensions.contents, else: "")
      }
    end)
  end

  defp parts(certificate) do
    [signed, algorithm, signature] = Reader.signed_parts(certificate)

    [version, serial, inner, issuer, validity, subject, key, _, _, extensions] =
      Reader.fields(signed, @fields)

    [_key_algorithm, bits] = Reader.fields(key, [0x30, 3])
    _ = Reader.bytes(bits)

    %{
      version: version(version),
      serial: serial,
      issuer: issuer,
      validity: validity,
      subject: subject,
      key: key,
      extensions: extensions && extensions |> Reader.only() |> Reader.is!(0x30),
      algorithm: algorithm,
      inner: inner,
      signed: signed,
      signature: signature
    }
  end

  # The one that is left out may be there as well.
  defp version(nil), do: 1

  defp version(explicit) do
    version = Reader.only(explicit)

    case Reader.integer(version) do
      number when number in 0..2 -> number + 1
      _unknown -> Reader.wrong!(version, "it is of a version that is not known", :unsupported)
    end
  end

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
    Reader.read(der, @what, fn certificate ->
      parts = parts(certificate)

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
  def validity(der), do: Reader.read(der, @what <> "validity: ", &period/1)

  defp period(validity) do
    case Reader.sequence(validity) do
      [from, to] -> {Reader.time(from), Reader.time(to)}
      _other -> Reader.wrong!(validity, "two times should be in it")
    end
  end

  @doc "All of a certificate, as people and programs look at it."
  @spec read(binary) :: {:ok, map} | {:error, Error.t()}
  def read(der) do
    Reader.read(der, @what, fn certificate ->
      parts = parts(certificate)
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
