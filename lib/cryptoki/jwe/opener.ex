defmodule Cryptoki.JWE.Opener do
  @moduledoc false
  # From a JWE to its content, as `Cryptoki.CMS.Opener` does it: what can be seen by anybody is told, what becomes of
  # the keys is not.

  alias Cryptoki.ContentKey.{Agreement, Derivation, Holder, Transport, Wrapped}
  alias Cryptoki.{Each, Error, KeyWrap}
  alias Cryptoki.JWE.{Algorithm, Encryption, Message}
  alias Cryptoki.JWS

  # Each costs a call of the token.
  @tried 16

  @doc "The content; `expected` are the algorithms that may be, or `nil`."
  @spec open(Holder.t(), Message.t(), [String.t()] | nil) :: {:ok, binary} | {:error, Error.t()}
  def open(holder, message, expected) do
    with {:ok, recipients} <- recipients(message, holder, expected),
         {:ok, ways} <- ways(recipients, message, holder),
         {:ok, opened} <- Each.of(ways, &opened(&1, message, holder)) do
      case Enum.find(opened, &match?({:ok, _content}, &1)) do
        {:ok, content} -> {:ok, content}
        nil -> Message.fault("it is for another key, or was changed")
      end
    end
  end

  ## Who is meant

  defp recipients(%{recipients: recipients}, holder, expected) do
    named =
      for %{header: %{"alg" => alg}} = recipient when is_binary(alg) <- recipients, do: recipient

    for_key = Enum.filter(named, &Algorithm.for?(&1.header["alg"], holder))
    meant = Enum.filter(for_key, &(expected == nil or &1.header["alg"] in expected))

    cond do
      named == [] -> Message.fault("this is no JWE: its header names no algorithm")
      meant == [] -> unmeant(named, for_key, holder)
      length(meant) > @tried -> Message.fault("more than #{@tried} recipients may be meant")
      true -> {:ok, meant}
    end
  end

  defp unmeant(named, [], _holder) do
    names = named |> Enum.map(& &1.header["alg"]) |> Enum.uniq() |> Enum.take(3)

    case Enum.find(names, &(Algorithm.fetch(&1) == :error)) do
      nil -> Message.fault("it is for keys of another kind: #{Enum.join(names, ", ")}")
      name -> Message.fault("its algorithm is #{JWS.Algorithm.quoted(name)}, which is not here")
    end
  end

  defp unmeant(_named, [%{header: %{"alg" => name}} | _], _holder),
    do: Message.fault("its algorithm is #{name}, which is not expected")

  defp ways(recipients, message, holder) do
    ways =
      for recipient <- recipients do
        with {:ok, way} <- Algorithm.way(recipient.header, message.encryption, holder),
             do: fits(way, recipient.encrypted_key)
      end

    case {Enum.filter(ways, &way?/1), ways} do
      {[], [{:error, text} | _]} -> Message.fault(text)
      {ways, _all} -> {:ok, ways}
    end
  end

  defp way?({:error, _text}), do: false
  defp way?({_way, _key}), do: true

  # What needs none has none (RFC 7516, section 5.2, steps 7 and 9).
  defp fits(:direct, key) when key != "", do: {:error, "it has an encrypted key and needs none"}

  defp fits({:agree, _point, :direct, _info}, key) when key != "",
    do: {:error, "it has an encrypted key and needs none"}

  defp fits(way, key), do: {way, key}

  ## The content

  defp opened(way, message, holder) do
    case content(way, message, holder) do
      {:error, _error} = error -> error
      found -> {:ok, found}
    end
  end

  defp content({:direct, ""}, %{sealed: sealed}, holder),
    do: Wrapped.content(holder, sealed.iv, sealed.aad, sealed.ciphertext, sealed.tag)

  defp content({way, encrypted}, %{encryption: encryption, sealed: sealed}, holder) do
    size = Encryption.size(encryption)

    case key(way, encrypted, size, holder) do
      {:ok, key} ->
        with :error <- Encryption.open(encryption, key, sealed), do: :none

      # As much work as if there were one.
      :none ->
        _ = Encryption.open(encryption, :crypto.strong_rand_bytes(size), sealed)
        :none

      {:error, _error} = error ->
        error
    end
  end

  defp key({:rsa, oaep}, encrypted, size, holder) do
    case Transport.open(holder, {:oaep, oaep}, encrypted, size) do
      {:ok, {key, :real}} -> {:ok, key}
      {:ok, {_substitute, :none}} -> :none
      {:error, _error} = error -> error
    end
  end

  defp key({:agree, point, bytes, info}, encrypted, size, holder) do
    with {:ok, secret} <- Agreement.secret(holder, point) do
      agreed = &Derivation.derive({:concat, :sha256}, secret, info, &1)

      if bytes == :direct,
        do: {:ok, agreed.(size)},
        else: unwrapped(agreed.(bytes), encrypted, size)
    end
  end

  defp key(wrap, encrypted, size, holder), do: Wrapped.open(holder, wrap, encrypted, size)

  defp unwrapped(kek, encrypted, size) do
    case KeyWrap.unwrap(kek, encrypted) do
      {:ok, key} when byte_size(key) == size -> {:ok, key}
      _wrong -> :none
    end
  end
end
