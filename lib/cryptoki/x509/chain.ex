defmodule Cryptoki.X509.Chain do
  @moduledoc false
  # Which certificates of some are above another, by name, identifier and signature, and whether they lead to one
  # that somebody trusts (RFC 5280, section 6, which OTP goes through). Pure.

  alias Cryptoki.{DER, Error, SignatureAlgorithm}
  alias Cryptoki.X509.{Certificate, Signature}
  alias Cryptoki.X509.Extensions.{Names, Read}
  alias Cryptoki.X509.NameConstraints.Subtree

  @extended_key_usage Names.oid(:extended_key_usage)
  @authority_key_identifier Names.oid(:authority_key_identifier)

  @doc """
  Those above a certificate, the next first, up to one that nobody among them has issued, or its own issuer. Of several
  that may have, the first. What this OTP cannot verify is asked `elsewhere`.
  """
  @spec above(DER.t(), [DER.t()], SignatureAlgorithm.elsewhere()) :: [DER.t()]
  def above(certificate, pool, elsewhere \\ &SignatureAlgorithm.nowhere/3),
    do: climb(certificate, read_all(pool), elsewhere)

  defp climb(certificate, pool, elsewhere) do
    case Enum.find(pool, &issued?(certificate, &1, elsewhere)) do
      nil -> []
      %{der: ^certificate} -> []
      %{der: der} = above -> [der | climb(der, List.delete(pool, above), elsewhere)]
    end
  end

  @doc """
  Whether a certificate is a trusted one, or some of a pool lead from it to one. All hold now; what any of them
  is for is looked at by who asks.
  """
  @spec trusted(DER.t(), [DER.t()], trusted :: [DER.t()]) :: :ok | {:error, String.t()}
  def trusted(certificate, pool, trusted) do
    with {:itself, nil} <- {:itself, Enum.find(read_all(trusted), &(&1.der == certificate))},
         {:ok, anchor, path} <- search([[certificate]], read_all(pool), read_all(trusted)) do
      validate(anchor, path)
    else
      {:itself, trusted} -> now(trusted)
      :error -> {:error, "no certificate that is trusted has issued it, or those above it"}
    end
  end

  # Each of the pool is gone through once: who wrote it may have them all issue each other.
  defp search([], _pool, _trusted), do: :error

  defp search([[last | _] = path | others], pool, trusted) do
    case Enum.find(trusted, &issued?(last, &1)) do
      %{} = anchor ->
        {:ok, anchor, path}

      nil ->
        {above, rest} = Enum.split_with(pool, &issued?(last, &1))
        search(others ++ for(one <- above, do: [one.der | path]), rest, trusted)
    end
  end

  # What a root says of those below it holds as well, as OpenSSL has it; OTP looks at its name and key only.
  defp validate(anchor, path) do
    path = if anchor.subject == anchor.issuer, do: [anchor.der | path], else: path

    case :public_key.pkix_path_validation(anchor.der, path, verify_fun: {&purposes/3, nil}) do
      {:ok, _key_and_policies} -> now(anchor)
      {:error, {:bad_cert, reason}} -> {:error, "it is not valid: #{inspect(reason)}"}
    end
  rescue
    # OTP's reader raises other things from one release to the next.
    _strange -> {:error, "it is not valid: OTP cannot read it, or one above it"}
  end

  # Of one that is below others, too.
  defp now(%{validity: validity}) do
    with {:ok, {from, to}} <- Certificate.validity(validity),
         now = DateTime.utc_now(),
         true <- DateTime.compare(from, now) != :gt and DateTime.compare(now, to) != :gt,
         do: :ok,
         else: (_no -> {:error, "the trusted one does not hold now"})
  end

  # What it is for was looked at by us, critical or not.
  defp purposes(_certificate, {:extension, extension}, state) do
    if elem(extension, 1) == @extended_key_usage, do: {:valid, state}, else: {:unknown, state}
  end

  defp purposes(_certificate, {:bad_cert, reason}, _state), do: {:fail, reason}
  defp purposes(_certificate, _valid, state), do: {:valid, state}

  ## Who has issued whom

  # What cannot be read has issued nothing.
  defp read_all(ders) do
    for der <- Enum.uniq(ders), {:ok, read} <- [read(der)], do: read
  end

  defp read(der) do
    with {:ok, fields} <- Certificate.fields(der),
         {:ok, extensions} <- Read.read(fields.extensions) do
      {:ok,
       %{
         der: der,
         subject: fields.subject,
         issuer: fields.issuer,
         validity: fields.validity,
         info: fields.public_key_info,
         authority?: Read.basic_constraints(extensions) != :error,
         identifier: Read.identifier(extensions)
       }}
    end
  end

  defp issued?(certificate, issuer, elsewhere \\ &SignatureAlgorithm.nowhere/3) do
    with true <- issuer.authority?,
         {:ok, fields} <- Certificate.fields(certificate),
         true <- Subtree.same?(fields.issuer, issuer.subject),
         {:ok, extensions} <- Read.read(fields.extensions),
         true <- identified?(extensions, issuer.identifier),
         :ok <- signed(certificate, issuer, elsewhere),
         do: true,
         else: (_no -> false)
  end

  defp signed(certificate, %{subject: subject, info: info}, elsewhere),
    do: Signature.of_certificate(certificate, subject, info, elsewhere)

  # Where both say which key it is.
  defp identified?(extensions, {:ok, identifier}) do
    case Read.ask(extensions, @authority_key_identifier, &Read.issuer_key/1) do
      {:ok, other} when is_binary(other) -> other == identifier
      {:error, %Error{}} -> false
      _does_not_say -> true
    end
  end

  defp identified?(_extensions, :error), do: true
end
