defmodule Cryptoki.ContentKey.Transport do
  @moduledoc false
  # A content key that is encrypted with RSA. Whether the token could decrypt it, and how long that is, nobody
  # may learn: who may ask often enough decrypts with such answers whatever he likes (Bleichenbacher and Manger).
  # So a wrong one gives a key too, which opens nothing, and what follows is the same for both. It is the same
  # key each time the same is asked, as one that decrypts is; another one each time would tell them apart
  # (RFC 8017, section 7.2.2; OpenSSL 3.2 does so inside of RSA, and this does for tokens that do not).

  alias Cryptoki.ContentKey.{Failure, Holder, OAEP}
  alias Cryptoki.Error

  @type padding :: :pkcs1 | {:oaep, OAEP.t()}
  @typedoc """
  What the token made of it, one in its stead, or one for nothing but the time that it takes: OAEP says of most
  that are wrong that they are, PKCS #1 v1.5 of few. Which, nobody may be told before the content is looked at.
  """
  @type opened :: {key :: binary, :real | :substitute | :none}

  # What libraries say to parameters that they do not know.
  @no_such_parameters ~w[mechanism_param_invalid arguments_bad mechanism_invalid]a

  @doc "The content key of so many bytes, 64 at most."
  @spec open(Holder.t(), padding, binary, 1..64) :: {:ok, opened} | {:error, Error.t()}
  def open(%Holder{} = holder, padding, encrypted, size) do
    substitute = substitute(encrypted, size)

    with {:ok, answer} <- decrypt(holder, padding, encrypted) do
      if byte_size(answer) == size,
        do: {:ok, {answer, :real}},
        else: {:ok, {substitute, standing(padding)}}
    end
  end

  defp standing(:pkcs1), do: :substitute
  defp standing({:oaep, _parameters}), do: :none

  # "" for what cannot be decrypted: no key has no bytes.
  defp decrypt(holder, :pkcs1, encrypted), do: call(holder, :rsa_pkcs, encrypted)

  # SoftHSM 2.6 has OAEP with SHA-1 only, and takes a label for none; tokens have raw RSA.
  defp decrypt(holder, {:oaep, %{label: ""} = oaep}, encrypted),
    do: or_else(by_token(holder, oaep, encrypted), fn -> here(holder, oaep, encrypted) end)

  defp decrypt(holder, {:oaep, oaep}, encrypted),
    do: or_else(here(holder, oaep, encrypted), fn -> by_token(holder, oaep, encrypted) end)

  defp by_token(holder, oaep, encrypted), do: call(holder, OAEP.mechanism(oaep), encrypted)

  defp here(holder, oaep, encrypted) do
    with {:ok, raw} <- call(holder, :rsa_x_509, encrypted),
         do: {:ok, OAEP.decode(oaep, raw, holder.size)}
  end

  defp or_else({:error, %Error{reason: reason}} = error, other)
       when reason in @no_such_parameters,
       do: with({:error, _the_same} <- other.(), do: error)

  defp or_else(answer, _other), do: answer

  defp call(%{hsm: hsm, key: key, call: call}, mechanism, encrypted) do
    case Cryptoki.decrypt(hsm, key, mechanism, encrypted, call) do
      {:ok, bytes} -> {:ok, bytes}
      {:error, error} -> if Failure.unrelated?(error), do: {:error, error}, else: {:ok, ""}
    end
  end

  defp substitute(encrypted, size),
    do: binary_part(:crypto.mac(:hmac, :sha512, secret(), encrypted), 0, size)

  # One for each life of the VM, made once, whoever comes first.
  defp secret do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      :global.trans(
        {__MODULE__, self()},
        fn ->
          with nil <- :persistent_term.get(__MODULE__, nil) do
            :ok = :persistent_term.put(__MODULE__, :crypto.strong_rand_bytes(64))
            :persistent_term.get(__MODULE__)
          end
        end,
        [node()]
      )
    end
  end
end
