defmodule Cryptoki.X509.Verbs do
  @moduledoc false
  # What each function of `Cryptoki.X509` does: arguments looked at first, then what is asked of the token.

  alias Cryptoki.{CallOptions, Certificates, DER, Error, Key, PEM, PublicKey, SignatureAlgorithm}
  alias Cryptoki.Certificates.ByToken
  alias Cryptoki.X509.{Authority, Certificate, Extensions, Fields, Issuance, Name, Options}
  alias Cryptoki.X509.{OnToken, PublicKeyInfo, Request, RevocationList, Signature, Validity}

  @nobody DER.sequence([])

  @typep hsm :: Cryptoki.hsm()
  @typep key :: Cryptoki.key()
  @typep made :: {:ok, binary} | {:error, Error.t()}
  @typep shown :: {:ok, map} | {:error, Error.t()}

  @spec csr(hsm, key, keyword) :: made
  def csr(hsm, key, opts) do
    {own, call} = Options.split!(opts, :csr)
    subject = subject!(own)

    with {:ok, public_key} <- PublicKey.to_sign(hsm, key, Keyword.delete(call, :pin)),
         {:ok, algorithm} <- SignatureAlgorithm.choose(public_key, own),
         {:ok, info} <- PublicKeyInfo.checked(Extensions.public_key_info(public_key)),
         holder = Issuance.holder(subject, info, own),
         {:ok, extensions} <- Extensions.request(own, holder),
         to_be_signed = Request.info(subject, holder.info, extensions),
         {:ok, der} <- Certificates.signed(hsm, key, public_key, algorithm, to_be_signed, call) do
      Issuance.tell(hsm, "csr", [], Issuance.warnings(holder, own))
      {:ok, der}
    end
  end

  @spec request(term, keyword) :: shown
  def request(csr, opts) do
    {own, call} = Options.split!(opts, :request)
    csr = binary!(csr, "csr")

    with {:ok, request} <- Request.read(csr, elsewhere(own[:hsm], call)),
         do: {:ok, Request.shown(request)}
  end

  defp elsewhere(nil, _call), do: &SignatureAlgorithm.nowhere/3
  defp elsewhere(hsm, call), do: ByToken.verifier(hsm, call)

  @spec certificate(term) :: shown
  def certificate(certificate) do
    with {:ok, der} <- Certificates.first(binary!(certificate, "certificate"), "certificate"),
         do: Certificate.read(der)
  end

  @spec self_signed(hsm, key, keyword) :: made
  def self_signed(hsm, key, opts) do
    {own, call} = Options.split!(opts, :self_signed)
    subject = subject!(own)
    valid = Validity.period!(own, :not_before, :not_after, 365)

    with {:ok, public_key} <- PublicKey.to_sign(hsm, key, Keyword.delete(call, :pin)),
         {:ok, algorithm} <- SignatureAlgorithm.choose(public_key, own),
         {:ok, info} <- PublicKeyInfo.checked(Extensions.public_key_info(public_key)),
         holder = Issuance.holder(subject, info, own),
         {:ok, extensions} <- Extensions.certificate(own, holder) do
      own_key = Extensions.key_identifier(holder.info)
      # Only an authority can do without (RFC 5280, section 4.2.1.1).
      issuer = if own[:ca] == true, do: [], else: [Extensions.authority_key_identifier(own_key)]
      issuance = %{holder: holder, valid: valid, extensions: extensions ++ issuer}

      to_be_signed =
        Certificate.to_be_signed(issuance, subject, algorithm.identifier, own[:serial])

      Certificates.signed(hsm, key, public_key, algorithm, to_be_signed, call)
    end
  end

  @spec issue(hsm, key, Certificates.source(), term, keyword) :: made
  def issue(hsm, ca_key, ca_certificate, csr, opts) do
    csr = binary!(csr, "csr")
    {own, call} = Options.split!(opts, :issue)
    said = said!(own)

    with {:ok, request} <- Request.read(csr, ByToken.verifier(hsm, call)),
         {:ok, authority} <- Authority.fetch(hsm, ca_key, ca_certificate),
         choice = Issuance.choose(request, own),
         {:ok, issuance} <-
           Issuance.new(authority, Issuance.holder(said, request, choice, own), own),
         {:ok, der} <- by_authority(hsm, ca_key, authority, issuance, own, call) do
      dropped = if own[:subject_alt_name], do: [], else: choice.dropped
      Issuance.tell(hsm, "issue", dropped, issuance.warnings)
      {:ok, der}
    end
  end

  @spec review(hsm, Certificates.source(), term, keyword) :: shown
  def review(hsm, ca_certificate, csr, opts) do
    csr = binary!(csr, "csr")
    {own, []} = Options.split!(opts, :review)
    said = said!(own)

    with {:ok, request} <- Request.read(csr, ByToken.verifier(hsm, [])),
         {:ok, authority} <- Authority.read(hsm, ca_certificate),
         choice = Issuance.choose(request, own),
         {:ok, issuance} <-
           Issuance.new(authority, Issuance.holder(said, request, choice, own), own),
         {:ok, _algorithm} <- SignatureAlgorithm.choose(authority.public, own) do
      Issuance.review(issuance, request, choice)
    end
  end

  @spec certify(hsm, key, Certificates.source(), term, keyword) :: made
  def certify(hsm, ca_key, ca_certificate, public_key, opts) do
    {own, call} = Options.split!(opts, :certify)
    subject = subject!(own)

    with {:ok, info} <- PublicKeyInfo.fetch(hsm, public_key, Keyword.delete(call, :pin)),
         {:ok, authority} <- Authority.fetch(hsm, ca_key, ca_certificate),
         {:ok, issuance} <- Issuance.new(authority, Issuance.holder(subject, info, own), own),
         {:ok, der} <- by_authority(hsm, ca_key, authority, issuance, own, call) do
      Issuance.tell(hsm, "certify", [], issuance.warnings)
      {:ok, der}
    end
  end

  @spec crl(hsm, key, Certificates.source(), list, keyword) :: made
  def crl(hsm, ca_key, ca_certificate, revoked, opts) do
    {own, call} = Options.split!(opts, :crl)

    with {:ok, previous} <- RevocationList.given(own[:previous], "previous"),
         {:ok, base} <- RevocationList.given(own[:delta], "delta"),
         {:ok, list} <- RevocationList.new(revoked, own, previous),
         {:ok, authority} <- Authority.fetch(hsm, ca_key, ca_certificate),
         :ok <- Authority.revokes(authority),
         :ok <- RevocationList.of_authority(list, authority),
         by_token = ByToken.verifier(hsm, call),
         {:ok, list} <-
           RevocationList.after_previous(list, previous, authority, own[:number], by_token),
         {:ok, list} <- RevocationList.after_base(list, base, authority, own[:number], by_token),
         {:ok, algorithm} <- SignatureAlgorithm.choose(authority.public, own) do
      to_be_signed = RevocationList.to_be_signed(list, authority, algorithm.identifier)
      Certificates.signed(hsm, ca_key, authority.public, algorithm, to_be_signed, call)
    end
  end

  @spec verify_signature(hsm, term, Certificates.source(), keyword) :: :ok | {:error, Error.t()}
  def verify_signature(hsm, signed, issuer, opts) do
    {[], call} = Options.split!(opts, :verify_signature)
    signed = binary!(signed, "signed")

    with {:ok, signed} <- signed(signed),
         {:ok, [der | _]} <- Certificates.fetch(hsm, issuer, "issuer"),
         {:ok, fields} <- Fields.read(der, "issuer"),
         by_token = ByToken.verifier(hsm, call),
         {:error, reason, text} <-
           Signature.of_issuer(signed, fields.subject, fields.public_key_info, by_token),
         do: {:error, Error.new(reason, "it " <> text)}
  end

  # DER that is neither is told as what is no certificate.
  defp signed(bytes) do
    with {:error, _no_list} <- RevocationList.Read.read(bytes),
         {:ok, der} <- Certificates.first(bytes, "signed"),
         do: Certificate.signed(der)
  end

  @spec revocation_list(term) :: shown
  def revocation_list(crl) do
    with {:ok, list} <- RevocationList.Read.read(binary!(crl, "crl")), do: {:ok, list.shown}
  end

  @spec certificates(hsm, term, keyword) :: {:ok, [{Key.t(), binary}]} | {:error, Error.t()}
  def certificates(hsm, selector, opts) do
    {[], call} = CallOptions.split!(opts, [], [:timeout, :metadata])

    unless Keyword.keyword?(selector) or (is_map(selector) and not is_struct(selector)),
      do: raise(ArgumentError, "selector: must be attributes, such as [label: \"ca\"]")

    OnToken.list(hsm, selector, call)
  end

  @spec chain(hsm, key, keyword) :: {:ok, [binary, ...]} | {:error, Error.t()}
  def chain(hsm, key, opts) do
    {[], call} = CallOptions.split!(opts, [], [:timeout, :metadata])
    :ok = Certificates.selector!(key, :sign, "key")
    OnToken.chain(hsm, key, call)
  end

  @spec to_pem(binary | tuple | [binary | tuple]) :: String.t()
  def to_pem(ders) do
    Enum.map_join(if(is_list(ders), do: ders, else: [ders]), fn given ->
      der = if is_tuple(given), do: PublicKeyInfo.der(given), else: given
      PEM.encode(der, label!(der))
    end)
  end

  defp label!(der) do
    with :error <- PEM.label(der) do
      text = "der: is no certificate, request, revocation list or public key"
      raise ArgumentError, text
    else
      {:ok, label} -> label
    end
  end

  @spec store(hsm, term, keyword) :: {:ok, Key.t()} | {:error, Error.t()}
  def store(hsm, certificate, attributes) do
    unless Keyword.keyword?(attributes),
      do: raise(ArgumentError, "attributes: must be a keyword list")

    Cryptoki.import_certificate(hsm, certificate, Keyword.put_new(attributes, :token, true))
  end

  ## What is signed

  defp by_authority(hsm, key, authority, issuance, own, call) do
    with {:ok, algorithm} <- SignatureAlgorithm.choose(authority.public, own) do
      issuer = authority.subject

      to_be_signed =
        Certificate.to_be_signed(issuance, issuer, algorithm.identifier, own[:serial])

      Certificates.signed(hsm, key, authority.public, algorithm, to_be_signed, call)
    end
  end

  ## Arguments

  defp binary!(bytes, _argument) when is_binary(bytes), do: bytes
  defp binary!(_other, argument), do: raise(ArgumentError, "#{argument}: must be DER or PEM")

  defp said!(own), do: if(own[:subject], do: Name.encode!(own[:subject], "subject"))

  # An authority has a subject (RFC 5280, section 4.1.2.6), others may have alternative names only.
  defp subject!(own) do
    subject = said!(own) || @nobody

    if subject == @nobody and (own[:ca] == true or own[:subject_alt_name] in [nil, []]),
      do: raise(ArgumentError, "subject: is needed")

    subject
  end
end
