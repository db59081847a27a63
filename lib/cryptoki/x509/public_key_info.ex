defmodule Cryptoki.X509.PublicKeyInfo do
  @moduledoc false
  # The `SubjectPublicKeyInfo` of what users give for a public key.

  alias Cryptoki.{DER, Error, Key, PEM, PublicKey}
  alias Cryptoki.X509.Extensions

  @doc "Its DER; of what is none of the forms it raises `ArgumentError`."
  @spec fetch(Cryptoki.hsm(), term, keyword) :: {:ok, DER.t()} | {:error, Error.t()}
  def fetch(hsm, "pkcs11:" <> _ = uri, opts), do: on_token(hsm, uri, opts)
  def fetch(hsm, %Key{} = key, opts), do: on_token(hsm, key, opts)

  def fetch(_hsm, bytes, _opts) when is_binary(bytes) do
    with {:ok, der} <- der(bytes), :ok <- known(der), do: {:ok, der}
  end

  def fetch(hsm, selector, opts) when is_list(selector) or is_map(selector),
    do: on_token(hsm, selector, opts)

  def fetch(_hsm, key, _opts) when is_tuple(key) do
    der = Extensions.public_key_info(key)
    with :ok <- known(der), do: {:ok, der}
  rescue
    _no_key -> none!()
  end

  def fetch(_hsm, _other, _opts), do: none!()

  @spec none!() :: no_return
  defp none!,
    do:
      raise(
        ArgumentError,
        "public_key: is PEM, DER, a key as :public_key has it, or what names one on the token"
      )

  defp on_token(hsm, selector, opts) do
    with {:ok, key} <- Cryptoki.public_key(hsm, selector, opts),
         do: {:ok, Extensions.public_key_info(key)}
  end

  defp der(bytes) do
    if PEM.text?(bytes) do
      case PEM.decode(bytes, :SubjectPublicKeyInfo) do
        {:ok, [der | _]} -> {:ok, der}
        _none -> invalid()
      end
    else
      {:ok, bytes}
    end
  end

  defp known(der) do
    with {:ok, [{0x30, _, ^der}]} <- DER.split(der),
         {:ok, _key} <- PublicKey.decode(%{public_key_info: der}),
         do: :ok,
         else: (_none -> invalid())
  end

  defp invalid,
    do:
      {:error,
       Error.new(
         :invalid_argument,
         "public_key: it is no SubjectPublicKeyInfo, or of a key that OTP does not know"
       )}
end
