defmodule Cryptoki.Prehash.RSA do
  @moduledoc false
  # What RSA signs, made here: the DigestInfo of PKCS #1 and the encoded message of PSS (RFC 8017,
  # sections 9.2 and 9.1.1). Pure, but for the salt.

  alias Cryptoki.{DER, Names}
  alias Cryptoki.SignatureAlgorithm.Identifier

  @sha2_and_3 ~w[sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512]a

  # As :crypto names them.
  @hashes Map.new(@sha2_and_3, &{&1, &1}) |> Map.put(:sha_1, :sha)
  @generators Map.new(@sha2_and_3, &{:"mgf1_#{&1}", &1}) |> Map.put(:mgf1_sha1, :sha)

  @doc "The DigestInfo of a digest by this hash, as `:crypto` names it."
  @spec digest_info(atom, binary) :: DER.t()
  def digest_info(hash, digest) do
    algorithm = DER.sequence([DER.oid(Identifier.hash_oid(hash)), DER.null()])
    DER.sequence([algorithm, DER.octet_string(digest)])
  end

  @doc """
  The encoded message of a digest, as long as the modulus, with the hash, the mask generation function and
  the length of the salt that the parameter of the mechanism has; `:error` for what does not go together.
  """
  @spec encode_pss(binary, term, pos_integer) :: {:ok, binary} | :error
  def encode_pss(digest, [ulong: hash, ulong: generator, ulong: salt_size], modulus) do
    bits = length(Integer.digits(modulus, 2)) - 1
    size = div(bits + 7, 8)

    with {:ok, hash} <- Map.fetch(@hashes, Names.name(:mechanism, hash)),
         {:ok, generator} <- Map.fetch(@generators, Names.name(:mgf, generator)),
         true <- byte_size(digest) == hash_size(hash),
         padding when padding >= 0 <- size - byte_size(digest) - salt_size - 2 do
      salt = :crypto.strong_rand_bytes(salt_size)
      seed = :crypto.hash(hash, [<<0::64>>, digest, salt])
      block = <<0::unit(8)-size(padding), 1, salt::binary>>
      mask = mask(generator, seed, byte_size(block))
      masked = block |> :crypto.exor(mask) |> without_bits(8 * size - bits)
      encoded = <<masked::binary, seed::binary, 0xBC>>
      # One byte less than the modulus, when that begins with a bit alone.
      whole = byte_size(:binary.encode_unsigned(modulus)) - size
      {:ok, <<0::unit(8)-size(whole), encoded::binary>>}
    else
      _not_together -> :error
    end
  end

  def encode_pss(_digest, _raw_parameter, _modulus), do: :error

  @doc "The length of the salt in a signature by PSS; `:error` when it is none with these parameters."
  @spec salt_size(binary, term, pos_integer, pos_integer) :: {:ok, non_neg_integer} | :error
  def salt_size(signature, [ulong: hash, ulong: generator, ulong: _asked], modulus, exponent) do
    bits = length(Integer.digits(modulus, 2)) - 1
    size = div(bits + 7, 8)
    encoded = :crypto.mod_pow(signature, exponent, modulus)
    missing = size - byte_size(encoded)

    with {:ok, hash} <- Map.fetch(@hashes, Names.name(:mechanism, hash)),
         {:ok, generator} <- Map.fetch(@generators, Names.name(:mgf, generator)),
         block_size when block_size > 0 and missing >= 0 <- size - hash_size(hash) - 1,
         encoded = :binary.copy(<<0>>, missing) <> encoded,
         {masked, rest} = :erlang.split_binary(encoded, block_size),
         {seed, <<0xBC>>} <- :erlang.split_binary(rest, hash_size(hash)) do
      mask = mask(generator, seed, block_size)
      masked |> :crypto.exor(mask) |> without_bits(8 * size - bits) |> without_padding()
    else
      _no_encoded_message -> :error
    end
  end

  # The first bits, fewer than eight, are zero.
  defp without_bits(<<first, rest::binary>>, count),
    do: <<Bitwise.band(first, Bitwise.bsr(0xFF, count)), rest::binary>>

  defp without_padding(<<0, rest::binary>>), do: without_padding(rest)
  defp without_padding(<<1, salt::binary>>), do: {:ok, byte_size(salt)}
  defp without_padding(_other), do: :error

  defp hash_size(hash), do: :crypto.hash_info(hash).size

  @doc "MGF1 (RFC 8017, section B.2.1): so many bytes, one at least."
  @spec mask(atom, binary, pos_integer) :: binary
  def mask(hash, seed, size) do
    blocks = div(size - 1, hash_size(hash))
    bytes = for n <- 0..blocks, into: <<>>, do: :crypto.hash(hash, [seed, <<n::32>>])
    binary_part(bytes, 0, size)
  end
end
