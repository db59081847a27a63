defmodule Cryptoki.Import.Source do
  @moduledoc false
  # What a key is imported from: a file, the bytes of a secret key, a record of `:public_key`, a JWK that was
  # decoded. Pure but for the password, which is fetched when it is needed.

  alias Cryptoki.{Error, Pin, PKCS12, PrivateKey, PublicKey, SecretKey, Type}
  alias Cryptoki.PrivateKey.{File, JWK, Record}

  @type t :: binary | {:pkcs12 | SecretKey.kind(), binary} | tuple | map

  @doc "What was given, if it can be one; raises `ArgumentError`."
  @spec given!(term) :: t
  def given!(file) when is_binary(file), do: file
  def given!(%{"kty" => _} = jwk) when not is_struct(jwk), do: jwk

  def given!({:pkcs12, der} = file) when is_binary(der), do: file

  def given!({kind, value} = secret) when is_atom(kind) and kind not in [nil, true, false] do
    cond do
      kind not in SecretKey.kinds() ->
        no_kind!(kind)

      not is_binary(value) ->
        raise ArgumentError, "the bytes of a secret key are a binary, got: " <> Type.of(value)

      true ->
        secret
    end
  end

  def given!(other) do
    if Record.record?(other), do: other, else: no!(other)
  end

  @spec no!(term) :: no_return
  defp no!(other) do
    raise ArgumentError,
          "import_key takes the file of a key (a binary), {:aes | :hmac | :generic_secret, bytes}, a record " <>
            "of :public_key or a JWK as a map, got: " <> Type.of(other)
  end

  @spec no_kind!(atom) :: no_return
  defp no_kind!(kind) do
    raise ArgumentError,
          "import_key takes the bytes of a secret key as {:aes | :hmac | :generic_secret, bytes}, and no " <>
            inspect(kind)
  end

  @doc "The key in it, and of PKCS #12 its certificates."
  @spec read(t, Pin.t() | nil) ::
          {:ok, {File.key(), [binary] | nil}} | {:error, Error.t()}
  def read({:pkcs12, der}, pin), do: opened(pin, &PKCS12.read(der, &1))
  def read(given, pin), do: with({:ok, key} <- key(given, pin), do: {:ok, {key, nil}})

  defp key({kind, value}, _password) when is_atom(kind), do: SecretKey.new(kind, value)
  defp key(%{} = jwk, _password), do: JWK.read(jwk)
  defp key(record, _password) when is_tuple(record), do: Record.read(record)
  defp key(file, pin), do: opened(pin, &File.read(file, &1))

  defp opened(nil, read), do: read.(nil)

  defp opened(pin, read) do
    Pin.hidden(fn ->
      with {:ok, password} <- Pin.fetch(pin),
           do: read.(password),
           else: ({:error, error} -> {:error, %{error | detail: "password: #{error.detail}"}})
    end)
  end

  @doc "Whether it is a private key, a public or a secret one."
  @spec class(File.key()) :: :private_key | :public_key | :secret_key
  def class(%PrivateKey{}), do: :private_key
  def class(%SecretKey{}), do: :secret_key
  def class(%PublicKey.Given{}), do: :public_key
end
