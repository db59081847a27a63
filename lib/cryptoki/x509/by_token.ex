defmodule Cryptoki.Certificates.ByToken do
  @moduledoc false
  # Signatures that this OTP cannot verify: the token does, with the public key as an object of a session that
  # is gone after it. A token that knows no such keys either says nothing of them.

  alias Cryptoki.{Error, PublicHalf, SignatureAlgorithm}
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  @doc "Who verifies on a token, with the options of its calls."
  @spec verifier(Cryptoki.hsm(), keyword) :: SignatureAlgorithm.elsewhere()
  def verifier(hsm, call) do
    call = Keyword.take(call, [:timeout, :metadata])
    fn key, data, signature -> signed?(hsm, key, data, signature, call) end
  end

  defp signed?(hsm, key, data, signature, call) do
    {:ok, set, bytes} = PostQuantum.parts(key)
    mechanism = PostQuantum.mechanism(set)
    kind = [class: :public_key, key_type: mechanism, parameter_set: set, value: bytes]

    case Cryptoki.create(hsm, kind ++ [token: false, private: false, verify: true], call) do
      {:ok, object} ->
        answer = Cryptoki.verify(hsm, object, mechanism, data, signature, call)
        _ = Cryptoki.destroy(hsm, object, call)
        signed?(answer)

      {:error, error} ->
        refused(error)
    end
  end

  defp signed?(:ok), do: true

  defp signed?({:error, %Error{reason: no}})
       when no in [:signature_invalid, :signature_len_range],
       do: false

  defp signed?({:error, error}), do: refused(error)

  # What it cannot do, in contrast to what it cannot do just now.
  defp refused(error) do
    if PublicHalf.Proof.refused?(error), do: :unsupported, else: {:error, error}
  end
end
