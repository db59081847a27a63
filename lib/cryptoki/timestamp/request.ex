defmodule Cryptoki.Timestamp.Request do
  @moduledoc false
  # What clients want a stamp for (RFC 3161, section 2.4.1): made, and read. Those of others may be any bytes;
  # what is wrong with one has a name of the standard. Pure.

  alias Cryptoki.{DER, Error}
  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.Identifier

  @hashes ~w(sha256 sha384 sha512 sha3_256 sha3_384 sha3_512)a
  @by_oid Map.new(@hashes, &{Identifier.hash_oid(&1), &1})

  @most 16_384
  @nonce_bytes 64

  @type t :: %{
          hash: atom | DER.oid(),
          digest: binary,
          imprint: DER.t(),
          policy: DER.oid() | nil,
          nonce: integer | nil,
          certificates?: boolean,
          extensions?: boolean
        }

  @doc "The hashes that are stamped: others are broken, or unknown here."
  @spec hashes() :: [atom]
  def hashes, do: @hashes

  @doc "A request for the stamp of a digest."
  @spec encode(atom, binary, DER.oid() | nil, integer | nil, boolean) :: DER.t()
  def encode(hash, digest, policy, nonce, certificates?) do
    DER.sequence(
      [DER.integer(1), imprint(hash, digest)] ++
        for(oid <- [policy], oid, do: DER.oid(oid)) ++
        for(number <- [nonce], number, do: DER.integer(number)) ++
        if(certificates?, do: [DER.boolean(true)], else: [])
    )
  end

  defp imprint(hash, digest) do
    algorithm = DER.sequence([DER.oid(Identifier.hash_oid(hash)), DER.null()])
    DER.sequence([algorithm, DER.octet_string(digest)])
  end

  @doc "Reads a request."
  @spec read(binary) :: {:ok, t} | {:error, Error.t()}
  def read(bytes), do: Reader.read(bytes, "this is no time stamp request: ", &request/1, @most)

  defp request(request) do
    [version, imprint, policy, nonce, certificates, extensions] =
      Reader.fields(Reader.is!(request, 0x30), [
        {"version", 2},
        {"imprint", 0x30},
        {:maybe, "policy", 6},
        {:maybe, "nonce", 2},
        {:maybe, 1},
        {:maybe, "extensions", 0xA0}
      ])

    if Reader.integer(version) != 1,
      do: Reader.wrong!(version, "it is of a version that is not known", :unsupported)

    if extensions, do: Reader.check(extensions)

    Map.merge(imprint(imprint), %{
      policy: policy && Reader.oid(policy),
      nonce: nonce && Reader.integer(nonce, @nonce_bytes),
      certificates?: certificates != nil and Reader.boolean(certificates),
      extensions?: extensions != nil
    })
  end

  @doc "What is stamped: of a hash that is known as many bytes as it has."
  @spec imprint(Reader.t()) :: %{hash: atom | DER.oid(), digest: binary, imprint: DER.t()}
  def imprint(imprint) do
    [algorithm, digest] = Reader.fields(imprint, [{"hash", 0x30}, 4])
    hash = hash(algorithm)
    digest = Reader.octets(digest)

    if is_atom(hash) and byte_size(digest) != :crypto.hash_info(hash).size,
      do: Reader.wrong!(imprint, "it has #{byte_size(digest)} bytes, which is none of #{hash}")

    %{hash: hash, digest: digest, imprint: imprint.der}
  end

  @doc "The hash of an identifier, which is its object identifier when it is not known."
  @spec hash(Reader.t()) :: atom | DER.oid()
  def hash(algorithm) do
    {oid, parameters} = Identifier.parts(algorithm)
    if parameters, do: Reader.null(parameters)
    Map.get(@by_oid, oid, oid)
  end

  @doc "Whether two are of the same digest, however the hash is written."
  @spec same?(map, map) :: boolean
  def same?(one, other), do: one.hash == other.hash and one.digest == other.digest
end
