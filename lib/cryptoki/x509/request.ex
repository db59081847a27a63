defmodule Cryptoki.X509.Request do
  @moduledoc false
  # Certification requests (RFC 2986): made, and read with their signature verified. Those of others
  # may be any bytes: a bad one is an error, and so is one that asks for what no certificate may have. Pure.

  alias Cryptoki.{DER, Error, PEM, PublicKey, SignatureAlgorithm}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.Info
  alias Cryptoki.SignatureAlgorithm.Identifier
  alias Cryptoki.X509.{AltName, Extensions, Name, Signature}

  @extension_request {1, 2, 840, 113_549, 1, 9, 14}
  # Microsoft's, from before there was the other: the same in every way.
  @extension_requests [@extension_request, {1, 3, 6, 1, 4, 1, 311, 2, 1, 14}]

  @type t :: %{
          required(:subject) => DER.t(),
          required(:text) => String.t(),
          required(:public_key) => PublicKey.otp_key(),
          required(:public_key_info) => DER.t(),
          required(:extensions) => Extensions.Read.by_oid(),
          required(:subject_alt_name) => [AltName.t()],
          optional(atom) => term
        }

  @doc "What is signed of a request."
  @spec info(DER.t(), DER.t(), [Extensions.t()]) :: DER.t()
  def info(subject, public_key_info, extensions) do
    attributes =
      if extensions == [],
        do: [],
        else: [
          DER.sequence([
            DER.oid(@extension_request),
            DER.set_of([Extensions.encode(extensions)])
          ])
        ]

    DER.sequence([DER.integer(0), subject, public_key_info, DER.set_of(attributes, 0xA0)])
  end

  @what "this is no certification request: "

  @doc """
  Reads a request in DER or PEM, looks at what it asks for, and verifies its signature, with `elsewhere` where this
  OTP cannot.
  """
  @spec read(binary, SignatureAlgorithm.elsewhere()) :: {:ok, t} | {:error, Error.t()}
  def read(bytes, elsewhere \\ &SignatureAlgorithm.nowhere/3) do
    case PEM.ders(bytes, :request, 2) do
      {:ok, [der]} ->
        read_der(der, elsewhere)

      {:ok, _several} ->
        {:error, Error.new(:invalid_argument, "there is more than one request in it")}

      {:error, text} ->
        {:error, Error.new(:invalid_argument, @what <> text)}
    end
  end

  defp read_der(der, elsewhere) do
    with {:ok, {request, signed}} <- Reader.read(der, @what, &parts/1),
         :ok <- verify(request.info, signed, elsewhere) do
      algorithm = signed.algorithm.name
      {:ok, request |> Map.delete(:info) |> Map.put(:signature_algorithm, algorithm)}
    end
  end

  defp parts(request) do
    [info, algorithm, signature] = Reader.signed_parts(request)

    [version, subject, key, attributes] =
      Reader.fields(info, [
        {"version", 2},
        {"subject", 0x30},
        {"public key", 0x30},
        {:maybe, 0xA0}
      ])

    if Reader.integer(version) != 0,
      do: Reader.wrong!(version, "it is of a version that is not known", :unsupported)

    key = Info.read(key)
    with {:error, reason, text} <- Info.check(key), do: Reader.refuse!(reason, text)
    name = name(subject)
    {asked, others} = attributes |> attributes() |> Enum.split_with(&asks?/1)
    extensions = extensions(asked)

    request =
      Map.merge(Info.shown(key), %{
        info: key,
        subject: Name.certified(name),
        text: Name.text(name),
        public_key_info: key.der,
        extensions: Extensions.Read.by_oid(extensions),
        raw: Extensions.Read.raw(extensions),
        attributes: for({oid, values} <- others, do: {oid, Enum.map(values, & &1.der)})
      })

    known = Extensions.Read.known(extensions, &AltName.checked/1)
    algorithm = Identifier.read(algorithm)
    signed = %{signed: info.der, algorithm: algorithm, signature: Reader.bytes(signature)}
    {Map.merge(request, known), signed}
  end

  defp name(subject) do
    name = Name.read(subject)

    with {:error, text} <- Name.check(name),
         do: Reader.refuse!(:invalid_argument, "subject: " <> text)

    name
  end

  @shown ~w(subject_alt_name public_key key signature_algorithm attributes ca path_len key_usage
             extended_key_usage
             crl_urls delta_crl_urls ocsp_url ca_issuers_url policies name_constraints ocsp_nocheck)a

  @doc "What users see of a request."
  @spec shown(t) :: map
  def shown(request) do
    request
    |> Map.take(@shown)
    |> Map.merge(%{subject: request.text, extensions: request.raw})
  end

  ## Attributes

  # Some leave out that there are none.
  defp attributes(nil), do: []

  defp attributes(attributes) do
    for {attribute, number} <- Enum.with_index(Reader.values(attributes), 1) do
      attribute = Reader.name(attribute, "attribute #{number}")
      [oid, values] = Reader.fields(Reader.is!(attribute, 0x30), [6, 0x31])
      :ok = Reader.check(values)
      {Reader.oid(oid), Reader.set(values)}
    end
  end

  defp asks?({oid, _values}), do: oid in @extension_requests

  defp extensions([]), do: []

  defp extensions([{_oid, [extensions]}]) do
    list = Extensions.Read.list(Reader.name(extensions, "extensions"))
    # What is asked for in something else than DER cannot be certified.
    for {_oid, _critical, value} <- list, do: value |> Reader.within() |> Reader.check()
    nobody!(list)
    list
  end

  # Which of them counts is not said anywhere.
  defp extensions(_several_or_none) do
    text = "the request asks for extensions more than once, or in more lists than one, or in none"
    Reader.refuse!(:invalid_argument, text)
  end

  @subject_alt_name {2, 5, 29, 17}

  defp nobody!(list) do
    with {_oid, _critical, value} <- List.keyfind(list, @subject_alt_name, 0),
         [] <- Reader.values(Reader.within(value)),
         do:
           Reader.refuse!(
             :invalid_argument,
             "subject_alt_name: there are alternative names, but none"
           )
  end

  ## The signature

  defp verify(key, signed, elsewhere) do
    with {:error, reason, text} <- Signature.verify(key, signed, "its own key", elsewhere),
         do: {:error, Error.new(reason, "the request " <> text)}
  end
end
