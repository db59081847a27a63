defmodule Cryptoki.X509.Extensions.Usage do
  @moduledoc false
  # What a key is for: key usage and extended key usage (RFC 5280, sections 4.2.1.3 and 4.2.1.12), and which
  # of it a kind of key can do. Pure.

  alias Cryptoki.DER
  alias Cryptoki.PublicKey.{Info, OID}
  alias Cryptoki.X509.Extensions.Names

  @usages Names.usages()
  @purposes Names.purposes()
  @signing [:digital_signature, :content_commitment]
  @certifying [:key_cert_sign, :crl_sign]
  @only [:encipher_only, :decipher_only]

  # Kind of key => what it can be for, and what it is called (RFC 3279, 4055, 5480, 8410, 9881, 9935).
  @kinds %{
    rsa: {@signing ++ @certifying ++ [:key_encipherment, :data_encipherment], "an RSA key"},
    ec: {@signing ++ @certifying ++ [:key_agreement | @only], "an EC key"},
    signature: {@signing ++ @certifying, "a key for signatures only"},
    agreement: {[:key_agreement | @only], "a key for key agreement only"},
    encapsulation: {[:key_encipherment], "a key for encapsulation only"}
  }

  # Of these one at least must be allowed for a purpose to make sense (RFC 5280, section 4.2.1.12).
  @consistent %{
    server_auth: [:digital_signature, :key_encipherment, :key_agreement],
    client_auth: [:digital_signature, :key_agreement],
    code_signing: [:digital_signature],
    email_protection: @signing ++ [:key_encipherment, :key_agreement],
    time_stamping: @signing,
    ocsp_signing: @signing
  }

  @type kind :: :rsa | :ec | :signature | :agreement | :encapsulation | :other
  @type purposes :: {[atom | DER.oid(), ...], critical :: boolean | nil}

  ## Options

  @doc "The value of `key_usage:`."
  @spec usages(term) :: {:ok, [atom]} | {:error, String.t()} | false
  def usages([_ | _] = usages) do
    case usages -- @usages do
      [] -> {:ok, usages}
      [unknown | _] -> {:error, unknown(unknown, @usages)}
    end
  end

  def usages(_other), do: false

  @doc "The value of `extended_key_usage:`."
  @spec purposes(term) :: {:ok, purposes} | {:error, String.t()} | false
  def purposes({purposes, critical: critical}) when is_boolean(critical) do
    with {:ok, {purposes, nil}} <- purposes(purposes), do: {:ok, {purposes, critical}}
  end

  def purposes([_ | _] = purposes) do
    case Enum.reject(purposes, &(is_map_key(@purposes, &1) or DER.oid?(&1))) do
      [] -> {:ok, {Enum.map(purposes, &named/1), nil}}
      [oid | _] when is_tuple(oid) -> {:error, "#{inspect(oid)} is no object identifier"}
      [unknown | _] -> {:error, unknown(unknown, Map.keys(@purposes))}
    end
  end

  def purposes(_other), do: false

  defp named(oid) when is_tuple(oid), do: Names.purpose(oid)
  defp named(name), do: name

  defp unknown(value, known),
    do: "there is no #{inspect(value)}; known: #{Enum.map_join(known, ", ", &inspect/1)}"

  @doc "What is wrong with both options and `ca:` taken together."
  @spec wrong(keyword) :: String.t() | nil
  def wrong(options) do
    {purposes, critical} = options[:extended_key_usage] || {[], nil}
    usages = options[:key_usage] || []
    stamps? = :time_stamping in purposes and options[:ca] != true

    cond do
      :key_cert_sign in usages and options[:ca] != true ->
        "key_usage: :key_cert_sign is for authorities, with ca: true"

      Enum.any?(@only, &(&1 in usages)) and :key_agreement not in usages ->
        "key_usage: :encipher_only and :decipher_only say more of :key_agreement, which is not there"

      stamps? and tl(purposes) != [] ->
        "extended_key_usage: :time_stamping must be alone (RFC 3161, section 2.3)"

      stamps? and critical == false ->
        "extended_key_usage: :time_stamping must be critical (RFC 3161, section 2.3)"

      usages != [] ->
        with text when is_binary(text) <- inconsistent(usages, options), do: "key_usage: " <> text

      true ->
        nil
    end
  end

  # Authorities say by purposes what those below them may be for.
  defp inconsistent(usages, options) do
    {purposes, _critical} = options[:extended_key_usage] || {[], nil}

    cond do
      options[:ca] == true ->
        nil

      :time_stamping in purposes and usages -- @signing != [] ->
        ":time_stamping goes with #{list(@signing)} only"

      true ->
        Enum.find_value(purposes, fn purpose ->
          needs = @consistent[purpose]

          if needs && Enum.all?(needs, &(&1 not in usages)),
            do: "#{inspect(purpose)} needs #{list(needs)}"
        end)
    end
  end

  defp list(usages), do: Enum.map_join(usages, " or ", &inspect/1)

  ## Keys

  @rsa OID.rsa()
  @rsa_pss OID.rsa_pss()
  @ec OID.ec()

  @doc "The kind of key of a `SubjectPublicKeyInfo`."
  @spec kind(DER.t()) :: kind
  def kind(public_key_info) do
    {algorithm, _bits} = Info.parts(public_key_info)
    kind_of(algorithm)
  end

  defp kind_of(@rsa), do: :rsa
  defp kind_of(@rsa_pss), do: :signature
  defp kind_of(@ec), do: :ec
  # X25519 and X448, Ed25519 and Ed448 (RFC 8410).
  defp kind_of({1, 3, 101, curve}) when curve in [110, 111], do: :agreement
  defp kind_of({1, 3, 101, curve}) when curve in [112, 113], do: :signature
  # ML-DSA and SLH-DSA, ML-KEM.
  defp kind_of({2, 16, 840, 1, 101, 3, 4, 3, n}) when n >= 17, do: :signature
  defp kind_of({2, 16, 840, 1, 101, 3, 4, 4, _n}), do: :encapsulation
  defp kind_of(_other), do: :other

  @doc """
  What a key is for: what the options say, when such a key can do that, or what goes with its kind, its
  purposes and whether it is a server's.
  """
  @spec of_key(keyword, kind, server :: boolean) :: {:ok, [atom]} | {:error, String.t()}
  def of_key(options, kind, server?) do
    usages = options[:key_usage] || default(options, kind, server?)

    with nil <- impossible(usages, kind),
         nil <- inconsistent(usages, options),
         do: {:ok, usages},
         else: (text -> {:error, "key_usage: " <> text})
  end

  @doc "What of these a key of this kind cannot be for."
  @spec impossible([atom], kind) :: String.t() | nil
  def impossible(usages, kind) do
    {possible, called} = Map.get(@kinds, kind, {@usages, nil})

    with [usage | _] <- usages -- possible,
         do: "#{called} cannot be for #{inspect(usage)}",
         else: ([] -> nil)
  end

  # NSS and Java want the bit of what the key does in the handshake or the mail, OpenSSL any of these.
  defp default(options, kind, server?) do
    {purposes, _critical} = options[:extended_key_usage] || {[], nil}
    mail? = :email_protection in purposes

    cond do
      options[:ca] == true -> @certifying
      kind == :agreement -> [:key_agreement]
      kind == :encapsulation -> [:key_encipherment]
      kind == :rsa and (server? or mail?) -> [:digital_signature, :key_encipherment]
      kind == :ec and mail? -> [:digital_signature, :key_agreement]
      true -> [:digital_signature]
    end
  end

  ## DER

  @doc "The value of the extension."
  @spec encode_usages([atom]) :: DER.t()
  def encode_usages(usages),
    do: DER.named_bits(for {usage, bit} <- Enum.with_index(@usages), usage in usages, do: bit)

  @doc "The value of the extension."
  @spec encode_purposes([atom | DER.oid()]) :: DER.t()
  def encode_purposes(purposes),
    do: DER.sequence(for purpose <- purposes, do: DER.oid(@purposes[purpose] || purpose))
end
