defmodule Cryptoki.SSH.RevocationList do
  @moduledoc false
  # Keys and certificates that OpenSSH no longer takes (its PROTOCOL.krl): what `RevokedKeys` of sshd and
  # `RevokedHostKeys` of ssh name. Pure.

  alias Cryptoki.Each
  alias Cryptoki.Options.Table
  alias Cryptoki.SSH.Wire

  @magic "SSHKRL\n" <> <<0>>
  @certificates 1
  @keys 2
  @fingerprints 5
  @serials 0x20
  @range 0x21
  @key_ids 0x23

  @most_serial 0xFFFFFFFFFFFFFFFF
  # As many ranges OpenSSH goes through for each login.
  @most 1_000_000

  @typedoc "What is revoked, with keys as they stand on the wire."
  @type revoked :: %{
          ranges: [{pos_integer, pos_integer}],
          key_ids: [String.t()],
          keys: [binary],
          fingerprints: [binary]
        }

  @doc "The options."
  @spec options() :: Table.t()
  def options do
    [
      number: [
        cast: {:integer, 0, @most_serial},
        must: "a number of 64 bits",
        type: "non_neg_integer",
        default: 0,
        doc: "of the list, which grows from one to the next"
      ],
      comment: [
        cast: :line,
        must: "text on one line",
        type: "String.t()",
        doc: "what stands in it for people"
      ],
      generated: [
        cast: :datetime,
        must: "a DateTime",
        type: "DateTime.t()",
        doc: "when it was made. Default: now"
      ]
    ]
  end

  @doc "What a list of revoked ones names; `read` reads a line of a public key. Mistakes raise `ArgumentError`."
  @spec revoked!(term, (String.t() -> {:ok, Wire.key()} | {:error, error})) ::
          {:ok, revoked} | {:error, error}
        when error: term
  def revoked!(revoked, read) do
    unless is_list(revoked) and not List.improper?(revoked) and length(revoked) <= @most,
      do: raise(ArgumentError, "revoked: must be a list of at most #{@most}")

    parts = for one <- revoked, do: part!(one)

    with {:ok, keys} <- parts |> Keyword.get_values(:key) |> Each.of(read) do
      {:ok,
       %{
         ranges: parts |> Keyword.get_values(:range) |> Enum.sort() |> joined(),
         key_ids: values(parts, :key_id),
         keys: keys |> Enum.map(& &1.blob) |> Enum.uniq() |> Enum.sort(),
         fingerprints: values(parts, :fingerprint)
       }}
    end
  end

  defp values(parts, name), do: parts |> Keyword.get_values(name) |> Enum.uniq() |> Enum.sort()

  defp part!({:serial, n}) when is_integer(n) and n in 1..@most_serial, do: {:range, {n, n}}

  defp part!({:serial, %Range{first: first, last: last}})
       when first >= 1 and first <= last and last <= @most_serial,
       do: {:range, {first, last}}

  defp part!({:key_id, text} = one) do
    if Table.cast(:line, text), do: {:key_id, text}, else: wrong!(one)
  end

  defp part!({:fingerprint, "SHA256:" <> base64} = one) do
    case Base.decode64(base64, padding: false) do
      {:ok, <<_::256>> = digest} -> {:fingerprint, digest}
      _other -> wrong!(one)
    end
  end

  defp part!({:key, key}) when is_binary(key) or is_tuple(key), do: {:key, key}
  defp part!(other), do: wrong!(other)

  @spec wrong!(term) :: no_return
  defp wrong!(other) do
    raise ArgumentError,
          "revoked: must be {:serial, number or range from 1}, {:key_id, text}, {:key, public_key} or " <>
            "{:fingerprint, \"SHA256:...\"}, got: #{inspect(other)}"
  end

  # What touches is one.
  defp joined([{first, last}, {next, end_of_next} | rest]) when next <= last + 1,
    do: joined([{first, max(last, end_of_next)} | rest])

  defp joined([range | rest]), do: [range | joined(rest)]
  defp joined([]), do: []

  @doc "The bytes of a list, of certificates by an authority's key, or by any (\"\")."
  @spec encode(revoked, binary, keyword) :: binary
  def encode(revoked, authority, options) do
    generated = options[:generated] || DateTime.utc_now()

    IO.iodata_to_binary([
      @magic,
      <<1::32, options[:number]::64, DateTime.to_unix(generated)::64, 0::64>>,
      Wire.string(""),
      Wire.string(options[:comment] || ""),
      certificates(revoked, authority),
      section(@keys, Enum.map(revoked.keys, &Wire.string/1)),
      section(@fingerprints, Enum.map(revoked.fingerprints, &Wire.string/1))
    ])
  end

  defp certificates(%{ranges: ranges, key_ids: key_ids}, authority) do
    {alone, ranges} = Enum.split_with(ranges, fn {first, last} -> first == last end)

    parts = [
      section(@serials, for({n, n} <- alone, do: <<n::64>>)),
      for({first, last} <- ranges, do: section(@range, <<first::64, last::64>>)),
      section(@key_ids, Enum.map(key_ids, &Wire.string/1))
    ]

    if IO.iodata_length(parts) == 0,
      do: [],
      else: section(@certificates, [Wire.string(authority), Wire.string(""), parts])
  end

  defp section(_type, []), do: []
  defp section(type, contents), do: [type, Wire.string(contents)]
end
