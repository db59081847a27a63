defmodule Cryptoki.PKCS12.MAC do
  @moduledoc false
  # Whether a PKCS #12 is as whoever knew its password wrote it: the MAC of RFC 7292, appendix B, and PBMAC1 (RFC
  # 8018, section 7.1) as RFC 9579 puts it there. Pure.

  alias Cryptoki.DER.Reader
  alias Cryptoki.PKCS12.Password
  alias Cryptoki.PrivateKey.PBKDF2
  alias Cryptoki.SignatureAlgorithm.Identifier

  @pbmac1 {1, 2, 840, 113_549, 1, 5, 14}
  # RFC 9579, section 5: no key of fewer; and no hash has more.
  @sizes 20..64

  @doc "The password as the MAC of these bytes was made with it, where it was."
  @spec password(Reader.t(), binary, binary) :: {:ok, Password.t()} | :error
  def password(mac, bytes, password) do
    [info, salt, iterations] =
      Reader.fields(mac, [{"mac", 0x30}, {"macSalt", 4}, {:maybe, "iterations", 2}])

    [algorithm, digest] = Reader.fields(info, [{"digestAlgorithm", 0x30}, {"digest", 4}])

    case Identifier.parts(algorithm) do
      # Salt and iterations beside it are of no account.
      {@pbmac1, %Reader{} = parameters} ->
        {hash, key} = pbmac1(parameters, password)
        if same?(digest, :crypto.mac(:hmac, hash, key, bytes)), do: {:ok, password}, else: :error

      {oid, parameters} ->
        hash = Password.hash(oid) || unknown!(algorithm)
        if parameters, do: Reader.null(parameters)
        count = if iterations, do: Password.count(iterations), else: 1

        Enum.find_value(Password.written(password), :error, fn written ->
          key = Password.mac_key(hash, written, Reader.octets(salt), count)
          if same?(digest, :crypto.mac(:hmac, hash, key, bytes)), do: {:ok, written}
        end)
    end
  end

  defp pbmac1(parameters, password) do
    [kdf, scheme] =
      Reader.fields(Reader.is!(parameters, 0x30), [
        {"keyDerivationFunc", 0x30},
        {"messageAuthScheme", 0x30}
      ])

    with %{} = read <- PBKDF2.read(kdf),
         hash when hash != :unknown <- PBKDF2.hash(scheme),
         size = size(read.length || Reader.wrong!(kdf, "it has no keyLength")),
         {:ok, key} <- PBKDF2.derive(read, password, Password.count(read.iterations), size) do
      {hash, key}
    else
      _unknown -> unknown!(kdf)
    end
  end

  defp size(length) do
    size = Reader.integer(length)

    if size in @sizes,
      do: size,
      else: Reader.wrong!(length, "the key of a MAC has #{@sizes.first} to #{@sizes.last} bytes")
  end

  defp same?(%{contents: digest}, mac),
    do: byte_size(mac) == byte_size(digest) and :crypto.hash_equals(mac, digest)

  @spec unknown!(Reader.t()) :: no_return
  defp unknown!(algorithm),
    do: Reader.wrong!(algorithm, "it is a MAC that is not known here", :unsupported)
end
