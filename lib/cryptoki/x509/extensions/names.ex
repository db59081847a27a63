defmodule Cryptoki.X509.Extensions.Names do
  @moduledoc false
  # The object identifiers of extensions, and the names of what stands in them (RFC 5280, section 4.2).
  # Pure.

  alias Cryptoki.DER

  @extensions %{
    subject_key_identifier: {2, 5, 29, 14},
    key_usage: {2, 5, 29, 15},
    subject_alt_name: {2, 5, 29, 17},
    issuer_alt_name: {2, 5, 29, 18},
    basic_constraints: {2, 5, 29, 19},
    crl_number: {2, 5, 29, 20},
    crl_reason: {2, 5, 29, 21},
    delta_crl: {2, 5, 29, 27},
    issuing_distribution_point: {2, 5, 29, 28},
    name_constraints: {2, 5, 29, 30},
    crl_urls: {2, 5, 29, 31},
    policies: {2, 5, 29, 32},
    policy_mappings: {2, 5, 29, 33},
    authority_key_identifier: {2, 5, 29, 35},
    policy_constraints: {2, 5, 29, 36},
    extended_key_usage: {2, 5, 29, 37},
    delta_crl_urls: {2, 5, 29, 46},
    inhibit_any_policy: {2, 5, 29, 54},
    access: {1, 3, 6, 1, 5, 5, 7, 1, 1},
    ocsp_nocheck: {1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
  }

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

  # Of a list, and of one that only says what is new (RFC 5280, section 5.3.1).
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
  @delta_reasons Map.put(@reasons, :remove_from_crl, 8)
  @reason_codes Map.new(@delta_reasons, fn {reason, code} -> {code, reason} end)

  @doc "The object identifier of an extension."
  @spec oid(atom) :: DER.oid()
  def oid(extension), do: Map.fetch!(@extensions, extension)

  @doc "The name of an extension, or its object identifier when it has none here."
  @spec extension(DER.oid()) :: atom | DER.oid()
  def extension(oid), do: Enum.find_value(@extensions, oid, fn {name, o} -> o == oid && name end)

  @doc "What a key may be used for, in the order of the bits."
  @spec usages :: [atom]
  def usages, do: @usages

  @doc "Why a certificate is revoked, with the codes."
  @spec reasons :: %{atom => non_neg_integer}
  def reasons, do: @reasons

  @doc "The same in a list that says what is new, which takes certificates off again."
  @spec delta_reasons :: %{atom => non_neg_integer}
  def delta_reasons, do: @delta_reasons

  @doc "The reason that a code is of, `:remove_from_crl` among them, or `nil`."
  @spec reason(integer) :: atom | nil
  def reason(code), do: @reason_codes[code]

  @doc "The purposes of extended key usage."
  @spec purposes :: %{atom => DER.oid()}
  def purposes, do: @purposes

  @doc "The name of a purpose, or its object identifier when it has none here."
  @spec purpose(DER.oid()) :: atom | DER.oid()
  def purpose(oid), do: Enum.find_value(@purposes, oid, fn {name, o} -> o == oid && name end)
end
