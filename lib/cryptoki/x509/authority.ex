defmodule Cryptoki.X509.Authority do
  @moduledoc false
  # The certificate of who issues: whether it is that of the key, and what it allows.

  alias Cryptoki.{Certificates, DER, Error}
  alias Cryptoki.X509.Extensions

  @enforce_keys [:subject, :public, :identifier, :extensions, :not_after]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          subject: DER.t(),
          public: term,
          identifier: binary,
          extensions: map,
          not_after: DateTime.t()
        }

  @doc "Reads it, and compares it with the key."
  @spec fetch(Cryptoki.hsm(), Cryptoki.key(), Certificates.source()) ::
          {:ok, t} | {:error, Error.t()}
  def fetch(hsm, key, certificate) do
    with {:ok, [der | _]} <- Certificates.fetch(hsm, certificate, "ca_certificate"),
         public = Certificates.public_key!(der, "ca_certificate"),
         fields = Certificates.fields!(der, "ca_certificate"),
         {:ok, extensions} <- extensions(fields),
         :ok <- Certificates.same_key(hsm, key, public) do
      {:ok,
       %__MODULE__{
         subject: fields.subject,
         public: public,
         identifier: identifier(extensions, fields),
         extensions: extensions,
         not_after: fields.not_after
       }}
    end
  end

  defp extensions(fields) do
    with :error <- Extensions.Read.read(fields.extensions),
         do: invalid("the issuer's certificate has extensions that cannot be read")
  end

  # What its certificate says, or what it would say.
  defp identifier(extensions, fields) do
    case Extensions.Read.identifier(extensions) do
      {:ok, identifier} -> identifier
      :error -> Extensions.key_identifier(DER.value(0x30, fields.key))
    end
  end

  @doc "Whether it may issue a certificate with these options."
  @spec allows(t, keyword) :: :ok | {:error, Error.t()}
  def allows(%__MODULE__{} = authority, options) do
    case Extensions.Read.authority(authority.extensions) do
      :error ->
        invalid("the issuer's certificate is not that of an authority")

      {:ok, length} ->
        below(options, length)
    end
  end

  defp below(options, length) do
    wanted = options[:path_len]

    cond do
      options[:ca] != true or length == :unlimited -> :ok
      length == 0 -> invalid("the issuer's certificate allows no authority below it")
      wanted == nil or wanted < length -> :ok
      true -> invalid("path_len: the issuer's certificate allows at most #{length - 1}")
    end
  end

  @doc "When a certificate of it begins and ends: with its own at the latest, which is an error if more was asked for."
  @spec within(t, {DateTime.t(), DateTime.t()}, keyword) ::
          {:ok, {DateTime.t(), DateTime.t()}} | {:error, Error.t()}
  def within(%__MODULE__{not_after: last}, {from, to}, options) do
    asked? = Keyword.has_key?(options, :days) or options[:not_after] != nil

    cond do
      DateTime.compare(from, last) != :lt ->
        invalid("the issuer's certificate has ended by then, at #{last}")

      DateTime.compare(to, last) != :gt ->
        {:ok, {from, to}}

      asked? ->
        invalid("it would outlive the issuer's certificate, which ends at #{last}")

      true ->
        {:ok, {from, last}}
    end
  end

  @doc "Whether it may sign lists of revoked certificates."
  @spec revokes(t) :: :ok | {:error, Error.t()}
  def revokes(%__MODULE__{extensions: extensions}) do
    if Extensions.Read.revokes?(extensions),
      do: :ok,
      else:
        invalid("the issuer's certificate does not allow revocation lists (key usage crl_sign)")
  end

  defp invalid(text), do: {:error, Error.new(:invalid_argument, text)}
end
