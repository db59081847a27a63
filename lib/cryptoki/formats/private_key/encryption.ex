defmodule Cryptoki.PrivateKey.Encryption do
  @moduledoc false
  # What a password opens: PBES2 with PBKDF2 (RFC 8018, sections 5.2 and 6.2), as OpenSSL, Java and GnuTLS
  # write it, and Triple DES and RC2 of PKCS #12 (RFC 7292, appendix C), as they and Windows did. Not by OTP's
  # reader, which raises for what it does not know. Pure.

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
    cipher |> decrypt(key, iv, data) |> unpadded(8, sealed)
  end

  defp opened(parts, sealed, password) do
    {kdf, scheme} = parameters(parts)
    {cipher, size, block, iv} = cipher(Identifier.parts(scheme))
    data = whole(sealed, block)
    key = key(kdf(kdf), size, if(password == :none, do: "", else: password))
    cipher |> decrypt(key, iv, data) |> unpadded(block, sealed)
  end

  @doc "How many rounds are computed to open it."
  @spec rounds(Reader.t()) :: pos_integer
  def rounds(algorithm) do
    case Identifier.parts(algorithm) do
      {oid, %Reader{} = parameters} when is_map_key(@old, oid) ->
        {_salt, iterations} = old(parameters)
        {_cipher, size} = @old[oid]
        # For each digest of the key, and for the IV.
        (div(size + 19, 20) + 1) * Password.count(iterations)

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

  defp cipher(_another), do: unknown!()

  defp kdf(identifier) do
    with :unknown <- PBKDF2.read(identifier), do: unknown!()
  end

  defp key(%{iterations: iterations, length: length} = kdf, size, password) do
    count = Reader.integer(iterations)

    if count < 1, do: Reader.wrong!(iterations, "there are none")
    if count > @most, do: Reader.refuse!(:unsupported, @too_many)

    if length && Reader.integer(length) != size,
      do: Reader.wrong!(length, "it is not that of the cipher")

    case PBKDF2.derive(kdf, password, count, size) do
      {:ok, key} -> key
      :error -> unknown!()
    end
  end

  # The first of two keys is the third.
  defp decrypt(:des_ede3_cbc, <<first::binary-8, second::binary-8>>, iv, data),
    do: decrypt(:des_ede3_cbc, first <> second <> first, iv, data)

  defp decrypt(:rc2_cbc, key, iv, data), do: RC2.decrypt(key, iv, data)

  # What :crypto raises has the key in its stack trace.
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
