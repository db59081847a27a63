defmodule Cryptoki.SignatureAlgorithm.Identifier do
  @moduledoc false
  # What an AlgorithmIdentifier of a signature says, by its meaning: parameters that are left out are
  # those that it has then, and NULL is none (RFC 4055, section 2.1). Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.PostQuantum

  @type t :: %{
          scheme: :pkcs1 | :pss | :ecdsa | :eddsa | :post_quantum | :unknown,
          hash: hash,
          mgf: hash,
          salt: non_neg_integer | nil,
          name: atom | tuple,
          oid: tuple
        }
  @typedoc "A hash of `:crypto`, or the object identifier of another."
  @type hash :: atom | tuple
  @type pss :: %{hash: hash, mgf: hash, salt: non_neg_integer}

  @pss {1, 2, 840, 113_549, 1, 1, 10}
  @mgf1 {1, 2, 840, 113_549, 1, 1, 8}

  # Hash, its own identifier, with PKCS #1 and with ECDSA; what is signed with the others is not believed.
  @hashes [
    {:md5, {1, 2, 840, 113_549, 2, 5}, {1, 2, 840, 113_549, 1, 1, 4}, nil},
    {:sha, {1, 3, 14, 3, 2, 26}, {1, 2, 840, 113_549, 1, 1, 5}, {1, 2, 840, 10_045, 4, 1}},
    {:sha224, {2, 16, 840, 1, 101, 3, 4, 2, 4}, {1, 2, 840, 113_549, 1, 1, 14},
     {1, 2, 840, 10_045, 4, 3, 1}},
    {:sha256, {2, 16, 840, 1, 101, 3, 4, 2, 1}, {1, 2, 840, 113_549, 1, 1, 11},
     {1, 2, 840, 10_045, 4, 3, 2}},
    {:sha384, {2, 16, 840, 1, 101, 3, 4, 2, 2}, {1, 2, 840, 113_549, 1, 1, 12},
     {1, 2, 840, 10_045, 4, 3, 3}},
    {:sha512, {2, 16, 840, 1, 101, 3, 4, 2, 3}, {1, 2, 840, 113_549, 1, 1, 13},
     {1, 2, 840, 10_045, 4, 3, 4}},
    {:sha3_224, {2, 16, 840, 1, 101, 3, 4, 2, 7}, {2, 16, 840, 1, 101, 3, 4, 3, 13},
     {2, 16, 840, 1, 101, 3, 4, 3, 9}},
    {:sha3_256, {2, 16, 840, 1, 101, 3, 4, 2, 8}, {2, 16, 840, 1, 101, 3, 4, 3, 14},
     {2, 16, 840, 1, 101, 3, 4, 3, 10}},
    {:sha3_384, {2, 16, 840, 1, 101, 3, 4, 2, 9}, {2, 16, 840, 1, 101, 3, 4, 3, 15},
     {2, 16, 840, 1, 101, 3, 4, 3, 11}},
    {:sha3_512, {2, 16, 840, 1, 101, 3, 4, 2, 10}, {2, 16, 840, 1, 101, 3, 4, 3, 16},
     {2, 16, 840, 1, 101, 3, 4, 3, 12}}
  ]
  @by_oid Map.new(@hashes, fn {hash, oid, _pkcs1, _ecdsa} -> {oid, hash} end)
  @signatures Map.new(
                for({hash, _oid, oid, _ecdsa} <- @hashes, do: {oid, {:pkcs1, hash}}) ++
                  for(
                    {hash, _oid, _pkcs1, oid} <- @hashes,
                    oid != nil,
                    do: {oid, {:ecdsa, hash}}
                  ) ++
                  [{{1, 3, 101, 112}, {:eddsa, :eddsa}}, {{1, 3, 101, 113}, {:eddsa, :eddsa}}] ++
                  for(
                    set <- PostQuantum.sets(),
                    do: {PostQuantum.oid(set), {:post_quantum, PostQuantum.mechanism(set)}}
                  )
              )

  # What a hash is called in the names of mechanisms.
  @in_names %{sha: :sha1}

  @doc "Whether two programs can be made that agree on the hash of two texts."
  @spec broken?(hash) :: boolean
  def broken?(hash), do: hash in [:md5, :sha]

  @doc "What it says; `name` is the mechanism that signs so, or the object identifier of what is unknown."
  @spec read(Reader.t()) :: t
  def read(identifier) do
    {oid, parameters} = parts(identifier)
    oid |> read(parameters, identifier) |> Map.put(:oid, oid)
  end

  defp read(oid, parameters, identifier) do
    case @signatures do
      %{^oid => {scheme, name}} when scheme in [:eddsa, :post_quantum] ->
        if parameters,
          do: Reader.wrong!(parameters, "there are no parameters of such a signature")

        %{scheme: scheme, hash: nil, mgf: nil, salt: nil, name: name}

      %{^oid => {scheme, hash}} ->
        if parameters, do: Reader.null(parameters)
        %{scheme: scheme, hash: hash, mgf: nil, salt: nil, name: name(scheme, hash)}

      _others when oid == @pss ->
        pss = pss(parameters || Reader.wrong!(identifier, "it has no parameters of PSS"))
        Map.merge(%{scheme: :pss, name: name(:pss, pss.hash)}, pss)

      _others ->
        %{scheme: :unknown, hash: nil, mgf: nil, salt: nil, name: oid}
    end
  end

  defp name(_scheme, hash) when is_tuple(hash), do: hash
  defp name(:pkcs1, hash), do: :"#{called(hash)}_rsa_pkcs"
  defp name(:pss, hash), do: :"#{called(hash)}_rsa_pkcs_pss"
  defp name(:ecdsa, hash), do: :"ecdsa_#{called(hash)}"

  defp called(hash), do: Map.get(@in_names, hash, hash)

  @doc "What both say, once where it is signed, and once where it is not (RFC 5280, sections 4.1.1.2 and 5.1.1.2)."
  @spec twice(Reader.t(), Reader.t()) :: t
  def twice(inner, outer) do
    algorithm = read(outer)

    same? = inner.der == outer.der or (algorithm.scheme != :unknown and read(inner) == algorithm)

    unless same?, do: Reader.wrong!(outer, "it is not the one in what is signed")
    algorithm
  end

  @doc "Object identifier and parameters, which may be missing."
  @spec parts(Reader.t()) :: {tuple, Reader.t() | nil}
  def parts(identifier) do
    case Reader.sequence(identifier) do
      [oid] -> {Reader.oid(oid), nil}
      [oid, parameters] -> {Reader.oid(oid), parameters}
      _other -> Reader.wrong!(identifier, "it is no identifier of an algorithm")
    end
  end

  @doc "The parameters of PSS (RFC 4055, section 3.1)."
  @spec pss(Reader.t()) :: pss
  def pss(parameters) do
    parameters = Reader.name(parameters, "parameters of PSS")
    tags = for tag <- 0xA0..0xA3, do: {:maybe, tag}
    [hash, mgf, salt, trailer] = Reader.fields(Reader.is!(parameters, 0x30), tags)
    salt = if salt, do: Reader.integer(Reader.only(salt), 2), else: 20

    if salt < 0, do: Reader.wrong!(parameters, "the salt has less than no bytes")

    if trailer && Reader.integer(Reader.only(trailer), 2) != 1,
      do: Reader.wrong!(trailer, "the trailer is not the only one there is")

    %{
      hash: if(hash, do: hash(Reader.only(hash)), else: :sha),
      mgf: if(mgf, do: mgf(Reader.only(mgf)), else: :sha),
      salt: salt
    }
  end

  defp mgf(identifier) do
    case parts(identifier) do
      {@mgf1, %Reader{} = hash} -> hash(hash)
      {@mgf1, nil} -> :sha
      {oid, _parameters} -> oid
    end
  end

  defp hash(identifier) do
    {oid, parameters} = parts(identifier)
    if parameters, do: Reader.null(parameters)
    Map.get(@by_oid, oid, oid)
  end

  @doc "The object identifier of a hash."
  @spec hash_oid(hash) :: tuple
  def hash_oid(oid) when is_tuple(oid), do: oid

  def hash_oid(hash) do
    {_hash, oid, _pkcs1, _ecdsa} = List.keyfind(@hashes, hash, 0)
    oid
  end
end
