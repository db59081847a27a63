defmodule Mix.Cryptoki.Encryption do
  @moduledoc false
  # What `mix cryptoki.encrypt` and `mix cryptoki.decrypt` take for granted, the same for both: the usual
  # mechanisms, and an IV that stands before its ciphertext where the command has none.

  alias Cryptoki.Error
  alias Mix.Cryptoki.Words

  @usual %{aes: :aes_gcm, rsa: {:rsa_pkcs_oaep, hash: :sha256}}
  @iv %{aes_gcm: 12, aes_cbc_pad: 16, aes_cbc: 16}

  @doc "The form of the ciphertext, for documentation."
  @spec docs() :: String.t()
  def docs do
    """
    With `aes_gcm` (an IV of 12 bytes), `aes_cbc_pad` and `aes_cbc` (16 bytes), each without `iv=`, the token
    draws an IV, which stands before the ciphertext; behind that of `aes_gcm` stands its tag. With `iv=0x...`
    the ciphertext is there alone, as other programs want it; with `iv=token` the token takes one of its own,
    which is put before it too. More than 1 MiB is given to the token in pieces, which not every mechanism
    allows, and never more than that is in memory here.
    """
  end

  @doc "The mechanism that is said, or the usual one for the key."
  @spec mechanism!(pid, keyword, keyword) :: Cryptoki.mechanism()
  def mechanism!(hsm, selector, options), do: Words.mechanism!(hsm, selector, options, @usual)

  @doc "The bytes of the IV that stands before the ciphertext."
  @spec iv_size(Cryptoki.mechanism()) :: non_neg_integer
  def iv_size(mechanism) do
    {name, arguments} = parts(mechanism)
    if is_list(arguments) and arguments[:iv] in [nil, :token], do: @iv[name] || 0, else: 0
  end

  @doc "The mechanism with an IV of the token's random numbers, and what stands before the ciphertext."
  @spec new_iv(pid, Cryptoki.mechanism()) ::
          {:ok, binary, Cryptoki.mechanism()} | {:error, Error.t()}
  def new_iv(hsm, mechanism) do
    {_name, arguments} = parts(mechanism)
    size = iv_size(mechanism)

    if size == 0 or arguments[:iv] == :token do
      {:ok, "", mechanism}
    else
      with {:ok, iv} <- Cryptoki.random(hsm, size), do: {:ok, iv, with_iv(mechanism, iv)}
    end
  end

  @doc "The mechanism with this IV; an empty one is none."
  @spec with_iv(Cryptoki.mechanism(), binary) :: Cryptoki.mechanism()
  def with_iv(mechanism, ""), do: mechanism

  def with_iv(mechanism, iv) do
    {name, arguments} = parts(mechanism)
    {name, Keyword.put(arguments, :iv, iv)}
  end

  defp parts({name, arguments}), do: {name, arguments}
  defp parts(name), do: {name, []}
end
