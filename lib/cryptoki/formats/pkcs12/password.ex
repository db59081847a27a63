defmodule Cryptoki.PKCS12.Password do
  @moduledoc false
  # What PKCS #12 makes of a password: keys, IVs and the key of a MAC (RFC 7292, appendix B). Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.SignatureAlgorithm.Identifier

  # A second or two of work, and a few in all; a file may ask for years. GnuTLS has 600 000 for each certificate.
  @most 2_000_000
  @most_in_all 6_000_000

  @oids Map.new(~w[sha sha224 sha256 sha384 sha512]a, &{Identifier.hash_oid(&1), &1})
  @ids %{key: 1, iv: 2, mac: 3}

  @typedoc "An empty password is written as two zeros, or as nothing, which is `:none`; one file keeps to one way."
  @type t :: binary | :none

  @doc "The ways in which a password may have been written."
  @spec written(binary) :: [t]
  def written(""), do: ["", :none]
  def written(password), do: [password]

  @doc "How many rounds are computed at most, of one file."
  @spec most() :: pos_integer
  def most, do: @most_in_all

  @spec too_many() :: String.t()
  def too_many, do: "more than #{@most_in_all} rounds in all, which are not computed here"

  @doc "The hash of a MAC, by its object identifier."
  @spec hash(tuple) :: atom | nil
  def hash(oid), do: @oids[oid]

  @doc "The key of a MAC."
  @spec mac_key(atom, t, binary, pos_integer) :: binary
  def mac_key(hash, password, salt, count),
    do: derived(hash, :mac, text(password), salt, count, :crypto.hash_info(hash).size)

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
  @spec bytes(:key | :iv, t, binary, pos_integer, pos_integer) :: binary
  def bytes(purpose, password, salt, count, size),
    do: derived(:sha, purpose, text(password), salt, count, size)

  # UTF-16 with two zeros behind it.
  defp text(:none), do: ""

  defp text(password) do
    encoding = if String.valid?(password), do: :utf8, else: :latin1
    :unicode.characters_to_binary(password, encoding, {:utf16, :big}) <> <<0, 0>>
  end

  defp derived(hash, purpose, password, salt, count, size) do
    %{size: length, block_size: block} = :crypto.hash_info(hash)
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
