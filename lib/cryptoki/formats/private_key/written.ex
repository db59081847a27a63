defmodule Cryptoki.PrivateKey.Written do
  @moduledoc false
  # A private key as PKCS #8 (RFC 5958), of the first version, as tokens unwrap it. Pure.

  alias Cryptoki.{DER, PrivateKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.PrivateKey.PostQuantum
  alias Cryptoki.PublicKey.OID

  @rsa OID.rsa()
  @ec OID.ec()
  @numbers ~w[modulus public_exponent private_exponent prime_1 prime_2 exponent_1 exponent_2 coefficient]a

  @spec pkcs8(PrivateKey.t()) :: DER.t()
  def pkcs8(%PrivateKey{type: :rsa, attributes: attributes}) do
    numbers = for name <- @numbers, do: DER.integer(:binary.decode_unsigned(attributes[name]))
    info([DER.oid(@rsa), DER.null()], DER.sequence([DER.integer(0) | numbers]))
  end

  def pkcs8(%PrivateKey{type: :ec, attributes: attributes, public: {{:ECPoint, point}, _}}) do
    {:ok, oid} = Curve.oid(attributes[:curve])
    public = DER.explicit(1, DER.bit_string(point))
    fields = [DER.integer(1), DER.octet_string(attributes[:value]), public]
    info([DER.oid(@ec), DER.oid(oid)], DER.sequence(fields))
  end

  def pkcs8(%PrivateKey{type: type} = key) when type in [:ml_dsa, :ml_kem, :slh_dsa] do
    {oid, value} = PostQuantum.write(key)
    info([DER.oid(oid)], value)
  end

  def pkcs8(%PrivateKey{type: type, attributes: attributes}) do
    {:ok, oid} = Curve.oid(type)
    info([DER.oid(oid)], DER.octet_string(attributes[:value]))
  end

  defp info(algorithm, key),
    do: DER.sequence([DER.integer(0), DER.sequence(algorithm), DER.octet_string(key)])
end
