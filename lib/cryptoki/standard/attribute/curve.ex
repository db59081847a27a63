# Elliptic curves by the names OTP gives them: their CKA_EC_PARAMS, and what CKA_EC_POINT holds.
defmodule Cryptoki.Attribute.Curve do
  @moduledoc false

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader

  @type name :: atom

  # name => {object identifier, bytes of a coordinate}
  @weierstrass %{
    secp112r1: {{1, 3, 132, 0, 6}, 14},
    secp112r2: {{1, 3, 132, 0, 7}, 14},
    secp128r1: {{1, 3, 132, 0, 28}, 16},
    secp128r2: {{1, 3, 132, 0, 29}, 16},
    secp160k1: {{1, 3, 132, 0, 9}, 20},
    secp160r1: {{1, 3, 132, 0, 8}, 20},
    secp160r2: {{1, 3, 132, 0, 30}, 20},
    secp192k1: {{1, 3, 132, 0, 31}, 24},
    secp192r1: {{1, 2, 840, 10045, 3, 1, 1}, 24},
    secp224k1: {{1, 3, 132, 0, 32}, 28},
    secp224r1: {{1, 3, 132, 0, 33}, 28},
    secp256k1: {{1, 3, 132, 0, 10}, 32},
    secp256r1: {{1, 2, 840, 10045, 3, 1, 7}, 32},
    secp384r1: {{1, 3, 132, 0, 34}, 48},
    secp521r1: {{1, 3, 132, 0, 35}, 66},
    sect113r1: {{1, 3, 132, 0, 4}, 15},
    sect113r2: {{1, 3, 132, 0, 5}, 15},
    sect131r1: {{1, 3, 132, 0, 22}, 17},
    sect131r2: {{1, 3, 132, 0, 23}, 17},
    sect163k1: {{1, 3, 132, 0, 1}, 21},
    sect163r1: {{1, 3, 132, 0, 2}, 21},
    sect163r2: {{1, 3, 132, 0, 15}, 21},
    sect193r1: {{1, 3, 132, 0, 24}, 25},
    sect193r2: {{1, 3, 132, 0, 25}, 25},
    sect233k1: {{1, 3, 132, 0, 26}, 30},
    sect233r1: {{1, 3, 132, 0, 27}, 30},
    sect239k1: {{1, 3, 132, 0, 3}, 30},
    sect283k1: {{1, 3, 132, 0, 16}, 36},
    sect283r1: {{1, 3, 132, 0, 17}, 36},
    sect409k1: {{1, 3, 132, 0, 36}, 52},
    sect409r1: {{1, 3, 132, 0, 37}, 52},
    sect571k1: {{1, 3, 132, 0, 38}, 72},
    sect571r1: {{1, 3, 132, 0, 39}, 72},
    brainpoolP160r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 1}, 20},
    brainpoolP160t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 2}, 20},
    brainpoolP192r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 3}, 24},
    brainpoolP192t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 4}, 24},
    brainpoolP224r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 5}, 28},
    brainpoolP224t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 6}, 28},
    brainpoolP256r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 7}, 32},
    brainpoolP256t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 8}, 32},
    brainpoolP320r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 9}, 40},
    brainpoolP320t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 10}, 40},
    brainpoolP384r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 11}, 48},
    brainpoolP384t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 12}, 48},
    brainpoolP512r1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 13}, 64},
    brainpoolP512t1: {{1, 3, 36, 3, 3, 2, 8, 1, 1, 14}, 64}
  }

  # Where the order of the base point has another length than a coordinate, in bytes.
  @orders %{
    secp160k1: 21,
    secp160r1: 21,
    secp160r2: 21,
    secp224k1: 29,
    sect233k1: 29,
    sect409k1: 51
  }

  # name => {object identifier, bytes of a public key}
  @little_endian %{
    x25519: {{1, 3, 101, 110}, 32},
    x448: {{1, 3, 101, 111}, 56},
    ed25519: {{1, 3, 101, 112}, 32},
    ed448: {{1, 3, 101, 113}, 57}
  }

  # PKCS #11 v3.2 section 6.3.5: the PrintableString form means the schemes of RFC 8032 (with
  # contexts and prehashing), the object identifier those of RFC 8410. SoftHSM 2.6.1 and Kryoptic
  # take either for both.
  @printable %{edwards25519: :ed25519, edwards448: :ed448, curve25519: :x25519, curve448: :x448}

  # Read, never written: what cards and other libraries have been seen to say.
  @spellings %{"prime256v1" => :secp256r1, "prime192v1" => :secp192r1}
  @old_identifiers [
    {{1, 3, 6, 1, 4, 1, 11591, 15, 1}, :ed25519},
    {{1, 3, 6, 1, 4, 1, 3029, 1, 5, 1}, :x25519}
  ]

  @curves Map.merge(@weierstrass, @little_endian)

  string = &DER.value(0x13, to_string(&1))

  identifiers = Map.new(@curves, fn {name, {oid, _}} -> {name, DER.oid(oid)} end)
  strings = Map.new(@printable, fn {name, _} -> {name, string.(name)} end)
  spelt = Map.new(@curves, fn {name, _} -> {string.(name), name} end)

  @encoded Map.merge(identifiers, strings)
  @decoded spelt
           |> Map.merge(Map.new(identifiers, fn {name, bytes} -> {bytes, name} end))
           |> Map.merge(Map.new(strings, fn {name, bytes} -> {bytes, @printable[name]} end))
           |> Map.merge(Map.new(@spellings, fn {text, name} -> {string.(text), name} end))
           |> Map.merge(Map.new(@old_identifiers, fn {oid, name} -> {DER.oid(oid), name} end))

  @doc "The names `encode/1` knows."
  @spec names() :: [name]
  def names, do: Map.keys(@encoded)

  @doc "CKA_EC_PARAMS of a curve, DER."
  @spec encode(name) :: {:ok, binary} | :error
  def encode(name), do: Map.fetch(@encoded, name)

  @doc "The curve that CKA_EC_PARAMS names, by object identifier or PrintableString."
  @spec decode(binary) :: {:ok, name} | :error
  def decode(der), do: Map.fetch(@decoded, der)

  @doc "The object identifier of a curve, as `:public_key` wants it."
  @spec oid(name) :: {:ok, tuple} | :error
  def oid(name) do
    with {:ok, {oid, _}} <- Map.fetch(@curves, Map.get(@printable, name, name)), do: {:ok, oid}
  end

  @doc """
  The bytes of the order of the base point, which r and s of a signature have (v3.2, section 6.3.1): of a
  curve with a name, or of CKA_EC_PARAMS that say all of it.
  """
  @spec order_size(name | binary) :: {:ok, pos_integer} | :error
  def order_size(name) when is_map_key(@orders, name), do: Map.fetch(@orders, name)

  def order_size(name) when is_atom(name),
    do: with({:ok, {_oid, size}} <- Map.fetch(@weierstrass, name), do: {:ok, size})

  def order_size(der) when is_binary(der) do
    with {:ok, order} when order > 1 <- Reader.read(der, "", &order/1),
         do: {:ok, byte_size(:binary.encode_unsigned(order))},
         else: (_no_parameters -> :error)
  end

  # Version, field, curve, base point, order (X9.62), cofactor and how the curve was found.
  defp order(parameters) do
    fields = [2, 0x30, 0x30, 4, 2, {:maybe, 2}, {:maybe, 0x30}]
    [_, _, _, _, order, _, _] = Reader.fields(Reader.is!(parameters, 0x30), fields)
    Reader.integer(order, 128)
  end

  @doc """
  The point in CKA_EC_POINT, out of its DER OCTET STRING if it is in one.

  The standard wants the OCTET STRING for short Weierstrass curves and none for the others, tokens
  do as they please, and a raw value may look like DER. Only the length tells, so the curve has to
  be known: with `nil` for a curve that is not, the whole has to be DER of something that starts
  like a point.
  """
  @spec point(binary, name | nil) :: {:ok, binary} | :error
  def point(bytes, nil) do
    case unwrap(bytes) do
      {:ok, <<form, _::binary>> = point} when form in [2, 3, 4] -> {:ok, point}
      _ -> if bytes == "", do: :error, else: {:ok, bytes}
    end
  end

  def point(bytes, name) do
    sizes = point_sizes(Map.get(@printable, name, name))
    unwrapped = with {:ok, point} <- unwrap(bytes), do: point

    cond do
      byte_size(bytes) in sizes -> {:ok, bytes}
      is_binary(unwrapped) and byte_size(unwrapped) in sizes -> {:ok, unwrapped}
      true -> :error
    end
  end

  @doc "A point as a DER OCTET STRING, the form CKA_EC_POINT has for short Weierstrass curves."
  @spec wrap_point(binary) :: binary
  def wrap_point(point), do: DER.octet_string(point)

  for {name, {_, size}} <- @weierstrass do
    defp point_sizes(unquote(name)), do: [unquote(2 * size + 1), unquote(size + 1)]
  end

  for {name, {_, size}} <- @little_endian do
    defp point_sizes(unquote(name)), do: [unquote(size)]
  end

  defp point_sizes(_), do: []

  defp unwrap(<<4, size, point::binary-size(size)>>) when size < 128, do: {:ok, point}
  defp unwrap(<<4, 0x81, size, point::binary-size(size)>>), do: {:ok, point}
  # A BIT STRING, which some libraries make of Edwards points.
  defp unwrap(<<3, size, 0, point::binary>>) when byte_size(point) == size - 1, do: {:ok, point}
  defp unwrap(_), do: :error
end
