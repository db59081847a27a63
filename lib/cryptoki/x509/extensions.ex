defmodule Cryptoki.X509.Extensions do
  @moduledoc false
  # The extensions of certificates and requests (RFC 5280, section 4.2): from options to DER, and what
  # is read of those of others. Pure.

  alias Cryptoki.{DER, PublicKey}

  @subject_key_identifier {2, 5, 29, 14}
  @key_usage {2, 5, 29, 15}
  @subject_alt_name {2, 5, 29, 17}
  @basic_constraints {2, 5, 29, 19}
  @crl_number {2, 5, 29, 20}
  @authority_key_identifier {2, 5, 29, 35}
  @extended_key_usage {2, 5, 29, 37}

  # In the order of their bits.
  @usages ~w(digital_signature content_commitment key_encipherment data_encipherment key_agreement
             key_cert_sign crl_sign encipher_only decipher_only)a

  @purposes %{
    server_auth: {1, 3, 6, 1, 5, 5, 7, 3, 1},
    client_auth: {1, 3, 6, 1, 5, 5, 7, 3, 2},
    code_signing: {1, 3, 6, 1, 5, 5, 7, 3, 3},
    email_protection: {1, 3, 6, 1, 5, 5, 7, 3, 4},
    time_stamping: {1, 3, 6, 1, 5, 5, 7, 3, 8},
    ocsp_signing: {1, 3, 6, 1, 5, 5, 7, 3, 9},
    any: {2, 5, 29, 37, 0}
  }

  @options [:subject_alt_name, :key_usage, :extended_key_usage, :ca, :path_len, :extensions]

  @type t :: {DER.oid(), critical :: boolean, DER.t()}
  @type alt_name :: {:dns | :ip | :email | :uri, String.t()}

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

  ## Alternative names

  defp alt_names!(none) when none in [nil, []], do: []

  defp alt_names!(names) do
    names = for name <- List.wrap(names), do: alt_name!(name)
    [{@subject_alt_name, false, DER.sequence(names)}]
  end

  defp alt_name!(text) when is_binary(text), do: alt_name!({kind(text), text})

  defp alt_name!({:dns, name}) do
    unless ascii?(name, 253) and
             name =~
               ~r/\A(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\z/,
           do:
             wrong!(
               "subject_alt_name: #{inspect(name)} is no name of a host; others than ASCII begin with xn--"
             )

    DER.value(0x82, name)
  end

  defp alt_name!({:email, address}) do
    unless ascii?(address, 255) and address =~ ~r/\A[^@\s]+@[^@\s]+\z/,
      do: wrong!("subject_alt_name: #{inspect(address)} is no e-mail address in ASCII")

    DER.value(0x81, address)
  end

  defp alt_name!({:uri, uri}) do
    unless ascii?(uri, 2048) and uri =~ ~r/\A[A-Za-z][A-Za-z0-9+.-]*:[^\s]+\z/,
      do: wrong!("subject_alt_name: #{inspect(uri)} is no URI in ASCII with a scheme")

    DER.value(0x86, uri)
  end

  defp alt_name!({:ip, address}) do
    case ip(address) do
      {:ok, {_, _, _, _} = v4} -> DER.value(0x87, for(n <- Tuple.to_list(v4), do: <<n>>))
      {:ok, v6} -> DER.value(0x87, for(n <- Tuple.to_list(v6), do: <<n::16>>))
      :error -> wrong!("subject_alt_name: #{inspect(address)} is no IP address")
    end
  end

  defp alt_name!(other),
    do:
      wrong!(
        "subject_alt_name: #{inspect(other)} is neither text nor {:dns | :ip | :email | :uri, text}"
      )

  defp kind(text) do
    cond do
      ip(text) != :error -> :ip
      text =~ ~r/\A[A-Za-z][A-Za-z0-9+.-]*:/ -> :uri
      text =~ "@" -> :email
      true -> :dns
    end
  end

  defp ip(address) when is_tuple(address) do
    if :inet.is_ip_address(address), do: {:ok, address}, else: :error
  end

  defp ip(text) when is_binary(text) do
    case :inet.parse_strict_address(to_charlist(text)) do
      {:ok, address} -> {:ok, address}
      {:error, :einval} -> :error
    end
  end

  defp ip(_other), do: :error

  defp ascii?(text, most),
    do: is_binary(text) and byte_size(text) <= most and text =~ ~r/\A[\x21-\x7e]+\z/

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

  ## What others have

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
    with {_critical, der} <- extensions[@basic_constraints],
         {:ok, [{0x30, contents, _}]} <- DER.split(der),
         {:ok, [{1, <<255>>, _} | rest]} <- DER.split(contents),
         true <- signs_certificates?(extensions[@key_usage]) do
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

  @doc "The identifier that a certificate with these extensions gives its key."
  @spec identifier(map) :: {:ok, binary} | :error
  def identifier(extensions) do
    with {_critical, der} <- extensions[@subject_key_identifier],
         {:ok, [{4, identifier, _}]} <- DER.split(der),
         do: {:ok, identifier},
         else: (_none -> :error)
  end

  @doc "The alternative names among extensions, as the option takes them; others as `{:other, der}`."
  @spec alt_names(map) :: {:ok, [alt_name | {:other, DER.t()}]} | :error
  def alt_names(extensions) do
    with {_critical, der} <- extensions[@subject_alt_name],
         {:ok, [{0x30, contents, _}]} <- DER.split(der),
         {:ok, names} <- DER.split(contents) do
      {:ok, Enum.map(names, &read_alt_name/1)}
    else
      nil -> {:ok, []}
      _no_names -> :error
    end
  end

  defp read_alt_name({0x81, address, _}), do: {:email, address}
  defp read_alt_name({0x82, name, _}), do: {:dns, name}
  defp read_alt_name({0x86, uri, _}), do: {:uri, uri}

  defp read_alt_name({0x87, <<a, b, c, d>>, _}), do: {:ip, address({a, b, c, d})}

  defp read_alt_name({0x87, <<bytes::binary-size(16)>>, _}),
    do: {:ip, address(List.to_tuple(for <<n::16 <- bytes>>, do: n))}

  defp read_alt_name({_tag, _contents, der}), do: {:other, der}

  defp address(address), do: address |> :inet.ntoa() |> to_string()

  defp unknown(argument, value, known),
    do:
      "#{argument}: there is no #{inspect(value)}; known: #{Enum.map_join(known, ", ", &inspect/1)}"

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
