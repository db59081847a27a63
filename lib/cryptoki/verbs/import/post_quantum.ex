defmodule Cryptoki.Import.PostQuantum do
  @moduledoc false
  # Whether a token that took a private key of ML-DSA, ML-KEM or SLH-DSA has that key: its public key is the one of
  # the file, or the token's own for it with what both halves have; and with a public key of these bytes the token
  # verifies what the private one signs, or they agree on a secret. Not every OTP computes with such keys.

  alias Cryptoki.{Attribute, Call, Error, Keys, Mechanism, PublicHalf, Target}
  alias Cryptoki.DER.Reader
  alias Cryptoki.Import.Made
  alias Cryptoki.PrivateKey
  alias Cryptoki.PrivateKey.PostQuantum
  alias Cryptoki.SignatureAlgorithm.Identifier

  @may ~w[sign allowed_mechanisms]a
  @secret [class: :secret_key, key_type: :generic_secret, token: false, private: false] ++
            [sensitive: false, extractable: true, value_len: 32]

  @doc "The bytes of its public key, when it has."
  @spec prove(Target.t(), Made.t(), PrivateKey.t()) :: {:ok, binary} | {:error, Error.t()}
  def prove(target, made, key) do
    with {:ok, public} <- public(target, made, key, PostQuantum.public(key)),
         {:ok, twin} <- Made.new(target, temporary(key, public)) do
      answer = proven(target, made, twin, key)
      # It ends with its session, should it not be destroyed.
      _ = Call.run(target, {:destroy, twin.handle})
      with :ok <- answer, do: {:ok, public}
    end
    |> not_executed()
  end

  defp not_executed({:error, error}), do: {:error, %{error | executed: false}}
  defp not_executed(ok), do: ok

  defp public(_target, _made, _key, public) when is_binary(public), do: {:ok, public}

  defp public(target, made, key, nil) do
    with {:ok, read} <- Keys.read(target, made.handle, [:public_key_info]) do
      case Attribute.readable(read) do
        %{public_key_info: der} -> own(der, key)
        _none -> Made.unproven("the file has no public key, and the token shows none")
      end
    end
  end

  defp own(der, key) do
    oid = PostQuantum.oid(key.attributes[:parameter_set])

    read = fn info ->
      [algorithm, bits] = Reader.fields(Reader.is!(info, 0x30), [0x30, 3])
      {elem(Identifier.parts(algorithm), 0), Reader.bytes(bits)}
    end

    with {:ok, {^oid, bytes}} <- Reader.read(der, "", read),
         true <- PostQuantum.half?(key, bytes),
         do: {:ok, bytes},
         else: (_another -> misbehaved())
  end

  defp temporary(key, public) do
    use = if key.type == :ml_kem, do: :encapsulate, else: :verify
    kind = [class: :public_key, token: false, private: false] ++ key.public_attributes
    Attribute.encode!(kind ++ [{use, true}, {:value, public}])
  end

  defp proven(target, made, twin, %{type: :ml_kem}) do
    mechanism = Mechanism.encode!(:ml_kem)
    template = Attribute.encode!(@secret)

    with {:ok, {ciphertext, sent}} <-
           Call.run(target, {:encapsulate_key, mechanism, twin.handle, template}),
         {:ok, sent} <- value(target, sent),
         {:ok, received} <-
           Call.run(target, {:decapsulate_key, mechanism, made.handle, ciphertext, template}),
         {:ok, received} <- value(target, received) do
      if sent == received, do: :ok, else: misbehaved()
    else
      {:error, error} -> unproven_by(error)
    end
  end

  defp proven(target, made, twin, key) do
    with {:ok, read} <- Keys.read(target, made.handle, @may),
         may = Map.merge(Attribute.readable(read), Map.new(key.public_attributes)),
         {:signed, _scheme, _data, _signature} = proof <-
           PublicHalf.Proof.make(target, made.handle, may),
         :yes <- PublicHalf.Proof.verified(proof, target, twin.handle) do
      :ok
    else
      :no -> misbehaved()
      {:none, why} -> Made.unproven(why)
      {:error, error} -> unproven_by(error)
    end
  end

  defp value(target, handle) do
    read = Keys.read(target, handle, [:value])
    _ = Call.run(target, {:destroy, handle})

    case read do
      {:ok, %{value: <<_, _::binary>> = value}} -> {:ok, value}
      {:ok, _none} -> Made.unproven("what it agrees on cannot be read")
      {:error, _error} = error -> error
    end
  end

  @doc "The public key beside it, if it is wanted."
  @spec twin(Target.t(), [Attribute.wire()] | nil, binary) :: :ok | {:error, Error.t()}
  def twin(_target, nil, _public), do: :ok

  def twin(target, [form], public) do
    with {:ok, _made} <- Made.new(target, form ++ Attribute.encode!(value: public)), do: :ok
  end

  defp misbehaved do
    text = "the token took the key, and its public key is not that of this key"
    {:error, Error.new(:module_misbehaved, text)}
  end

  defp unproven_by(error) do
    if PublicHalf.Proof.refused?(error),
      do: Made.unproven(Exception.message(error)),
      else: {:error, error}
  end
end
