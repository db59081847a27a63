defmodule Cryptoki.Timestamp do
  alias Cryptoki.{CallOptions, Certificates, Chunks, Error}
  alias Cryptoki.Options.Table
  alias Cryptoki.Timestamp.{Authority, Options, Request, Token}
  alias Cryptoki.X509.{Certificate, Chain, OnToken}

  @moduledoc """
  Time stamps (RFC 3161, RFC 5816): that data were there at a time, signed by an authority. Both sides of it, with
  the authority's key on the token; what goes between them over HTTP (`application/timestamp-query` and
  `application/timestamp-reply`, section 3.4) is for the programs around it.

      request = Cryptoki.Timestamp.request(File.read!("contract.pdf"))
      {:ok, response} = MyApp.post("https://tsa.acme.test", request)
      {:ok, stamp} = Cryptoki.Timestamp.verify(response, request, trusted: File.read!("tsa-root.pem"))
      stamp.time

  `Cryptoki.CMS.sign/5` puts one into a signature (`timestamp:`).
  """

  import Cryptoki.Bang, only: [bang: 1]

  @type hsm :: Cryptoki.hsm()
  @type key :: Cryptoki.key()
  @type opts :: keyword | map
  @type data :: iodata | {:stream, Enumerable.t()}
  @typedoc "Of a certificate, and others to go along, as in `Cryptoki.CMS.sign/5`."
  @type certificate :: Cryptoki.CMS.certificate()
  @typedoc "What was stamped: the request, or the data that a stamp was kept for."
  @type stamped :: (request :: binary) | {:data, data}

  @doc """
  A request for a stamp of data (RFC 3161, section 2.4.1), of which a digest is sent: DER.

  #{Table.docs(Options.request())}

      iex> <<0x30, _size, 2, 1, 1, _rest::binary>> = Cryptoki.Timestamp.request("text")
      iex> Cryptoki.Timestamp.request("text", nonce: 7) == Cryptoki.Timestamp.request(["te", "xt"], nonce: 7)
      true
  """
  @spec request(data, opts) :: binary
  def request(data, opts \\ []) do
    {own, []} = CallOptions.split!(opts, Options.request(), [])
    digest = Chunks.digest(own[:hash], Chunks.data!(data))
    Request.encode(own[:hash], digest, own[:policy], nonce(own[:nonce]), own[:certificates])
  end

  # Hard to guess, as serial numbers are.
  defp nonce(true), do: Certificate.serial()
  defp nonce(false), do: nil
  defp nonce(number), do: number

  @doc """
  Answers a request, which may be any bytes, by the key of a time stamping authority and its certificate.

  The certificate is for `:time_stamping` alone, critical (`Cryptoki.X509.issue/5` makes it so); with more than
  one, that of the key is the first, and who asks for them gets all.

  #{Table.docs(Options.respond())}
    * `timeout:`, `pin:` and `metadata:` as in `Cryptoki.sign/5`

  What is wrong with a request is an answer as well, in `{:ok, der}`, and the token is not asked then:
  `badDataFormat`, `badRequest` (another version), `badAlg` (a hash that is broken, such as SHA-1, or not known),
  `unacceptedPolicy`, `unacceptedExtension` (any).

  Errors: `:invalid_argument` for a certificate that is not for time stamps, does not hold now, or is not of this
  key; and those of `Cryptoki.certificate/3` and `Cryptoki.sign/5`. PKCS #11 v3.2, section 5.13 (C_Sign).

      iex> {:ok, der} = Cryptoki.Timestamp.respond(MyApp.HSM, [label: "contract"], [label: "contract"], "?", policy: {1, 2, 3})
      iex> der =~ "this is no time stamp request"
      true
  """
  @spec respond(hsm, key, certificate, request :: binary, opts) ::
          {:ok, binary} | {:error, Error.t()}
  def respond(hsm, key, certificate, request, opts) do
    {own, call} = CallOptions.split!(opts, Options.respond())
    unless is_binary(request), do: raise(ArgumentError, "request: must be the bytes of one")
    :ok = OnToken.source!(certificate, "certificate")
    :ok = Certificates.selector!(key, :sign, "key")
    Authority.respond({hsm, key, certificate}, request, own, call)
  end

  bang(respond(hsm, key, certificate, request :: binary, opts) :: binary)

  @doc """
  Whether an answer, or the token in one that was kept, is a stamp of what was asked for, or of data: in DER, BER or
  PEM. No token is asked.

  #{Table.docs(Options.verify())}

  It answers a map: `:time`, in UTC; `:accuracy` (`nil`, or a map of `:seconds`, `:millis` and `:micros`),
  `:ordering`, `:serial`, `:policy`, `:hash`, `:digest`, `:nonce`; `:tsa` the name of the authority, if it has one;
  `:certificate` which signed it, and `:token` the DER to keep.

  All certificates hold now, and the first is for time stamps alone. Whether one is revoked is not looked at.

  Errors: `:signature_invalid` for a stamp of something else, with another nonce or policy than asked for, or not signed
  by whom the trusted certificates lead to; `:unsupported` for hashes and algorithms that are broken or not known;
  `:invalid_argument` for what is no stamp. When the authority refused: `:busy` when it may answer later,
  `:unsupported` for an algorithm, a policy or an extension, `:invalid_argument` for what it cannot read.

      iex> {:error, error} = Cryptoki.Timestamp.verify(<<0x30, 5, 0x30, 3, 2, 1, 2>>, {:data, "text"}, trusted: [])
      iex> {error.reason, error.detail}
      {:unsupported, "the time stamping authority refused: it does not say why"}
  """
  @spec verify(binary, stamped, opts) :: {:ok, map} | {:error, Error.t()}
  def verify(response, stamped, opts) do
    {own, []} = CallOptions.split!(opts, Options.verify(), [])
    unless is_binary(response), do: raise(ArgumentError, "response: must be the bytes of one")
    stamped = stamped!(stamped)

    with {:ok, trusted} <- given(own[:trusted], "trusted"),
         {:ok, others} <- given(own[:certificates], "certificates"),
         {:ok, token} <- Token.read(response),
         {:ok, asked} <- asked(stamped, token),
         :ok <- Token.answers(token, asked),
         {:ok, certificate} <- Token.signed(token, others ++ trusted) do
      case Chain.trusted(certificate, token.certificates ++ others, trusted) do
        :ok ->
          {:ok, Token.shown(token, certificate)}

        {:error, text} ->
          {:error, Error.new(:signature_invalid, "the certificate of its signer: " <> text)}
      end
    end
  end

  bang(verify(response :: binary, stamped :: stamped, opts) :: map)

  defp stamped!({:data, data}), do: {:data, Chunks.data!(data)}
  defp stamped!(request) when is_binary(request), do: request
  defp stamped!(_other), do: raise(ArgumentError, "stamped: must be a request or {:data, data}")

  # Of data with the hash that the stamp has.
  defp asked({:data, data}, %{info: %{hash: hash}}) when is_atom(hash),
    do: {:ok, %{hash: hash, digest: Chunks.digest(hash, data)}}

  # Which is refused.
  defp asked({:data, _data}, %{info: info}), do: {:ok, info}

  defp asked(request, _token), do: Request.read(request)

  # One, several, or none.
  defp given([], _name), do: {:ok, []}

  defp given(certificates, name) do
    all = List.wrap(certificates)

    unless all != [] and Enum.all?(all, &is_binary/1),
      do: raise(ArgumentError, "#{name}: must be certificates, DER or PEM")

    Certificates.fetch(nil, all, name)
  end
end
