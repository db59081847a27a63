defmodule Cryptoki.DataLimit do
  @moduledoc false
  # How much data an RSA key takes. Libraries have many names for data that is too long: the sizes tell.

  alias Cryptoki.{Error, Keys, Mechanism, Target}
  alias Cryptoki.Mechanism.Hash

  @vague [:general_error, :function_failed, :device_error, :arguments_bad, :data_invalid]

  @doc "What RSA adds to data, in bytes; nil for what is no RSA, or hashes."
  @spec of(atom, atom | non_neg_integer, Mechanism.spec()) :: non_neg_integer | nil
  def of(kind, named, mechanism) when kind in [:sign, :encrypt, :sign_recover] do
    case named do
      :rsa_pkcs -> 11
      :rsa_x_509 -> 0
      :rsa_pkcs_oaep -> 2 * (Hash.size(Mechanism.hash(mechanism) || :sha_1) || 0) + 2
      _other -> nil
    end
  end

  def of(_kind, _named, _mechanism), do: nil

  @doc "The error; that the data is too long, when it is."
  @spec explained(Target.t(), map, Error.t()) :: Error.t()
  def explained(target, %{limit: limit} = call, %Error{reason: reason} = error)
      when limit != nil and reason in @vague do
    size = byte_size(call.data)

    with {:ok, handle} <- Keys.resolve(target, call.wanted, :cached),
         {:ok, %{modulus: <<_, _::binary>> = modulus}} <- Keys.read(target, handle, [:modulus]),
         most when size > most <- byte_size(modulus) - limit do
      detail = "#{size} bytes, this key and mechanism take at most #{max(most, 0)}"
      Error.new(:data_len_range, detail, function: error.function)
    else
      _something_else -> error
    end
  end

  def explained(_target, _call, error), do: error
end
