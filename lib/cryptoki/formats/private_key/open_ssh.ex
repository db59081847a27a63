defmodule Cryptoki.PrivateKey.OpenSSH do
  @moduledoc false
  # Private keys as OpenSSH writes them (its PROTOCOL.key), with a password or without: RSA, ECDSA, Ed25519. Pure.

  alias Cryptoki.{Error, PrivateKey}
  alias Cryptoki.PrivateKey.OpenSSHEncryption, as: Encryption
  alias Cryptoki.PrivateKey.Parts

  @magic "openssh-key-v1" <> <<0>>
  @what "private key: OpenSSH: "
  @curves %{
    "ecdsa-sha2-nistp256" => {"nistp256", {1, 2, 840, 10_045, 3, 1, 7}},
    "ecdsa-sha2-nistp384" => {"nistp384", {1, 3, 132, 0, 34}},
    "ecdsa-sha2-nistp521" => {"nistp521", {1, 3, 132, 0, 35}}
  }

  @doc "The one key in the bytes of such a file, which a password opens when it is encrypted."
  @spec read(binary, password :: binary | nil) :: {:ok, PrivateKey.t()} | {:error, Error.t()}
  def read(@magic <> rest, password) do
    with {:ok, [cipher, kdf, options], rest} <- strings(rest, 3),
         {:ok, encryption} <- Encryption.read(cipher, kdf, options, password),
         {:ok, public, sealed, tag} <- sections(rest, Encryption.tag_size(encryption)),
         {:ok, private} <- Encryption.open(encryption, sealed, tag, password),
         {:ok, type, fields} <- opened(private, public, encryption),
         do: key(type, fields, public)
  end

  def read(_other, _password), do: wrong("it does not begin as such a file does")

  defp sections(<<1::32, rest::binary>>, tag) do
    case strings(rest, 2) do
      {:ok, [public, private], behind} when byte_size(behind) == tag ->
        {:ok, public, private, behind}

      {:ok, _both, behind} when byte_size(behind) < tag ->
        cut_off()

      {:ok, _both, _behind} ->
        wrong("there are bytes behind its end")

      error ->
        error
    end
  end

  defp sections(<<count::32, _rest::binary>>, _tag),
    do: wrong("there are #{count} keys in it, and one should be")

  defp sections(_cut_off, _tag), do: cut_off()

  # Twice the same number tells a right password from a wrong one; without any it is the same, too.
  defp opened(<<check::32, check::32, rest::binary>>, public, _encryption) do
    with {:ok, [type], rest} <- strings(rest, 1),
         {:ok, [^type], _fields} <- strings(public, 1) do
      {:ok, type, rest}
    else
      {:ok, _another, _rest} -> wrong("its public key is one of another type")
      error -> error
    end
  end

  defp opened(_other, _public, :none), do: wrong("its two check numbers are not the same")
  defp opened(_other, _public, _encryption), do: Encryption.another()

  defp key("ssh-rsa", bytes, public) do
    with {:ok, [n, e, d, coefficient, p, q], rest} <- strings(bytes, 6),
         :ok <- ended(rest),
         [n, e, d, coefficient, p, q] = numbers <-
           Enum.map([n, e, d, coefficient, p, q], &number/1),
         true <- Enum.all?(numbers) and p > 1 and q > 1,
         :ok <- same(public, ["ssh-rsa", e, n]) do
      Parts.read({:rsa, [n, e, d, p, q, rem(d, p - 1), rem(d, q - 1), coefficient]}, @what)
    else
      false -> wrong("its numbers are not those of an RSA key")
      error -> error
    end
  end

  defp key(type, bytes, public) when is_map_key(@curves, type) do
    {name, oid} = @curves[type]

    with {:ok, [curve, point, secret], rest} <- strings(bytes, 3),
         :ok <- ended(rest),
         true <- curve == name and number(secret) != nil,
         :ok <- same(public, [type, name, point]) do
      Parts.read({:ec, oid, secret, point}, @what)
    else
      false -> wrong("its fields are not those of #{type}")
      error -> error
    end
  end

  defp key("ssh-ed25519", bytes, public) do
    with {:ok, [point, <<secret::binary-32, again::binary-32>>], rest} <- strings(bytes, 2),
         :ok <- ended(rest),
         true <- again == point,
         :ok <- same(public, ["ssh-ed25519", point]) do
      Parts.read({:edwards, :ed25519, secret, point}, @what)
    else
      false -> wrong("its fields are not those of ssh-ed25519")
      {:ok, _fields, _rest} -> wrong("its fields are not those of ssh-ed25519")
      error -> error
    end
  end

  defp key("ssh-dss", _bytes, _public), do: unsupported("DSA is not imported")

  defp key("sk-" <> _type, _bytes, _public),
    do: unsupported("its secret is in a security key, and not in the file")

  defp key(_type, _bytes, _public),
    do: unsupported("keys of this type are not known here, but RSA, ECDSA and Ed25519")

  # A comment, and padding up to a block: 1, 2, 3 ...
  defp ended(bytes) do
    with {:ok, [_comment], padding} <- strings(bytes, 1) do
      if byte_size(padding) < 256 and padding == padding(byte_size(padding)),
        do: :ok,
        else: wrong("there are bytes behind its end")
    end
  end

  defp padding(0), do: ""
  defp padding(size), do: :binary.list_to_bin(Enum.to_list(1..size))

  # The public key in front says what it is to who has no password; a file that says two is one that somebody
  # has changed.
  defp same(public, fields) do
    expected = for field <- fields, into: <<>>, do: string(field)
    if public == expected, do: :ok, else: wrong("its public key is the one of another")
  end

  defp string(number) when is_integer(number) do
    case :binary.encode_unsigned(number) do
      <<1::1, _::bitstring>> = bytes -> string(<<0, bytes::binary>>)
      bytes -> string(bytes)
    end
  end

  defp string(bytes), do: <<byte_size(bytes)::32, bytes::binary>>

  # Positive, in the one form that it has (RFC 4251, section 5).
  defp number(<<0, 1::1, _::bitstring>> = bytes), do: :binary.decode_unsigned(bytes)

  defp number(<<0::1, _::bitstring>> = bytes) when binary_part(bytes, 0, 1) != <<0>>,
    do: :binary.decode_unsigned(bytes)

  defp number(_other), do: nil

  defp strings(bytes, count), do: strings(bytes, count, [])
  defp strings(rest, 0, done), do: {:ok, Enum.reverse(done), rest}

  defp strings(<<size::32, string::binary-size(size), rest::binary>>, count, done),
    do: strings(rest, count - 1, [string | done])

  defp strings(_cut_off, _count, _done), do: cut_off()

  defp cut_off, do: wrong("it is cut off")
  defp wrong(text), do: {:error, Error.new(:invalid_argument, @what <> text)}
  defp unsupported(text), do: {:error, Error.new(:unsupported, @what <> text)}
end
