defmodule Cryptoki.PrivateKey.DEKInfo do
  @moduledoc false
  # PKCS #1 and SEC 1 as a password opens them in PEM alone: the headers of RFC 1421 with a cipher and an IV, which
  # `openssl genrsa -aes256` wrote before 3.0 and `ssh-keygen -m PEM` does. No standard says how the key is made: by MD5,
  # of one round. Pure.

  alias Cryptoki.PrivateKey.Encryption

  # Cipher, bytes of its key and of a block.
  @ciphers %{
    "DES-CBC" => {:des_cbc, 8, 8},
    "DES-EDE3-CBC" => {:des_ede3_cbc, 24, 8},
    "AES-128-CBC" => {:aes_128_cbc, 16, 16},
    "AES-192-CBC" => {:aes_192_cbc, 24, 16},
    "AES-256-CBC" => {:aes_256_cbc, 32, 16},
    "RC2-40-CBC" => {:rc2_cbc, 5, 8},
    "RC2-64-CBC" => {:rc2_cbc, 8, 8},
    "RC2-CBC" => {:rc2_cbc, 16, 8}
  }

  @doc "What was encrypted, or at least ends as if it had been; `:unknown` where headers name no cipher of these."
  @spec open(headers :: binary, binary, password :: binary) :: {:ok, binary} | :error | :unknown
  def open(headers, sealed, password) do
    with [_line, name, iv] <-
           Regex.run(~r/^DEK-Info: ?([A-Z0-9-]+),([0-9A-Fa-f]+)\s*$/m, headers),
         {cipher, size, block} <- @ciphers[name],
         {:ok, <<salt::binary-8, _::binary>> = iv} when byte_size(iv) == block <-
           Base.decode16(iv, case: :mixed),
         {:ok, key} <- key("", "", password <> salt, size) do
      Encryption.cbc(cipher, key, iv, sealed, block)
    else
      _none -> :unknown
    end
  end

  defp key(made, _last, _first, size) when byte_size(made) >= size,
    do: {:ok, binary_part(made, 0, size)}

  defp key(made, last, first, size) do
    digest = :crypto.hash(:md5, [last, first])
    key(made <> digest, digest, first, size)
  rescue
    # What :crypto raises has the password in its stack trace.
    _no_such_hash -> :error
  end
end
