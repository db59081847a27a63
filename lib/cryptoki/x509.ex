defmodule Cryptoki.X509 do
  alias Cryptoki.{Error, Key}
  alias Cryptoki.X509.{Name, OCSP, Options, Verbs}

  @moduledoc """
  Certificates, requests and revocation lists (X.509, RFC 5280) with keys that stay on the token: what a
  certificate authority does, and what a server asks one for.

      {:ok, der} = Cryptoki.X509.csr(MyApp.HSM, [label: "www"],
        subject: "/C=DE/O=Acme/CN=www.acme.test", subject_alt_name: ["www.acme.test"])

      File.write!("www.csr", Cryptoki.X509.to_pem(der))

  Keys: RSA (PKCS #1 and PSS), ECDSA on every curve that OTP knows (P-256, P-384, P-521, secp256k1,
  brainpool), Ed25519 and Ed448; ML-DSA (RFC 9881) and SLH-DSA (RFC 9909) without a hash before it, where the
  token has them. Chains may be mixed. Signatures that OTP or its OpenSSL cannot verify are verified on the token.

  ## Subjects

  Text such as `"/C=DE/O=Acme/CN=www"`, or a list such as `[C: "DE", O: "Acme", CN: "www"]`. The attributes
  are #{Enum.map_join(Name.attributes(), ", ", &"`#{&1}`")};
  others are named by their object identifiers: `"1.2.3.4"`, in a list `{1, 2, 3, 4}` as well. Several in
  one part of a name have a plus between them, or a list of their own: `"/C=DE/CN=www+OU=web"`,
  `[[C: "DE"], [CN: "www", OU: "web"]]`.

  In text `/`, `+` and `\\` of a value have a backslash before them. A `#` and hexadecimal digits are the DER
  of a value, `{:der, der}` in a list. The names of others are shown so that no two look the same: a `#` or
  a blank at an end has a backslash too, and what cannot be seen is its bytes, `\\00`. They can be given back.

  ## Extensions

  #{Options.docs()}

  ## Signatures

    * `hash:` `:sha256`, `:sha384` or `:sha512`. Default: what goes with the key
    * `padding:` `:pkcs1` (default) or `:pss`, for RSA keys
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  What is signed is verified with the public key that it names before it is handed on: `:module_misbehaved`
  when the token signs with another key, or with another salt than it was asked for.

  Everything is DER; `to_pem/1` makes PEM of it. Arguments may be either.
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword

  @typedoc "A name: as OpenSSL writes it (`\"/C=DE/O=Acme\"`), or its parts, each a pair or a list of several."
  @type name :: String.t() | [name_part | [name_part]]
  @type name_part :: {atom | String.t() | tuple, String.t() | {:der, binary}}

  @typedoc "An alternative name: text whose kind shows (a host, an address, a URI), or with its kind."
  @type alt_name ::
          String.t()
          | {:dns | :email | :uri | :upn, String.t()}
          | {:ip, String.t() | :inet.ip_address()}
          | {:dir_name, name}
          | {:rid, tuple}
          | {:other_name, tuple, binary}
          | {:other, binary}
  @typedoc "What is known of a serial number."
  @type status ::
          :good
          | :unknown
          | :try_later
          | {:revoked, DateTime.t()}
          | {:revoked, DateTime.t(), reason}
  @type known :: (serial :: integer -> status)
  @typedoc "A certificate: DER, PEM, or what names one on the token, as for `Cryptoki.certificate/3`."
  @type certificate :: binary | key
  @type certificates :: certificate | [certificate]
  @typedoc "A certificate that is revoked: its serial number or itself, when, and why."
  @type revoked ::
          non_neg_integer
          | binary
          | {non_neg_integer | binary, DateTime.t()}
          | {non_neg_integer | binary, DateTime.t(), reason}
  @type reason ::
          :unspecified
          | :key_compromise
          | :ca_compromise
          | :affiliation_changed
          | :superseded
          | :cessation_of_operation
          | :certificate_hold
          | :privilege_withdrawn
          | :aa_compromise
  @typedoc "What names a public key, or one: DER, PEM, or as `:public_key` has it."
  @type public_key :: key | binary | :public_key.public_key()

  @doc """
  A certification request (PKCS #10, RFC 2986) for a key of the token.

  `subject:` is needed, unless there is a `subject_alt_name:`. Extensions and signatures: see above; the
  request asks for those extensions that are given.

  Errors: `:unsupported` for keys that do not sign, `:invalid_argument` for those that no certificate is made
  of (see `request/2`), and for a `key_usage:` that such a key cannot have, `:key_not_found`, and those of `Cryptoki.public_key/3` and `Cryptoki.sign/5`. A server that
  asks for no alternative name is told so by a line of the log (warning). PKCS #11 v3.2, section 5.13
  (C_Sign).

      iex> {:ok, der} = Cryptoki.X509.csr(MyApp.HSM, [label: "contract"], subject: "/CN=www.acme.test",
      ...>   subject_alt_name: ["www.acme.test", "192.0.2.1"])
      iex> {:ok, request} = Cryptoki.X509.request(der)
      iex> {request.subject, request.subject_alt_name}
      {"/CN=www.acme.test", [dns: "www.acme.test", ip: "192.0.2.1"]}
  """
  @spec csr(hsm, key, opts) :: {:ok, binary} | {:error, Error.t()}
  def csr(hsm, key, opts), do: Verbs.csr(hsm, key, opts)

  bang(csr(hsm, key, opts) :: binary)

  @doc """
  Reads a certification request, DER or PEM, whose signature shows that who made it has the key. Look at it
  before `issue/5`. No token is asked, but for keys of ML-DSA and SLH-DSA that this OTP cannot verify with, and
  only with the option `hsm:`, an instance whose token can (`timeout:` and `metadata:` as in `Cryptoki.verify/6`):

    * `:subject` as text, and the alternative names in `:subject_alt_name`, as the options of these names
      take them; `:ca`, `:path_len`, `:key_usage` and `:extended_key_usage` likewise, `nil` for what was not
      asked for; `:crl_urls`, `:delta_crl_urls`, `:ocsp_url`, `:ca_issuers_url`, `:policies` and
      `:name_constraints` (`[]` for none, `nil` for what no option writes so), and `:ocsp_nocheck`
    * `:extensions` all that were asked for, also those above, as `{object_identifier, der, critical: boolean}`
    * `:public_key` for `:public_key`, and in `:key` its `:type` (`:rsa`, `:rsa_pss`, `:ec`, `:ed25519`,
      `:ed448`, or a parameter set such as `:ml_dsa_65` and `:slh_dsa_sha2_128f`), its `:bits` and its `:curve`
    * `:signature_algorithm` the mechanism that it is signed with, such as `:ecdsa_sha256` or `:ml_dsa`
    * `:attributes` others than extensions, such as a password, as `{object_identifier, [der]}`

  What no certificate may have is refused, with a sentence that names it: a name of the wrong type or
  length, with control characters or of nobody, an alternative name that is none, RSA keys of less than
  2048 bits or with an exponent that is even or 1, a curve by its parameters or below 224 bits, a point
  that is on none. So are two requests for extensions in one, and the same extension twice.

  Errors: `:signature_invalid`; `:unsupported` for other keys and algorithms, SHA-1 and MD5 among them;
  `:invalid_argument` for what is no request, or asks for what is refused.

      iex> der = Cryptoki.X509.csr!(MyApp.HSM, [label: "invoice"], subject: [C: "DE", CN: "www"])
      iex> {:ok, %{subject: "/C=DE/CN=www"} = request} = Cryptoki.X509.request(der)
      iex> {request.key, request.signature_algorithm}
      {%{type: :rsa, bits: 2048}, :sha256_rsa_pkcs}
      iex> request.public_key == Cryptoki.public_key!(MyApp.HSM, label: "invoice")
      true
  """
  @spec request(binary, opts) :: {:ok, map} | {:error, Error.t()}
  def request(csr, opts \\ []), do: Verbs.request(csr, opts)

  bang(request(csr :: binary, opts) :: map)

  @doc """
  Reads a certificate, DER or the first in a PEM: what `request/2` has of a request, and `:serial`,
  `:issuer`, `:not_before`, `:not_after`, `:version`, `:subject_key_identifier` and
  `:authority_key_identifier`. Nothing is verified, and no token is asked.

  It may be anybody's: names are shown as they are, `:public_key` is `nil` and `key.type` an object identifier
  for kinds of keys that are not known here, `:signature_algorithm` too.

  Errors: `:invalid_argument` for what is no certificate, with the part that is not as it should be.

      iex> der = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true, serial: 7)
      iex> {:ok, root} = Cryptoki.X509.certificate(der)
      iex> {root.subject, root.serial, root.ca, root.key_usage}
      {"/CN=root", 7, true, [:key_cert_sign, :crl_sign]}
  """
  @spec certificate(binary) :: {:ok, map} | {:error, Error.t()}
  def certificate(certificate), do: Verbs.certificate(certificate)

  bang(certificate(binary) :: map)

  @doc """
  A certificate of a key by itself: the root of an authority, or that of a server in a test.

    * `subject:` is needed, unless there is a `subject_alt_name:`
    * `days:` how long it is valid (365), or `not_after:` a `DateTime`; `not_before:` (a second ago)
    * `serial:` a positive number of at most 20 bytes. Default: 16 bytes by chance

  Extensions and signatures: see above. It identifies its key (RFC 5280, section 4.2.1.2).

  Errors: those of `csr/3`. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> {:ok, der} = Cryptoki.X509.self_signed(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true, days: 3650)
      iex> :public_key.pkix_is_self_signed(der)
      true
  """
  @spec self_signed(hsm, key, opts) :: {:ok, binary} | {:error, Error.t()}
  def self_signed(hsm, key, opts), do: Verbs.self_signed(hsm, key, opts)

  bang(self_signed(hsm, key, opts) :: binary)

  @doc """
  A certificate for whoever made a request, by the key and certificate of an authority.

  Of the request it takes the key, the subject and the alternative names of the kinds that are known, no
  other extension: what a certificate allows is said here. `review/4` shows what would be signed; names
  that are asked for and not copied, and what programs will not like, are a line of the log (warning).

    * `subject:`, `subject_alt_name:` others than in the request; `subject_alt_name: []` for none. A subject in
      one of the old types of string (T61String, UniversalString, BMPString) becomes UTF-8
    * `copy:` which alternative names are taken from the request: a list of kinds (`[:dns, :ip]`), `false`
      for none, `true` for all that are known, the default
    * `days:`, `not_after:`, `not_before:` and `serial:` as in `self_signed/3`; without the first two it
      ends after 365 days, or with the issuer's certificate when that is earlier

  Extensions and signatures: see above. `ca: true` makes an authority below this one.

  Errors: `:signature_invalid` for a request that its own key has not signed; `:invalid_argument` for
  what is no request, for a certificate that is not of this key or not of an authority, has ended or has a
  critical extension that is not known here, and for what it does not allow: an authority below it, names
  (name constraints), purposes (extended key usage), policies, or to outlive it; and those of `csr/3` and
  `Cryptoki.certificate/3`. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> csr = Cryptoki.X509.csr!(MyApp.HSM, [label: "invoice"], subject: "/CN=www")
      iex> {:ok, der} = Cryptoki.X509.issue(MyApp.HSM, [label: "contract"], root, csr, days: 90)
      iex> :public_key.pkix_is_issuer(der, root)
      true
  """
  @spec issue(hsm, ca_key :: key, ca_certificate :: certificate, csr :: binary, opts) ::
          {:ok, binary} | {:error, Error.t()}
  def issue(hsm, ca_key, ca_certificate, csr, opts \\ []),
    do: Verbs.issue(hsm, ca_key, ca_certificate, csr, opts)

  bang(issue(hsm, ca_key :: key, ca_certificate :: certificate, csr :: binary, opts) :: binary)

  @doc """
  What `issue/5` would make of a request, without the key: to be looked at before it is signed. Arguments
  and options are those of `issue/5`, `ca_certificate` is DER, PEM, or what names one on the token.

  What it would refuse is refused here with the same error; otherwise a map of

    * `subject:` as text, `subject_alt_name:`, `public_key:`, `key:` as in `request/2`, `not_before:`,
      `not_after:`
    * `copied:` the alternative names that are taken from the request
    * `dropped:` what it asks for and does not get: alternative names, and `{:extension, name}` for all
      others that it asks for, by the names of the options or object identifiers
    * `warnings:` what programs will not like, `{name, sentence}`: `:no_alternative_name` for a server
      without one, `:begins_early` for a certificate that begins before that of its issuer
    * `extensions:` all of them, as in `request/2`

  PKCS #11 v3.2: only to find `ca_certificate` on the token, section 5.7.7 (C_FindObjects).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> csr = Cryptoki.X509.csr!(MyApp.HSM, [label: "invoice"], subject: "/CN=www",
      ...>   subject_alt_name: ["www.acme.test", "192.0.2.1"], key_usage: [:digital_signature])
      iex> {:ok, review} = Cryptoki.X509.review(MyApp.HSM, root, csr, copy: [:dns])
      iex> {review.subject, review.copied, review.dropped}
      {"/CN=www", [dns: "www.acme.test"], [ip: "192.0.2.1", extension: :key_usage]}
  """
  @spec review(hsm, ca_certificate :: certificate, csr :: binary, opts) ::
          {:ok, map} | {:error, Error.t()}
  def review(hsm, ca_certificate, csr, opts \\ []),
    do: Verbs.review(hsm, ca_certificate, csr, opts)

  bang(review(hsm, ca_certificate :: certificate, csr :: binary, opts) :: map)

  @doc """
  A certificate for a public key without a request, by the key and certificate of an authority: for keys
  that cannot sign one (X25519), and those that came another way. Nothing shows that who wants it has the
  private key: that is for you to know.

  `public_key` is what names one on the token, as for `Cryptoki.public_key/3`, a `SubjectPublicKeyInfo` in
  DER or PEM, or a key as `:public_key` has it. `subject:` is needed, unless there is a
  `subject_alt_name:`. All else is as in `issue/5`: options, checks and errors.

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> {public_key, _private_key} = :crypto.generate_key(:ecdh, :x25519)
      iex> x25519 = {{:ECPoint, public_key}, {:namedCurve, {1, 3, 101, 110}}}
      iex> {:ok, der} = Cryptoki.X509.certify(MyApp.HSM, [label: "contract"], root, x25519, subject: "/CN=mail")
      iex> :public_key.pkix_is_issuer(der, root)
      true
  """
  @spec certify(hsm, ca_key :: key, ca_certificate :: certificate, public_key, opts) ::
          {:ok, binary} | {:error, Error.t()}
  def certify(hsm, ca_key, ca_certificate, public_key, opts),
    do: Verbs.certify(hsm, ca_key, ca_certificate, public_key, opts)

  bang(certify(hsm, ca_key :: key, ca_certificate :: certificate, public_key, opts) :: binary)

  @doc """
  A list of revoked certificates (RFC 5280, section 5), by the key and certificate of an authority.

  `revoked` are serial numbers or certificates (DER or PEM), alone or as `{serial, at}` or `{serial, at,
  reason}`, `at` a `DateTime` (that of the list, or now when that is earlier): all that are revoked and have not expired, each time.

    * `days:` until the next list (7), or `next_update:` a `DateTime`; `this_update:` (a second ago)
    * `number:` of the list, which grows from one to the next. Default: the nanoseconds since 1970 and a
      count, 16 bytes, which grow as long as the clock is not set back between two lives of the VM
    * `previous:` the list before, DER or PEM: the number is greater than its, whatever the clock says; a `number:`
      that is not is refused, as is an earlier `this_update`. What stood on it, as `revocation_list/1` reads it,
      can be given again: entries that are the same are one, and what no list can have is an error (a certificate
      twice, a time after the list, a serial number below 0, `:remove_from_crl`); both raise without `previous:`
    * `delta:` the whole list, DER or PEM, or its number, that this one says what is new since: what is revoked, and
      with the reason `:remove_from_crl` what is not any more. It has the `crl_urls:` of that
    * `delta_crl_urls:` of a whole one, where such lists are found; certificates can say that, too
    * `crl_urls:` where it is found, critical; certificates need one of these, too (section 5.2.5). NSS takes no such list
    * `ca_issuers_url:` where the certificate of its issuer is

  Signatures: see above. Errors: as `issue/5`; and `:invalid_argument` for a certificate among `revoked`
  that is of another issuer, and for a `previous:` that is no list, of another, later, or not signed by its key;
  `:unsupported` when it is signed with SHA-1, say. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> {:ok, der} = Cryptoki.X509.crl(MyApp.HSM, [label: "contract"], root, [{17, DateTime.utc_now(), :superseded}])
      iex> :public_key.pkix_crl_verify(der, root)
      true
  """
  @spec crl(hsm, ca_key :: key, ca_certificate :: certificate, [revoked], opts) ::
          {:ok, binary} | {:error, Error.t()}
  def crl(hsm, ca_key, ca_certificate, revoked, opts \\ []),
    do: Verbs.crl(hsm, ca_key, ca_certificate, revoked, opts)

  bang(
    crl(hsm, ca_key :: key, ca_certificate :: certificate, revoked :: [revoked], opts) :: binary
  )

  @doc """
  Reads a list of revoked certificates, DER or PEM, of at most 16 MiB. Nothing is verified, and no token is
  asked:

    * `:revoked`, `{serial, at, reason}` (none is `:unspecified`), as `crl/5` takes them with this list as `previous:`
    * `:this_update`, `:next_update` (`nil` where no next one is promised), `:number` (`nil`)
    * `:base_number` is `nil` but for delta lists, which say only what is new since the list with that number:
      what is taken off again is `:remove_from_crl`
    * `:issuer` as text, `:authority_key_identifier`, `:signature_algorithm`, `:version`
    * `:extensions` all of the list, as in `request/2`, and `:entry_extensions` those of entries but their
      reasons, `[{serial, extensions}]`, which `crl/5` does not write. A critical one that you do not know says that the list is not about
      what it seems to be: one with `{2, 5, 29, 28}` for some certificates only, an entry with `{2, 5, 29, 29}`
      for one of another issuer (RFC 5280, sections 5.2.5 and 5.3.3)

  Both names of the algorithm have to be one, lists of version 1 have no extensions, reasons are those of the
  standard. As some authorities write them entries may be none in place of missing, and one may be there twice.

  Errors: `:invalid_argument` for what is no list, with the part that is not as it should be; `:unsupported`
  for other versions. RFC 5280, section 5.

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> revoked = [{17, ~U[2026-01-02 03:04:05Z], :superseded}]
      iex> der = Cryptoki.X509.crl!(MyApp.HSM, [label: "contract"], root, revoked, number: 3)
      iex> {:ok, list} = Cryptoki.X509.revocation_list(der)
      iex> {list.issuer, list.number, list.revoked == revoked}
      {"/CN=root", 3, true}
  """
  @spec revocation_list(binary) :: {:ok, map} | {:error, Error.t()}
  def revocation_list(crl), do: Verbs.revocation_list(crl)

  bang(revocation_list(binary) :: map)

  @doc """
  Answers whether certificates are revoked (OCSP, RFC 6960), by the key of their authority or of whom it
  lets answer.

  `certificate` is that of the key, which goes along: of an authority; or one for `:ocsp_signing`, with that
  of the authority behind it, which issued both this and what is asked about. `request` is what a client
  sent, any bytes. `fun` is asked for each serial number of this authority:

    * `:good`, `{:revoked, at}` or `{:revoked, at, reason}` as in `crl/5`, `:unknown` for a number that was
      never issued: who says `:good` of those answers for certificates that somebody forged
    * `:try_later` for all of the request, when nobody knows just now

  Everything else about the request is an answer as well, in `{:ok, der}`, and then the token is not
  asked for a signature: `malformedRequest` for what is none, of more than 64 KiB or 100 certificates, with a
  nonce of none or more than 128 bytes (RFC 9654) or a critical extension that is not known; `unauthorized` when
  none of the certificates is of this authority. In one with others those are unknown. Issuers are
  named by SHA-1, SHA-256, SHA-384 or SHA-512; a nonce stands in the answer.

    * `this_update:` when what is said was known to be so, a `DateTime` (a second ago)
    * `next_update:` until when it holds, a `DateTime`. Without it, which is the default, there always is a newer
      answer, and clients keep none; an answer that a server staples needs one

  Signatures: see above. Errors: `:invalid_argument` for a certificate that is not of this key, that has ended, or
  that is neither of an authority nor for `:ocsp_signing` and issued by the one behind it; and those of
  `Cryptoki.certificate/3` and `Cryptoki.sign/5`. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> {:ok, der} = Cryptoki.X509.ocsp_response(MyApp.HSM, [label: "contract"], root, "?", fn _serial -> :good end)
      iex> der == <<0x30, 3, 0x0A, 1, 1>> # malformedRequest
      true
  """
  @spec ocsp_response(hsm, key, certificates, request :: binary, known, opts) ::
          {:ok, binary} | {:error, Error.t()}
  def ocsp_response(hsm, key, certificate, request, fun, opts \\ []),
    do: OCSP.respond(hsm, key, certificate, request, fun, opts)

  bang(ocsp_response(hsm, key, certificates, request :: binary, fun :: known, opts) :: binary)

  @doc """
  Reads what a client asks `ocsp_response/6`: the `:nonce` (`nil`) and the `:certificates`, of each its `:serial`,
  `:issuer_name_hash`, `:issuer_key_hash` and the `:hash` of both (`nil` when it is not known). No token is asked.

  Errors: `:invalid_argument` for what is no request, with the part that is not as it should be; `:unsupported`
  for other versions. RFC 6960, section 4.1.

      iex> [name, key] = for byte <- [1, 2], do: :binary.copy(<<byte>>, 20)
      iex> head = Base.decode16!("3040303E303C303A3038300706052B0E03021A")
      iex> request = <<head::binary, 4, 20, name::binary, 4, 20, key::binary, 2, 1, 7>>
      iex> {:ok, %{certificates: [asked], nonce: nil}} = Cryptoki.X509.ocsp_request(request)
      iex> {asked.serial, asked.hash}
      {7, :sha}
  """
  @spec ocsp_request(binary) :: {:ok, map} | {:error, Error.t()}
  def ocsp_request(request), do: OCSP.request(request)

  bang(ocsp_request(binary) :: map)

  @doc """
  Whether a certificate or a list, DER or PEM, is signed by the key of a certificate, `issuer`, whose subject is its
  issuer: by `:public_key`, and on the token where this OTP does not know such signatures (ML-DSA and SLH-DSA). A list
  is read as `revocation_list/1` does.

  It says no more: whether a certificate is valid, may issue, or is revoked is for who looks at its chain.

  Errors: `:signature_invalid`; `:unsupported` for algorithms that neither knows, and for SHA-1 and MD5;
  `:invalid_argument` for what is no certificate and no list; `:key_not_found` and those of `Cryptoki.verify/6`.
  RFC 5280, sections 4.1.1.3 and 5.1.1.3; PKCS #11 v3.2, section 5.15 (C_Verify).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root", ca: true)
      iex> list = Cryptoki.X509.crl!(MyApp.HSM, [label: "contract"], root, [])
      iex> Cryptoki.X509.verify_signature(MyApp.HSM, list, root)
      :ok
  """
  @spec verify_signature(hsm, signed :: binary, issuer :: certificate, opts) ::
          :ok | {:error, Error.t()}
  def verify_signature(hsm, signed, issuer, opts \\ []),
    do: Verbs.verify_signature(hsm, signed, issuer, opts)

  bang(verify_signature(hsm, signed :: binary, issuer :: certificate, opts) :: :ok)

  @doc """
  Stores a certificate on the token: `Cryptoki.import_certificate/4`, where `token:` is true unless said otherwise. It
  answers the object; `Cryptoki.certificate/3` gives its DER, `certificates/3` lists all of them.

  Errors: those of `Cryptoki.import_certificate/4`. PKCS #11 v3.2, sections 4.6 and 5.7.1 (C_CreateObject).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root")
      iex> {:ok, stored} = Cryptoki.X509.store(MyApp.HSM, root, label: "contract", token: false)
      iex> Cryptoki.certificate!(MyApp.HSM, stored) == root
      true
  """
  @spec store(hsm, binary, opts) :: {:ok, Key.t()} | {:error, Error.t()}
  def store(hsm, certificate, attributes \\ []), do: Verbs.store(hsm, certificate, attributes)

  bang(store(hsm, certificate :: binary, attributes :: opts) :: Key.t())

  @doc """
  The certificates that lie on the token, each as its object and its DER, for `certificate/1`. `selector` are
  attributes as for `Cryptoki.find/3` (`[label: "ca"]`); what lies there and is no certificate is left out.

  `timeout:` and `metadata:`, and errors, as in `Cryptoki.find/3`. PKCS #11 v3.2, section 5.7.7 (C_FindObjects).

      iex> root = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=listed")
      iex> {:ok, stored} = Cryptoki.X509.store(MyApp.HSM, root, label: "listed", token: false)
      iex> Cryptoki.X509.certificates(MyApp.HSM, label: "listed")
      {:ok, [{stored, root}]}
  """
  @spec certificates(hsm, keyword | map, opts) ::
          {:ok, [{Key.t(), binary}]} | {:error, Error.t()}
  def certificates(hsm, selector \\ [], opts \\ []), do: Verbs.certificates(hsm, selector, opts)

  bang(certificates(hsm, selector :: keyword | map, opts) :: [{Key.t(), binary}])

  @doc """
  The certificate of a key and those above it, all from the token, without the root: what `Cryptoki.SSL` and
  `Cryptoki.CMS` send. They are found by issuer, key identifier and signature, whatever they are called.

  Of several of one key, or of one authority, it is the one that begins latest of those that hold now.
  `timeout:` and `metadata:` as in `Cryptoki.find/3`.

  Errors: `:key_not_found` without a certificate of this key, `:key_ambiguous` for two that begin in the same
  second, and those of `Cryptoki.public_key/3`. PKCS #11 v3.2, section 5.7.7 (C_FindObjects).

      iex> {:ok, [certificate | _above]} = Cryptoki.X509.chain(MyApp.HSM, label: "invoice")
      iex> Cryptoki.X509.certificate!(certificate).public_key == Cryptoki.public_key!(MyApp.HSM, label: "invoice")
      true
  """
  @spec chain(hsm, key, opts) :: {:ok, [binary, ...]} | {:error, Error.t()}
  def chain(hsm, key, opts \\ []), do: Verbs.chain(hsm, key, opts)

  bang(chain(hsm, key, opts) :: [binary, ...])

  @doc """
  The PEM of certificates, requests, revocation lists and public keys, one or several: DER, and of a public key also
  what `Cryptoki.public_key/3` answers, which `:public_key.pem_encode/1` of OTP 25 writes wrongly for X25519 and X448.

      iex> der = Cryptoki.X509.self_signed!(MyApp.HSM, [label: "contract"], subject: "/CN=root")
      iex> "-----BEGIN CERTIFICATE-----" <> _ = pem = Cryptoki.X509.to_pem(der)
      iex> [{:Certificate, ^der, :not_encrypted}] = :public_key.pem_decode(pem)
      iex> String.ends_with?(pem, "-----END CERTIFICATE-----\\n")
      true
      iex> public_key = Cryptoki.public_key!(MyApp.HSM, label: "contract")
      iex> "-----BEGIN PUBLIC KEY-----" <> _ = pem = Cryptoki.X509.to_pem(public_key)
      iex> [entry] = :public_key.pem_decode(pem)
      iex> :public_key.pem_entry_decode(entry) == public_key
      true
  """
  @spec to_pem(binary | tuple | [binary | tuple]) :: String.t()
  def to_pem(ders), do: Verbs.to_pem(ders)
end
