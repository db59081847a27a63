defmodule Cryptoki.PrivateKey.OpenSSHEncryption do
  @moduledoc false
  # How a password protects a private key of OpenSSH (its PROTOCOL.key, sections 3 and 4; PROTOCOL.chacha20poly1305):
  # a key and an IV out of bcrypt_pbkdf, and one of these ciphers. Pure.

  alias Cryptoki.Error
  alias Cryptoki.PrivateKey.Bcrypt

  @what "private key: OpenSSH: "
  # Bytes of the key, the IV, a block, and the tag.
  @ciphers %{
    "aes128-ctr" => {:aes_128_ctr, 16, 16, 16, 0},
    "aes192-ctr" => {:aes_192_ctr, 24, 16, 16, 0},
    "aes256-ctr" => {:aes_256_ctr, 32, 16, 16, 0},
    "aes128-cbc" => {:aes_128_cbc, 16, 16, 16, 0},
    "aes192-cbc" => {:aes_192_cbc, 24, 16, 16, 0},
    "aes256-cbc" => {:aes_256_cbc, 32, 16, 16, 0},
    "3des-cbc" => {:des_ede3_cbc, 24, 8, 8, 0},
    "aes128-gcm@openssh.com" => {:aes_128_gcm, 16, 12, 16, 16},
    "aes256-gcm@openssh.com" => {:aes_256_gcm, 32, 12, 16, 16},
    "chacha20-poly1305@openssh.com" => {:chacha20, 64, 0, 8, 16}
  }

  # `ssh-keygen` has 16 or 24 of them by itself, of which each costs a twentieth of a second here, twice.
  @most 128

  @plain "`ssh-keygen -p -N '' -f COPY` asks for the password and takes it off a copy of the file"
  @needed "it is encrypted; say password:, or #{@plain}"
  @too_many "its password is for more than #{@most} rounds, which are not computed here; #{@plain}"
  @unknown "it is encrypted in a way that is not known here; #{@plain}"

  @type cipher :: {atom, pos_integer, non_neg_integer, pos_integer, 0 | 16}
  @typedoc "What a password is used with; `:none` where there is none."
  @type t :: :none | {cipher, salt :: binary, rounds :: pos_integer}

  @doc "The sentence for what is encrypted when there is no password."
  @spec needed() :: String.t()
  def needed, do: @what <> @needed

  @doc "What the three names in a file say, before anything is computed."
  @spec read(cipher :: binary, kdf :: binary, options :: binary, password :: binary | nil) ::
          {:ok, t} | {:error, Error.t()}
  def read("none", "none", "", _password), do: {:ok, :none}

  def read("none", _kdf, _options, _password),
    do: wrong("it names a key derivation and no cipher")

  def read(_cipher, "none", _options, _password),
    do: wrong("it names a cipher and no key derivation")

  def read(_cipher, _kdf, _options, nil), do: unsupported(@needed)

  def read(cipher, "bcrypt", options, _password) when is_map_key(@ciphers, cipher) do
    case options do
      <<size::32, salt::binary-size(size), rounds::32>> when size > 0 and rounds > 0 ->
        if rounds > @most,
          do: unsupported(@too_many),
          else: {:ok, {@ciphers[cipher], salt, rounds}}

      _other ->
        wrong("the options of its key derivation are none")
    end
  end

  def read(_cipher, _kdf, _options, _password), do: unsupported(@unknown)

  @doc "How many bytes stand behind what is encrypted."
  @spec tag_size(t) :: 0 | 16
  def tag_size(:none), do: 0
  def tag_size({cipher, _salt, _rounds}), do: elem(cipher, 4)

  @doc "What was encrypted; with another password it is something else, or an error where there is a tag."
  @spec open(t, sealed :: binary, tag :: binary, password :: binary | nil) ::
          {:ok, binary} | {:error, Error.t()}
  def open(:none, plain, "", _password), do: {:ok, plain}

  def open({{cipher, size, iv, block, _tag}, salt, rounds}, sealed, tag, password) do
    if rem(byte_size(sealed), block) != 0 do
      wrong("what is encrypted in it is not of whole blocks")
    else
      {key, iv} = :erlang.split_binary(Bcrypt.pbkdf(password, salt, rounds, size + iv), size)
      decrypted(cipher, key, iv, sealed, tag)
    end
  end

  # What :crypto raises has the key in its stack trace.
  defp decrypted(cipher, key, iv, sealed, tag) do
    decrypt(cipher, key, iv, sealed, tag)
  rescue
    _no_such_cipher -> unsupported(@unknown)
  end

  @doc "The error of a password that is not the right one."
  @spec another() :: {:error, Error.t()}
  def another, do: wrong("it does not open with this password")

  defp decrypt(:chacha20, <<key::binary-32, _of_lengths::binary-32>>, "", sealed, tag) do
    <<mac::binary-32, _rest::binary>> = chacha20(key, 0, <<0::512>>)

    if :crypto.hash_equals(:crypto.mac(:poly1305, mac, sealed), tag),
      do: {:ok, chacha20(key, 1, sealed)},
      else: another()
  end

  defp decrypt(cipher, key, iv, sealed, tag) when tag != "" do
    case :crypto.crypto_one_time_aead(cipher, key, iv, sealed, "", tag, false) do
      plain when is_binary(plain) -> {:ok, plain}
      :error -> another()
    end
  end

  defp decrypt(cipher, key, iv, sealed, ""),
    do: {:ok, :crypto.crypto_one_time(cipher, key, iv, sealed, false)}

  # Its nonce is the number of a packet, of which there is one here.
  defp chacha20(key, block, bytes),
    do: :crypto.crypto_one_time(:chacha20, key, <<block::32-little, 0::96>>, bytes, false)

  defp wrong(text), do: {:error, Error.new(:invalid_argument, @what <> text)}
  defp unsupported(text), do: {:error, Error.new(:unsupported, @what <> text)}
end
