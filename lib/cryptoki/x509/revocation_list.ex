defmodule Cryptoki.X509.RevocationList do
  @moduledoc false
  # What is signed of a list of revoked certificates (RFC 5280, section 5). Pure.

  alias Cryptoki.{Certificates, DER}
  alias Cryptoki.X509.{Authority, Extensions, Validity}

  @reason_code {2, 5, 29, 21}

  @reasons %{
    unspecified: 0,
    key_compromise: 1,
    ca_compromise: 2,
    affiliation_changed: 3,
    superseded: 4,
    cessation_of_operation: 5,
    certificate_hold: 6,
    privilege_withdrawn: 9,
    aa_compromise: 10
  }

  @type t :: %{
          this_update: DateTime.t(),
          next_update: DateTime.t(),
          number: non_neg_integer,
          entries: [DER.t()]
        }

  @doc "The options there are."
  @spec options :: [atom]
  def options, do: [:this_update, :next_update, :days, :number]

  @doc "A list, from what users give; mistakes raise `ArgumentError`."
  @spec new!(list, keyword) :: t
  def new!(revoked, options) do
    unless is_list(revoked), do: wrong!("revoked: must be a list")
    {this, next} = Validity.period!(options, :this_update, :next_update, 7)
    number = options[:number] || System.os_time(:second)

    unless is_integer(number) and number >= 0 and byte_size(DER.integer(number)) <= 22,
      do: wrong!("number: must be 0 or more, of at most 20 bytes")

    entries = Enum.map(revoked, &entry!(&1, DateTime.utc_now()))
    serials = Enum.map(entries, &elem(&1, 0))
    unless Enum.uniq(serials) == serials, do: wrong!("revoked: has a certificate twice")
    entries = Enum.map(entries, &elem(&1, 1))
    %{this_update: this, next_update: next, number: number, entries: entries}
  end

  defp entry!({serial, at, reason}, _now) when is_map_key(@reasons, reason) do
    code = DER.value(10, [@reasons[reason]])
    # The one that says nothing is left out.
    extensions = if reason == :unspecified, do: [], else: [{@reason_code, false, code}]
    entry!(serial!(serial), Validity.time!(at, "revoked"), extensions)
  end

  defp entry!({_serial, _at, reason}, _now) do
    known = Enum.map_join(Map.keys(@reasons), ", ", &inspect/1)
    wrong!("revoked: there is no reason #{inspect(reason)}; known: #{known}")
  end

  defp entry!({serial, at}, now), do: entry!({serial, at, :unspecified}, now)
  defp entry!(serial, now), do: entry!({serial, now, :unspecified}, now)

  defp entry!(serial, at, extensions) when is_binary(serial) do
    extensions = if extensions == [], do: [], else: [Extensions.encode(extensions)]
    {serial, DER.sequence([serial, DER.time(at)] ++ extensions)}
  end

  defp serial!(number) when is_integer(number) and number >= 0, do: DER.integer(number)

  defp serial!(certificate) when is_binary(certificate),
    do:
      certificate
      |> Certificates.der!("revoked")
      |> Certificates.fields!("revoked")
      |> Map.fetch!(:serial)

  defp serial!(_other),
    do: wrong!("revoked: is serial numbers or certificates, with when and why")

  @doc "The DER that is signed."
  @spec to_be_signed(t, Authority.t(), DER.t()) :: DER.t()
  def to_be_signed(list, authority, algorithm) do
    # A list of none is not there at all.
    entries = if list.entries == [], do: [], else: [DER.sequence(list.entries)]

    extensions = [
      Extensions.authority_key_identifier(authority.identifier),
      Extensions.crl_number(list.number)
    ]

    DER.sequence(
      [DER.integer(1), algorithm, authority.subject] ++
        [DER.time(list.this_update), DER.time(list.next_update)] ++
        entries ++ [DER.explicit(0, Extensions.encode(extensions))]
    )
  end

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
