defmodule Cryptoki.X509.OCSP do
  @moduledoc false
  # Answers whether certificates are revoked (RFC 6960). What is wrong with a request is an answer, too.

  alias Cryptoki.{Certificates, Error, SignatureAlgorithm}
  alias Cryptoki.X509.Extensions.Names
  alias Cryptoki.X509.OCSP.{Request, Responder, Response}
  alias Cryptoki.X509.{Options, Validity}

  @reasons Names.reasons()

  @doc "What `Cryptoki.X509.ocsp_response/6` does."
  @spec respond(
          Cryptoki.hsm(),
          Cryptoki.key(),
          Certificates.source(),
          term,
          term,
          keyword | map
        ) :: {:ok, binary} | {:error, Error.t()}
  def respond(hsm, key, certificate, request, fun, opts) do
    {own, call} = Options.split!(opts, :ocsp_response)
    times = times!(own)
    :ok = Certificates.source!(certificate, "certificate")
    :ok = Certificates.selector!(key, :sign, "key")

    unless is_function(fun, 1),
      do: raise(ArgumentError, "fun: must be a function of a serial number")

    case is_binary(request) && Request.read(request) do
      false ->
        raise ArgumentError, "request: must be the bytes of one"

      {:ok, request} ->
        with {:ok, responder} <- Responder.fetch(hsm, key, certificate),
             {:ok, algorithm} <- SignatureAlgorithm.choose(responder.public, own) do
          request
          |> answers(responder.issuer, fun)
          |> answer(
            request.nonce,
            responder,
            times,
            &sign(hsm, key, responder, algorithm, &1, call)
          )
        end

      {:error, _no_request} ->
        {:ok, Response.refusal(:malformed_request)}
    end
  end

  @doc "What `Cryptoki.X509.ocsp_request/1` shows."
  @spec request(term) :: {:ok, map} | {:error, Error.t()}
  def request(bytes) when is_binary(bytes) do
    with {:ok, request} <- Request.read(bytes), do: {:ok, Request.shown(request)}
  end

  def request(_other), do: raise(ArgumentError, "request: must be the bytes of one")

  # A second ago, as everywhere: clients whose clock is behind.
  defp times!(own) do
    now = Validity.now()
    this = Validity.time!(own[:this_update] || DateTime.add(now, -1), :this_update)
    next = own[:next_update] && Validity.time!(own[:next_update], :next_update)

    cond do
      next && DateTime.compare(now, next) != :lt ->
        raise ArgumentError, "next_update: was at #{next}, before now"

      next && DateTime.compare(this, next) != :lt ->
        raise ArgumentError, "next_update: must be later than this_update:"

      true ->
        %{produced_at: now, this_update: this, next_update: next}
    end
  end

  # Of another issuer nobody here knows anything; who asks about such only is told so without a signature.
  defp answers(%{ids: ids}, issuer, fun) do
    ours = for id <- ids, do: {id, Request.of?(id, issuer.name, issuer.key)}

    if Enum.any?(ours, &elem(&1, 1)),
      do: for({id, ours?} <- ours, do: {id, if(ours?, do: status!(fun, id), else: :unknown)}),
      else: :unauthorized
  end

  defp status!(fun, %{serial: serial}) do
    case fun.(serial) do
      status when status in [:good, :unknown, :try_later] ->
        status

      {:revoked, %DateTime{} = at} ->
        {:revoked, at, :unspecified}

      {:revoked, %DateTime{} = at, reason} when is_map_key(@reasons, reason) ->
        {:revoked, at, reason}

      other ->
        raise ArgumentError,
              "fun: must answer :good, {:revoked, at, reason}, :unknown or :try_later, got: #{inspect(other)}"
    end
  end

  defp answer(:unauthorized, _nonce, _responder, _times, _sign),
    do: {:ok, Response.refusal(:unauthorized)}

  defp answer(answers, nonce, responder, times, sign) do
    if Enum.any?(answers, &match?({_id, :try_later}, &1)) do
      {:ok, Response.refusal(:try_later)}
    else
      answers |> Response.to_be_signed(nonce, responder.identifier, times) |> sign.()
    end
  end

  defp sign(hsm, key, responder, algorithm, signed, call) do
    with {:ok, signature} <-
           Certificates.sign(hsm, key, responder.public, algorithm, signed, call),
         do:
           {:ok, Response.signed(signed, algorithm.identifier, signature, responder.certificate)}
  end
end
