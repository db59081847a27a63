defmodule Cryptoki.X509.Authority do
  @moduledoc false
  # The certificate of who issues: whether it is that of the key, and what it allows (RFC 5280, sections
  # 4.2.1.3, 4.2.1.9, 4.2.1.10, 4.2.1.12 and 6.1.4, as far as a signer can know).

  alias Cryptoki.{Certificates, DER, Error}
  alias Cryptoki.X509.{Certificate, Chain, Extensions, Fields, NameConstraints, Policies}
  alias Cryptoki.X509.Extensions.{Names, Read}

  @enforce_keys ~w(subject root? public public_key_info identifier extensions not_before not_after)a
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          subject: DER.t(),
          root?: boolean,
          public: term,
          public_key_info: DER.t(),
          identifier: binary,
          extensions: map,
          not_before: DateTime.t(),
          not_after: DateTime.t()
        }

  @nobody DER.sequence([])

  # What is looked at here, and what says nothing of what may be issued.
  @understood Enum.map(
                ~w(key_usage basic_constraints extended_key_usage name_constraints policies policy_mappings
                   policy_constraints inhibit_any_policy subject_alt_name issuer_alt_name
                   subject_key_identifier authority_key_identifier crl_urls access)a,
                &Names.oid/1
              )

  @doc "Reads it, and compares it with the key."
  @spec fetch(Cryptoki.hsm(), Cryptoki.key(), Certificates.source()) ::
          {:ok, t} | {:error, Error.t()}
  def fetch(hsm, key, certificate) do
    with {:ok, authority} <- read(hsm, certificate),
         :ok <- Certificates.same_key(hsm, key, authority.public),
         do: {:ok, authority}
  end

  @doc "Reads it."
  @spec read(Cryptoki.hsm(), Certificates.source(), argument :: String.t()) ::
          {:ok, t} | {:error, Error.t()}
  def read(hsm, certificate, argument \\ "ca_certificate") do
    with {:ok, [der | _]} <- Certificates.fetch(hsm, certificate, argument),
         {:ok, public} <- Certificates.public_key(der, argument),
         {:ok, fields} <- Fields.read(der, argument),
         {:ok, {not_before, not_after}} <- Certificate.validity(fields.validity),
         {:ok, extensions} <- Read.read(fields.extensions) do
      {:ok,
       %__MODULE__{
         subject: fields.subject,
         root?: Chain.root?(der),
         public: public,
         public_key_info: fields.public_key_info,
         identifier: identifier(extensions, fields),
         extensions: extensions,
         not_before: not_before,
         not_after: not_after
       }}
    end
  end

  # What its certificate says, or what it would say.
  defp identifier(extensions, fields) do
    case Read.identifier(extensions) do
      {:ok, identifier} -> identifier
      :error -> Extensions.key_identifier(fields.public_key_info)
    end
  end

  @doc "Whether it may issue certificates with these options at all, whoever they are for."
  @spec issues(t, keyword) :: :ok | {:error, Error.t()}
  def issues(%__MODULE__{} = authority, options) do
    with :ok <- signs(authority, &Read.authority/1),
         {:ok, length} = Read.authority(authority.extensions),
         nil <- too_deep(options, length),
         nil <- for_another_purpose(authority, options),
         nil <- policies(authority, options) do
      :ok
    else
      {:error, error} -> {:error, error}
      text -> invalid(text)
    end
  end

  @doc "Whether it may sign lists of revoked certificates."
  @spec revokes(t) :: :ok | {:error, Error.t()}
  def revokes(%__MODULE__{} = authority) do
    with :ok <- signs(authority, &Read.basic_constraints/1) do
      if Read.revokes?(authority.extensions),
        do: :ok,
        else:
          invalid("the issuer's certificate does not allow revocation lists (key usage crl_sign)")
    end
  end

  @doc "Whether it may answer for its certificates: any authority may (RFC 6960, section 4.2.2.2)."
  @spec answers(t) :: :ok | {:error, Error.t()}
  def answers(%__MODULE__{} = authority), do: signs(authority, &Read.basic_constraints/1)

  @doc "Whether a certificate, that of an authority or another, holds now."
  @spec now(t) :: :ok | {:error, Error.t()}
  def now(%__MODULE__{not_before: from, not_after: to}) do
    now = DateTime.utc_now()

    cond do
      DateTime.compare(now, to) == :gt -> invalid("the certificate has ended, at #{to}")
      DateTime.compare(now, from) == :lt -> invalid("the certificate begins later, at #{from}")
      true -> :ok
    end
  end

  # What holds for whatever it signs, now.
  defp signs(authority, constraints) do
    critical = for {oid, {true, _der}} <- authority.extensions, oid not in @understood, do: oid

    cond do
      constraints.(authority.extensions) == :error ->
        invalid("the issuer's certificate is not that of an authority")

      authority.subject == @nobody ->
        invalid("the issuer's certificate has no subject, which would be the issuer's name")

      critical != [] ->
        invalid(
          "the issuer's certificate has a critical extension that is not known here: #{DER.dotted(hd(critical))}"
        )

      DateTime.compare(DateTime.utc_now(), authority.not_after) == :gt ->
        invalid("the issuer's certificate has ended, at #{authority.not_after}")

      true ->
        :ok
    end
  end

  defp too_deep(options, length) do
    wanted = options[:path_len]

    cond do
      options[:ca] != true or length == :unlimited -> nil
      length == 0 -> "the issuer's certificate allows no authority below it"
      wanted == nil or wanted < length -> nil
      true -> "path_len: the issuer's certificate allows at most #{length - 1}"
    end
  end

  # Programs want the purposes of a chain in each certificate of it; answers of OCSP are by whom the
  # authority itself says.
  defp for_another_purpose(authority, options) do
    {asked, _critical} = options[:extended_key_usage] || {[], nil}

    case Read.purposes(authority.extensions) do
      {:ok, allowed} ->
        if :any not in allowed do
          with [purpose | _] <- (asked -- allowed) -- [:ocsp_signing],
               do:
                 "extended_key_usage: the issuer's certificate does not allow #{inspect(purpose)}",
               else: ([] -> nil)
        end

      :none ->
        nil

      :error ->
        "the issuer's certificate has an extended key usage that cannot be read"
    end
  end

  # Those of a root count for nobody (RFC 5280, section 6.1.1).
  defp policies(%{root?: true}, _options), do: nil
  defp policies(authority, options), do: Policies.refused(authority.extensions, options)

  @doc "Whether it may issue for such names."
  @spec names(t, Extensions.holder(), keyword) :: :ok | {:error, Error.t()}
  def names(%__MODULE__{} = authority, holder, options) do
    own_key? = options[:ca] == true and holder.subject == authority.subject

    with {_critical, constraints} when not own_key? <-
           authority.extensions[Names.oid(:name_constraints)],
         text when text != nil <-
           NameConstraints.refused(constraints, holder.subject, holder.names),
         do: invalid(text),
         else: (_nothing_to_say -> :ok)
  end

  @doc """
  When a certificate of it begins and ends: not before its own and not after, unless other times were
  asked for, of which the end is an error then.
  """
  @spec within(t, {DateTime.t(), DateTime.t()}, keyword) ::
          {:ok, {DateTime.t(), DateTime.t()}} | {:error, Error.t()}
  def within(%__MODULE__{not_after: last} = authority, {from, to}, options) do
    asked? = options[:days] != nil or options[:not_after] != nil
    from = if options[:not_before], do: from, else: latest(from, authority.not_before)

    cond do
      DateTime.compare(from, last) != :lt ->
        invalid("the issuer's certificate has ended by then, at #{last}")

      DateTime.compare(from, to) != :lt ->
        invalid("the issuer's certificate begins after that, at #{authority.not_before}")

      DateTime.compare(to, last) != :gt ->
        {:ok, {from, to}}

      asked? ->
        invalid("it would outlive the issuer's certificate, which ends at #{last}")

      true ->
        {:ok, {from, last}}
    end
  end

  defp latest(one, other), do: if(DateTime.compare(one, other) == :lt, do: other, else: one)

  defp invalid(text), do: {:error, Error.new(:invalid_argument, text)}
end
