defmodule Cryptoki.SignatureAlgorithm do
  @moduledoc false
  # How a key signs in X.509 and CMS: its mechanism, the hash, and the AlgorithmIdentifier of both (RFC
  # 4055, RFC 5754, RFC 5758, RFC 8410, RFC 9881, RFC 9909). Pure.

  alias Cryptoki.{DER, Error, Mechanism}
  alias Cryptoki.Mechanism.Hash
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  @type t :: %{
          mechanism: Mechanism.spec(),
          hash: atom | nil,
          identifier: DER.t()
        }

  @typedoc """
  Who verifies what this OTP cannot: whether these bytes of a key of `PostQuantum` are a signature of the data.
  """
  @type elsewhere ::
          (PostQuantum.key(), data :: binary, signature :: binary ->
             boolean | :unsupported | {:error, Error.t()})

  # hash => {object identifier, bytes, with PKCS #1, with ECDSA}
  @hashes %{
    sha256: {{2, 16, 840, 1, 101, 3, 4, 2, 1}, 32, {1, 2, 840, 113_549, 1, 1, 11}, 2},
    sha384: {{2, 16, 840, 1, 101, 3, 4, 2, 2}, 48, {1, 2, 840, 113_549, 1, 1, 12}, 3},
    sha512: {{2, 16, 840, 1, 101, 3, 4, 2, 3}, 64, {1, 2, 840, 113_549, 1, 1, 13}, 4}
  }

  @pss {1, 2, 840, 113_549, 1, 1, 10}
  @mgf1 {1, 2, 840, 113_549, 1, 1, 8}
  @ed25519 {1, 3, 101, 112}
  @ed448 {1, 3, 101, 113}

  @doc "The options `hash:` and `padding:`, as a table."
  @spec options() :: Cryptoki.Options.Table.t()
  def options do
    [
      hash: [
        cast: {:one_of, Map.keys(@hashes)},
        must: ":sha256, :sha384 or :sha512",
        type: ":sha256 | :sha384 | :sha512",
        doc: "what is signed is hashed with it. Default: what goes with the key"
      ],
      padding: [
        cast: {:one_of, [:pkcs1, :pss]},
        must: ":pkcs1 or :pss",
        type: ":pkcs1 | :pss",
        doc: "of RSA keys. Default: `:pkcs1`, where the key is not for PSS only"
      ]
    ]
  end

  @doc "The AlgorithmIdentifier of a hash, without parameters (RFC 5754, section 2)."
  @spec digest(atom) :: DER.t()
  def digest(hash), do: DER.sequence([DER.oid(elem(@hashes[hash], 0))])

  @doc """
  How a public key signs. `hash:` (RSA and ECDSA) and `padding:` (RSA) may be `nil`; keys that hash by
  themselves have the hash `nil`.
  """
  @spec choose(term, keyword) :: {:ok, t} | {:error, Error.t()}
  def choose(public_key, options)

  def choose({:RSAPublicKey, _modulus, _exponent}, options) do
    hash = options[:hash] || :sha256
    if options[:padding] == :pss, do: pss(hash), else: pkcs1(hash)
  end

  # A key for PSS only, maybe with one hash only, or with parameters of others, as `Certificates` has it.
  def choose({{:RSAPublicKey, _modulus, _exponent}, {:pss, hash}}, options) do
    only = only(hash)
    hash = options[:hash] || only || :sha256

    cond do
      options[:padding] == :pkcs1 -> unsupported("this RSA key is for PSS only")
      only == :another -> unsupported("this RSA key is for PSS with parameters that are not here")
      only not in [nil, hash] -> unsupported("this RSA key is for PSS with #{only} only")
      true -> pss(hash)
    end
  end

  def choose({{:ECPoint, _point}, {:namedCurve, @ed25519}}, _options),
    do: edwards(:eddsa, @ed25519)

  def choose({{:ECPoint, _point}, {:namedCurve, @ed448}}, _options),
    do: edwards({:eddsa, prehash: false}, @ed448)

  def choose({{:ECPoint, _point}, {:namedCurve, {1, 3, 101, _montgomery}}}, _options),
    do: unsupported("keys of this kind do not sign")

  def choose({{:ECPoint, point}, _parameters}, options) do
    hash = options[:hash] || natural(point)
    {_oid, _size, _pkcs1, number} = @hashes[hash]

    {:ok,
     %{
       mechanism: :"ecdsa_#{hash}",
       hash: hash,
       identifier: DER.sequence([DER.oid({1, 2, 840, 10_045, 4, 3, number})])
     }}
  end

  def choose(other, _options) do
    case PostQuantum.parts(other) do
      {:ok, set, _bytes} ->
        identifier = DER.sequence([DER.oid(PostQuantum.oid(set))])
        {:ok, %{mechanism: PostQuantum.mechanism(set), hash: nil, identifier: identifier}}

      :error ->
        unsupported("there are no certificates for such a key here")
    end
  end

  # As strong as the curve, by the bytes of a coordinate.
  defp natural(<<4, both::binary>>), do: natural(div(byte_size(both), 2))
  defp natural(<<_compressed, x::binary>>), do: natural(byte_size(x))
  defp natural(size) when size <= 32, do: :sha256
  defp natural(size) when size <= 48, do: :sha384
  defp natural(_size), do: :sha512

  defp pkcs1(hash) do
    {_oid, _size, oid, _ecdsa} = @hashes[hash]
    identifier = DER.sequence([DER.oid(oid), DER.null()])
    {:ok, %{mechanism: :"#{hash}_rsa_pkcs", hash: hash, identifier: identifier}}
  end

  # The salt is as long as the hash, which is the default of the mechanisms.
  defp pss(hash) do
    {oid, size, _pkcs1, _ecdsa} = @hashes[hash]
    digest = DER.sequence([DER.oid(oid), DER.null()])

    parameters =
      DER.sequence([
        DER.explicit(0, digest),
        DER.explicit(1, DER.sequence([DER.oid(@mgf1), digest])),
        DER.explicit(2, DER.integer(size))
      ])

    identifier = DER.sequence([DER.oid(@pss), parameters])
    {:ok, %{mechanism: :"#{hash}_rsa_pkcs_pss", hash: hash, identifier: identifier}}
  end

  defp edwards(mechanism, oid),
    do: {:ok, %{mechanism: mechanism, hash: nil, identifier: DER.sequence([DER.oid(oid)])}}

  defp only(:any), do: nil

  defp only(oid) do
    Enum.find_value(@hashes, :another, fn {hash, row} -> DER.oid(elem(row, 0)) == oid && hash end)
  end

  @doc """
  `:ok` for a signature that verifies with the public key that it is handed on with: a token that signs
  with another key, or with another salt than it was asked for, is found out here. A key that this OTP does not
  know is verified with `elsewhere`, and what nobody can verify is taken for signed.
  """
  @spec verify(term, Mechanism.spec(), iodata, binary, elsewhere) :: :ok | {:error, Error.t()}
  def verify(public_key, mechanism, data, signature, elsewhere \\ &nowhere/3) do
    {hash, options} = by_mechanism(mechanism)
    data = IO.iodata_to_binary(data)

    # A curve that this OTP does not have is nobody's fault.
    case signed?(data, hash, signature, bare(public_key), options, elsewhere) do
      false ->
        detail =
          "the signature does not verify with the public key: it is by another key, or with other " <>
            "parameters than asked for"

        {:error, Error.new(:module_misbehaved, detail, function: :C_Sign)}

      {:error, _error} = error ->
        error

      _signed_or_not_known ->
        :ok
    end
  end

  @doc "What `:public_key` has to know of a mechanism: the hash, or `:none`, and the options of PSS."
  @spec by_mechanism(Mechanism.spec()) :: {atom, keyword}
  def by_mechanism(mechanism) do
    hash = Mechanism.hash(mechanism) || :none
    pss? = mechanism |> Mechanism.name_or_code() |> Atom.to_string() |> String.ends_with?("_pss")
    {hash, if(pss?, do: pss_options(hash, Hash.size(hash)), else: [])}
  end

  @doc "Nobody else verifies it."
  @spec nowhere(PostQuantum.key(), binary, binary) :: :unsupported
  def nowhere(_key, _data, _signature), do: :unsupported

  @doc "Whether a signature, which may be any bytes, is one, as far as this OTP, or somebody else, knows the key."
  @spec signed?(binary | {:digest, binary}, atom, binary, term, keyword, elsewhere) ::
          boolean | :unsupported | {:error, Error.t()}
  def signed?(data, hash, signature, key, options \\ [], elsewhere \\ &nowhere/3)

  def signed?(data, _hash, signature, {_record, _name, bytes} = key, _options, elsewhere)
      when is_binary(bytes) do
    with :unsupported <- PostQuantum.signed?(key, data, signature),
         do: elsewhere.(key, data, signature)
  end

  def signed?(data, hash, signature, key, options, _elsewhere) do
    :public_key.verify(data, hash, signature, key, options)
  rescue
    # Else bytes that are no signature, a point that is on no curve, a salt that no key has room for.
    error ->
      if match?(%ErlangError{original: {:notsup, _, _}}, error), do: :unsupported, else: false
  end

  @doc "What `:public_key` has to know of PSS: the hash of its mask, and the bytes of its salt."
  @spec pss_options(atom, non_neg_integer) :: keyword
  def pss_options(mask, salt),
    do: [rsa_padding: :rsa_pkcs1_pss_padding, rsa_pss_saltlen: salt, rsa_mgf1_md: mask]

  @doc "A public key without what it is restricted to."
  @spec bare(term) :: term
  def bare({{:RSAPublicKey, _, _} = rsa, _parameters}), do: rsa
  def bare(key), do: key

  defp unsupported(text), do: {:error, Error.new(:unsupported, text)}
end
