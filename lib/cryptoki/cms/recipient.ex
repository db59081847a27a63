defmodule Cryptoki.CMS.Recipient do
  @moduledoc false
  # Whom the key of some content is encrypted for, and how (RFC 5652, section 6.2; RFC 3560; RFC 5753; RFC 8418).
  # What is for others may be of any kind. Pure.

  alias Cryptoki.CMS.Password
  alias Cryptoki.ContentKey.{Derivation, OAEP, Transport}
  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.PublicKey.OID
  alias Cryptoki.SignatureAlgorithm.Identifier

  @typedoc "Issuer and serial number as they stand in the certificate, or the identifier of its key."
  @type id :: {:issuer, DER.t()} | {:key, binary}
  @type transport :: %{
          kind: :transport,
          id: id,
          padding: Transport.padding() | :unknown,
          encrypted: binary
        }
  @type agreement :: %{
          kind: :agreement,
          id: id,
          point: binary | nil,
          curve: DER.oid() | nil,
          scheme: scheme | :unknown,
          info: binary,
          encrypted: binary
        }
  @typedoc "How the agreed secret becomes a key that wraps, how long that is, and what wraps with it."
  @type scheme :: %{kdf: Derivation.kdf(), size: pos_integer, wrap: :aes | :des_ede3}
  @typedoc "Wrapped by a key that both have, of so many bytes."
  @type kek :: %{kind: :kek, id: id, size: pos_integer | :unknown, encrypted: binary}
  @type t :: transport | agreement | kek | Password.t() | %{kind: :other, id: nil}

  @rsa OID.rsa()
  @oaep {1, 2, 840, 113_549, 1, 1, 7}
  @mgf1 {1, 2, 840, 113_549, 1, 1, 8}
  @specified {1, 2, 840, 113_549, 1, 1, 9}
  @ec OID.ec()
  @montgomery [{1, 3, 101, 110}, {1, 3, 101, 111}]

  @hashes Map.new([:sha, :sha224, :sha256, :sha384, :sha512], &{Identifier.hash_oid(&1), &1})

  # With and without cofactor, which is 1 on all curves here.
  @schemes for(
             arc <- [11, 14],
             {hash, number} <- [sha224: 0, sha256: 1, sha384: 2, sha512: 3],
             into: %{},
             do: {{1, 3, 132, 1, arc, number}, {:x963, hash}}
           )
           |> Map.merge(%{
             {1, 3, 133, 16, 840, 63, 0, 2} => {:x963, :sha},
             {1, 3, 133, 16, 840, 63, 0, 3} => {:x963, :sha},
             {1, 2, 840, 113_549, 1, 9, 16, 3, 19} => {:hkdf, :sha256},
             {1, 2, 840, 113_549, 1, 9, 16, 3, 20} => {:hkdf, :sha384},
             {1, 2, 840, 113_549, 1, 9, 16, 3, 21} => {:hkdf, :sha512}
           })
  @wraps %{
    {2, 16, 840, 1, 101, 3, 4, 1, 5} => 16,
    {2, 16, 840, 1, 101, 3, 4, 1, 25} => 24,
    {2, 16, 840, 1, 101, 3, 4, 1, 45} => 32
  }
  # What OpenSSL 3.0 takes for keys on curves, if it is not told otherwise (RFC 5753, section 7.1.5).
  @des_ede3 {1, 2, 840, 113_549, 1, 9, 16, 3, 6}

  @doc "The recipients in one `RecipientInfo`: an agreement may have several."
  @spec read(Reader.t()) :: [t]
  def read(%{tag: 0x30} = info) do
    case Reader.sequence(info) do
      [version, id, algorithm, encrypted] ->
        _ = Reader.integer(version)
        padding = padding(Reader.name(algorithm, "key encryption algorithm"))
        [%{kind: :transport, id: id(id), padding: padding, encrypted: Reader.octets(encrypted)}]

      _other ->
        Reader.wrong!(info, "four values should be in it")
    end
  end

  def read(%{tag: 0xA1} = info) do
    fields = [2, {"originator", 0xA0}, {:maybe, 0xA1}, {"key encryption algorithm", 0x30}, 0x30]
    [version, originator, ukm, algorithm, keys] = Reader.fields(info, fields)
    _ = Reader.integer(version)
    {curve, point} = originator(Reader.only(originator))
    {scheme, info} = scheme(algorithm, ukm && Reader.octets(Reader.only(ukm)))

    for key <- Reader.sequence(keys) do
      case Reader.sequence(key) do
        [id, encrypted] ->
          %{
            kind: :agreement,
            id: id(id),
            point: point,
            curve: curve,
            scheme: scheme,
            info: info,
            encrypted: Reader.octets(encrypted)
          }

        _other ->
          Reader.wrong!(key, "two values should be in it")
      end
    end
  end

  def read(%{tag: 0xA2} = info) do
    fields = [2, {"kekid", 0x30}, {"key encryption algorithm", 0x30}, 4]
    [version, id, algorithm, encrypted] = Reader.fields(info, fields)
    _ = Reader.integer(version)
    id = id |> Reader.sequence() |> first(id) |> Reader.octets()
    [%{kind: :kek, id: {:key, id}, size: wrap(algorithm), encrypted: Reader.octets(encrypted)}]
  end

  def read(%{tag: 0xA3} = info), do: [Password.read(info)]

  # What will come.
  def read(%{tag: 0xA4}), do: [%{kind: :other, id: nil}]
  def read(info), do: Reader.wrong!(info, "it is no recipient")

  defp id(%{tag: 0x30, der: der}), do: {:issuer, der}
  defp id(%{tag: 0x80, contents: identifier}), do: {:key, identifier}
  # RecipientKeyIdentifier, with a date and more that nobody writes.
  defp id(%{tag: 0xA0} = id), do: {:key, id |> Reader.values() |> first(id) |> Reader.octets()}
  defp id(id), do: Reader.wrong!(id, "it names no recipient")

  defp first([value | _], _outer), do: value
  defp first([], outer), do: Reader.wrong!(outer, "nothing is in it")

  defp wrap(identifier) do
    {oid, nothing} = Identifier.parts(identifier)
    if nothing && is_map_key(@wraps, oid), do: Reader.null(nothing)
    Map.get(@wraps, oid, :unknown)
  end

  ## RSA

  defp padding(identifier) do
    case Identifier.parts(identifier) do
      {@rsa, parameters} ->
        if parameters, do: Reader.null(parameters)
        :pkcs1

      {@oaep, parameters} ->
        oaep(parameters || Reader.wrong!(identifier, "it has no parameters of OAEP"))

      {_unknown, _parameters} ->
        :unknown
    end
  end

  defp oaep(parameters) do
    tags = for tag <- 0xA0..0xA2, do: {:maybe, tag}
    [hash, mgf, source] = Reader.fields(Reader.is!(parameters, 0x30), tags)
    hash = if hash, do: hash(Reader.only(hash)), else: :sha
    mgf = if mgf, do: mgf(Reader.only(mgf)), else: :sha

    if hash == nil or mgf == nil,
      do: :unknown,
      else: {:oaep, %{hash: hash, mgf: mgf, label: if(source, do: label(source), else: "")}}
  end

  defp hash(identifier) do
    {oid, parameters} = Identifier.parts(identifier)
    if parameters, do: Reader.null(parameters)
    @hashes[oid]
  end

  defp mgf(identifier) do
    case Identifier.parts(identifier) do
      {@mgf1, %Reader{} = hash} -> hash(hash)
      _unknown -> nil
    end
  end

  defp label(source) do
    case Identifier.parts(Reader.only(source)) do
      {@specified, %Reader{} = label} -> Reader.octets(label)
      _other -> Reader.wrong!(source, "it is no label of OAEP")
    end
  end

  ## Agreement

  # Of one whose key stands in a certificate nothing is known here.
  defp originator(%{tag: 0xA1} = key) do
    [algorithm, bits] = Reader.fields(key, [0x30, 3])

    case Identifier.parts(algorithm) do
      {@ec, %{tag: 6} = curve} -> {Reader.oid(curve), Reader.bytes(bits)}
      {@ec, nil} -> {nil, Reader.bytes(bits)}
      {@ec, %{tag: 5}} -> {nil, Reader.bytes(bits)}
      {curve, nil} when curve in @montgomery -> {curve, Reader.bytes(bits)}
      _unknown -> {nil, nil}
    end
  end

  defp originator(%{tag: tag}) when tag in [0x30, 0x80], do: {nil, nil}
  defp originator(other), do: Reader.wrong!(other, "it is no originator")

  defp scheme(identifier, ukm) do
    {oid, wrap} = Identifier.parts(identifier)

    with {:ok, kdf} <- Map.fetch(@schemes, oid),
         %Reader{tag: 0x30} <- wrap,
         {by, size} <- wrapping(wrap) do
      {%{kdf: kdf, size: size, wrap: by}, shared_info(wrap.der, ukm, size)}
    else
      _unknown -> {:unknown, ""}
    end
  end

  defp wrapping(identifier) do
    case Identifier.parts(identifier) do
      {@des_ede3, nothing} ->
        if nothing, do: Reader.null(nothing)
        {:des_ede3, 24}

      _aes ->
        with size when is_integer(size) <- wrap(identifier), do: {:aes, size}
    end
  end

  # ECC-CMS-SharedInfo (RFC 5753, section 7.2), of the algorithm that wraps as it stands there.
  defp shared_info(wrap, ukm, size) do
    ukm = if ukm, do: [DER.explicit(0, DER.octet_string(ukm))], else: []
    DER.sequence([wrap | ukm] ++ [DER.explicit(2, DER.octet_string(<<8 * size::32>>))])
  end

  ## Writing

  @doc "The `RecipientInfo` of a key that is encrypted with RSA."
  @spec transport(DER.t(), :pkcs1 | {:oaep, OAEP.t()}, binary) :: DER.t()
  def transport(id, padding, encrypted) do
    DER.sequence([DER.integer(0), id, padding_identifier(padding), DER.octet_string(encrypted)])
  end

  defp padding_identifier(:pkcs1), do: DER.sequence([DER.oid(@rsa), DER.null()])

  defp padding_identifier({:oaep, %{hash: hash, mgf: hash, label: ""}}) do
    hash = DER.sequence([DER.oid(Identifier.hash_oid(hash)), DER.null()])
    mgf = DER.sequence([DER.oid(@mgf1), hash])
    DER.sequence([DER.oid(@oaep), DER.sequence([DER.explicit(0, hash), DER.explicit(1, mgf)])])
  end

  @doc "How a key is wrapped that was agreed on by this curve: the scheme, its identifier, and what goes into it."
  @spec agree(atom) :: {scheme, DER.t(), DER.t()}
  def agree(curve) do
    kdf = if curve in [:x25519, :x448], do: {:hkdf, :sha256}, else: {:x963, hash_for(curve)}
    {oid, _kdf} = Enum.find(Enum.sort(@schemes), fn {_oid, known} -> known == kdf end)
    {wrap_oid, size} = Enum.find(@wraps, fn {_oid, size} -> size == 32 end)
    wrap = DER.sequence([DER.oid(wrap_oid)])
    scheme = %{kdf: kdf, size: size, wrap: :aes}
    {scheme, DER.sequence([DER.oid(oid), wrap]), shared_info(wrap, nil, size)}
  end

  # RFC 5753, section 8: as strong as the curve.
  defp hash_for(curve) when curve in [:secp521r1, :brainpoolP512r1], do: :sha512
  defp hash_for(curve) when curve in [:secp384r1, :brainpoolP384r1], do: :sha384
  defp hash_for(_curve), do: :sha256

  @doc "The `RecipientInfo` of a key that is wrapped with an agreed one."
  @spec agreement(DER.t(), atom, binary, DER.t(), binary) :: DER.t()
  def agreement(id, curve, point, scheme, encrypted) do
    key = DER.value(0xA1, [originator_algorithm(curve), DER.bit_string(point)])

    DER.value(0xA1, [
      DER.integer(3),
      DER.explicit(0, key),
      scheme,
      DER.sequence([DER.sequence([id, DER.octet_string(encrypted)])])
    ])
  end

  defp originator_algorithm(:x25519), do: DER.sequence([DER.oid({1, 3, 101, 110})])
  defp originator_algorithm(:x448), do: DER.sequence([DER.oid({1, 3, 101, 111})])
  # The curve is that of the recipient, as OpenSSL leaves it out.
  defp originator_algorithm(_curve), do: DER.sequence([DER.oid(@ec)])
end
