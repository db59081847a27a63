defmodule Cryptoki.Ciphers do
  @moduledoc false
  # Encryption and decryption: what they have that the other verbs have not is an IV that the token may choose,
  # a rule for the length of a ciphertext, and a digest or a signature beside it.

  alias Cryptoki.{Dual, Operations, OwnIV}
  alias Cryptoki.Mechanism.{Ciphertext, IV}

  def encrypt(hsm, key, mechanism, data, opts),
    do: cipher(hsm, :encrypt, key, mechanism, data, opts)

  def decrypt(hsm, key, mechanism, data, opts),
    do: cipher(hsm, :decrypt, key, mechanism, data, opts)

  defp cipher(hsm, kind, key, mechanism, data, opts) do
    call = kind |> Operations.call!(key, mechanism, data, opts) |> of_length()

    case Dual.second!(kind, call.options) do
      nil when kind == :encrypt -> encrypted(hsm, call)
      nil -> Operations.run(hsm, call, &{kind, &2, &1, call.data, &3})
      second -> Dual.run(hsm, given!(call, "two operations at once"), second)
    end
  end

  defp encrypted(hsm, %{data: {:stream, _enumerable}} = call), do: Operations.stream(hsm, call)

  defp encrypted(hsm, %{iv: iv} = call) do
    op = &{:encrypt, &2, &1, call.data, &3}
    answer = &IV.answer(iv, &1, byte_size(call.data))

    if own_iv?(call) do
      with {:ok, target} <- Operations.target(hsm, call) do
        encrypt = &Operations.begin(target, %{call | mechanism: &1}, op)
        OwnIV.run(target, call, encrypt, answer)
      end
    else
      with {:ok, result} <- Operations.run(hsm, call, op), do: answer.(result)
    end
  end

  defp own_iv?(call), do: match?(%{iv: %IV{given: :token}}, call)

  @doc "The call, which must not leave the IV to the token."
  @spec given!(map, String.t()) :: map
  def given!(call, what) do
    if own_iv?(call), do: raise(ArgumentError, "iv: :token is not for #{what}"), else: call
  end

  defp of_length(%{refusal: nil, ciphertext: rule, data: data} = call) when is_binary(data) do
    case Ciphertext.check(rule, byte_size(data)) do
      :ok -> call
      {:error, error} -> %{call | refusal: error}
    end
  end

  defp of_length(call), do: call
end
