defmodule Cryptoki.PrivateKey.Encryption do
  @moduledoc false
  # What a password opens: PBES2 with PBKDF2 (RFC 8018, sections 5.2 and 6.2), as OpenSSL, Java and GnuTLS
  # write it, Triple DES and RC2 of PKCS #12 (RFC 7292, appendix C), as they and Windows did, and PBES1 (RFC 8018,
  # section 6.1), which was what `openssl pkcs8` wrote before 1.1. Not by OTP's reader, which raises for what it does
  # not know. Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.PKCS12.{Password, RC2}
  alias Cryptoki.PrivateKey.PBKDF2
  alias Cryptoki.SignatureAlgorithm.Identifier

  @pbes2 {1, 2, 840, 113_549, 1, 5, 13}
  # A cipher with blocks of 8 bytes, and the bytes of its key, which is made by SHA-1.
  @old %{
    {1, 2, 840, 113_549, 1, 12, 1, 3} => {:des_ede3_cbc, 24},
    {1, 2, 840, 113_549, 1, 12, 1, 4} => {:des_ede3_cbc, 16},
    {1, 2, 840, 113_549, 1, 12, 1, 5} => {:rc2_cbc, 16},
    {1, 2, 840, 113_549, 1, 12, 1, 6} => {:rc2_cbc, 5}
  }
  # Of PBES1, whose keys have 8 bytes as blocks have.
  @oldest %{
    {1, 2, 840, 113_549, 1, 5, 3} => {:md5, :des_cbc},
    {1, 2, 840, 113_549, 1, 5, 6} => {:md5, :rc2_cbc},
    {1, 2, 840, 113_549, 1, 5, 10} => {:sha, :des_cbc},
    {1, 2, 840, 113_549, 1, 5, 11} => {:sha, :rc2_cbc}
  }
  @rc2 {1, 2, 840, 113_549, 3, 2}
  # Bytes of its key, by the number that stands for them (RFC 8018, appendix B.2.3).
  @rc2_sizes %{160 => 5, 120 => 8, 58 => 16}
  # Bytes of the key and of a block.
  @ciphers %{
    {2, 16, 840, 1, 101, 3, 4, 1, 2} => {:aes_128_cbc, 16, 16},
    {2, 16, 840, 1, 101, 3, 4, 1, 22} => {:aes_192_cbc, 24, 16},
    {2, 16, 840, 1, 101, 3, 4, 1, 42} => {:aes_256_cbc, 32, 16},
    {1, 2, 840, 113_549, 3, 7} => {:des_ede3_cbc, 24, 8},
    {1, 3, 14, 3, 2, 7} => {:des_cbc, 8, 8}
  }

  # A second or two of work; a file may ask for years.
  @most 2_000_000

  @openssl "`openssl pkcs8 -topk8 -nocrypt -in FILE -out PLAIN` asks for the password and writes it as PKCS #8"
  @needed "private key: it is encrypted; say password:, or #{@openssl}"
  @too_many "private key: it is encrypted with more than #{@most} rounds, which are not computed here; #{@openssl}"
  @unknown "private key: it is encrypted in a way that is not read here; #{@openssl}, which is (RC4 with `-provider legacy -provider default`)"

  @doc "The sentence for what is encrypted when there is no password."
  @spec needed() :: String.t()
  def needed, do: @needed

  @doc "The sentence for what is encrypted in another way than this."
  @spec unknown() :: String.t()
  def unknown, do: @unknown

  @doc "What was encrypted, or at least ends as if it had been."
  @spec open(Reader.t(), Reader.t(), Password.t()) :: binary
  def open(algorithm, sealed, password),
    do: opened(Identifier.parts(algorithm), sealed, password)

  defp opened({oid, %Reader{} = parameters}, sealed, password) when is_map_key(@old, oid) do
    {cipher, size} = @old[oid]
    {salt, iterations} = old(parameters)
    count = Password.count(iterations)
    data = whole(sealed, 8)
    iv = Password.bytes(:iv, password, salt, count, 8)
    key = Password.bytes(:key, password, salt, count, size)
    cipher |> decrypt(key, iv, data) |> plain!(8, sealed)
  end

  defp opened({oid, %Reader{} = parameters}, sealed, password) when is_map_key(@oldest, oid) do
    {hash, cipher} = @oldest[oid]
    {salt, iterations} = old(parameters)
    data = whole(sealed, 8)
    first = [if(password == :none, do: "", else: password), salt]
    <<key::binary-8, iv::binary-8, _::binary>> = pbkdf1(hash, first, count(iterations))
    cipher |> decrypt(key, iv, data) |> plain!(8, sealed)
  end

  defp opened(parts, sealed, password) do
    {kdf, scheme} = parameters(parts)
    {cipher, size, block, iv} = cipher(Identifier.parts(scheme))
    data = whole(sealed, block)
    key = key(kdf(kdf), size, if(password == :none, do: "", else: password))
    cipher |> decrypt(key, iv, data) |> plain!(block, sealed)
  end

  @doc "What was encrypted in CBC mode with blocks of so many bytes, without what fills the last one; nothing is thrown."
  @spec cbc(atom, binary, binary, binary, pos_integer) :: {:ok, binary} | :error | :unknown
  def cbc(_cipher, _key, _iv, data, block) when data == "" or rem(byte_size(data), block) != 0,
    do: :error

  def cbc(cipher, key, iv, data, block),
    do: with({:ok, plain} <- decrypted(cipher, key, iv, data), do: unpadded(plain, block))

  @doc "How many rounds are computed to open it."
  @spec rounds(Reader.t()) :: pos_integer
  def rounds(algorithm) do
    case Identifier.parts(algorithm) do
      {oid, %Reader{} = parameters} when is_map_key(@old, oid) ->
        {_salt, iterations} = old(parameters)
        {_cipher, size} = @old[oid]
        # For each digest of the key, and for the IV.
        (div(size + 19, 20) + 1) * Password.count(iterations)

      {oid, %Reader{} = parameters} when is_map_key(@oldest, oid) ->
        {_salt, iterations} = old(parameters)
        Password.count(iterations)

      parts ->
        {kdf, _scheme} = parameters(parts)
        Password.count(kdf(kdf).iterations)
    end
  end

  defp old(parameters) do
    [salt, iterations] =
      Reader.fields(Reader.is!(parameters, 0x30), [{"salt", 4}, {"iterations", 2}])

    {Reader.octets(salt), iterations}
  end

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

  defp cipher({@rc2, %Reader{} = parameters}) do
    [version, iv] =
      Reader.fields(Reader.is!(parameters, 0x30), [{"rc2ParameterVersion", 2}, {"iv", 4}])

    if byte_size(Reader.octets(iv)) != 8, do: Reader.wrong!(iv, "it is no IV of 8 bytes")
    {:rc2_cbc, @rc2_sizes[Reader.integer(version)] || unknown!(), 8, Reader.octets(iv)}
  end

  defp cipher(_another), do: unknown!()

  defp kdf(identifier) do
    with :unknown <- PBKDF2.read(identifier), do: unknown!()
  end

  defp key(%{iterations: iterations, length: length} = kdf, size, password) do
    count = count(iterations)

    if length && Reader.integer(length) != size,
      do: Reader.wrong!(length, "it is not that of the cipher")

    case PBKDF2.derive(kdf, password, count, size) do
      {:ok, key} -> key
      :error -> unknown!()
    end
  end

  defp count(iterations) do
    count = Reader.integer(iterations)
    if count < 1, do: Reader.wrong!(iterations, "there are none")
    if count > @most, do: Reader.refuse!(:unsupported, @too_many), else: count
  end

  # RFC 8018, section 5.1.
  defp pbkdf1(hash, first, count) do
    Enum.reduce(2..count//1, :crypto.hash(hash, first), fn _round, digest ->
      :crypto.hash(hash, digest)
    end)
  rescue
    # What :crypto raises has the password in its stack trace.
    _no_such_hash -> unknown!()
  end

  defp decrypt(cipher, key, iv, data) do
    case decrypted(cipher, key, iv, data) do
      {:ok, plain} -> plain
      :unknown -> unknown!()
    end
  end

  # DES is Triple DES with one key, which an OpenSSL without it has as well.
  defp decrypted(:des_cbc, key, iv, data),
    do: decrypted(:des_ede3_cbc, key <> key <> key, iv, data)

  # The first of two keys is the third.
  defp decrypted(:des_ede3_cbc, <<first::binary-8, second::binary-8>>, iv, data),
    do: decrypted(:des_ede3_cbc, first <> second <> first, iv, data)

  defp decrypted(:rc2_cbc, key, iv, data), do: {:ok, RC2.decrypt(key, iv, data)}

  # What :crypto raises has the key in its stack trace.
  defp decrypted(cipher, key, iv, data) do
    {:ok, :crypto.crypto_one_time(cipher, key, iv, data, false)}
  rescue
    _no_such_cipher -> :unknown
  end

  defp plain!(plain, block, sealed) do
    case unpadded(plain, block) do
      {:ok, text} -> text
      :error -> Reader.wrong!(sealed, "it does not open with this password")
    end
  end

  defp unpadded(plain, block) do
    count = :binary.last(plain)
    {text, padding} = :erlang.split_binary(plain, max(byte_size(plain) - count, 0))

    if count in 1..block and padding == :binary.copy(<<count>>, count),
      do: {:ok, text},
      else: :error
  end

  @spec unknown! :: no_return
  defp unknown!, do: Reader.refuse!(:unsupported, @unknown)
end
