defmodule Cryptoki.Import.Public do
  @moduledoc false
  # A public key that comes alone: made, and read back. Of the two forms that the point of an Edwards curve
  # has on tokens it is the one with which this token verifies, seen by a key that is made here for that.

  alias Cryptoki.{Attribute, Error, Key, Keys, PublicKey, Target}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Import.{Made, Proof}
  alias Cryptoki.PrivateKey.PostQuantum
  alias Cryptoki.PublicKey.Decode

  @shown ~w[class key_type modulus public_exponent ec_params curve ec_point]a

  @spec create(Target.t(), PublicKey.Given.t(), [Attribute.wire()]) ::
          {:ok, Key.t()} | {:error, Error.t()}
  def create(target, key, forms) do
    with {:ok, form} <- form(target, key, forms),
         {:ok, made} <- Made.new(target, form),
         {:ok, _same} <- target |> same(key, made) |> Made.undone(target, made),
         do: {:ok, made.key}
  end

  defp same(target, key, made) do
    # A set and bytes have one form only, and not every token shows what else such a key may be read from.
    post_quantum? = PostQuantum.type?(key.type)
    names = if post_quantum?, do: Keyword.keys(key.public_attributes), else: @shown

    case Keys.read(target, made.handle, names) do
      {:ok, read} ->
        read = Attribute.readable(read)

        same? =
          if post_quantum?,
            do: Map.take(read, names) == Map.new(key.public_attributes),
            else: Decode.attributes(read) == {:ok, key.public}

        if same?, do: {:ok, key}, else: misbehaved()

      {:error, error} ->
        {:error, %{error | executed: false}}
    end
  end

  defp form(_target, _key, [form]), do: {:ok, form}

  defp form(target, %{type: type} = key, [standard, wrapped]) do
    {point, secret} = :crypto.generate_key(:eddsa, type)
    data = :crypto.strong_rand_bytes(32)
    signature = :crypto.sign(:eddsa, :none, data, [secret, type])
    scheme = if type == :ed25519, do: :eddsa, else: {:eddsa, prehash: false}
    proof = {:signed, scheme, data, signature}
    kind = Keyword.put(key.public_attributes, :ec_point, point)

    with {:ok, false} <- verifies?(target, kind, proof),
         kind = Keyword.update!(kind, :ec_point, &Curve.wrap_point/1),
         {:ok, true} <- verifies?(target, kind, proof) do
      {:ok, wrapped}
    else
      {:ok, _as_it_is_or_neither} -> {:ok, standard}
      {:error, _error} = error -> error
    end
  rescue
    # This OTP does not compute with the curve.
    _not_here -> {:ok, standard}
  end

  defp verifies?(target, kind, proof) do
    uses = [class: :public_key, verify: true, token: false, private: false]

    case Made.new(target, Attribute.encode!(uses ++ kind)) do
      {:ok, made} ->
        answer = Proof.confirms(target, made.handle, proof)
        _ = Made.undone({:error, Error.new(:unsupported)}, target, made)
        with verdict when verdict in [:ok, :no, :refused] <- answer, do: {:ok, verdict == :ok}

      {:error, error} ->
        if Cryptoki.PublicHalf.Proof.refused?(error), do: {:ok, false}, else: {:error, error}
    end
  end

  defp misbehaved do
    text = "the token took the public key, and shows another one"
    {:error, Error.new(:module_misbehaved, text, executed: false)}
  end
end
