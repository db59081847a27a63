defmodule Cryptoki.X509.RevocationList do
  @moduledoc false
  # What is signed of a list of revoked certificates (RFC 5280, section 5), and whether it may follow the one
  # before. Pure.

  alias Cryptoki.{Certificates, DER, Error, SignatureAlgorithm}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.X509.{Authority, Extensions, Fields, Name, Signature, Validity}
  alias Cryptoki.X509.Extensions.Names
  alias Cryptoki.X509.NameConstraints.Subtree
  alias Cryptoki.X509.RevocationList.Read

  @reason_code Names.oid(:crl_reason)
  @reasons Names.reasons()
  @delta_reasons Names.delta_reasons()

  @type t :: %{
          this_update: DateTime.t(),
          next_update: DateTime.t(),
          number: non_neg_integer,
          urls: [String.t()],
          issuers_urls: [String.t()],
          delta_urls: [String.t()],
          base: non_neg_integer | nil,
          certificates: [%{issuer: DER.t(), serial: DER.t()}],
          entries: [DER.t()]
        }

  @doc """
  A list, from what users give; mistakes raise `ArgumentError`, a certificate that is none is an error. With
  the list before it is what stood on one, too: what of that cannot stand on another is an error.
  """
  @spec new(list, keyword, Read.t() | nil) :: {:ok, t} | {:error, Error.t()}
  def new(revoked, options, previous \\ nil) do
    {:ok, list!(revoked, options, previous)}
  rescue
    error in Error -> {:error, error}
  end

  defp list!(revoked, options, previous) do
    unless is_list(revoked), do: wrong!("revoked: must be a list")
    now = Validity.now()

    {this, next} =
      options |> begins(previous, now) |> Validity.period!(:this_update, :next_update, 7)

    if DateTime.compare(next, now) != :gt,
      do:
        wrong!(
          "#{if options[:next_update], do: "next_update", else: "days"}: ended at #{next}, before now"
        )

    # When none is said a certificate was revoked at `at`, and none was after `latest`.
    latest = this |> later(now) |> later(if previous, do: previous.shown.this_update, else: this)
    reasons = if options[:delta], do: @delta_reasons, else: @reasons
    limits = %{at: earlier(this, now), latest: latest, previous: previous, reasons: reasons}
    revoked = Enum.map(revoked, &entry!(&1, limits))

    %{
      this_update: this,
      next_update: next,
      number: options[:number] || number(),
      urls: options[:crl_urls] || [],
      issuers_urls: options[:ca_issuers_url] || [],
      delta_urls: options[:delta_crl_urls] || [],
      base: nil,
      certificates: Enum.filter(revoked, & &1.issuer),
      entries: once!(revoked, previous)
    }
  end

  # By itself not before the list before, which may say now.
  defp begins(options, nil, _now), do: options

  defp begins(options, previous, now) do
    begins = now |> DateTime.add(-1) |> later(previous.shown.this_update) |> earlier(now)
    Keyword.put_new(options, :this_update, begins)
  end

  # Others' lists have entries twice.
  defp once!(revoked, previous) do
    entries = for %{serial: serial, der: der} <- revoked, do: {serial, der}
    entries = if previous, do: Enum.uniq(entries), else: entries
    twice = entries -- Enum.uniq_by(entries, &elem(&1, 0))

    with [{serial, _der} | _] <- twice,
         do:
           unfit!(
             "revoked: has a certificate twice, with the serial number #{hex(serial)}",
             previous
           )

    for {_serial, der} <- entries, do: der
  end

  # Grows from one list to the next, two in one moment included: the time, which in one VM never goes back,
  # and a count for those that have the same. Sixteen bytes: numbers that were seconds are smaller.
  defp number do
    count = System.unique_integer([:positive, :monotonic])
    <<number::128>> = <<System.system_time(:nanosecond)::64, count::64>>
    number
  end

  defp earlier(one, other), do: if(DateTime.compare(one, other) == :gt, do: other, else: one)
  defp later(one, other), do: if(DateTime.compare(one, other) == :lt, do: other, else: one)

  defp entry!({revoked, %DateTime{} = at, reason}, %{reasons: reasons} = limits)
       when is_map_key(reasons, reason) do
    at = Validity.time!(at, "revoked")

    if DateTime.compare(at, limits.latest) == :gt,
      do: unfit!("revoked: #{at} is later than now, and than this list", limits.previous)

    code = DER.value(10, [reasons[reason]])
    # The one that says nothing is left out.
    reason = if reason == :unspecified, do: [], else: [{@reason_code, false, code}]
    extensions = if reason == [], do: [], else: [Extensions.encode(reason)]
    named = named!(revoked, limits.previous)
    Map.put(named, :der, DER.sequence([named.serial, DER.time(at)] ++ extensions))
  end

  defp entry!({_revoked, %DateTime{}, reason}, limits) do
    known = Enum.map_join(Map.keys(limits.reasons), ", ", &inspect/1)
    text = "revoked: there is no reason #{inspect(reason)}; known: #{known}"
    # Which delta lists have.
    if reason == :remove_from_crl, do: unfit!(text, limits.previous), else: wrong!(text)
  end

  defp entry!({_revoked, _at, _reason}, _limits), do: wrong!("revoked: must be a DateTime")
  defp entry!({revoked, given}, limits), do: entry!({revoked, given, :unspecified}, limits)
  defp entry!(revoked, limits), do: entry!({revoked, limits.at, :unspecified}, limits)

  @named "revoked: is serial numbers or certificates, with when and why"

  defp named!(number, _previous) when is_integer(number) and number >= 0,
    do: %{serial: DER.integer(number), issuer: nil}

  defp named!(number, previous) when is_integer(number),
    do: unfit!(@named <> "; #{number} is less than 0", previous)

  defp named!(certificate, _previous) when is_binary(certificate) do
    with {:ok, der} <- Certificates.first(certificate, "revoked"),
         {:ok, fields} <- Fields.read(der, "revoked") do
      Map.take(fields, [:serial, :issuer])
    else
      {:error, error} -> raise error
    end
  end

  defp named!(_other, _previous), do: wrong!(@named)

  @doc "Whether the certificates that are on it are of who signs it."
  @spec of_authority(t, Authority.t()) :: :ok | {:error, Error.t()}
  def of_authority(list, authority) do
    with %{issuer: issuer, serial: serial} <-
           Enum.find(list.certificates, &(not Subtree.same?(&1.issuer, authority.subject))) do
      invalid(
        "revoked: the certificate with the serial number #{hex(serial)} is of another issuer, #{name(issuer)}"
      )
    else
      nil -> :ok
    end
  end

  defp hex(serial) do
    {:ok, serial} = Reader.read(serial, "", &Reader.integer_bytes/1, :infinity)
    "0x" <> Base.encode16(serial)
  end

  defp name(issuer) do
    case Name.shown(issuer) do
      {:ok, text} -> inspect(text)
      {:error, _error} -> "whose name cannot be read"
    end
  end

  @doc "A list before, when there is one, or its number."
  @spec given(binary | non_neg_integer | nil, argument :: String.t()) ::
          {:ok, Read.t() | non_neg_integer | nil} | {:error, Error.t()}
  def given(bytes, argument) when is_binary(bytes) do
    with {:error, error} <- Read.read(bytes),
         do: {:error, %{error | detail: "#{argument}: #{error.detail}"}}
  end

  def given(none_or_number, _argument), do: {:ok, none_or_number}

  # Twenty bytes, of which the first bit is the sign.
  @last_number Bitwise.bsl(1, 159) - 1

  @doc """
  The list with a number that follows that of the one before, which has to be of the same authority, and not
  later. What this OTP cannot verify is asked `elsewhere`.
  """
  @spec after_previous(
          t,
          Read.t() | nil,
          Authority.t(),
          asked :: non_neg_integer | nil,
          SignatureAlgorithm.elsewhere()
        ) :: {:ok, t} | {:error, Error.t()}
  def after_previous(list, nil, _authority, _asked, _elsewhere), do: {:ok, list}

  def after_previous(list, previous, authority, asked, elsewhere) do
    before = previous.shown.number || -1

    cond do
      refused = of_another("previous", previous, authority, elsewhere) ->
        refused

      asked != nil and asked <= before ->
        invalid("number: #{asked} is not greater than that of previous:, #{before}")

      before == @last_number ->
        invalid("previous: its number is the last one that there is, of 20 bytes")

      DateTime.compare(list.this_update, previous.shown.this_update) == :lt ->
        invalid(
          "this_update: #{list.this_update} is earlier than that of previous:, " <>
            "#{previous.shown.this_update}; set the clock, or say this_update:"
        )

      true ->
        {:ok, %{list | number: asked || max(list.number, before + 1)}}
    end
  end

  @doc """
  The list that says what is new since another, by its number or itself, which then has to be a whole one of the same
  authority. Its number is greater.
  """
  @spec after_base(
          t,
          non_neg_integer | Read.t() | nil,
          Authority.t(),
          asked :: non_neg_integer | nil,
          SignatureAlgorithm.elsewhere()
        ) :: {:ok, t} | {:error, Error.t()}
  def after_base(list, nil, _authority, _asked, _elsewhere), do: {:ok, list}

  def after_base(list, base, authority, asked, elsewhere) when is_map(base) do
    cond do
      refused = of_another("delta", base, authority, elsewhere) -> refused
      base.shown.base_number != nil -> invalid("delta: it is one that says what is new itself")
      base.shown.number == nil -> invalid("delta: it has no number")
      true -> after_base(list, base.shown.number, authority, asked, elsewhere)
    end
  end

  def after_base(list, base, _authority, asked, _elsewhere) do
    cond do
      asked != nil and asked <= base ->
        invalid("number: #{asked} is not greater than that of the list before, #{base}")

      base == @last_number ->
        invalid("delta: its number is the last one that there is, of 20 bytes")

      true ->
        {:ok, %{list | base: base, number: asked || max(list.number, base + 1)}}
    end
  end

  defp of_another(argument, list, authority, elsewhere) do
    if Subtree.same?(list.issuer, authority.subject),
      do: unsigned(argument, list, authority, elsewhere),
      else: invalid("#{argument}: it is of another issuer, #{name(list.issuer)}")
  end

  defp unsigned(argument, list, authority, elsewhere) do
    by = "the key of this authority"

    with {:ok, key} <- Reader.read(authority.public_key_info, "ca_certificate: ", &Info.read/1),
         :ok <- Signature.verify(key, list, by, elsewhere) do
      nil
    else
      {:error, :signature_invalid, text} -> invalid("#{argument}: it " <> text)
      {:error, reason, text} -> {:error, Error.new(reason, "#{argument}: it " <> text)}
      {:error, error} -> {:error, error}
    end
  end

  defp invalid(text), do: {:error, Error.new(:invalid_argument, text)}

  @doc "The DER that is signed."
  @spec to_be_signed(t, Authority.t(), DER.t()) :: DER.t()
  def to_be_signed(list, authority, algorithm) do
    # A list of none is not there at all.
    entries = if list.entries == [], do: [], else: [DER.sequence(list.entries)]

    extensions =
      [
        Extensions.authority_key_identifier(authority.identifier),
        Extensions.crl_number(list.number)
      ] ++ Extensions.of_list(list)

    DER.sequence(
      [DER.integer(1), algorithm, authority.subject] ++
        [DER.time(list.this_update), DER.time(list.next_update)] ++
        entries ++ [DER.explicit(0, Extensions.encode(extensions))]
    )
  end

  # Nobody but who writes the program has said it, or it was read with the list before.
  @spec unfit!(String.t(), Read.t() | nil) :: no_return
  defp unfit!(text, nil), do: wrong!(text)
  defp unfit!(text, _previous), do: raise(Error.new(:invalid_argument, text))

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
