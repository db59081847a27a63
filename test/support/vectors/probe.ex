defmodule Cryptoki.Test.Vectors.Probe do
  @moduledoc false
  # What a token does not have: by its list of mechanisms, and for curves, which are on no list, by a key of
  # OpenSSL's that it is asked to take.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Test.Token

  @type answer :: :ok | {:not_run, String.t()}

  @spec mechanisms(map, Token.needs()) :: answer
  def mechanisms(place, needs) do
    case Token.missing(place.token, needs) do
      [] -> :ok
      [{missing, _functions} | _] -> {:not_run, "no #{missing}"}
      [missing | _] -> {:not_run, "no #{missing}"}
    end
  end

  @spec curve(map, atom) :: answer
  def curve(place, curve) do
    known = {__MODULE__, place.token.name, curve}

    with nil <- :persistent_term.get(known, nil) do
      answer = ask(place, curve)
      :persistent_term.put(known, answer)
      answer
    end
  end

  defp ask(place, curve) do
    {point, scalar} = pair(curve)
    type = if curve in [:ed25519, :ed448], do: :ec_edwards, else: :ec
    public = [class: :public_key, ec_point: Curve.wrap_point(point), verify: true]
    private = [class: :private_key, value: scalar, sign: true, derive: true]

    with {:ok, public} <- create(place, type, curve, public),
         {:ok, private} <- create(place, type, curve, private),
         mechanism = mechanism(curve),
         {:ok, signature} <- Cryptoki.sign(place.hsm, private, mechanism, <<1::256>>),
         :ok <- Cryptoki.verify(place.hsm, public, mechanism, <<1::256>>, signature) do
      for key <- [public, private], do: Cryptoki.destroy(place.hsm, key)
      :ok
    else
      {:error, error} -> {:not_run, "no #{curve} (#{error.function} says #{error.reason})"}
    end
  end

  defp mechanism(:ed25519), do: :eddsa
  defp mechanism(:ed448), do: {:eddsa, prehash: false}
  defp mechanism(_curve), do: :ecdsa

  defp create(place, type, curve, template),
    do: Cryptoki.create(place.hsm, [key_type: type, curve: curve] ++ template)

  @doc "Bytes of a point that is not compressed."
  @spec point_size(atom) :: pos_integer
  def point_size(curve), do: curve |> pair() |> elem(0) |> byte_size()

  defp pair(curve) when curve in [:ed25519, :ed448], do: :crypto.generate_key(:eddsa, curve)
  defp pair(curve), do: :crypto.generate_key(:ecdh, curve)
end
