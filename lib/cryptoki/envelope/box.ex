defmodule Cryptoki.Envelope.Box do
  @moduledoc false
  # The bytes of an envelope: a header with the data key, sealed by the token, and the text in chunks, each
  # sealed by the data key with AES-256-GCM. The nonce of a chunk is its number, and whether it is the last: what is
  # cut, swapped, repeated or left out does not open (the STREAM construction of Hoang, Reyhanitabar, Rogaway and
  # Vizár). A data key is made for one box. Pure.

  alias Cryptoki.Error

  @magic "CKE" <> <<1>>
  @chunk 65_536
  @tag 16
  @sealed_chunk @chunk + @tag
  @key 32
  # IVs of tokens have 12 bytes, or 16.
  @ivs 7..32

  @type data_key :: binary
  @type sealed_key :: {iv :: binary, binary}

  @doc "What is authenticated together with a data key."
  @spec magic() :: binary
  def magic, do: @magic

  @doc "The bytes of a data key."
  @spec key_size() :: pos_integer
  def key_size, do: @key

  @spec header(sealed_key) :: binary
  def header({iv, sealed}), do: <<@magic, byte_size(iv), iv::binary, sealed::binary>>

  @doc "The header of some bytes and what stands behind it; `:more` when it is not whole yet."
  @spec read(binary) :: {:ok, sealed_key, rest :: binary} | :more | {:error, Error.t()}
  def read(
        <<@magic, size, iv::binary-size(size), sealed::binary-size(@key + @tag), rest::binary>>
      )
      when size in @ivs,
      do: {:ok, {iv, sealed}, rest}

  def read(<<@magic, size, _shorter::binary>>) when size in @ivs, do: :more
  def read(<<@magic, _size, _rest::binary>>), do: no_envelope()

  def read(bytes) do
    if byte_size(bytes) <= byte_size(@magic) and
         binary_part(@magic, 0, byte_size(bytes)) == bytes,
       do: :more,
       else: no_envelope()
  end

  @doc "The error for what is no envelope."
  @spec no_envelope() :: {:error, Error.t()}
  def no_envelope, do: {:error, Error.new(:invalid_argument, "envelope: this is none")}

  @doc "The error for what does not open."
  @spec invalid() :: {:error, Error.t()}
  def invalid do
    text = "envelope: it does not open: it was changed or cut, or the aad: is another"
    {:error, Error.new(:encrypted_data_invalid, text, executed: false)}
  end

  ## Whole

  @spec seal(binary, data_key, binary) :: [binary, ...]
  def seal(text, key, aad) do
    {:ok, chunks, state} = chunks(:seal, text, 0, key, aad, [])
    {:ok, last} = last(:seal, state, key, aad)
    chunks ++ [last]
  end

  @spec open(binary, data_key, binary) :: {:ok, binary} | {:error, Error.t()}
  def open(bytes, key, aad) do
    with {:ok, texts, state} <- chunks(:open, bytes, 0, key, aad, []),
         {:ok, last} <- last(:open, state, key, aad),
         do: {:ok, IO.iodata_to_binary([texts, last])}
  end

  ## In pieces

  @typedoc "What is held back, and the number of the next chunk."
  @type state :: {held :: binary, number :: non_neg_integer}

  @spec start() :: state
  def start, do: {"", 0}

  @doc "What more of the text becomes; the last chunk is known when there is no more."
  @spec more(:seal | :open, state, binary, data_key, binary) ::
          {:ok, [binary], state} | {:error, Error.t()}
  def more(how, {held, number}, bytes, key, aad),
    do: chunks(how, held <> bytes, number, key, aad, [])

  defp chunks(:seal, <<chunk::binary-size(@chunk), rest::binary>>, number, key, aad, done)
       when rest != "" do
    done = [sealed(chunk, key, aad, number, 0) | done]
    chunks(:seal, rest, number + 1, key, aad, done)
  end

  defp chunks(:open, <<chunk::binary-size(@sealed_chunk), rest::binary>>, number, key, aad, done)
       when rest != "" do
    with {:ok, text} <- opened(chunk, key, aad, number, 0),
         do: chunks(:open, rest, number + 1, key, aad, [text | done])
  end

  defp chunks(_how, held, number, _key, _aad, done), do: {:ok, Enum.reverse(done), {held, number}}

  @spec last(:seal | :open, state, data_key, binary) :: {:ok, binary} | {:error, Error.t()}
  def last(:seal, {held, number}, key, aad),
    do: {:ok, sealed(held, key, aad, number, 1)}

  def last(:open, {held, number}, key, aad), do: opened(held, key, aad, number, 1)

  ## Chunks

  defp sealed(chunk, key, aad, number, last) do
    {sealed, tag} =
      :crypto.crypto_one_time_aead(:aes_256_gcm, key, nonce(number, last), chunk, aad, @tag, true)

    <<sealed::binary, tag::binary>>
  end

  # An empty chunk is that of no text, and none behind others.
  defp opened(chunk, key, aad, number, last)
       when byte_size(chunk) > @tag or (byte_size(chunk) == @tag and number == 0) do
    {sealed, tag} = :erlang.split_binary(chunk, byte_size(chunk) - @tag)
    nonce = nonce(number, last)

    case :crypto.crypto_one_time_aead(:aes_256_gcm, key, nonce, sealed, aad, tag, false) do
      :error -> invalid()
      text -> {:ok, text}
    end
  end

  defp opened(_chunk, _key, _aad, _number, _last), do: invalid()

  defp nonce(number, last), do: <<number::88, last>>
end
