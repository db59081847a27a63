defmodule Cryptoki.Certificates do
  @moduledoc false
  # Certificates as users give them: DER, PEM, what names one on the token, or a list of these; and
  # whether one is that of a key.

  alias Cryptoki.{DER, Error, Keys, Mechanism, PEM, PublicHalf, PublicKey, SignatureAlgorithm}
  alias Cryptoki.Target

  @pss DER.oid({1, 2, 840, 113_549, 1, 1, 10})

  @type source :: binary | Cryptoki.key() | [binary | Cryptoki.key()]

  @doc """
  The certificates, as DER, one at least. What is no such thing raises `ArgumentError` with the name
  of the argument.
  """
  @spec fetch(Cryptoki.hsm(), source, argument :: String.t()) ::
          {:ok, [binary, ...]} | {:error, Error.t()}
  def fetch(_hsm, [], argument), do: wrong!(argument, "is empty")
  def fetch(hsm, selector, _argument) when is_map(selector), do: on_token(hsm, selector)
  def fetch(hsm, "pkcs11:" <> _ = uri, _argument), do: on_token(hsm, uri)

  def fetch(_hsm, bytes, argument) when is_binary(bytes), do: {:ok, ders!(bytes, argument)}

  def fetch(hsm, list, argument) when is_list(list) do
    if Keyword.keyword?(list), do: on_token(hsm, list), else: each(hsm, list, argument)
  end

  def fetch(_hsm, _other, argument),
    do: wrong!(argument, "is PEM, DER, what names a certificate, or a list of these")

  defp each(hsm, list, argument) do
    Enum.reduce_while(list, {:ok, []}, fn item, {:ok, before} ->
      case fetch(hsm, item, argument) do
        {:ok, certificates} -> {:cont, {:ok, before ++ certificates}}
        {:error, _error} = error -> {:halt, error}
      end
    end)
  end

  defp on_token(hsm, selector),
    do: with({:ok, der} <- Cryptoki.certificate(hsm, selector), do: {:ok, [der]})

  defp ders!(bytes, argument),
    do: if(PEM.text?(bytes), do: pem!(bytes, argument), else: [bytes])

  defp pem!(text, argument) do
    case PEM.decode(text, :Certificate) do
      {:ok, [_ | _] = certificates} -> certificates
      {:ok, []} -> wrong!(argument, "has no certificate in its PEM")
      :error -> wrong!(argument, "has a PEM that is cut off")
    end
  end

  @doc """
  The public key that the first of some certificates is of; `{key, {:pss, :any}}`, or with the DER of a
  hash's object identifier, for RSA keys that are for PSS only.
  """
  @spec public_key!(binary, argument :: String.t()) :: term
  def public_key!(der, argument) do
    with {:ok, fields} <- fields(der),
         {:ok, public_key} <- PublicKey.decode(%{class: :certificate, value: der}) do
      for_pss(public_key, fields)
    else
      :error ->
        wrong!(argument, "its first certificate is none, or has a key that OTP does not know")
    end
  end

  # OTP forgets that an RSA key is for PSS only, and with which hash (RFC 4055, section 3.1).
  defp for_pss({:RSAPublicKey, _, _} = key, fields) do
    with {:ok, [{0x30, algorithm, _} | _]} <- DER.split(fields.key),
         {:ok, [{6, _, @pss} | parameters]} <- DER.split(algorithm) do
      case parameters do
        [] -> {key, {:pss, :any}}
        [{_tag, parameters, _}] -> {key, {:pss, pss_hash(parameters)}}
      end
    else
      _pkcs1_and_pss -> key
    end
  end

  defp for_pss(key, _fields), do: key

  # SHA-1 when it does not say.
  defp pss_hash(parameters) do
    with {:ok, [{0xA0, hash, _} | _]} <- DER.split(parameters),
         {:ok, [{0x30, hash, _}]} <- DER.split(hash),
         {:ok, [{6, _, oid} | _]} <- DER.split(hash),
         do: oid,
         else: (_absent -> DER.oid({1, 3, 14, 3, 2, 26}))
  end

  @doc """
  What stands in a certificate: `serial`, `issuer`, `subject` as DER, the contents of its `key` and of
  its `extensions`, and when it begins and ends.
  """
  @spec fields(binary) ::
          {:ok,
           %{
             serial: DER.t(),
             issuer: DER.t(),
             subject: DER.t(),
             not_before: DateTime.t(),
             not_after: DateTime.t(),
             key: binary,
             extensions: binary
           }}
          | :error
  def fields(der) do
    with {:ok, [{0x30, certificate, _}]} <- DER.split(der),
         {:ok, [{0x30, to_be_signed, _} | _]} <- DER.split(certificate),
         {:ok, fields} <- DER.split(to_be_signed),
         # Those of version 1 do not say so.
         fields = if(match?([{0xA0, _, _} | _], fields), do: tl(fields), else: fields),
         [{2, _, serial}, _, {0x30, _, issuer}, {0x30, validity, _}, {0x30, _, subject} | rest] <-
           fields,
         [{0x30, key, _} | rest] <- rest,
         {:ok, [{from_tag, not_before, _}, {tag, not_after, _}]} <- DER.split(validity),
         {:ok, not_before} <- DER.read_time(from_tag, not_before),
         {:ok, not_after} <- DER.read_time(tag, not_after),
         {:ok, extensions} <- extensions(List.keyfind(rest, 0xA3, 0)) do
      known = %{serial: serial, issuer: issuer, subject: subject, key: key}
      times = %{not_before: not_before, not_after: not_after}
      {:ok, known |> Map.merge(times) |> Map.put(:extensions, extensions)}
    else
      _no_certificate -> :error
    end
  end

  defp extensions(nil), do: {:ok, ""}

  defp extensions({0xA3, explicit, _}) do
    with {:ok, [{0x30, extensions, _}]} <- DER.split(explicit),
         do: {:ok, extensions},
         else: (_none -> :error)
  end

  @doc "The same, of what may be something else: then it raises `ArgumentError`."
  @spec fields!(binary, String.t()) :: map
  def fields!(der, argument) do
    case fields(der) do
      {:ok, fields} -> fields
      :error -> wrong!(argument, "is no certificate")
    end
  end

  @doc "The first certificate in DER or PEM."
  @spec der!(binary, String.t()) :: binary
  def der!(bytes, argument), do: hd(ders!(bytes, argument))

  @doc "Whether the key on the token has this public key, as far as it can be proven."
  @spec same_key(Cryptoki.hsm(), Cryptoki.key(), term) :: :ok | {:error, Error.t()}
  def same_key(hsm, key, certified) do
    wanted = Keys.wanted!(key, :private_key)

    with {:ok, target} <- Target.fetch(hsm) do
      case PublicHalf.of(target, wanted, SignatureAlgorithm.bare(certified)) do
        :no -> {:error, Error.new(:invalid_argument, "the first certificate is of another key")}
        {:error, _error} = error -> error
        _yes_or_nothing_to_compare_with -> :ok
      end
    end
  end

  @doc """
  A signature in the form that it has in certificates and signed data, verified with the public key that
  goes along.
  """
  @spec sign(Cryptoki.hsm(), Cryptoki.key(), term, SignatureAlgorithm.t(), iodata, keyword) ::
          {:ok, binary} | {:error, Error.t()}
  def sign(hsm, key, public, %{mechanism: mechanism}, data, call) do
    call = if Mechanism.ecdsa?(mechanism), do: [format: :der] ++ call, else: call

    with {:ok, signature} <- Cryptoki.sign(hsm, key, mechanism, data, call),
         :ok <- SignatureAlgorithm.verify(public, mechanism, data, signature),
         do: {:ok, signature}
  end

  @spec wrong!(String.t(), String.t()) :: no_return
  defp wrong!(argument, text), do: raise(ArgumentError, argument <> ": " <> text)
end
