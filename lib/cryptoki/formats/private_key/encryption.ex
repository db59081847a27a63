defmodule Cryptoki.PrivateKey.Encryption do
  @moduledoc false
  # What a password opens: PBES2 with PBKDF2 (RFC 8018, sections 5.2 and 6.2), as OpenSSL, Java and GnuTLS
  # write it, and Triple DES of PKCS #12 (RFC 7292, appendix C), as they did. Not by OTP's reader, which raises for
  # what it does not know. Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.PKCS12.Password
  alias Cryptoki.SignatureAlgorithm.Identifier

  @pbes2 {1, 2, 840, 113_549, 1, 5, 13}
  # The bytes of the key, which is made by SHA-1.
  @old %{{1, 2, 840, 113_549, 1, 12, 1, 3} => 24, {1, 2, 840, 113_549, 1, 12, 1, 4} => 16}
  @rc2 [{1, 2, 840, 113_549, 1, 12, 1, 5}, {1, 2, 840, 113_549, 1, 12, 1, 6}]
  @rc2_text "it is encrypted with RC2, which is not computed here; `openssl pkcs12 -legacy -in FILE -nodes -out PEM` and " <>
              "`openssl pkcs12 -export -in PEM -out NEW` write it anew"
  @pbkdf2 {1, 2, 840, 113_549, 1, 5, 12}
  @hashes %{
    {1, 2, 840, 113_549, 2, 7} => :sha,
    {1, 2, 840, 113_549, 2, 8} => :sha224,
    {1, 2, 840, 113_549, 2, 9} => :sha256,
    {1, 2, 840, 113_549, 2, 10} => :sha384,
    {1, 2, 840, 113_549, 2, 11} => :sha512
  }
  # Bytes of the key and of a block.
  @ciphers %{
    {2, 16, 840, 1, 101, 3, 4, 1, 2} => {:aes_128_cbc, 16, 16},
    {2, 16, 840, 1, 101, 3, 4, 1, 22} => {:aes_192_cbc, 24, 16},
    {2, 16, 840, 1, 101, 3, 4, 1, 42} => {:aes_256_cbc, 32, 16},
    {1, 2, 840, 113_549, 3, 7} => {:des_ede3_cbc, 24, 8}
  }

  # A second or two of work; a file may ask for years.
  @most 2_000_000

  @openssl "`openssl pkcs8 -topk8 -nocrypt -in FILE -out PLAIN` asks for the password and writes it as PKCS #8"
  @needed "private key: it is encrypted; say password:, or #{@openssl}"
  @too_many "private key: it is encrypted with more than #{@most} rounds, which are not computed here; #{@openssl}"
  @unknown "private key: it is encrypted in a way that is not read here; #{@openssl}, which is"

  @doc "The sentence for what is encrypted when there is no password."
  @spec needed() :: String.t()
  def needed, do: @needed

  @doc "The sentence for what is encrypted in another way than this."
  @spec unknown() :: String.t()
  def unknown, do: @unknown

  @doc "What was encrypted, or at least ends as if it had been."
  @spec open(Reader.t(), Reader.t(), binary) :: binary
  def open(algorithm, sealed, password),
    do: open(Identifier.parts(algorithm), algorithm, sealed, password)

  defp open({oid, %Reader{} = parameters}, _algorithm, sealed, password)
       when is_map_key(@old, oid) do
    {salt, iterations} = old(parameters)
    count = Password.count(iterations)
    data = whole(sealed, 8)
    iv = Password.bytes(:iv, password, salt, count, 8)

    :des_ede3_cbc
    |> decrypt(triple(Password.bytes(:key, password, salt, count, @old[oid])), iv, data)
    |> unpadded(8, sealed)
  end

  defp open({oid, _parameters}, algorithm, _sealed, _password) when oid in @rc2,
    do: Reader.wrong!(algorithm, @rc2_text, :unsupported)

  defp open(parts, _algorithm, sealed, password) do
    {kdf, scheme} = parameters(parts)
    {cipher, size, block, iv} = cipher(Identifier.parts(scheme))
    data = whole(sealed, block)
    key = key(Identifier.parts(kdf), size, password)
    cipher |> decrypt(key, iv, data) |> unpadded(block, sealed)
  end

  @doc "How many rounds are computed to open it."
  @spec rounds(Reader.t()) :: pos_integer
  def rounds(algorithm) do
    case Identifier.parts(algorithm) do
      {oid, %Reader{} = parameters} when is_map_key(@old, oid) ->
        {_salt, iterations} = old(parameters)
        # For the key, which is longer than a digest, and for the IV.
        3 * Password.count(iterations)

      {oid, _parameters} when oid in @rc2 ->
        Reader.wrong!(algorithm, @rc2_text, :unsupported)

      parts ->
        {kdf, _scheme} = parameters(parts)
        {_oid, kdf} = Identifier.parts(kdf)

        case Reader.sequence(kdf || unknown!()) do
          [_salt, iterations | _] -> Password.count(iterations)
          _fewer -> unknown!()
        end
    end
  end

  defp old(parameters) do
    [salt, iterations] =
      Reader.fields(Reader.is!(parameters, 0x30), [{"salt", 4}, {"iterations", 2}])

    {Reader.octets(salt), iterations}
  end

  # The first of two keys is the third.
  defp triple(<<first::binary-8, second::binary-8>>), do: first <> second <> first
  defp triple(three), do: three

  defp whole(sealed, block) do
    data = Reader.octets(sealed)

    if data == "" or rem(byte_size(data), block) != 0,
      do: Reader.wrong!(sealed, "it is not of whole blocks"),
      else: data
  end

  defp parameters({@pbes2, %Reader{} = parameters}) do
    [kdf, scheme] =
      Reader.fields(Reader.is!(parameters, 0x30), [
        {"keyDerivationFunc", 0x30},
        {"encryptionScheme", 0x30}
      ])

    {kdf, scheme}
  end

  defp parameters(_another), do: unknown!()

  defp cipher({oid, %Reader{} = iv}) when is_map_key(@ciphers, oid) do
    {cipher, size, block} = @ciphers[oid]

    if byte_size(Reader.octets(iv)) != block,
      do: Reader.wrong!(iv, "it is no IV of #{block} bytes")

    {cipher, size, block, Reader.octets(iv)}
  end

  defp cipher(_another), do: unknown!()

  defp key({@pbkdf2, %Reader{} = parameters}, size, password) do
    [salt, iterations, length, prf] =
      Reader.fields(Reader.is!(parameters, 0x30), [
        {"salt", 4},
        {"iterationCount", 2},
        {:maybe, "keyLength", 2},
        {:maybe, "prf", 0x30}
      ])

    count = Reader.integer(iterations)

    if count < 1, do: Reader.wrong!(iterations, "there are none")
    if count > @most, do: Reader.refuse!(:unsupported, @too_many)

    if length && Reader.integer(length) != size,
      do: Reader.wrong!(length, "it is not that of the cipher")

    derived(hash(prf), password, Reader.octets(salt), count, size)
  end

  defp key(_another, _size, _password), do: unknown!()

  defp hash(nil), do: :sha

  defp hash(prf) do
    {oid, parameters} = Identifier.parts(prf)
    if parameters, do: Reader.null(parameters)
    @hashes[oid] || unknown!()
  end

  # What :crypto raises has the password, or the key, in its stack trace.
  defp derived(hash, password, salt, count, size) do
    :crypto.pbkdf2_hmac(hash, password, salt, count, size)
  rescue
    _no_such_hash -> unknown!()
  end

  defp decrypt(cipher, key, iv, data) do
    :crypto.crypto_one_time(cipher, key, iv, data, false)
  rescue
    _no_such_cipher -> unknown!()
  end

  defp unpadded(plain, block, sealed) do
    count = :binary.last(plain)
    {text, padding} = :erlang.split_binary(plain, max(byte_size(plain) - count, 0))

    if count in 1..block and padding == :binary.copy(<<count>>, count),
      do: text,
      else: Reader.wrong!(sealed, "it does not open with this password")
  end

  @spec unknown! :: no_return
  defp unknown!, do: Reader.refuse!(:unsupported, @unknown)
end
