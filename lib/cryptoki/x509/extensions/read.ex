defmodule Cryptoki.X509.Extensions.Read do
  @moduledoc false
  # The extensions that others have in certificates and requests (RFC 5280, section 4.2). Pure.

  alias Cryptoki.DER
  alias Cryptoki.X509.AltName
  alias Cryptoki.X509.Extensions.Names

  @subject_key_identifier Names.oid(:subject_key_identifier)
  @key_usage Names.oid(:key_usage)
  @subject_alt_name Names.oid(:subject_alt_name)
  @basic_constraints Names.oid(:basic_constraints)
  @extended_key_usage Names.oid(:extended_key_usage)

  @doc "Extensions by object identifier, from the contents of `Extensions`; each one once."
  @spec read(binary) :: {:ok, %{DER.oid() => {boolean, DER.t()}}} | :error
  def read(contents) do
    with {:ok, list} <- DER.split(contents),
         extensions = Enum.map(list, &read_one/1),
         false <- :error in extensions,
         map = Map.new(extensions),
         true <- map_size(map) == length(extensions),
         do: {:ok, map},
         else: (_none -> :error)
  end

  defp read_one({0x30, extension, _}) do
    with {:ok, [{6, oid, _} | rest]} <- DER.split(extension),
         {:ok, oid} <- DER.read_oid(oid) do
      case rest do
        [{4, value, _}] -> {oid, {false, value}}
        [{1, flag, _}, {4, value, _}] -> {oid, {flag != <<0>>, value}}
        _other -> :error
      end
    end
  end

  defp read_one(_other), do: :error

  @doc "Whether a certificate with these extensions is one of an authority, and how many may follow."
  @spec authority(map) :: {:ok, :unlimited | non_neg_integer} | :error
  def authority(extensions) do
    if signs_certificates?(extensions[@key_usage]),
      do: basic_constraints(extensions),
      else: :error
  end

  @doc "The same, whatever its key may be used for."
  @spec basic_constraints(map) :: {:ok, :unlimited | non_neg_integer} | :error
  def basic_constraints(extensions) do
    with {_critical, der} <- extensions[@basic_constraints],
         {:ok, [{0x30, contents, _}]} <- DER.split(der),
         {:ok, [{1, <<255>>, _} | rest]} <- DER.split(contents) do
      case rest do
        [{2, number, _}] when number != "" -> {:ok, :binary.decode_unsigned(number)}
        [] -> {:ok, :unlimited}
        _no_number -> :error
      end
    else
      _no_authority -> :error
    end
  end

  defp signs_certificates?({_critical, der}), do: bit?(der, 5)
  defp signs_certificates?(nil), do: true

  @doc "Whether a certificate with these extensions may sign lists of what is revoked."
  @spec revokes?(map) :: boolean
  def revokes?(extensions) do
    case extensions[@key_usage] do
      {_critical, der} -> bit?(der, 6)
      nil -> true
    end
  end

  # Both bits that are asked for are in the first byte.
  defp bit?(der, number) do
    case DER.split(der) do
      {:ok, [{3, <<_unused, first, _::binary>>, _}]} ->
        Bitwise.band(first, Bitwise.bsr(0x80, number)) != 0

      _no_bits ->
        false
    end
  end

  @doc "What a certificate with these extensions is for, by names or object identifiers."
  @spec purposes(map) :: {:ok, [atom | DER.oid()]} | :none | :error
  def purposes(extensions) do
    with {_critical, der} <- extensions[@extended_key_usage],
         {:ok, [{0x30, contents, _}]} <- DER.split(der),
         {:ok, values} <- DER.split(contents),
         oids = for({6, oid, _} <- values, do: DER.read_oid(oid)),
         false <- :error in oids do
      {:ok, Enum.map(oids, fn {:ok, oid} -> Names.purpose(oid) end)}
    else
      nil -> :none
      _no_purposes -> :error
    end
  end

  @doc "The identifier that a certificate with these extensions gives its key."
  @spec identifier(map) :: {:ok, binary} | :error
  def identifier(extensions) do
    with {_critical, der} <- extensions[@subject_key_identifier],
         {:ok, [{4, identifier, _}]} <- DER.split(der),
         do: {:ok, identifier},
         else: (_none -> :error)
  end

  @doc "The alternative names among extensions, as the option takes them; others as `{:other, der}`."
  @spec alt_names(map) :: {:ok, [AltName.t() | {:other, DER.t()}]} | :error
  def alt_names(extensions) do
    case extensions[@subject_alt_name] do
      {_critical, der} -> AltName.read(der)
      nil -> {:ok, []}
    end
  end
end
