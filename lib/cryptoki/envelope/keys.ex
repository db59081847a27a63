defmodule Cryptoki.Envelope.Keys do
  @moduledoc false
  # Data keys, sealed and opened by the token.

  alias Cryptoki.{Error, Key, Keys}
  alias Cryptoki.Envelope.Box

  # That it is not the key which sealed it, in the words of tokens: SoftHSM says CKR_GENERAL_ERROR.
  @another ~w[encrypted_data_invalid encrypted_data_len_range aead_decrypt_failed signature_invalid general_error]a

  @doc "A KEK; raises `ArgumentError` for what names none."
  @spec one!(Cryptoki.key()) :: Cryptoki.key()
  def one!(key) do
    _ = Keys.wanted!(key, :encrypt)
    key
  end

  @doc "One or several of them, as a list."
  @spec several!(term) :: [Cryptoki.key(), ...]
  def several!([first | _] = keys) when is_list(first) or is_map(first) or is_binary(first) do
    for key <- keys, do: one!(key)
  end

  def several!([_ | _] = attributes), do: [one!(attributes)]
  def several!(%Key{} = key), do: [key]
  def several!(key), do: [one!(key)]

  @doc "A new data key, and how the token has sealed it."
  @spec new(Cryptoki.hsm(), Cryptoki.key(), keyword) ::
          {:ok, Box.data_key(), Box.sealed_key()} | {:error, Error.t()}
  def new(hsm, kek, call) do
    key = :crypto.strong_rand_bytes(Box.key_size())
    with {:ok, sealed} <- seal(hsm, kek, key, call), do: {:ok, key, sealed}
  end

  @spec seal(Cryptoki.hsm(), Cryptoki.key(), Box.data_key(), keyword) ::
          {:ok, Box.sealed_key()} | {:error, Error.t()}
  def seal(hsm, kek, key, call) do
    iv = :crypto.strong_rand_bytes(12)

    case Cryptoki.encrypt(hsm, secret(kek), gcm(iv), key, call) do
      {:ok, sealed} ->
        checked(iv, sealed)

      # Tokens that make their IVs themselves, and take none or write over it.
      {:error, %Error{reason: reason}} when reason in [:unsupported, :mechanism_param_invalid] ->
        with {:ok, {iv, sealed}} <- Cryptoki.encrypt(hsm, secret(kek), gcm(:token), key, call),
             do: checked(iv, sealed)

      {:error, error} ->
        {:error, error}
    end
  end

  defp checked(iv, sealed) do
    case Box.read(Box.header({iv, sealed})) do
      {:ok, {^iv, ^sealed}, ""} ->
        {:ok, {iv, sealed}}

      _other ->
        {:error,
         Error.new(
           :module_misbehaved,
           "envelope: a data key of 32 bytes was sealed to another length"
         )}
    end
  end

  @spec open(Cryptoki.hsm(), [Cryptoki.key(), ...], Box.sealed_key(), keyword) ::
          {:ok, Box.data_key()} | {:error, Error.t()}
  def open(hsm, [kek | others], {iv, sealed} = sealed_key, call) do
    case Cryptoki.decrypt(hsm, secret(kek), gcm(iv), sealed, call) do
      {:ok, key} when byte_size(key) == 32 -> {:ok, key}
      {:ok, _another} -> Box.invalid()
      {:error, error} -> other(error, others, &open(hsm, &1, sealed_key, call))
    end
  end

  # A KEK that is gone is none of those that are there.
  defp other(%Error{reason: reason}, [_ | _] = others, again)
       when reason in @another or reason == :key_not_found,
       do: again.(others)

  defp other(%Error{reason: reason, code: code} = error, [], _again)
       when reason in @another and code != nil do
    {:error, invalid} = Box.invalid()
    {:error, %{invalid | detail: invalid.detail <> "; " <> Exception.message(error)}}
  end

  defp other(error, _others, _again), do: {:error, error}

  # A name may be that of a pair as well.
  defp secret(%Key{} = key), do: key
  defp secret(selector) when is_binary(selector) or is_struct(selector), do: selector

  # A URI as Erlang has text.
  defp secret([first | _] = text) when is_integer(first), do: text

  defp secret(attributes) do
    attributes = Enum.to_list(attributes)

    if List.keymember?(attributes, :class, 0),
      do: attributes,
      else: [{:class, :secret_key} | attributes]
  end

  defp gcm(iv), do: {:aes_gcm, iv: iv, aad: Box.magic(), tag_bits: 128}
end
