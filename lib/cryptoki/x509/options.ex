defmodule Cryptoki.X509.Options do
  @moduledoc false
  # The tables of the options of `Cryptoki.X509`: what is checked, and of extensions what is documented. What
  # several options say together is looked at in `Extensions.check!/1` and in `Validity`. Pure.

  alias Cryptoki.{CallOptions, DER, SignatureAlgorithm}
  alias Cryptoki.Options.Table
  alias Cryptoki.X509.{AltName, Extensions, NameConstraints, Policies}
  alias Cryptoki.X509.Extensions.{Names, URLs, Usage}

  @urls [cast: &URLs.cast/1, type: "String.t() | [String.t()]", must: "a URL or a list of them"]
  @purposes Enum.map_join(Map.keys(Names.purposes()), ", ", &"`#{inspect(&1)}`")
  @usages Enum.map_join(Names.usages(), ", ", &"`#{inspect(&1)}`")

  @extensions [
    subject_alt_name: [
      cast: :any,
      type: "Cryptoki.X509.alt_name() | [Cryptoki.X509.alt_name()]",
      doc:
        "names of whom it is for, one or a list: `{:dns | :ip | :email | :uri | :upn, text}` (the last is " <>
          "the user principal name of Windows), `{:dir_name, subject}`, `{:rid, object_identifier}`, " <>
          "`{:other_name, object_identifier, der}`, or texts, of which an address, a URI (`scheme://`, `urn:`) " <>
          "and an e-mail address (with an @) are told from names of hosts; what may be two of them is refused"
    ],
    ca: [
      cast: :boolean,
      type: "boolean",
      must: "true or false",
      doc: "whether it is an authority's"
    ],
    path_len: [
      cast: {:integer, 0, 255},
      type: "0..255",
      must: "how many authorities may follow, 0 or more, for ca: true",
      doc: "how many authorities may follow it in a chain"
    ],
    key_usage: [
      cast: &Usage.usages/1,
      type: "[atom]",
      must: "a list, such as [:digital_signature]",
      doc:
        "a list of #{@usages}. Default in certificates: the two of an authority (`:key_cert_sign`, `:crl_sign`), " <>
          "`:digital_signature` for others; RSA keys of servers and for e-mail encipher keys as well, EC keys " <>
          "for e-mail agree on them, and X25519 and X448 do nothing else. What such a key cannot do is refused"
    ],
    extended_key_usage: [
      cast: &Usage.purposes/1,
      type: "[atom | tuple] | {[atom | tuple], [critical: boolean]}",
      must: "a list, such as [:server_auth], or {list, critical: true}",
      doc:
        "a list of #{@purposes} or object identifiers as tuples. `:time_stamping` is alone and critical (RFC 3161)"
    ],
    ocsp_nocheck: [
      cast: :boolean,
      type: "boolean",
      must: "true or false",
      doc:
        "for a certificate for `:ocsp_signing`: that nobody asks whether it is revoked (RFC 6960, section 4.2.2.2.1)"
    ],
    crl_urls: [
      {:doc, "where the list is that names it when it is revoked, a URL or several of one list"}
      | @urls
    ],
    delta_crl_urls: [
      {:doc,
       "where the list is that says what is new since the one of `crl_urls:` (freshest CRL)"}
      | @urls
    ],
    ocsp_url: [{:doc, "who answers whether it is revoked (OCSP)"} | @urls],
    ca_issuers_url: [{:doc, "where the certificate of its issuer is"} | @urls],
    policies: [
      cast: &Policies.cast/1,
      type: "[tuple | :any | {tuple, keyword}] | {list, [critical: boolean]}",
      must: "a list of object identifiers, such as [{1, 3, 6, 1, 4, 1, 99999, 1}]",
      doc:
        "the policies that it was issued by: object identifiers, `:any`, or `{oid, cps: url, notice: text}`"
    ],
    name_constraints: [
      cast: &NameConstraints.cast/1,
      type: "[permitted: list, excluded: list] | {list, [critical: boolean]}",
      must: "such as [permitted: [dns: \"acme.test\", ip: \"10.0.0.0/8\"], excluded: [...]]",
      doc:
        "for authorities, which names they may issue for: `[permitted: names, excluded: names]` of `{:dns | :email | " <>
          ":uri, host}` (all below `acme.test`; for e-mail and URIs `.acme.test` is all below and `acme.test` " <>
          "the host itself), `{:ip, \"10.0.0.0/8\"}` and `{:dir_name, \"/C=DE/O=Acme\"}`; critical"
    ],
    extensions: [
      cast: &Extensions.cast/1,
      type: "[{tuple, binary} | {tuple, binary, [critical: boolean]}]",
      must: "a list",
      doc:
        "others, a list of `{object_identifier, der}` or `{object_identifier, der, critical: true}`"
    ]
  ]

  # What these are is documented where the functions are.
  @subject [subject: [cast: :any]]
  @copy [
    copy: [cast: &__MODULE__.copy/1, must: "true, false, or a list of kinds of alternative names"]
  ]
  @signing SignatureAlgorithm.options()
  @time [cast: :datetime, must: "a DateTime"]
  @days [cast: {:integer, 1, 3_652_059}, must: "1 to 3652059"]

  @validity [
    days: @days,
    not_before: @time,
    not_after: @time,
    serial: [cast: &__MODULE__.serial/1, must: "a positive number"]
  ]

  @list [
    days: @days,
    this_update: @time,
    next_update: @time,
    number: [cast: &__MODULE__.number/1, must: "0 or more, of at most 20 bytes"],
    previous: [cast: &__MODULE__.previous/1, must: "the list before, DER or PEM"],
    delta: [cast: &__MODULE__.delta/1, must: "the whole list before, DER or PEM, or its number"],
    crl_urls: @extensions[:crl_urls],
    delta_crl_urls: @extensions[:delta_crl_urls],
    ca_issuers_url: @extensions[:ca_issuers_url]
  ]

  @answer [this_update: @time, next_update: @time]

  @tables %{
    csr: @subject ++ @extensions ++ @signing,
    self_signed: @subject ++ @validity ++ @extensions ++ @signing,
    certify: @subject ++ @validity ++ @extensions ++ @signing,
    issue: @subject ++ @copy ++ @validity ++ @extensions ++ @signing,
    review: @subject ++ @copy ++ @validity ++ @extensions ++ @signing,
    crl: @list ++ @signing,
    ocsp_response: @answer ++ @signing,
    request: [hsm: [cast: :any]],
    verify_signature: []
  }

  @doc "The own options of a function and those of calls, checked; mistakes raise `ArgumentError`."
  @spec split!(keyword | map, atom) :: {keyword, keyword}
  def split!(opts, function) do
    call = if function == :review, do: [], else: [:timeout, :pin, :metadata]
    {own, call} = CallOptions.split!(opts, @tables[function], call)
    if function == :crl, do: list!(opts, own), else: Extensions.check!(own)

    if own[:copy] && own[:subject_alt_name],
      do:
        raise(
          ArgumentError,
          "copy: is for the names of the request; subject_alt_name: says all of them"
        )

    {own, call}
  end

  @doc "What stands in the documentation of extensions."
  @spec docs() :: String.t()
  def docs, do: Table.docs(@extensions)

  @doc false
  @spec serial(term) :: Table.casted()
  def serial(serial) when is_integer(serial) and serial > 0 do
    if fits?(serial), do: {:ok, serial}, else: {:error, "must have at most 20 bytes"}
  end

  def serial(_other), do: false

  @doc false
  @spec number(term) :: Table.casted()
  def number(number), do: is_integer(number) and number >= 0 and fits?(number) and {:ok, number}

  @doc false
  @spec previous(term) :: Table.casted()
  def previous(list), do: is_binary(list) and {:ok, list}

  @doc false
  @spec delta(term) :: Table.casted()
  def delta(list) when is_binary(list), do: {:ok, list}
  def delta(number), do: number(number)

  # Elsewhere it is an option not given: here a number would go without being looked at.
  defp list!(opts, own) do
    for {name, what} <- [previous: "of all", delta: "which is a whole one"],
        Enum.member?(opts, {name, nil}) do
      raise ArgumentError,
            "#{name}: must be the list before, DER or PEM, got: nil; leave it out for the first list #{what}"
    end

    if own[:delta] && own[:delta_crl_urls],
      do: raise(ArgumentError, "delta_crl_urls: is for whole lists, without delta:")
  end

  # Tag, length, and twenty bytes.
  defp fits?(number), do: byte_size(DER.integer(number)) <= 22

  @doc false
  @spec copy(term) :: Table.casted()
  def copy(copy) when is_boolean(copy), do: {:ok, copy}

  def copy(kinds) when is_list(kinds) do
    :ok = Table.known!(for(kind <- kinds, do: {kind, nil}), AltName.kinds(), "kind of copy:")
    {:ok, kinds}
  end

  def copy(_other), do: false
end
