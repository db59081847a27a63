defmodule Cryptoki.Import.Proof do
  @moduledoc false
  # Whether a token that took a private key has that key: it signs, or agrees on something with another key,
  # or decrypts, and the public key of the file confirms it. And whether its public key verifies that.

  alias Cryptoki.{Attribute, Call, Error, Keys, Mechanism, PrivateKey, PublicHalf, Target}
  alias Cryptoki.Import.Made

  @may ~w[sign derive decrypt always_authenticate allowed_mechanisms]a

  @doc "What it has done with the key, which is of no consequence when it is an error."
  @spec make(Target.t(), Keys.handle(), PrivateKey.t()) ::
          {:ok, PublicHalf.Proof.t() | :decrypted} | {:error, Error.t()}
  def make(target, handle, %PrivateKey{} = key) do
    with {:ok, read} <- Keys.read(target, handle, @may),
         may = Map.merge(Attribute.readable(read), Map.new(key.public_attributes)),
         {:ok, proof} <- made(target, handle, key, may) do
      {:ok, proof}
    else
      {:error, error} -> {:error, %{error | executed: false}}
    end
  end

  defp made(target, handle, key, may) do
    case PublicHalf.Proof.make(target, handle, may) do
      {:error, _error} = error -> error
      {:none, why} -> decrypt(target, handle, key, may, why)
      proof -> proof |> PublicHalf.Proof.confirms(target, key.public, nil) |> confirmed(proof)
    end
  end

  defp confirmed(:yes, proof), do: {:ok, proof}
  defp confirmed({:unknown, why}, _proof), do: Made.unproven(why)

  defp confirmed(:no, _proof) do
    text = "the token took the key, and what it does with it is not what this key does"
    {:error, Error.new(:module_misbehaved, text)}
  end

  defp decrypt(_target, _handle, _key, %{always_authenticate: true}, why), do: Made.unproven(why)

  defp decrypt(target, handle, %{type: :rsa, public: public}, %{decrypt: true}, _why) do
    text = :crypto.strong_rand_bytes(32)
    oaep = [rsa_padding: :rsa_pkcs1_oaep_padding]

    decrypted(target, handle, text, [
      {:rsa_pkcs, :public_key.encrypt_public(text, public)},
      {{:rsa_pkcs_oaep, hash: :sha_1}, :public_key.encrypt_public(text, public, oaep)}
    ])
  end

  defp decrypt(_target, _handle, _key, _may, why), do: Made.unproven(why)

  defp decrypted(target, handle, text, [{mechanism, ciphertext} | others]) do
    case Call.run(target, {:decrypt, Mechanism.encode!(mechanism), handle, ciphertext, nil}) do
      {:ok, ^text} ->
        {:ok, :decrypted}

      {:ok, _another} ->
        confirmed(:no, nil)

      # It was another key that it was encrypted for.
      {:error, %Error{reason: :encrypted_data_invalid}} ->
        confirmed(:no, nil)

      {:error, error} ->
        cond do
          not PublicHalf.Proof.refused?(error) -> {:error, error}
          others == [] -> Made.unproven("nor does it decrypt: #{Exception.message(error)}")
          true -> decrypted(target, handle, text, others)
        end
    end
  end

  @doc """
  Whether the public key on the token verifies what was proven; `:refused` when the token verifies no such
  signature.
  """
  @spec confirms(Target.t(), Keys.handle(), PublicHalf.Proof.t() | :decrypted) ::
          :ok | :no | :refused | {:error, Error.t()}
  def confirms(target, handle, {:signed, _scheme, _data, _signature} = proof) do
    case PublicHalf.Proof.verified(proof, target, handle) do
      :yes ->
        :ok

      :no ->
        :no

      {:error, error} ->
        if PublicHalf.Proof.refused?(error),
          do: :refused,
          else: {:error, %{error | executed: false}}
    end
  end

  def confirms(_target, _handle, _another), do: :ok
end
