defmodule Cryptoki.X509.Extensions do
  @moduledoc false
  # The extensions of certificates and requests (RFC 5280, section 4.2): from options to
  # DER. Those of others are read in `Extensions.Read`. Pure.

  alias Cryptoki.{DER, Error, PublicKey}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm.PostQuantum
  alias Cryptoki.X509.{AltName, NameConstraints, Policies}
  alias Cryptoki.X509.Extensions.{Names, URLs, Usage}
  alias Cryptoki.X509.NameConstraints.Subtree

  @subject_alt_name Names.oid(:subject_alt_name)
  @common_name {2, 5, 4, 3}

  @type t :: {DER.oid(), critical :: boolean, DER.t()}
  @typedoc "Whom a certificate is for: alternative names are `GeneralName`s."
  @type holder :: %{subject: DER.t(), names: [DER.t()], info: DER.t()}

  ## Options

  @doc "Looks at options that have been looked at one by one; mistakes raise `ArgumentError`."
  @spec check!(keyword) :: :ok
  def check!(options) do
    _ = alt_names!(options[:subject_alt_name])
    raw = Enum.map(asked(options), &elem(&1, 0))
    usages = options[:key_usage]
    {purposes, _critical} = options[:extended_key_usage] || {[], nil}

    with text when is_binary(text) <- Usage.wrong(options), do: wrong!(text)

    cond do
      options[:path_len] && options[:ca] != true ->
        wrong!("path_len: how many authorities may follow, 0 or more, for ca: true")

      options[:path_len] && usages && :key_cert_sign not in usages ->
        wrong!("path_len: is for those who sign certificates (key usage key_cert_sign)")

      options[:name_constraints] && options[:ca] != true ->
        wrong!("name_constraints: are for authorities, with ca: true")

      options[:ocsp_nocheck] && :ocsp_signing not in purposes ->
        wrong!(
          "ocsp_nocheck: is for who signs OCSP answers (extended_key_usage: [:ocsp_signing])"
        )

      raw != Enum.uniq(raw) ->
        oid = hd(raw -- Enum.uniq(raw))
        wrong!("extensions: has #{inspect(oid)} twice, or it has an option that is given too")

      true ->
        :ok
    end
  end

  @doc "The alternative names of the option, as `GeneralName`s."
  @spec alt_names!(term) :: [DER.t()]
  def alt_names!(nil), do: []
  def alt_names!(names), do: for(name <- List.wrap(names), do: AltName.encode!(name))

  @doc "What a request asks for: what the options say and such a key can do."
  @spec request(keyword, holder) :: {:ok, [t]} | {:error, Error.t()}
  def request(options, holder) do
    case Usage.impossible(options[:key_usage] || [], Usage.kind(holder.info)) do
      nil -> {:ok, asked(options) ++ alt_names(holder)}
      text -> invalid("key_usage: " <> text)
    end
  end

  @doc """
  What a certificate has: what the options say, whether its key is an authority's, what it is for, its
  names, and what identifies its key.
  """
  @spec certificate(keyword, holder) :: {:ok, [t]} | {:error, Error.t()}
  def certificate(options, holder) do
    options = Keyword.put_new(options, :ca, false)

    case Usage.of_key(options, Usage.kind(holder.info), server?(options, holder)) do
      {:ok, usages} ->
        identifier = holder.info |> key_identifier() |> subject_key_identifier()
        asked = asked(Keyword.put(options, :key_usage, usages))
        {:ok, asked ++ alt_names(holder) ++ [identifier]}

      {:error, text} ->
        invalid(text)
    end
  end

  @doc "Whether it is a server's: it says so, or it says nothing and has the name of a host."
  @spec server?(keyword, holder) :: boolean
  def server?(options, holder) do
    case options[:extended_key_usage] do
      nil -> options[:ca] != true and (for_hosts?(holder) or named_as_host?(holder))
      {purposes, _critical} -> :server_auth in purposes
    end
  end

  @doc "Whether an alternative name is that of a host, by name or by address."
  @spec for_hosts?(holder) :: boolean
  def for_hosts?(holder),
    do: Enum.any?(holder.names, fn <<tag, _::binary>> -> tag in [0x82, 0x87] end)

  defp named_as_host?(holder) do
    with {:ok, parts} <- Subtree.parts(holder.subject) do
      Enum.any?(List.flatten(parts), fn {oid, text} ->
        oid == @common_name and Subtree.host?(text)
      end)
    else
      {:error, _error} -> false
    end
  end

  # Without a subject the alternative names are what counts (RFC 5280, section 4.2.1.6).
  defp alt_names(%{names: []}), do: []

  defp alt_names(holder),
    do: [{@subject_alt_name, holder.subject == DER.sequence([]), DER.sequence(holder.names)}]

  # In the order that most programs write.
  defp asked(options) do
    List.flatten([
      constraints(options[:ca], options[:path_len]),
      given(:key_usage, options, &{true, Usage.encode_usages(&1)}),
      given(:extended_key_usage, options, &purposes(&1, options)),
      given(:name_constraints, options, &{elem(&1, 1), NameConstraints.encode(&1)}),
      given(:policies, options, &{elem(&1, 1), Policies.encode(&1)}),
      given(:crl_urls, options, &{false, URLs.distribution_points(&1)}),
      given(:delta_crl_urls, options, &{false, URLs.distribution_points(&1)}),
      access(options[:ocsp_url] || [], options[:ca_issuers_url] || []),
      if(options[:ocsp_nocheck], do: [{Names.oid(:ocsp_nocheck), false, DER.null()}], else: []),
      options[:extensions] || []
    ])
  end

  defp given(name, options, fun) do
    case options[name] do
      none when none in [nil, []] -> []
      value -> with {critical, der} <- fun.(value), do: [{Names.oid(name), critical, der}]
    end
  end

  defp constraints(nil, _path_len), do: []

  defp constraints(false, _path_len),
    do: [{Names.oid(:basic_constraints), true, DER.sequence([])}]

  defp constraints(true, path_len) do
    length = if path_len, do: [DER.integer(path_len)], else: []
    [{Names.oid(:basic_constraints), true, DER.sequence([DER.boolean(true) | length])}]
  end

  # RFC 3161, section 2.3.
  defp purposes({purposes, critical}, options) do
    stamps? = options[:ca] != true and :time_stamping in purposes
    {if(critical == nil, do: stamps?, else: critical), Usage.encode_purposes(purposes)}
  end

  defp access([], []), do: []
  defp access(ocsp, issuers), do: [{Names.oid(:access), false, URLs.access(ocsp, issuers)}]

  @doc "The value of `extensions:`."
  @spec cast(term) :: {:ok, [t]} | {:error, String.t()} | false
  def cast(extensions) when is_list(extensions) do
    extensions = Enum.map(extensions, &cast_one/1)
    oids = for {oid, _critical, _der} <- extensions, do: oid

    cond do
      text = Enum.find(extensions, &is_binary/1) -> {:error, text}
      oids != Enum.uniq(oids) -> {:error, "has #{inspect(hd(oids -- Enum.uniq(oids)))} twice"}
      true -> {:ok, extensions}
    end
  end

  def cast(_other), do: false

  defp cast_one({oid, der}), do: raw(oid, false, der)

  defp cast_one({oid, der, critical: critical}) when is_boolean(critical),
    do: raw(oid, critical, der)

  defp cast_one(_other),
    do: "must be {object_identifier, der} or {object_identifier, der, critical: true}"

  # Others may be given in both ways, and not in both at once.
  @ours Enum.map(
          ~w(subject_key_identifier key_usage subject_alt_name basic_constraints
             authority_key_identifier extended_key_usage crl_number)a,
          &Names.oid/1
        )

  defp raw(oid, critical, der) do
    cond do
      not DER.oid?(oid) -> "#{inspect(oid)} is no object identifier"
      oid in @ours -> "#{inspect(oid)} has an option of its own"
      not Reader.one?(der) -> "the value of #{inspect(oid)} is not DER"
      true -> {oid, critical, der}
    end
  end

  ## What is not asked for

  @doc "Identifies a public key: SHA-1 of its bits (RFC 5280, section 4.2.1.2)."
  @spec key_identifier(DER.t()) :: binary
  def key_identifier(public_key_info) do
    {_algorithm, bits} = Info.parts(public_key_info)
    :crypto.hash(:sha, bits)
  end

  @spec subject_key_identifier(binary) :: t
  def subject_key_identifier(identifier),
    do: {Names.oid(:subject_key_identifier), false, DER.octet_string(identifier)}

  @spec authority_key_identifier(binary) :: t
  def authority_key_identifier(identifier),
    do: {Names.oid(:authority_key_identifier), false, DER.sequence([DER.value(0x80, identifier)])}

  @spec crl_number(non_neg_integer) :: t
  def crl_number(number), do: {Names.oid(:crl_number), false, DER.integer(number)}

  @doc """
  Where a list is found, which it has to say as certificates do, the list that it says what is new since, or where one
  is that says what is new since it, and the certificate of its issuer.
  """
  @spec of_list(map) :: [t]
  def of_list(%{urls: urls, issuers_urls: issuers, base: base, delta_urls: delta}) do
    says = [issuing_distribution_point: urls, delta_crl: base, delta_crl_urls: delta]
    place = &{true, URLs.issuing_distribution_point(&1)}

    given(:delta_crl, says, &{true, DER.integer(&1)}) ++
      given(:issuing_distribution_point, says, place) ++
      given(:delta_crl_urls, says, &{false, URLs.distribution_points(&1)}) ++ access([], issuers)
  end

  @doc "The `SubjectPublicKeyInfo` of a public key."
  @spec public_key_info(PublicKey.otp_key()) :: DER.t()
  # The curves of RFC 8410, of which OTP 25 writes only those that sign; and keys that it does not know.
  def public_key_info({{:ECPoint, point}, {:namedCurve, {1, 3, 101, arc} = curve}})
      when arc in 110..113,
      do: DER.sequence([DER.sequence([DER.oid(curve)]), DER.bit_string(point)])

  def public_key_info(public_key) do
    with :error <- PostQuantum.info(public_key) do
      {:SubjectPublicKeyInfo, der, _} =
        :public_key.pem_entry_encode(:SubjectPublicKeyInfo, public_key)

      der
    else
      {:ok, der} -> der
    end
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

  defp invalid(text), do: {:error, Error.new(:invalid_argument, text)}

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
