defmodule Cryptoki.Certificates do
  @moduledoc false
  # Certificates as users give them: DER, PEM, what names one on the token, or a list of these; and
  # whether one is that of a key.

  require Cryptoki.HSM

  alias Cryptoki.{DER, Each, Error, HSM, Keys, Mechanism, PublicHalf, SignatureAlgorithm}
  alias Cryptoki.Certificates.ByToken
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.{Decode, Info}
  alias Cryptoki.X509.Fields

  @type source :: binary | Cryptoki.key() | [binary | Cryptoki.key()]

  @doc """
  Looks at what names certificates, before any is asked for: what nobody could find one by raises
  `ArgumentError` with the name of the argument.
  """
  @spec source!(term, argument :: String.t()) :: :ok
  def source!([], argument), do: wrong!(argument, "is empty")
  def source!("pkcs11:" <> _ = uri, argument), do: selector!(uri, :certificate, argument)
  def source!(bytes, _argument) when is_binary(bytes), do: :ok
  def source!(map, argument) when is_map(map), do: selector!(map, :certificate, argument)

  def source!(list, argument) when is_list(list) do
    cond do
      Keyword.keyword?(list) -> selector!(list, :certificate, argument)
      List.improper?(list) -> no_source!(argument)
      true -> Enum.each(list, &source!(&1, argument))
    end
  end

  def source!(_other, argument), do: no_source!(argument)

  @doc "The same for what names a key, for a verb."
  @spec selector!(term, atom, argument :: String.t()) :: :ok
  def selector!(selector, verb, argument) do
    _ = Keys.wanted!(selector, verb)
    :ok
  rescue
    error in ArgumentError -> wrong!(argument, error.message)
  end

  @doc """
  The certificates, as DER, one at least. What cannot be one at all raises `ArgumentError` with the name
  of the argument; bytes of a file or a token that are none are an error.
  """
  @spec fetch(Cryptoki.hsm(), source, argument :: String.t()) ::
          {:ok, [binary, ...]} | {:error, Error.t()}
  def fetch(_hsm, [], argument), do: wrong!(argument, "is empty")
  def fetch(hsm, selector, argument) when is_map(selector), do: on_token(hsm, selector, argument)
  def fetch(hsm, "pkcs11:" <> _ = uri, argument), do: on_token(hsm, uri, argument)

  def fetch(_hsm, bytes, argument) when is_binary(bytes), do: Fields.ders(bytes, argument)

  def fetch(hsm, list, argument) when is_list(list) do
    if Keyword.keyword?(list), do: on_token(hsm, list, argument), else: each(hsm, list, argument)
  end

  def fetch(_hsm, _other, argument), do: no_source!(argument)

  defp each(hsm, list, argument) do
    with {:ok, found} <- Each.of(list, &fetch(hsm, &1, argument)),
         do: {:ok, Enum.concat(found)}
  end

  # What lies on a token may be anything: it is looked at as the bytes of a file are, but for PEM, which
  # others would not find there.
  defp on_token(hsm, selector, argument) do
    with {:ok, der} <- Cryptoki.certificate(hsm, selector),
         {:ok, _fields} <- Fields.read(der, argument <> ", as it lies on the token"),
         do: {:ok, [der]}
  end

  @doc "The first certificate in DER or PEM."
  @spec first(binary, String.t()) :: {:ok, binary} | {:error, Error.t()}
  def first(bytes, argument),
    do: with({:ok, [der | _]} <- Fields.ders(bytes, argument), do: {:ok, der})

  @doc """
  The public key of a certificate; `{key, {:pss, :any}}`, or with the DER of a hash's object identifier, or
  `:others` for parameters that are not written here, for RSA keys that are for PSS only.
  """
  @spec public_key(binary, argument :: String.t()) :: {:ok, term} | {:error, Error.t()}
  def public_key(der, argument) do
    with {:ok, fields} <- Fields.read(der, argument) do
      case Reader.read(fields.public_key_info, "", &Info.read/1) do
        {:ok, %{key: key}} when key != nil -> {:ok, key}
        _of_otp -> decoded(fields.public_key_info, argument)
      end
    end
  end

  # Kinds of keys that no certificate is issued for, but that somebody has one of.
  defp decoded(info, argument) do
    with :error <- Decode.attributes(%{public_key_info: info}) do
      text = "the key of its first certificate is none that OTP knows"
      {:error, Error.new(:unsupported, "#{argument}: #{text}")}
    end
  end

  @doc "Whether the key on the token has this public key, as far as it can be proven."
  @spec same_key(Cryptoki.hsm(), Cryptoki.key(), term) :: :ok | {:error, Error.t()}
  def same_key(hsm, key, certified),
    do: HSM.at(hsm, __MODULE__.same_key_here(hsm, key, certified))

  @doc "The same on the node of the token."
  def same_key_here(hsm, key, certified) do
    wanted = Keys.wanted!(key, :private_key)

    with {:ok, target} <- HSM.target(hsm) do
      case PublicHalf.of(target, wanted, SignatureAlgorithm.bare(certified)) do
        :no -> {:error, Error.new(:invalid_argument, "the first certificate is of another key")}
        {:error, _error} = error -> error
        _yes_or_nothing_to_compare_with -> :ok
      end
    end
  end

  @doc "What is signed, the algorithm and the signature in one: a certificate, a request or a list."
  @spec signed(Cryptoki.hsm(), Cryptoki.key(), term, SignatureAlgorithm.t(), DER.t(), keyword) ::
          {:ok, DER.t()} | {:error, Error.t()}
  def signed(hsm, key, public, algorithm, to_be_signed, call) do
    with {:ok, signature} <- sign(hsm, key, public, algorithm, to_be_signed, call),
         do: {:ok, DER.sequence([to_be_signed, algorithm.identifier, DER.bit_string(signature)])}
  end

  @doc """
  A signature in the form that it has in certificates and signed data, verified with the public key that
  goes along.
  """
  @spec sign(Cryptoki.hsm(), Cryptoki.key(), term, SignatureAlgorithm.t(), iodata, keyword) ::
          {:ok, binary} | {:error, Error.t()}
  def sign(hsm, key, public, %{mechanism: mechanism}, data, call) do
    by_token = ByToken.verifier(hsm, call)
    call = if Mechanism.ecdsa?(mechanism), do: [format: :der] ++ call, else: call

    with {:ok, signature} <- Cryptoki.sign(hsm, key, mechanism, data, call),
         :ok <- SignatureAlgorithm.verify(public, mechanism, data, signature, by_token),
         do: {:ok, signature}
  end

  @spec no_source!(String.t()) :: no_return
  defp no_source!(argument),
    do: wrong!(argument, "is PEM, DER, what names a certificate, or a list of these")

  @spec wrong!(String.t(), String.t()) :: no_return
  defp wrong!(argument, text), do: raise(ArgumentError, argument <> ": " <> text)
end
