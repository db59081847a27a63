defmodule Cryptoki.Test.PKI.Known do
  @moduledoc false
  # What a judge says of certificates and lists that are as they should be, each with the reason. What is not
  # here fails a test; what is here and is not said any more fails `bin/test --pki`.

  alias Cryptoki.DER

  @type row :: %{judge: atom, finding: Regex.t(), only: [atom], reason: String.t()}

  @curves [
    secp521r1: {1, 3, 132, 0, 35},
    secp256k1: {1, 3, 132, 0, 10},
    brainpool: {1, 3, 36, 3, 3, 2, 8, 1, 1},
    ed25519: {1, 3, 101, 112},
    ed448: {1, 3, 101, 113},
    pss: {1, 2, 840, 113_549, 1, 1, 10}
  ]

  # The judge, what it says, of which keys or signatures (of any: []), and why that stands.
  @rows [
    {:pkilint, ~r/^INFO pkix\.subject_key_identifier_method_1_identified/, [],
     "it tells how an identifier was made (RFC 5280, section 4.2.1.2)"},
    {:pkilint, ~r/^ERROR pkix\.invalid_domain_name_syntax: .*"\*\./, [],
     "a star for the first label is how names of servers are matched (RFC 9525, section 6.3)"},
    {:pkilint, ~r/^ERROR pkix\.invalid_domain_name_syntax: .*"_/, [],
     "an underscore in front is in names that are in use (RFC 8552)"},
    {:pkilint, ~r/^ERROR pkix\.subject_email_address_not_in_san/, [],
     "an address in the subject only is what was asked for: deprecated (RFC 5280, section 4.1.2.6), not wrong"},
    {:pkilint, ~r/^ERROR pkix\.invalid_uri_syntax: .*"urn:/, [],
     "a URI needs no host: a URN has none (RFC 8141)"},
    {:pkilint, ~r/^ERROR pkix\.signature_verification_failed/, [:pss],
     "it verifies signatures of RSA as PKCS #1 only; all others take them"},
    {:pkilint, ~r/^NOTICE pkix\.public_key_algorithm_unsupported/, [:pss],
     "it does not know keys that are for PSS only"},
    {:pkilint,
     ~r/^NOTICE pkix\.(unsupported_algorithm|aki_absent_self_issued_and_unsupported_algorithm)/,
     [:secp256k1, :brainpool], "it does not know the curve"},
    {:cryptography, ~r/Forbidden public key algorithm/,
     [:secp256k1, :brainpool, :ed25519, :ed448],
     "it verifies what the web's authorities may use: RSA and the curves of NIST"},
    {:cryptography, ~r/invalid extension: 2\.5\.29\.17: Certificate is missing required/, [],
     "it wants an alternative name, which a request need not ask for"},
    {:certtool, ~r/Not verified|curve is unsupported/, [:secp256k1, :brainpool],
     "GnuTLS does not have the curve"},
    {:nss, ~r/ADDING_CERT|UNKNOWN_ISSUER|FILE_NOT_FOUND|CRL_BAD_SIGNATURE|usage inadequate/,
     [:ed25519, :ed448], "NSS has no certificates with such keys"},
    {:nss, ~r/invalid signature|is disabled because it is not secure/, [:secp256k1, :brainpool],
     "NSS does not have the curve"},
    {:java, ~r/InvalidKeyException: Invalid EC key/, [],
     "Java reads no points that are compressed, which RFC 5480 allows a key to be"},
    {:java, ~r/Curve not supported/, [:secp256k1, :brainpool], "Java does not have the curve"},
    {:webpki, ~r/./, [:secp521r1, :secp256k1, :brainpool, :ed448],
     "webpki on ring does not have the curve"}
  ]

  @doc "All of them."
  @spec all :: [row]
  def all do
    for {judge, finding, only, reason} <- @rows,
        do: %{judge: judge, finding: finding, only: only, reason: reason}
  end

  @doc "Why a finding stands, or `nil`."
  @spec reason(atom, String.t(), [atom]) :: String.t() | nil
  def reason(judge, finding, kinds) do
    Enum.find_value(all(), fn row ->
      row.judge == judge and finding =~ row.finding and
        (row.only == [] or Enum.any?(row.only, &(&1 in kinds))) and row.reason
    end)
  end

  @doc "The kinds of keys and signatures in these certificates that a judge may not have."
  @spec kinds([binary]) :: [atom]
  def kinds(ders) do
    for {kind, oid} <- @curves,
        <<6, _size, contents::binary>> = DER.oid(oid),
        Enum.any?(ders, &(:binary.match(&1, contents) != :nomatch)),
        do: kind
  end
end
