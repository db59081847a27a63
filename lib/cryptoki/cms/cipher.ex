defmodule Cryptoki.CMS.Cipher do
  @moduledoc false
  # How content is encrypted (RFC 3565, RFC 5084; RFC 3370 for what is only read). Pure, but for what is random.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.PrivateKey.Encryption
  alias Cryptoki.SignatureAlgorithm.Identifier

  @typedoc "A cipher of `:crypto`, and what it is told besides the key; `tag` in bytes."
  @type t :: %{
          name: atom,
          mode: :cbc | :gcm,
          key: pos_integer,
          iv: binary,
          tag: pos_integer | nil
        }

  # Name, object identifier, bytes of the key, and of a block where there are any.
  @ciphers [
    {:aes_128_cbc, {2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, 16},
    {:aes_192_cbc, {2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, 16},
    {:aes_256_cbc, {2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, 16},
    {:aes_128_gcm, {2, 16, 840, 1, 101, 3, 4, 1, 6}, 16, nil},
    {:aes_192_gcm, {2, 16, 840, 1, 101, 3, 4, 1, 26}, 24, nil},
    {:aes_256_gcm, {2, 16, 840, 1, 101, 3, 4, 1, 46}, 32, nil},
    {:des_ede3_cbc, {1, 2, 840, 113_549, 3, 7}, 24, 8}
  ]
  @written for({name, _oid, _key, _block} <- @ciphers, name != :des_ede3_cbc, do: name)

  # RFC 5084, section 3.2: 12 is what all write.
  @nonces 8..16
  @tags 12..16

  @doc "Those that are written."
  @spec names() :: [atom]
  def names, do: @written

  @doc "Whether it says by itself that what it encrypts was changed."
  @spec authenticated?(t) :: boolean
  def authenticated?(%{mode: mode}), do: mode == :gcm

  @doc "What an AlgorithmIdentifier says."
  @spec read(Reader.t()) :: t
  def read(identifier) do
    {oid, parameters} = Identifier.parts(identifier)

    case List.keyfind(@ciphers, oid, 1) do
      {name, _oid, key, nil} ->
        Map.merge(gcm(parameters || none!(identifier)), %{name: name, key: key})

      {name, _oid, key, block} ->
        iv = Reader.octets(parameters || none!(identifier))
        if byte_size(iv) != block, do: Reader.wrong!(parameters, "the IV has #{block} bytes")
        %{name: name, mode: :cbc, key: key, iv: iv, tag: nil}

      nil ->
        text = "its content is encrypted by #{DER.dotted(oid)}, which is not here"

        Reader.wrong!(identifier, text, :unsupported)
    end
  end

  @doc "The same of what encrypts a key, `:unknown` where it is none of these: it may be for somebody else."
  @spec wrapping(Reader.t()) :: t | :unknown
  def wrapping(identifier) do
    {oid, parameters} = Identifier.parts(identifier)
    if parameters && List.keymember?(@ciphers, oid, 1), do: read(identifier), else: :unknown
  end

  @spec none!(Reader.t()) :: no_return
  defp none!(identifier), do: Reader.wrong!(identifier, "it has no parameters")

  defp gcm(parameters) do
    [nonce, tag] = Reader.fields(Reader.is!(parameters, 0x30), [4, {:maybe, 2}])
    size = if tag, do: Reader.integer(tag, 2), else: 12
    iv = Reader.octets(nonce)
    if byte_size(iv) not in @nonces, do: Reader.wrong!(nonce, "a nonce has 8 to 16 bytes")
    if size not in @tags, do: Reader.wrong!(tag, "a tag has 12 to 16 bytes")
    %{mode: :gcm, iv: iv, tag: size}
  end

  @doc "The content; `:error` for whatever is wrong. `sealed` is what is encrypted, the tag, and what goes along."
  @spec open(t, binary, {binary, binary | nil, binary}) :: {:ok, binary} | :error
  def open(%{mode: :gcm, tag: size} = cipher, key, {ciphertext, tag, aad})
      when byte_size(tag) == size do
    case :crypto.crypto_one_time_aead(cipher.name, key, cipher.iv, ciphertext, aad, tag, false) do
      content when is_binary(content) -> {:ok, content}
      :error -> :error
    end
  end

  # Of a cipher that this OpenSSL does not have nothing opens.
  def open(%{mode: :cbc, iv: iv, name: name}, key, {ciphertext, nil, ""}) do
    with :unknown <- Encryption.cbc(name, key, iv, ciphertext, byte_size(iv)), do: :error
  end

  def open(_cipher, _key, _of_another_length), do: :error

  @doc "A key by chance, with its cipher, for content to be written."
  @spec new(atom) :: {t, key :: binary}
  def new(name) do
    {name, _oid, key, block} = List.keyfind(@ciphers, name, 0)
    mode = if block, do: :cbc, else: :gcm

    {%{
       name: name,
       mode: mode,
       key: key,
       iv: :crypto.strong_rand_bytes(block || 12),
       tag: unless(block, do: 16)
     }, :crypto.strong_rand_bytes(key)}
  end

  @doc "Content, encrypted, and its tag."
  @spec seal(t, binary, iodata) :: {binary, binary | nil}
  def seal(%{mode: :gcm} = cipher, key, content) do
    :crypto.crypto_one_time_aead(cipher.name, key, cipher.iv, content, "", cipher.tag, true)
  end

  def seal(%{mode: :cbc} = cipher, key, content) do
    options = [encrypt: true, padding: :pkcs_padding]
    {:crypto.crypto_one_time(cipher.name, key, cipher.iv, content, options), nil}
  end

  @doc "The AlgorithmIdentifier."
  @spec identifier(t) :: DER.t()
  def identifier(%{name: name, iv: iv, tag: tag}) do
    {_name, oid, _key, _block} = List.keyfind(@ciphers, name, 0)
    nonce = DER.octet_string(iv)
    parameters = if tag, do: DER.sequence([nonce, DER.integer(tag)]), else: nonce
    DER.sequence([DER.oid(oid), parameters])
  end
end
