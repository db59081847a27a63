defmodule Cryptoki.X509.Fields do
  @moduledoc false
  # A certificate taken apart (RFC 5280, section 4.1), with no look at more of it than who needs a part asks
  # for. Pure.

  alias Cryptoki.{DER, Error, PEM}
  alias Cryptoki.DER.Reader

  @type t :: %{
          serial: DER.t(),
          issuer: DER.t(),
          validity: DER.t(),
          subject: DER.t(),
          key: binary,
          public_key_info: DER.t(),
          extensions: binary
        }

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
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(der) do
    parts(der, fn parts ->
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

  @doc "The same, where an error names the argument that the certificate is."
  @spec read(binary, argument :: String.t()) :: {:ok, t} | {:error, Error.t()}
  def read(der, argument) do
    with {:error, error} <- read(der),
         do: {:error, %{error | detail: "#{argument}: #{error.detail}"}}
  end

  @doc "The certificates in DER or PEM, one at least: each is one, however little of it will be looked at."
  @spec ders(binary, argument :: String.t()) :: {:ok, [binary, ...]} | {:error, Error.t()}
  def ders(bytes, argument) do
    case PEM.ders(bytes, :certificate) do
      {:ok, ders} ->
        Enum.find_value(ders, {:ok, ders}, fn der ->
          with {:ok, _fields} <- read(der, argument), do: nil
        end)

      {:error, text} ->
        {:error, Error.new(:invalid_argument, "#{argument}: #{text}")}
    end
  end

  @doc "What `fun` makes of its parts, as `Cryptoki.DER.Reader` has them."
  @spec parts(binary, (%{atom => term} -> result)) :: {:ok, result} | {:error, Error.t()}
        when result: term
  def parts(der, fun), do: Reader.read(der, "this is no certificate: ", &fun.(taken_apart(&1)))

  defp taken_apart(certificate) do
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
end
