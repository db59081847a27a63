defmodule Cryptoki.X509.Extensions.Read do
  @moduledoc false
  # The extensions that others wrote (RFC 5280, section 4.2), and what those that are known here say.
  # Those of certificates may be BER, as some are; those of requests are DER. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.AltName
  alias Cryptoki.X509.Extensions.{Names, Shown}

  @subject_key_identifier Names.oid(:subject_key_identifier)
  @key_usage Names.oid(:key_usage)
  @subject_alt_name Names.oid(:subject_alt_name)
  @basic_constraints Names.oid(:basic_constraints)
  @authority_key_identifier Names.oid(:authority_key_identifier)
  @extended_key_usage Names.oid(:extended_key_usage)

  @usages Map.new(Enum.with_index(Names.usages()), fn {usage, bit} -> {bit, usage} end)

  @typedoc "One: the value is the OCTET STRING that it stands in."
  @type t :: {DER.oid(), critical :: boolean, Reader.t()}
  @type by_oid :: %{DER.oid() => {critical :: boolean, DER.t()}}

  @doc "The extensions in their order; one that is there twice ends the reading."
  @spec list(Reader.t()) :: [t]
  def list(extensions) do
    list =
      for {extension, number} <- Enum.with_index(Reader.sequence(extensions), 1),
          do: one(Reader.name(extension, "extension #{number}"))

    oids = Enum.map(list, &elem(&1, 0))

    case oids -- Enum.uniq(oids) do
      [] -> list
      [oid | _] -> Reader.wrong!(extensions, "the extension #{DER.dotted(oid)} is there twice")
    end
  end

  defp one(extension) do
    [oid, critical, value] = Reader.fields(Reader.is!(extension, 0x30), [6, {:maybe, 1}, 4])

    oid = Reader.oid(oid)
    {oid, critical != nil and Reader.truth(critical), Reader.name(value, DER.dotted(oid))}
  end

  @doc "By object identifier, each with the DER of its value."
  @spec by_oid([t]) :: by_oid
  def by_oid(list),
    do: Map.new(list, fn {oid, critical, value} -> {oid, {critical, value.contents}} end)

  @doc "As the option `extensions:` takes them."
  @spec raw([t]) :: [{DER.oid(), DER.t(), [critical: boolean]}]
  def raw(list),
    do: for({oid, critical, value} <- list, do: {oid, value.contents, critical: critical})

  @doc "What those that are known say, by the names of the options; alternative names are read by `name`."
  @spec known([t], (Reader.t() -> AltName.t())) :: map
  def known(list, name) do
    {ca, path_len} = of(list, @basic_constraints, {nil, nil}, &constraints/1)

    %{
      ca: ca,
      path_len: path_len,
      key_usage: of(list, @key_usage, nil, &usages/1),
      extended_key_usage: of(list, @extended_key_usage, nil, &listed/1),
      subject_alt_name: of(list, @subject_alt_name, [], &Enum.map(Reader.sequence(&1), name)),
      subject_key_identifier: of(list, @subject_key_identifier, nil, &Reader.octets/1),
      authority_key_identifier: of(list, @authority_key_identifier, nil, &issuer_key/1)
    }
    |> Map.merge(Shown.all(list))
  end

  @doc "What one of them says, when it is there."
  @spec of([t], DER.oid(), absent, (Reader.t() -> said)) :: absent | said
        when absent: term, said: term
  def of(list, oid, absent, read) do
    case List.keyfind(list, oid, 0) do
      {_oid, _critical, value} -> value |> Reader.within() |> read.()
      nil -> absent
    end
  end

  defp constraints(value) do
    [ca, length] = Reader.fields(Reader.is!(value, 0x30), [{:maybe, 1}, {:maybe, 2}])
    length = if length, do: positive(length)
    {ca != nil and Reader.truth(ca), length}
  end

  @doc "A number that is not negative."
  @spec positive(Reader.t()) :: non_neg_integer
  def positive(value) do
    case Reader.integer(value) do
      number when number >= 0 -> number
      _negative -> Reader.wrong!(value, "it is less than 0")
    end
  end

  defp usages(value), do: for(bit <- Reader.named_bits(value), usage = @usages[bit], do: usage)

  defp listed(value), do: for(oid <- Reader.sequence(value), do: Names.purpose(Reader.oid(oid)))

  @doc "The identifier of the key that signed."
  @spec issuer_key(Reader.t()) :: binary | nil
  def issuer_key(value) do
    case Reader.sequence(value) do
      [%{tag: 0x80, contents: identifier} | _] -> identifier
      _without -> nil
    end
  end

  ## Of a certificate, one question at a time

  @doc "The extensions of a certificate, from the contents of their SEQUENCE."
  @spec read(binary) :: {:ok, by_oid} | {:error, Error.t()}
  def read(contents),
    do: Reader.read(DER.value(0x30, contents), "its extensions: ", &by_oid(list(&1)))

  @doc "Whether a certificate with these extensions is one of an authority, and how many may follow."
  @spec authority(by_oid) :: {:ok, :unlimited | non_neg_integer} | :error
  def authority(extensions),
    do: if(allows?(extensions, :key_cert_sign), do: basic_constraints(extensions), else: :error)

  @doc "The same, whatever its key may be used for."
  @spec basic_constraints(by_oid) :: {:ok, :unlimited | non_neg_integer} | :error
  def basic_constraints(extensions) do
    with {:ok, {true, length}} <- ask(extensions, @basic_constraints, &constraints/1),
         do: {:ok, length || :unlimited},
         else: (_no_authority -> :error)
  end

  @doc "What a certificate with these extensions is for, by names or object identifiers."
  @spec purposes(by_oid) :: {:ok, [atom | DER.oid()]} | :none | :error
  def purposes(extensions) do
    case ask(extensions, @extended_key_usage, &listed/1) do
      {:ok, purposes} -> {:ok, purposes}
      :absent -> :none
      {:error, _error} -> :error
    end
  end

  @doc "Whether a certificate with these extensions may sign lists of what is revoked."
  @spec revokes?(by_oid) :: boolean
  def revokes?(extensions), do: allows?(extensions, :crl_sign)

  @doc "Whether a certificate with these extensions may sign what is neither a certificate nor a list."
  @spec signs?(by_oid) :: boolean
  def signs?(extensions),
    do: Enum.any?([:digital_signature, :content_commitment], &allows?(extensions, &1))

  # A certificate that does not say what its key is for allows everything.
  defp allows?(extensions, usage) do
    case ask(extensions, @key_usage, &usages/1) do
      {:ok, usages} -> usage in usages
      :absent -> true
      {:error, _error} -> false
    end
  end

  @doc "The identifier that a certificate with these extensions gives its key."
  @spec identifier(by_oid) :: {:ok, binary} | :error
  def identifier(extensions) do
    with {:ok, identifier} <- ask(extensions, @subject_key_identifier, &Reader.octets/1),
         do: {:ok, identifier},
         else: (_none -> :error)
  end

  @doc "What one of them says, as `read` has it."
  @spec ask(by_oid, DER.oid(), (Reader.t() -> said)) ::
          {:ok, said} | {:error, Error.t()} | :absent
        when said: term
  def ask(extensions, oid, read) do
    case extensions do
      %{^oid => {_critical, der}} -> Reader.read(der, "#{DER.dotted(oid)}: ", read)
      _absent -> :absent
    end
  end
end
