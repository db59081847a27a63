defmodule Cryptoki.X509.Extensions do
  @moduledoc false
  # The extensions of certificates and requests (RFC 5280, section 4.2): from options to
  # DER. Those of others are read in `Extensions.Read`. Pure.

  alias Cryptoki.{DER, PublicKey}
  alias Cryptoki.X509.AltName
  alias Cryptoki.X509.Extensions.Names

  @subject_key_identifier Names.oid(:subject_key_identifier)
  @key_usage Names.oid(:key_usage)
  @subject_alt_name Names.oid(:subject_alt_name)
  @basic_constraints Names.oid(:basic_constraints)
  @crl_number Names.oid(:crl_number)
  @authority_key_identifier Names.oid(:authority_key_identifier)
  @extended_key_usage Names.oid(:extended_key_usage)
  @usages Names.usages()
  @purposes Names.purposes()

  @options [:subject_alt_name, :key_usage, :extended_key_usage, :ca, :path_len, :extensions]

  @type t :: {DER.oid(), critical :: boolean, DER.t()}

  @doc "The options that become extensions."
  @spec options :: [atom]
  def options, do: @options

  @doc "What the options ask for, and nothing else; mistakes raise `ArgumentError`."
  @spec asked!(keyword) :: [t]
  def asked!(options) do
    List.flatten([
      constraints!(options[:ca], options[:path_len]),
      usage!(options[:key_usage], options[:ca]),
      purposes!(options[:extended_key_usage]),
      alt_names!(options[:subject_alt_name]),
      raw!(options[:extensions] || [])
    ])
  end

  @doc "With what every certificate has: whether its key is an authority's, and what the key is for."
  @spec certificate!(keyword) :: [t]
  def certificate!(options) do
    ca = options[:ca] || false

    usage =
      options[:key_usage] || if(ca, do: [:key_cert_sign, :crl_sign], else: [:digital_signature])

    asked!(Keyword.merge(options, ca: ca, key_usage: usage))
  end

  defp constraints!(nil, nil), do: []
  defp constraints!(false, nil), do: [{@basic_constraints, true, DER.sequence([])}]

  defp constraints!(true, nil),
    do: [{@basic_constraints, true, DER.sequence([DER.boolean(true)])}]

  defp constraints!(true, length) when is_integer(length) and length >= 0 do
    [{@basic_constraints, true, DER.sequence([DER.boolean(true), DER.integer(length)])}]
  end

  defp constraints!(ca, _length) when ca not in [nil, true, false],
    do: wrong!("ca: must be true or false")

  defp constraints!(_ca, _length),
    do: wrong!("path_len: how many authorities may follow, 0 or more, for ca: true")

  defp usage!(nil, _ca), do: []

  defp usage!([_ | _] = usages, ca) do
    for usage <- usages, usage not in @usages, do: wrong!(unknown("key_usage", usage, @usages))

    if :key_cert_sign in usages and ca != true,
      do: wrong!("key_usage: :key_cert_sign is for authorities, with ca: true")

    bits = for {usage, bit} <- Enum.with_index(@usages), usage in usages, do: bit
    [{@key_usage, true, DER.named_bits(bits)}]
  end

  defp usage!(_other, _ca), do: wrong!("key_usage: must be a list, such as [:digital_signature]")

  defp purposes!(nil), do: []

  defp purposes!([_ | _] = purposes),
    do: [{@extended_key_usage, false, DER.sequence(Enum.map(purposes, &purpose!/1))}]

  defp purposes!(_other), do: wrong!("extended_key_usage: must be a list, such as [:server_auth]")

  defp purpose!(oid) when is_tuple(oid), do: oid!(oid, "extended_key_usage")

  defp purpose!(name) do
    case @purposes do
      %{^name => oid} -> DER.oid(oid)
      _ -> wrong!(unknown("extended_key_usage", name, Map.keys(@purposes)))
    end
  end

  defp alt_names!(none) when none in [nil, []], do: []

  defp alt_names!(names) do
    names = for name <- List.wrap(names), do: AltName.encode!(name)
    [{@subject_alt_name, false, DER.sequence(names)}]
  end

  ## Others

  defp raw!(extensions) when is_list(extensions) do
    extensions =
      Enum.map(extensions, fn
        {oid, der} ->
          raw!(oid, false, der)

        {oid, der, critical: critical} when is_boolean(critical) ->
          raw!(oid, critical, der)

        _other ->
          wrong!(
            "extensions: must be {object_identifier, der} or {object_identifier, der, critical: true}"
          )
      end)

    oids = Enum.map(extensions, &elem(&1, 0))

    case oids -- Enum.uniq(oids) do
      [] -> extensions
      [oid | _] -> wrong!("extensions: has #{inspect(oid)} twice")
    end
  end

  defp raw!(_other), do: wrong!("extensions: must be a list")

  @ours [@subject_key_identifier, @key_usage, @subject_alt_name, @basic_constraints] ++
          [@authority_key_identifier, @extended_key_usage, @crl_number]

  defp raw!(oid, critical, der) do
    _ = oid!(oid, "extensions")
    if oid in @ours, do: wrong!("extensions: #{inspect(oid)} has an option of its own")
    unless DER.one?(der), do: wrong!("extensions: the value of #{inspect(oid)} is not DER")
    {oid, critical, der}
  end

  defp oid!(oid, argument) do
    unless DER.oid?(oid), do: wrong!("#{argument}: #{inspect(oid)} is no object identifier")
    DER.oid(oid)
  end

  @doc "Identifies a public key: SHA-1 of its bits (RFC 5280, section 4.2.1.2)."
  @spec key_identifier(DER.t()) :: binary
  def key_identifier(public_key_info) do
    {:ok, [{0x30, info, _}]} = DER.split(public_key_info)
    {:ok, [_algorithm, {3, <<0, bits::binary>>, _}]} = DER.split(info)
    :crypto.hash(:sha, bits)
  end

  @spec subject_key_identifier(binary) :: t
  def subject_key_identifier(identifier),
    do: {@subject_key_identifier, false, DER.octet_string(identifier)}

  @spec authority_key_identifier(binary) :: t
  def authority_key_identifier(identifier),
    do: {@authority_key_identifier, false, DER.sequence([DER.value(0x80, identifier)])}

  @spec crl_number(non_neg_integer) :: t
  def crl_number(number), do: {@crl_number, false, DER.integer(number)}

  @doc "The `SubjectPublicKeyInfo` of a public key."
  @spec public_key_info(PublicKey.otp_key()) :: DER.t()
  def public_key_info(public_key) do
    {:SubjectPublicKeyInfo, der, _} =
      :public_key.pem_entry_encode(:SubjectPublicKeyInfo, public_key)

    der
  end

  @doc "The same, with alternative names that are critical where there is no subject."
  @spec for_subject([t], DER.t()) :: [t]
  def for_subject(extensions, subject) do
    for {oid, critical, der} <- extensions,
        do: {oid, critical or (oid == @subject_alt_name and subject == DER.sequence([])), der}
  end

  @doc "The alternative names among the extensions that a request asks for, as they are."
  @spec requested_alt_names(map) :: [t]
  def requested_alt_names(extensions) do
    for {_critical, der} <- List.wrap(extensions[@subject_alt_name]),
        do: {@subject_alt_name, false, der}
  end

  @doc "`Extensions`."
  @spec encode([t]) :: DER.t()
  def encode(extensions) do
    DER.sequence(
      for {oid, critical, der} <- extensions do
        flag = if critical, do: [DER.boolean(true)], else: []
        DER.sequence([DER.oid(oid)] ++ flag ++ [DER.octet_string(der)])
      end
    )
  end

  defp unknown(argument, value, known),
    do:
      "#{argument}: there is no #{inspect(value)}; known: #{Enum.map_join(known, ", ", &inspect/1)}"

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
