defmodule Cryptoki.PrivateKey.Elliptic do
  @moduledoc false
  # Private keys on curves: a number (RFC 5915), or bytes (RFC 8410). The public key is computed, and what
  # a file has beside it must be that one. Pure.

  alias Cryptoki.{DER, PrivateKey}
  alias Cryptoki.Attribute.Curve
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.{Info, OID}

  @ec OID.ec()
  @sizes %{ed25519: 32, ed448: 57, x25519: 32, x448: 56}
  # RFC 8410, section 3.
  @edwards_oids %{
    {1, 3, 101, 112} => :ed25519,
    {1, 3, 101, 113} => :ed448,
    {1, 3, 101, 110} => :x25519,
    {1, 3, 101, 111} => :x448
  }
  @edwards [:ed25519, :ed448]

  @doc "The types of keys on Edwards and Montgomery curves, by their identifiers."
  @spec edwards_oids() :: %{tuple => atom}
  def edwards_oids, do: @edwards_oids

  @doc "A key on a curve with this object identifier."
  @spec read(tuple, Reader.t()) :: PrivateKey.t()
  def read(oid, key) do
    curve = name(oid, key)
    order = curve |> :crypto_ec_curves.curve() |> elem(3)
    size = byte_size(order)
    # Some write fewer bytes, or zeros before them: it is the number that counts.
    number = :binary.decode_unsigned(Reader.octets(key))

    if number == 0 or number >= :binary.decode_unsigned(order),
      do: Reader.wrong!(key, "it is no number from 1 to the order of #{curve}")

    value = <<number::unit(8)-size(size)>>
    point = public(:ecdh, curve, value, key)
    public = checked([DER.oid(@ec), DER.oid(oid)], point, key)
    made(:ec, public, [key_type: :ec, curve: curve], Curve.wrap_point(point), value)
  end

  defp name(oid, key) do
    case Curve.decode(DER.oid(oid)) do
      {:ok, curve} when is_map_key(@sizes, curve) ->
        Reader.wrong!(key, "keys on this curve have a form of their own (RFC 8410)")

      {:ok, curve} ->
        if curve in :crypto.supports(:curves),
          do: curve,
          else: Reader.wrong!(key, "the curve is not known to this OTP", :unsupported)

      :error ->
        text = "the curve #{DER.dotted(oid)} is not known here"
        Reader.wrong!(key, text, :unsupported)
    end
  end

  @doc "A key of RFC 8410."
  @spec edwards(atom, Reader.t()) :: PrivateKey.t()
  def edwards(type, key) do
    size = @sizes[type]

    case Reader.octets(key) do
      <<4, ^size, value::binary>> when byte_size(value) == size ->
        kind = if type in @edwards, do: :eddsa, else: :ecdh
        point = public(kind, type, value, key)
        {:ok, oid} = Curve.oid(type)
        public = checked([DER.oid(oid)], point, key)
        key_type = if type in @edwards, do: :ec_edwards, else: :ec_montgomery
        made(type, public, [key_type: key_type, curve: type], point, value)

      _other ->
        Reader.wrong!(key, "it is no OCTET STRING of #{size} bytes, as keys of #{type} are")
    end
  end

  # What :crypto raises has the key in its stack trace.
  defp public(kind, curve, value, key) do
    {point, _value} = :crypto.generate_key(kind, curve, value)
    point
  rescue
    _not_here -> Reader.wrong!(key, "this OTP does not compute with #{curve}", :unsupported)
  end

  # As the key of a certificate would be.
  defp checked(algorithm, point, key) do
    {:ok, public} = Reader.read(PrivateKey.public_info(algorithm, point), "", &Info.read/1)

    case public.type in [:x25519, :x448] or Info.check(public) do
      {:error, reason, text} -> Reader.wrong!(key, text, reason)
      _good -> public.key
    end
  end

  defp made(type, public, kind, point, value) do
    %PrivateKey{
      type: type,
      public: public,
      public_attributes: kind ++ [ec_point: point],
      attributes: kind ++ [value: value]
    }
  end

  @doc "The key, when the public key that stands beside it is its own."
  @spec same!(PrivateKey.t(), Reader.t() | nil) :: PrivateKey.t()
  def same!(key, nil), do: key

  def same!(%{public: {{:ECPoint, point}, _curve}} = key, public) do
    if Reader.bytes(public) in [point | compressed(point)],
      do: key,
      else: Reader.wrong!(public, "it is the public key of another")
  end

  # The form of curves over a prime field; nobody writes it of the others.
  defp compressed(<<4, both::binary>>) do
    {x, y} = :erlang.split_binary(both, div(byte_size(both), 2))
    [<<2 + rem(:binary.last(y), 2)>> <> x]
  end

  defp compressed(_bytes), do: []
end
