defmodule Cryptoki.X509.Issuance do
  @moduledoc false
  # What an authority is about to sign for somebody: everything but serial number and signature. It is
  # shown before, and told of after.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.{AltName, Authority, Extensions, Name, Validity}
  alias Cryptoki.X509.Extensions.Names

  require Logger

  @nobody DER.sequence([])

  @type t :: %{
          holder: Extensions.holder(),
          valid: {DateTime.t(), DateTime.t()},
          extensions: [Extensions.t()],
          warnings: [{atom, String.t()}]
        }

  @doc "Whom options speak of."
  @spec holder(DER.t(), DER.t(), keyword) :: Extensions.holder()
  def holder(subject, info, own),
    do: %{subject: subject, info: info, names: Extensions.alt_names!(own[:subject_alt_name])}

  @doc "The same of a request, where options say nothing else."
  @spec holder(DER.t() | nil, map, map, keyword) :: Extensions.holder()
  def holder(said, request, choice, own) do
    holder = holder(said || request.subject, request.public_key_info, own)
    if own[:subject_alt_name], do: holder, else: %{holder | names: choice.names}
  end

  @doc "What such an authority makes of somebody and options, or why it does not."
  @spec new(Authority.t(), Extensions.holder(), keyword) :: {:ok, t} | {:error, Error.t()}
  def new(authority, holder, options) do
    valid = Validity.period!(options, :not_before, :not_after, 365)

    with :ok <- Authority.issues(authority, options),
         :ok <- named(holder, options),
         :ok <- Authority.names(authority, holder, options),
         {:ok, valid} <- Authority.within(authority, valid, options),
         {:ok, extensions} <- Extensions.certificate(options, holder) do
      identifier = Extensions.authority_key_identifier(authority.identifier)
      warnings = warnings(holder, options) ++ early(authority, valid)
      issuance = %{holder: holder, valid: valid, warnings: warnings}
      {:ok, Map.put(issuance, :extensions, extensions ++ [identifier])}
    end
  end

  # An authority has a subject (RFC 5280, section 4.1.2.6), others may have alternative names only.
  defp named(%{subject: @nobody} = holder, options) do
    if options[:ca] == true or holder.names == [],
      do: {:error, Error.new(:invalid_argument, "the request names nobody; give subject:")},
      else: :ok
  end

  defp named(_holder, _options), do: :ok

  @doc "What programs will not like of a certificate, or of one that is made of such a request."
  @spec warnings(Extensions.holder(), keyword) :: [{atom, String.t()}]
  def warnings(holder, options) do
    if Extensions.server?(options, holder) and not Extensions.for_hosts?(holder),
      do: [
        no_alternative_name:
          "a server's certificate without alternative names is accepted by few programs: give subject_alt_name:"
      ],
      else: []
  end

  defp early(authority, {from, _to}) do
    if DateTime.compare(from, authority.not_before) == :lt,
      do: [
        begins_early:
          "it begins before the certificate of its issuer, which is valid from #{authority.not_before}"
      ],
      else: []
  end

  ## Of what was asked for

  @doc """
  The alternative names of a request, copied and dropped, as they are read and as `GeneralName`s; and the
  other extensions, which never are copied.
  """
  @spec choose(map, keyword) :: %{copied: list, dropped: list, names: [DER.t()]}
  def choose(request, options) do
    {copied, dropped} =
      Enum.split_with(names(request), fn {name, _der} -> copy?(elem(name, 0), options) end)

    extensions =
      for oid <- Map.keys(request.extensions), oid != Names.oid(:subject_alt_name) do
        {:extension, Names.extension(oid)}
      end

    %{
      copied: Enum.map(copied, &elem(&1, 0)),
      dropped: Enum.map(dropped, &elem(&1, 0)) ++ extensions,
      names: Enum.map(copied, &elem(&1, 1))
    }
  end

  defp names(request) do
    with {_critical, der} <- request.extensions[Names.oid(:subject_alt_name)],
         {:ok, names} <- Reader.read(der, "", &Reader.sequence/1),
         do: Enum.zip(request.subject_alt_name, Enum.map(names, & &1.der)),
         else: (_none -> [])
  end

  defp copy?(kind, options) do
    cond do
      options[:subject_alt_name] -> false
      is_list(options[:copy]) -> kind in options[:copy]
      options[:copy] == false -> false
      true -> kind in AltName.kinds()
    end
  end

  ## Telling

  @doc "What a request becomes, for who looks at it."
  @spec review(t, map, %{copied: list, dropped: list, names: [DER.t()]}) ::
          {:ok, map} | {:error, Error.t()}
  def review(issuance, request, choice) do
    {from, to} = issuance.valid

    with {:ok, subject} <- Name.shown(issuance.holder.subject),
         {:ok, names} <- AltName.read(DER.sequence(issuance.holder.names)) do
      {:ok,
       %{
         subject: subject,
         subject_alt_name: names,
         public_key: request.public_key,
         key: request.key,
         copied: choice.copied,
         dropped: choice.dropped,
         warnings: issuance.warnings,
         not_before: from,
         not_after: to,
         extensions:
           for({oid, critical, der} <- issuance.extensions, do: {oid, der, critical: critical})
       }}
    end
  end

  @doc "One line of the log, when something was dropped that somebody was to be called, or will not please."
  @spec tell(Cryptoki.hsm(), String.t(), list, [{atom, String.t()}]) :: :ok
  def tell(hsm, function, dropped, warnings) do
    names = for name <- dropped, elem(name, 0) != :extension, do: inspect(name)

    left =
      if names == [], do: [], else: ["not copied from the request: #{Enum.join(names, ", ")}"]

    told = left ++ for {_name, text} <- warnings, do: text

    if told != [] do
      Logger.warning(fn ->
        "cryptoki #{inspect(hsm)}: X509.#{function}: #{Enum.join(told, "; ")}"
      end)
    end

    :ok
  end
end
