defmodule Cryptoki.CMS.Password do
  @moduledoc false
  # A content key that a password protects (RFC 5652, section 6.2.4): PBKDF2 makes a key of the password, under which the
  # content key is encrypted twice in CBC mode (RFC 3211, section 2.3). Pure.

  alias Cryptoki.CMS.Cipher
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.PBKDF2
  alias Cryptoki.SignatureAlgorithm.Identifier

  @pwri_kek {1, 2, 840, 113_549, 1, 9, 16, 3, 9}

  @type t :: %{
          kind: :password,
          id: nil,
          kdf: PBKDF2.t(),
          count: pos_integer,
          cipher: Cipher.t() | :unknown,
          encrypted: binary
        }

  @doc "What a `PasswordRecipientInfo` says; `cipher: :unknown` where any of it is not known here."
  @spec read(Reader.t()) :: map
  def read(info) do
    fields = [2, {:maybe, 0xA0}, {"key encryption algorithm", 0x30}, 4]
    [version, kdf, algorithm, encrypted] = Reader.fields(info, fields)
    _ = Reader.integer(version)
    told = %{kind: :password, id: nil, encrypted: Reader.octets(encrypted), cipher: :unknown}

    with %Reader{} <- kdf,
         %{} = derivation <- PBKDF2.read(%{kdf | tag: 0x30}),
         {@pwri_kek, %Reader{} = inner} <- Identifier.parts(algorithm),
         %{mode: :cbc, key: size} = cipher <- Cipher.wrapping(inner),
         count when count > 0 <- Reader.integer(derivation.iterations),
         true <- derivation.length == nil or Reader.integer(derivation.length) == size do
      Map.merge(told, %{kdf: derivation, count: count, cipher: cipher})
    else
      _unknown -> told
    end
  end

  @doc "The content key of so many bytes, `:none` for another password or whatever else is wrong."
  @spec open(t, binary, pos_integer) :: {:ok, binary} | :none
  def open(%{kdf: kdf, count: count, cipher: cipher, encrypted: encrypted}, password, size) do
    block = byte_size(cipher.iv)

    with true <- byte_size(encrypted) >= 2 * block and rem(byte_size(encrypted), block) == 0,
         {:ok, key} <- PBKDF2.derive(kdf, password, count, cipher.key),
         {:ok, plain} <- twice(cipher, key, encrypted, block),
         <<^size, check::24, first::24, _rest::binary>> <- plain,
         true <- Bitwise.bxor(check, first) == 0xFFFFFF and byte_size(plain) >= 4 + size do
      {:ok, binary_part(plain, 4, size)}
    else
      _wrong -> :none
    end
  end

  # What the inner encryption has ended with was the IV of the outer one.
  defp twice(cipher, key, encrypted, block) do
    {front, last} = :erlang.split_binary(encrypted, byte_size(encrypted) - block)
    ended = decrypt(cipher, key, binary_part(front, byte_size(front), -block), last)
    inner = decrypt(cipher, key, ended, front) <> ended
    {:ok, decrypt(cipher, key, cipher.iv, inner)}
  rescue
    # What this OpenSSL does not have: the trace would have the key.
    _error -> :none
  end

  defp decrypt(%{name: name}, key, iv, data),
    do: :crypto.crypto_one_time(name, key, iv, data, encrypt: false, padding: :none)
end
