defmodule Cryptoki.PrivateKey.PostQuantum do
  @moduledoc false
  # Private keys of ML-DSA (RFC 9881), ML-KEM (RFC 9935) and SLH-DSA (RFC 9909). The first two are a seed, or what it
  # is expanded to, or both: then the one follows from the other as far as it is computed here. Which public key
  # is theirs stands in the file, or the token says it; 32 bytes that it has in common with the private key tell that
  # it is that one. Pure.

  alias Cryptoki.{DER, Error, PrivateKey}
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.SHAKE
  alias Cryptoki.SignatureAlgorithm
  alias Cryptoki.SignatureAlgorithm.Identifier

  # Set => bytes of the seed, of what it is expanded to and of the public key, and what is hashed behind the seed.
  @ml_dsa %{
    ml_dsa_44: {32, 2560, 1312, <<4, 4>>},
    ml_dsa_65: {32, 4032, 1952, <<6, 5>>},
    ml_dsa_87: {32, 4896, 2592, <<8, 7>>}
  }
  @ml_kem %{
    ml_kem_512: {64, 1632, 800, <<2>>},
    ml_kem_768: {64, 2400, 1184, <<3>>},
    ml_kem_1024: {64, 3168, 1568, <<4>>}
  }
  @expanded Map.merge(@ml_dsa, @ml_kem)
  @kems %{
    {2, 16, 840, 1, 101, 3, 4, 4, 1} => :ml_kem_512,
    {2, 16, 840, 1, 101, 3, 4, 4, 2} => :ml_kem_768,
    {2, 16, 840, 1, 101, 3, 4, 4, 3} => :ml_kem_1024
  }
  # What OTP calls them.
  @called Map.merge(
            Map.new(
              SignatureAlgorithm.PostQuantum.sets(),
              &{SignatureAlgorithm.PostQuantum.called(&1), &1}
            ),
            %{mlkem512: :ml_kem_512, mlkem768: :ml_kem_768, mlkem1024: :ml_kem_1024}
          )

  @types [:ml_dsa, :ml_kem, :slh_dsa]

  @doc "Whether keys of this type are read here."
  @spec type?(atom) :: boolean
  def type?(type), do: type in @types

  @doc "The parameter set of an object identifier."
  @spec named(DER.oid()) :: {:ok, atom} | :error
  def named(oid) do
    with :error <- Map.fetch(@kems, oid), do: SignatureAlgorithm.PostQuantum.named(oid)
  end

  @doc "The parameter set of a type of keys that OTP calls so."
  @spec called(term, atom) :: {:ok, atom} | :error
  def called(name, type) do
    with {:ok, set} <- Map.fetch(@called, name),
         do: if(type(set) == type, do: {:ok, set}, else: :error)
  end

  @doc "The object identifier of a parameter set."
  @spec oid(atom) :: DER.oid()
  def oid(set) do
    case Enum.find(@kems, &match?({_oid, ^set}, &1)) do
      {oid, ^set} -> oid
      nil -> SignatureAlgorithm.PostQuantum.oid(set)
    end
  end

  @doc "The key in the OCTET STRING of PKCS #8, and the public key that stands beside it, if one does."
  @spec read(atom, Reader.t(), Reader.t() | nil) :: PrivateKey.t()
  def read(set, key, public) when is_map_key(@expanded, set) do
    parts = parts(Reader.within(key), @expanded[set])
    set |> made(parts, public && Reader.bytes(public)) |> read!(key)
  end

  def read(set, key, public) do
    size = size(set, :value)
    value = Reader.octets(key)
    if byte_size(value) != size, do: Reader.wrong!(key, "it is no key of #{set}, #{size} bytes")
    set |> made([value: value], public && Reader.bytes(public)) |> read!(public || key)
  end

  defp read!({:ok, key}, _place), do: key
  defp read!({:error, text}, place), do: Reader.wrong!(place, text)

  defp parts(%{tag: 0x80} = seed, {size, _, _, _}),
    do: [seed: sized(%{seed | tag: 4}, size, "a seed")]

  defp parts(%{tag: 4} = value, {_, size, _, _}),
    do: [value: sized(value, size, "an expanded key")]

  defp parts(both, {seed_size, size, _, _}) do
    [seed, value] = Reader.fields(Reader.is!(both, 0x30), [{"seed", 4}, {"expandedKey", 4}])
    [seed: sized(seed, seed_size, "a seed"), value: sized(value, size, "an expanded key")]
  end

  defp sized(value, size, what) do
    bytes = Reader.octets(value)
    if byte_size(bytes) != size, do: Reader.wrong!(value, "it is not #{what} of #{size} bytes")
    bytes
  end

  @doc "A key of its `seed:`, of what that is expanded to, `value:`, or of both, and the public one that is said to be its own."
  @spec of_parts(atom, [{:seed | :value, binary}], binary | nil) ::
          {:ok, PrivateKey.t()} | {:error, Error.t()}
  def of_parts(set, parts, public \\ nil) do
    made =
      case Enum.find(parts, fn {name, bytes} -> byte_size(bytes) != size(set, name) end) do
        nil when parts == [] -> {:error, "there is no key in it"}
        nil -> made(set, parts, public)
        {:seed, _} -> {:error, "it is not a seed of #{size(set, :seed)} bytes"}
        {:value, _} -> {:error, "it is no key of #{set}, #{size(set, :value)} bytes"}
      end

    with {:error, text} <- made, do: {:error, Error.new(:invalid_argument, text)}
  end

  defp size(set, :seed) when is_map_key(@expanded, set), do: elem(@expanded[set], 0)
  defp size(set, :value) when is_map_key(@expanded, set), do: elem(@expanded[set], 1)
  defp size(set, :value), do: 2 * SignatureAlgorithm.PostQuantum.key_size(set)

  @doc "A key of which only its public half is told, by its `SubjectPublicKeyInfo`; `nil` for one of another kind."
  @spec of_public(Reader.t()) :: PrivateKey.t() | nil
  def of_public(info) do
    [algorithm, bits] = Reader.fields(Reader.is!(info, 0x30), [0x30, 3])

    with {oid, nothing} <- Identifier.parts(algorithm), {:ok, set} <- named(oid) do
      if nothing, do: Reader.wrong!(nothing, "there are no parameters of such a key")
      bytes = Reader.bytes(bits)

      unless byte_size(bytes) == public_size(set),
        do: Reader.wrong!(bits, "a public key of this kind has #{public_size(set)} bytes")

      key(set, [], bytes)
    else
      :error -> nil
    end
  end

  defp public_size(set) when is_map_key(@expanded, set), do: elem(@expanded[set], 2)
  defp public_size(set), do: SignatureAlgorithm.PostQuantum.key_size(set)

  defp made(set, parts, public) do
    bytes = own(set, parts) || public
    key = key(set, parts, bytes)

    cond do
      not follows?(set, parts) -> {:error, "the expanded key is not that of the seed"}
      public != nil and public != bytes -> {:error, "the public key is the one of another"}
      bytes != nil and not half?(key, bytes) -> {:error, "the public key is the one of another"}
      true -> {:ok, key}
    end
  end

  defp key(set, parts, public) do
    kind = [key_type: type(set), parameter_set: set]

    %PrivateKey{
      type: type(set),
      public: public && shown(set, public),
      public_attributes: kind,
      attributes: kind ++ parts
    }
  end

  defp type(set) when is_map_key(@ml_kem, set), do: :ml_kem
  defp type(set), do: SignatureAlgorithm.PostQuantum.mechanism(set)

  defp shown(set, bytes) when is_map_key(@ml_kem, set),
    do: {:SubjectPublicKeyInfo, {:AlgorithmIdentifier, oid(set), :asn1_NOVALUE}, bytes}

  defp shown(set, bytes) do
    with {:ok, key} <- SignatureAlgorithm.PostQuantum.key(set, bytes),
         do: key,
         else: (:error -> nil)
  end

  # The public key, where the private one has it in itself.
  defp own(set, _parts) when is_map_key(@ml_dsa, set), do: nil

  defp own(set, parts) when is_map_key(@ml_kem, set) do
    {_, size, public, _} = @ml_kem[set]
    parts[:value] && binary_part(parts[:value], size - 64 - public, public)
  end

  defp own(_slh_dsa, parts) do
    half = div(byte_size(parts[:value]), 2)
    binary_part(parts[:value], half, half)
  end

  @doc "The bytes of the public key, `nil` where they are not known."
  @spec public(PrivateKey.t()) :: binary | nil
  def public(%PrivateKey{public: nil}), do: nil
  def public(%PrivateKey{public: public}), do: elem(public, 2)

  @doc "Whether a public key is the other half, by what both of them have."
  @spec half?(PrivateKey.t(), binary) :: boolean
  def half?(%PrivateKey{type: type, attributes: attributes}, public) do
    set = attributes[:parameter_set]

    case type do
      :slh_dsa ->
        public == own(set, attributes)

      :ml_dsa ->
        sized?(set, public) and binary_part(public, 0, 32) == rho(set, attributes)

      :ml_kem ->
        sized?(set, public) and
          binary_part(public, byte_size(public), -32) == rho(set, attributes)
    end
  end

  defp sized?(set, public), do: byte_size(public) == elem(@expanded[set], 2)

  defp rho(set, attributes) do
    case {attributes[:seed], attributes[:value], type(set)} do
      {nil, value, :ml_dsa} -> binary_part(value, 0, 32)
      {nil, value, :ml_kem} -> binary_part(value, byte_size(value) - 96, 32)
      {seed, _value, _type} -> binary_part(expanded(set, seed), 0, 32)
    end
  end

  # What FIPS 204, algorithm 6, and FIPS 203, algorithm 13, make of a seed first.
  defp expanded(set, seed) when is_map_key(@ml_dsa, set),
    do: SHAKE.shake256(seed <> elem(@ml_dsa[set], 3), 128)

  defp expanded(set, <<d::binary-32, _z::binary>>),
    do: :crypto.hash(:sha3_512, d <> elem(@ml_kem[set], 3))

  defp follows?(set, [{:seed, seed}, {:value, value}]) when is_map_key(@ml_dsa, set) do
    <<rho::binary-32, _::binary-64, k::binary-32>> = expanded(set, seed)
    binary_part(value, 0, 64) == rho <> k
  end

  defp follows?(set, [{:seed, <<_d::binary-32, z::binary>> = seed}, {:value, value}]) do
    <<rho::binary-32, _::binary>> = expanded(set, seed)
    tail(value) == {rho, z} and hashed?(set, value)
  end

  defp follows?(set, value: value) when is_map_key(@ml_kem, set), do: hashed?(set, value)
  defp follows?(_set, _one), do: true

  defp tail(value) do
    <<rho::binary-32, _hash::binary-32, z::binary>> = binary_part(value, byte_size(value), -96)
    {rho, z}
  end

  defp hashed?(set, value) do
    public = own(set, value: value)
    binary_part(value, byte_size(value) - 64, 32) == :crypto.hash(:sha3_256, public)
  end

  @doc "What PKCS #8 has of such a key."
  @spec write(PrivateKey.t()) :: {DER.oid(), DER.t()}
  def write(%PrivateKey{attributes: attributes}) do
    key =
      case {attributes[:seed], attributes[:value]} do
        {nil, value} -> value
        {seed, nil} -> DER.value(0x80, seed)
        {seed, value} -> DER.sequence([DER.octet_string(seed), DER.octet_string(value)])
      end

    set = attributes[:parameter_set]

    if attributes[:seed] == nil and is_map_key(@expanded, set),
      do: {oid(set), DER.octet_string(key)},
      else: {oid(set), key}
  end
end
