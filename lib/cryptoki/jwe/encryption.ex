defmodule Cryptoki.JWE.Encryption do
  @moduledoc false
  # How the content of a JWE is encrypted (RFC 7518, section 5). Pure, but for what is random.

  alias Cryptoki.PrivateKey

  # Name, cipher of :crypto, bytes of the key, and the hash where there are two keys in it.
  @ciphers [
    {"A128GCM", :aes_128_gcm, 16, nil},
    {"A192GCM", :aes_192_gcm, 24, nil},
    {"A256GCM", :aes_256_gcm, 32, nil},
    {"A128CBC-HS256", :aes_128_cbc, 32, :sha256},
    {"A192CBC-HS384", :aes_192_cbc, 48, :sha384},
    {"A256CBC-HS512", :aes_256_cbc, 64, :sha512}
  ]

  @type t :: {String.t(), atom, pos_integer, atom}
  @typedoc "Initialisation vector, ciphertext, tag, and what goes along."
  @type sealed :: %{iv: binary, ciphertext: binary, tag: binary, aad: binary}

  @doc "The names."
  @spec names() :: [String.t()]
  def names, do: for({name, _cipher, _size, _hash} <- @ciphers, do: name)

  @spec fetch(term) :: {:ok, t} | :error
  def fetch(name) do
    with nil <- List.keyfind(@ciphers, name, 0), do: :error, else: (row -> {:ok, row})
  end

  @doc "Bytes of a key."
  @spec size(t) :: pos_integer
  def size({_name, _cipher, size, _hash}), do: size

  @doc "Whether a key of the token may encrypt the content itself: it is one key, not two."
  @spec single?(t) :: boolean
  def single?({_name, _cipher, _size, hash}), do: hash == nil

  @doc "Whether the parts have the sizes that they have."
  @spec fits?(t, sealed) :: boolean
  def fits?({_name, _cipher, _size, nil}, sealed),
    do: byte_size(sealed.iv) == 12 and byte_size(sealed.tag) == 16

  def fits?({_name, _cipher, size, _hash}, %{ciphertext: ciphertext} = sealed) do
    byte_size(sealed.iv) == 16 and byte_size(sealed.tag) == div(size, 2) and
      ciphertext != "" and rem(byte_size(ciphertext), 16) == 0
  end

  @doc "The content; `:error` for whatever is wrong."
  @spec open(t, binary, sealed) :: {:ok, binary} | :error
  def open({_name, cipher, _size, nil}, key, %{iv: iv, aad: aad} = sealed) do
    case :crypto.crypto_one_time_aead(cipher, key, iv, sealed.ciphertext, aad, sealed.tag, false) do
      content when is_binary(content) -> {:ok, content}
      :error -> :error
    end
  end

  # The tag first: without it nothing is said of the padding.
  def open({_name, cipher, size, hash}, key, sealed) do
    {mac, key} = :erlang.split_binary(key, div(size, 2))

    if :crypto.hash_equals(tag(hash, mac, sealed, div(size, 2)), sealed.tag) do
      with :unknown <- PrivateKey.Encryption.cbc(cipher, key, sealed.iv, sealed.ciphertext, 16),
           do: :error
    else
      :error
    end
  end

  defp tag(hash, mac, %{aad: aad} = sealed, size) do
    data = [aad, sealed.iv, sealed.ciphertext, <<bit_size(aad)::64>>]
    binary_part(:crypto.mac(:hmac, hash, mac, data), 0, size)
  end

  @doc "Content, encrypted with a key."
  @spec seal(t, binary, binary, binary) :: sealed
  def seal({_name, cipher, _size, nil}, key, content, aad) do
    iv = :crypto.strong_rand_bytes(12)
    {ciphertext, tag} = :crypto.crypto_one_time_aead(cipher, key, iv, content, aad, 16, true)
    %{iv: iv, ciphertext: ciphertext, tag: tag, aad: aad}
  end

  def seal({_name, cipher, size, hash}, key, content, aad) do
    {mac, key} = :erlang.split_binary(key, div(size, 2))
    iv = :crypto.strong_rand_bytes(16)
    options = [encrypt: true, padding: :pkcs_padding]
    ciphertext = :crypto.crypto_one_time(cipher, key, iv, content, options)
    sealed = %{iv: iv, ciphertext: ciphertext, tag: "", aad: aad}
    %{sealed | tag: tag(hash, mac, sealed, div(size, 2))}
  end
end
