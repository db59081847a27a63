defmodule Cryptoki.X509.RevocationList.Read do
  @moduledoc false
  # Lists of revoked certificates that others made (RFC 5280, section 5), in DER or PEM. Lists have no end:
  # entries are read one after the other, and only the bytes of all of it are limited. Pure.

  alias Cryptoki.{DER, Error, PEM}
  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.{Extensions, Name}
  alias Cryptoki.X509.Extensions.Names

  # Entries have 20 bytes at least, and become twenty times as many in memory.
  @most 16 * 1_048_576

  @what "this is no revocation list: "

  @crl_number Names.oid(:crl_number)
  @delta_crl Names.oid(:delta_crl)
  @crl_reason Names.oid(:crl_reason)
  @authority_key_identifier Names.oid(:authority_key_identifier)

  @typedoc "What users see of a list, and what is needed to verify it."
  @type t :: %{
          shown: map,
          issuer: DER.t(),
          signed: DER.t(),
          algorithm: Identifier.t(),
          signature: binary
        }

  @doc "Reads the one list in these bytes; nothing is verified."
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(bytes) do
    case PEM.ders(bytes, :crl, 2) do
      {:ok, [der]} ->
        Reader.read(der, @what, &list/1, @most)

      {:ok, _several} ->
        {:error, Error.new(:invalid_argument, "there is more than one revocation list in it")}

      {:error, text} ->
        {:error, Error.new(:invalid_argument, @what <> text)}
    end
  end

  @fields [
    {:maybe, "version", 2},
    {"signature algorithm", 0x30},
    {"issuer", 0x30},
    {"this update", :time},
    {:maybe, "next update", :time},
    {:maybe, "revoked certificates", 0x30},
    {:maybe, "extensions", 0xA0}
  ]

  defp list(list) do
    [signed, outer, signature] = Reader.signed_parts(list)

    [version, inner, issuer, this, next, revoked, extensions] =
      Reader.fields(Reader.name(signed, "what is signed"), @fields)

    version = version(version)
    extensions = extensions(extensions, version)
    base = number(extensions, @delta_crl)

    entries =
      if revoked, do: Reader.map(revoked, &entry(&1, &2, version, base), :infinity), else: []

    algorithm = Identifier.twice(inner, outer)

    shown = %{
      version: version,
      issuer: Name.text(Name.read(issuer)),
      this_update: Reader.time(this),
      next_update: next && Reader.time(next),
      number: number(extensions, @crl_number),
      base_number: base,
      authority_key_identifier:
        Extensions.Read.of(
          extensions,
          @authority_key_identifier,
          nil,
          &Extensions.Read.issuer_key/1
        ),
      revoked: for({entry, _others} <- entries, do: entry),
      entry_extensions: for({{serial, _, _}, [_ | _] = others} <- entries, do: {serial, others}),
      extensions: Extensions.Read.raw(extensions),
      signature_algorithm: algorithm.name
    }

    %{
      shown: shown,
      issuer: issuer.der,
      signed: signed.der,
      algorithm: algorithm,
      signature: Reader.bytes(signature)
    }
  end

  # The first one is that which is left out.
  defp version(nil), do: 1

  defp version(value) do
    if Reader.integer(value) != 1,
      do: Reader.wrong!(value, "it is of a version that is not known", :unsupported)

    2
  end

  defp extensions(nil, _version), do: []

  defp extensions(extensions, 1),
    do: Reader.wrong!(extensions, "there are none in version 1")

  defp extensions(extensions, 2), do: Extensions.Read.list(Reader.only(extensions))

  defp number(extensions, oid),
    do: Extensions.Read.of(extensions, oid, nil, &Extensions.Read.positive/1)

  ## Entries

  # What `crl/5` takes, and its other extensions.
  defp entry(value, number, version, base) do
    entry = Reader.name(value, "entry #{number}")

    [serial, at, extensions] =
      Reader.fields(Reader.is!(entry, 0x30), [
        {"serial number", 2},
        {"time", :time},
        {:maybe, "extensions", 0x30}
      ])

    if version == 1 and extensions,
      do: Reader.wrong!(extensions, "there are none in version 1")

    extensions = if extensions, do: Extensions.Read.list(extensions), else: []
    {reasons, others} = Enum.split_with(extensions, &(elem(&1, 0) == @crl_reason))
    reason = Extensions.Read.of(reasons, @crl_reason, :unspecified, &reason(&1, base))
    {{Reader.integer(serial, 64), Reader.time(at), reason}, Extensions.Read.raw(others)}
  end

  defp reason(value, base) do
    case Names.reason(Reader.enumerated(value)) do
      nil ->
        Reader.wrong!(value, "it is no reason of RFC 5280")

      :remove_from_crl when base == nil ->
        Reader.wrong!(value, "only a delta list takes a certificate off again")

      reason ->
        reason
    end
  end
end
