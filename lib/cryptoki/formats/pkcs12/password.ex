defmodule Cryptoki.PKCS12.Password do
  @moduledoc false
  # What PKCS #12 makes of a password: keys, IVs and the key of a MAC (RFC 7292, appendix B), and the MAC. Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.Identifier

  # A second or two of work, and a few in all; a file may ask for years. GnuTLS has 600 000 for each certificate.
  @most 2_000_000
  @most_in_all 6_000_000

  # Bytes of the digest and of a block.
  @hashes %{
    {1, 3, 14, 3, 2, 26} => {:sha, 20, 64},
    {2, 16, 840, 1, 101, 3, 4, 2, 4} => {:sha224, 28, 64},
    {2, 16, 840, 1, 101, 3, 4, 2, 1} => {:sha256, 32, 64},
    {2, 16, 840, 1, 101, 3, 4, 2, 2} => {:sha384, 48, 128},
    {2, 16, 840, 1, 101, 3, 4, 2, 3} => {:sha512, 64, 128}
  }
  @ids %{key: 1, iv: 2, mac: 3}

  @doc "How many rounds are computed at most, of one file."
  @spec most() :: pos_integer
  def most, do: @most_in_all

  @spec too_many() :: String.t()
  def too_many, do: "more than #{@most_in_all} rounds in all, which are not computed here"

  @doc "Whether the MAC is one of these bytes with this password."
  @spec authentic?(Reader.t(), binary, binary) :: boolean
  def authentic?(mac, bytes, password) do
    [info, salt, iterations] =
      Reader.fields(mac, [{"mac", 0x30}, {"macSalt", 4}, {:maybe, "iterations", 2}])

    [algorithm, digest] = Reader.fields(info, [{"digestAlgorithm", 0x30}, {"digest", 4}])
    {oid, parameters} = Identifier.parts(algorithm)

    hash =
      @hashes[oid] || Reader.wrong!(algorithm, "it is a MAC that is not known here", :unsupported)

    if parameters, do: Reader.null(parameters)
    count = if iterations, do: count(iterations), else: 1
    {name, size, _block} = hash

    Enum.any?(forms(password), fn password ->
      key = derived(hash, :mac, password, Reader.octets(salt), count, size)
      mac = :crypto.mac(:hmac, name, key, bytes)
      byte_size(mac) == byte_size(digest.contents) and :crypto.hash_equals(mac, digest.contents)
    end)
  end

  @doc "How many rounds a field asks for."
  @spec count(Reader.t()) :: pos_integer
  def count(field) do
    count = Reader.integer(field)
    if count < 1, do: Reader.wrong!(field, "there are none")

    if count > @most,
      do:
        Reader.wrong!(
          field,
          "more than #{@most} rounds, which are not computed here",
          :unsupported
        )

    count
  end

  @doc "Bytes for a purpose, by SHA-1 as all of the old encryption has it."
  @spec bytes(:key | :iv, binary, binary, pos_integer, pos_integer) :: binary
  def bytes(purpose, password, salt, count, size),
    do: derived({:sha, 20, 64}, purpose, hd(forms(password)), salt, count, size)

  # UTF-16 with two zeros behind it; of none there are two ways to write it.
  defp forms(""), do: [<<0, 0>>, ""]

  defp forms(password) do
    encoding = if String.valid?(password), do: :utf8, else: :latin1
    [:unicode.characters_to_binary(password, encoding, {:utf16, :big}) <> <<0, 0>>]
  end

  defp derived({hash, length, block}, purpose, password, salt, count, size) do
    diversifier = :binary.copy(<<@ids[purpose]>>, block)

    filled(
      hash,
      diversifier,
      fill(salt, block) <> fill(password, block),
      block,
      count,
      size,
      length
    )
  end

  defp filled(hash, diversifier, input, block, count, size, length) do
    digest = rounds(hash, :crypto.hash(hash, [diversifier, input]), count - 1)

    if size <= length do
      binary_part(digest, 0, size)
    else
      input = added(input, fill(digest, block), block)
      digest <> filled(hash, diversifier, input, block, count, size - length, length)
    end
  end

  defp rounds(_hash, digest, 0), do: digest
  defp rounds(hash, digest, left), do: rounds(hash, :crypto.hash(hash, digest), left - 1)

  # Each block of it, and one, as a number.
  defp added(input, digest, block) do
    add = :binary.decode_unsigned(binary_part(digest, 0, block)) + 1

    for at <- 0..(byte_size(input) - 1)//block, into: <<>> do
      <<:binary.decode_unsigned(binary_part(input, at, block)) + add::size(block)-unit(8)>>
    end
  end

  # As often as it takes to be of whole blocks.
  defp fill("", _block), do: ""

  defp fill(bytes, block) do
    size = block * div(byte_size(bytes) + block - 1, block)
    bytes |> :binary.copy(div(size, byte_size(bytes)) + 1) |> binary_part(0, size)
  end
end
