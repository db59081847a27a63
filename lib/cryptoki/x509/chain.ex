defmodule Cryptoki.X509.Chain do
  @moduledoc false
  # Which certificates of some are above another, by name, identifier and signature, and whether they lead to one
  # that somebody trusts (RFC 5280, section 6, which OTP goes through). Pure.

  alias Cryptoki.{DER, Error, SignatureAlgorithm}
  alias Cryptoki.PublicKey.OID
  alias Cryptoki.X509.{Certificate, Fields, Signature}
  alias Cryptoki.X509.Extensions.{Names, Read}
  alias Cryptoki.X509.NameConstraints.Subtree

  @extended_key_usage Names.oid(:extended_key_usage)
  @pss OID.rsa_pss()
  @authority_key_identifier Names.oid(:authority_key_identifier)

  # Signatures that are looked at above one certificate, of all paths: who wrote the others may have them all issue each
  # other, and certificates beyond it are as if they were not there.
  @most 256
  # Those of them that an error looks at once more.
  @named 16
  @nobody "no certificate that is trusted has issued it, or those above it"

  @doc """
  Those above a certificate, the next first. Where several have issued one, the first that leads to a root among them,
  else the first. What this OTP cannot verify is asked `elsewhere`.
  """
  @spec above(DER.t(), [DER.t()], SignatureAlgorithm.elsewhere()) :: [DER.t()]
  def above(certificate, pool, elsewhere \\ &SignatureAlgorithm.nowhere/3) do
    case read(certificate) do
      {:ok, own} -> [[own]] |> climb(read_all(pool), elsewhere, @most, nil) |> tl() |> ders()
      {:error, _error} -> []
    end
  end

  defp climb([], _pool, _elsewhere, _left, first), do: Enum.reverse(first)

  defp climb([[last | _] = path | others], pool, elsewhere, left, first) do
    with {:root, false, left} <- root(last, elsewhere, left),
         {[_ | _] = above, left} <- issuers(last, pool -- path, elsewhere, left) do
      climb(for(one <- above, do: [one | path]) ++ others, pool, elsewhere, left, first)
    else
      {:root, true, _left} -> Enum.reverse(path)
      {[], left} -> climb(others, pool, elsewhere, left, first || path)
    end
  end

  defp root(one, elsewhere, left) do
    {found, left} = issuers(one, [one], elsewhere, left)
    {:root, found != [], left}
  end

  defp ders(path), do: for(%{der: der} <- path, do: der)

  @doc """
  Whether a certificate is a trusted one, or some of a pool lead from it to one. All hold now; what any of them
  is for is looked at by who asks. Of several ways the shortest that is valid is enough.
  """
  @spec trusted(DER.t(), [DER.t()], trusted :: [DER.t()]) :: :ok | {:error, String.t()}
  def trusted(certificate, pool, trusted) do
    trusted = read_all(trusted)

    with {:itself, nil} <- {:itself, Enum.find(trusted, &(&1.der == certificate))},
         {:ok, own} <- read(certificate),
         pool = read_all(pool),
         {:error, @nobody} <- search([[own]], pool, trusted, @most, nil) do
      {:error, @nobody <> why(own, pool ++ trusted)}
    else
      :ok -> :ok
      {:error, text} when is_binary(text) -> {:error, text}
      {:itself, anchor} -> now(anchor)
      {:error, _error} -> {:error, @nobody}
    end
  end

  # Of one that has the name of its issuer, such as a hash that is broken.
  defp why(own, pool) do
    pool
    |> Enum.filter(&named?(own, &1))
    |> Enum.take(@named)
    |> Enum.find_value("", fn %{subject: subject, info: info} ->
      case Signature.of_certificate(own.der, subject, info, &SignatureAlgorithm.nowhere/3) do
        {:error, text} when is_binary(text) -> ": " <> text
        _signed -> nil
      end
    end)
  end

  # The first reason is that of the shortest way.
  defp search([], _pool, _trusted, _left, reason), do: {:error, reason || @nobody}

  defp search([[last | _] = path | others], pool, trusted, left, reason) do
    {anchors, left} = issuers(last, trusted, &SignatureAlgorithm.nowhere/3, left)

    case valid(anchors, path, reason) do
      :ok ->
        :ok

      {:error, reason} ->
        {above, left} = issuers(last, pool -- path, &SignatureAlgorithm.nowhere/3, left)
        search(others ++ for(one <- above, do: [one | path]), pool, trusted, left, reason)
    end
  end

  defp valid(anchors, path, reason) do
    Enum.reduce_while(anchors, {:error, reason}, fn anchor, {:error, reason} ->
      case validate(anchor, ders(path)) do
        :ok -> {:halt, :ok}
        {:error, other} -> {:cont, {:error, reason || other}}
      end
    end)
  end

  # What a root says of those below it holds as well, as OpenSSL has it; OTP looks at its name and key only.
  defp validate(anchor, path) do
    path = if itself?(anchor, &SignatureAlgorithm.nowhere/3), do: [anchor.der | path], else: path

    with :unreadable <- validated(anchor.der, path, & &1),
         :unreadable <- validated(anchor.der, path, &readable/1) do
      {:error, "it is not valid: OTP cannot read it, or one above it"}
    else
      :ok -> now(anchor)
      {:error, text} -> {:error, text}
    end
  end

  defp validated(anchor, path, as) do
    options = [verify_fun: {&event/3, nil}]

    case :public_key.pkix_path_validation(as.(anchor), Enum.map(path, as), options) do
      {:ok, _key_and_policies} -> :ok
      {:error, {:bad_cert, reason}} -> {:error, "it is not valid: #{inspect(reason)}"}
    end
  rescue
    # OTP's reader raises other things from one release to the next.
    _strange -> :unreadable
  end

  # Up to OTP 28 a key for PSS alone is none without parameters, which may be absent (RFC 4055, section 3.1): it gets some.
  defp readable(der) do
    {:OTPCertificate, tbs, algorithm, signature} = :public_key.pkix_decode_cert(der, :otp)

    case elem(tbs, 7) do
      {info, {type, @pss, :asn1_NOVALUE}, key} ->
        some = :public_key.der_decode(:"RSASSA-PSS-params", DER.sequence([]))
        {:OTPCertificate, put_elem(tbs, 7, {info, {type, @pss, some}, key}), algorithm, signature}

      _other ->
        der
    end
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
  defp event(_certificate, {:extension, extension}, state) do
    if elem(extension, 1) == @extended_key_usage, do: {:valid, state}, else: {:unknown, state}
  end

  # Up to OTP 28 it takes PSS for PKCS #1 where the issuer's key is for both. Each signature on the way was verified by
  # us, or it were no way.
  defp event(certificate, {:bad_cert, reason}, state) do
    if reason == :invalid_signature and pss?(certificate),
      do: {:valid, state},
      else: {:fail, reason}
  end

  defp event(_certificate, _valid, state), do: {:valid, state}

  defp pss?({:OTPCertificate, _tbs, algorithm, _signature}), do: elem(algorithm, 1) == @pss
  defp pss?(_other), do: false

  ## Who has issued whom

  @doc """
  Whether a certificate is a root: issued by its own name and, as far as anybody can say, by its own key. At the rollover
  of a key one has the name, and the signature of the key before (RFC 4210, section 4.4).
  """
  @spec root?(DER.t(), SignatureAlgorithm.elsewhere()) :: boolean
  def root?(certificate, elsewhere \\ &SignatureAlgorithm.nowhere/3) do
    case read(certificate) do
      {:ok, one} -> itself?(one, elsewhere)
      {:error, _error} -> false
    end
  end

  defp itself?(one, elsewhere) do
    with true <- Subtree.same?(one.issuer, one.subject),
         true <- identified?(one.extensions, one.identifier),
         {:ok, signed} <- Certificate.signed(one.der),
         answer = Signature.of_issuer(signed, one.subject, one.info, elsewhere) do
      not match?({:error, :signature_invalid, _text}, answer)
    else
      _no -> false
    end
  end

  # What cannot be read has issued nothing.
  defp read_all(ders) do
    for der <- Enum.uniq(ders), {:ok, read} <- [read(der)], do: read
  end

  defp read(der) do
    with {:ok, fields} <- Fields.read(der),
         {:ok, extensions} <- Read.read(fields.extensions) do
      {:ok,
       %{
         der: der,
         subject: fields.subject,
         issuer: fields.issuer,
         validity: fields.validity,
         info: fields.public_key_info,
         extensions: extensions,
         authority?: Read.basic_constraints(extensions) != :error,
         identifier: Read.identifier(extensions)
       }}
    end
  end

  # Those that have issued one, as far as signatures may still be looked at.
  defp issuers(one, pool, elsewhere, left) do
    Enum.flat_map_reduce(pool, left, fn issuer, left ->
      cond do
        not named?(one, issuer) or left == 0 -> {[], left}
        signed?(one, issuer, elsewhere) -> {[issuer], left - 1}
        true -> {[], left - 1}
      end
    end)
  end

  defp named?(one, issuer) do
    issuer.authority? and Subtree.same?(one.issuer, issuer.subject) and
      identified?(one.extensions, issuer.identifier)
  end

  defp signed?(one, %{subject: subject, info: info}, elsewhere),
    do: Signature.of_certificate(one.der, subject, info, elsewhere) == :ok

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
