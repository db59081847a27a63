defmodule Cryptoki.Timestamp.Authority do
  @moduledoc false
  # Who stamps: requests looked at first, then the signature (RFC 3161, section 2.4).

  alias Cryptoki.{Certificates, DER, Error}
  alias Cryptoki.CMS.{SignedData, Signer}
  alias Cryptoki.Timestamp.{Info, Request, Response, Token}
  alias Cryptoki.X509.{Authority, Certificate, Fields, OnToken, Validity}

  @signed_data {1, 2, 840, 113_549, 1, 7, 2}

  @type who :: {Cryptoki.hsm(), Cryptoki.key(), OnToken.source()}

  @doc "What `Cryptoki.Timestamp.respond/5` does."
  @spec respond(who, binary, keyword, keyword) :: {:ok, DER.t()} | {:error, Error.t()}
  def respond(who, request, own, call) do
    with {:ok, request} <- Request.read(request),
         :ok <- acceptable(request, own) do
      stamp(who, request, own, call)
    else
      {:refused, failure, text} ->
        {:ok, Response.refused(failure, text)}

      {:error, %Error{reason: :unsupported, detail: text}} ->
        {:ok, Response.refused(:bad_request, text)}

      {:error, %Error{detail: text}} ->
        {:ok, Response.refused(:bad_data_format, text)}
    end
  end

  defp acceptable(request, own) do
    cond do
      is_tuple(request.hash) ->
        {:refused, :bad_alg, "the hash is broken or not known here"}

      request.policy not in [nil, own[:policy] | own[:policies]] ->
        {:refused, :unaccepted_policy, "there is no such policy here"}

      request.extensions? ->
        {:refused, :unaccepted_extension, "no extension is known here"}

      true ->
        :ok
    end
  end

  defp stamp({hsm, key, certificate}, request, own, call) do
    with {:ok, signer} <- Signer.fetch({hsm, key, certificate, "certificate"}, own),
         {:ok, fields} <- Fields.read(hd(signer.certificates)),
         :ok <- for_this(hsm, hd(signer.certificates)),
         :ok <- Certificates.same_key(hsm, key, signer.public),
         time = Validity.time!(own[:time] || Validity.now(), :time),
         content = content(request, fields, time, own),
         digests = %{signer.hash => :crypto.hash(signer.hash, content)},
         attributes = [signing_time: time, attributes: []],
         {:ok, info} <- Signer.info(signer, digests, Token.type(), attributes, call) do
      certificates = if request.certificates?, do: Enum.uniq(signer.certificates), else: []
      algorithms = [signer.digest_algorithm]
      signed = SignedData.encode(Token.type(), content, algorithms, certificates, [info])
      token = DER.sequence([DER.oid(@signed_data), DER.explicit(0, signed)])
      {:ok, Response.granted(token)}
    end
  end

  defp for_this(hsm, der) do
    with {:ok, certificate} <- Authority.read(hsm, der, "certificate"),
         :ok <- Authority.now(certificate) do
      if Token.for_this?(certificate.extensions),
        do: :ok,
        else:
          {:error, Error.new(:invalid_argument, "certificate: it is not for time stamps alone")}
    end
  end

  defp content(request, fields, time, own) do
    Info.encode(%{
      policy: request.policy || own[:policy],
      imprint: request.imprint,
      serial: own[:serial] || Certificate.serial(),
      time: time,
      accuracy: own[:accuracy],
      ordering: own[:ordering],
      nonce: request.nonce,
      tsa: if(own[:tsa], do: Token.tsa(fields.subject))
    })
  end
end
