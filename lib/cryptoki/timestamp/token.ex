defmodule Cryptoki.Timestamp.Token do
  @moduledoc false
  # A time stamp of others (RFC 3161, section 2.4.2; RFC 5816): read, and whether it is one of what was asked for,
  # signed by a key that is for this and nothing else. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.CMS.{Form, SignedData}
  alias Cryptoki.DER.Reader
  alias Cryptoki.Timestamp.{Info, Request, Response}
  alias Cryptoki.X509.{Extensions, Fields}
  alias Cryptoki.X509.Extensions.Names
  alias Cryptoki.X509.NameConstraints.Subtree

  @info {1, 2, 840, 113_549, 1, 9, 16, 1, 4}
  # With a hash that it names, and with SHA-1.
  @certificate_v2 {1, 2, 840, 113_549, 1, 9, 16, 2, 47}
  @certificate_v1 {1, 2, 840, 113_549, 1, 9, 16, 2, 12}
  @extended_key_usage Names.oid(:extended_key_usage)
  @subject_alt_name Names.oid(:subject_alt_name)

  @type t :: %{
          der: DER.t(),
          info: Info.t(),
          content: DER.t(),
          certificates: [DER.t()],
          signer: SignedData.Read.signer()
        }
  @type asked :: %{
          required(:hash) => atom,
          required(:digest) => binary,
          optional(:nonce) => integer | nil,
          optional(:policy) => DER.oid() | nil
        }

  @doc "The type of what is signed."
  @spec type() :: DER.oid()
  def type, do: @info

  @what "this is no time stamp: "
  @most 1_048_576

  @doc "The token in an answer, or in itself. Authorities write BER too, as CMS allows."
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(bytes) do
    with {:ok, {:refused, error}} <- Form.read(bytes, @what, &answer/1, @most),
         do: {:error, error}
  end

  defp answer(answer) do
    with {:token, token} <- Response.token(answer), do: token(token)
  end

  defp token(token) do
    signed = SignedData.Read.content_info(Reader.name(token, "token"))
    if signed.type != @info, do: Reader.wrong!(token, "what is signed is no time stamp")
    if signed.content == nil, do: Reader.wrong!(token, "what is signed is not in it")

    case signed.signers do
      [signer] ->
        %{
          der: token.der,
          info: info(signed.content),
          content: signed.content,
          certificates: signed.certificates,
          signer: signer
        }

      _signers ->
        Reader.wrong!(token, "it has other than one signer")
    end
  end

  defp info(content) do
    case Reader.read(content, @what, &Info.read/1) do
      {:ok, info} -> info
      {:error, error} -> Reader.refuse!(error.reason, error.detail)
    end
  end

  @doc "Whether it is of what was asked for."
  @spec answers(t, asked) :: :ok | {:error, Error.t()}
  def answers(%{info: info}, asked) do
    cond do
      is_tuple(info.hash) ->
        {:error,
         Error.new(:unsupported, "the time stamp has a hash that is broken, or not known here")}

      not Request.same?(info, asked) ->
        invalid("it is of other data, or by another hash")

      asked[:nonce] != nil and info.nonce != asked[:nonce] ->
        invalid("its nonce is another one")

      asked[:policy] not in [nil, info.policy] ->
        invalid("it is by another policy")

      true ->
        :ok
    end
  end

  @doc "The certificate of who signed it, among its own and others, when it is signed as it should be."
  @spec signed(t, [DER.t()]) :: {:ok, DER.t()} | {:error, Error.t()}
  def signed(%{signer: signer} = token, others) do
    with {:ok, certificate} <- SignedData.Read.certificate(signer, token.certificates ++ others),
         true <- named?(signer.attributes, certificate) || "it is signed for another certificate",
         {:ok, fields} <- Fields.read(certificate),
         {:ok, extensions} <- Extensions.Read.read(fields.extensions),
         true <- for_this?(extensions) || "its signer's certificate is not for time stamps alone",
         true <-
           Extensions.Read.signs?(extensions) || "its signer's certificate is not for signatures",
         true <-
           by?(token.info.tsa, fields, extensions) || "it has the name of another authority",
         :ok <- SignedData.Read.signed(signer, @info, token.content, certificate) do
      {:ok, certificate}
    else
      :error -> invalid("the certificate of its signer is not there")
      text when is_binary(text) -> invalid(text)
      {:error, %Error{} = error} -> {:error, error}
      {:error, reason, text} -> {:error, Error.new(reason, "the time stamp " <> text)}
    end
  end

  @doc "Whether a certificate with these extensions is for this: its one purpose, critical (RFC 3161, section 2.3)."
  @spec for_this?(Extensions.Read.by_oid()) :: boolean
  def for_this?(extensions) do
    match?({true, _der}, extensions[@extended_key_usage]) and
      Extensions.Read.purposes(extensions) == {:ok, [:time_stamping]}
  end

  # By the hash of it, which is signed (RFC 5816, section 2.2.1): whose key it is cannot be said anew.
  defp named?(attributes, certificate) do
    case {attributes[@certificate_v2], attributes[@certificate_v1]} do
      {[der], _} -> hashed?(der, certificate, &v2/1)
      {nil, [der]} -> hashed?(der, certificate, &v1/1)
      _none -> false
    end
  end

  defp hashed?(der, certificate, read) do
    case Reader.read(der, "", fn attribute -> read.(first(attribute)) end) do
      {:ok, {hash, digest}} -> :crypto.hash(hash, certificate) == digest
      {:error, _error} -> false
    end
  end

  # Of several the first is that of the signer.
  defp first(attribute) do
    [ids | _policies] = Reader.sequence(attribute)

    case Reader.sequence(ids) do
      [id | _others] -> id
      [] -> Reader.wrong!(ids, "there is none")
    end
  end

  defp v1(id) do
    [digest, _issuer] = Reader.fields(Reader.is!(id, 0x30), [4, {:maybe, 0x30}])
    {:sha, Reader.octets(digest)}
  end

  defp v2(id) do
    [algorithm, digest, _issuer] =
      Reader.fields(Reader.is!(id, 0x30), [{:maybe, 0x30}, 4, {:maybe, 0x30}])

    hash = if algorithm, do: Request.hash(algorithm), else: :sha256
    if is_tuple(hash), do: Reader.wrong!(algorithm, "a hash that is not known here")
    {hash, Reader.octets(digest)}
  end

  # A hint only, but none that misleads.
  defp by?(nil, _fields, _extensions), do: true

  defp by?(%{tag: 0xA4} = name, fields, extensions) do
    case Reader.read(name.der, "", &Reader.only(&1).der) do
      {:ok, subject} -> Subtree.same?(subject, fields.subject) or alt_name?(name, extensions)
      {:error, _error} -> false
    end
  end

  defp by?(name, _fields, extensions), do: alt_name?(name, extensions)

  defp alt_name?(name, extensions) do
    read = &for(one <- Reader.sequence(&1), do: one.der)

    with {:ok, names} <- Extensions.Read.ask(extensions, @subject_alt_name, read),
         do: name.der in names,
         else: (_none -> false)
  end

  @doc "What users see of it."
  @spec shown(t, DER.t()) :: map
  def shown(%{der: der, info: info}, certificate) do
    info
    |> Map.take(~w(hash digest policy serial time accuracy ordering nonce)a)
    |> Map.merge(%{tsa: info.tsa_shown, certificate: certificate, token: der})
  end

  @doc "The name of an authority in a stamp: the subject of its certificate."
  @spec tsa(DER.t()) :: DER.t()
  def tsa(subject), do: DER.value(0xA4, subject)

  defp invalid(text), do: {:error, Error.new(:signature_invalid, "the time stamp: " <> text)}
end
