defmodule Cryptoki.KeyWrap do
  @moduledoc false
  # AES key wrap (RFC 3394) and the same with padding (RFC 5649), which :crypto does not have; and the unwrapping of
  # keys of triple DES (RFC 3217). Pure.

  @iv <<0xA6A6A6A6A6A6A6A6::64>>
  @padded 0xA65959A6

  @doc "Wraps bytes of a multiple of eight, sixteen at least."
  @spec wrap(key :: binary, binary) :: binary
  def wrap(key, bytes) when rem(byte_size(bytes), 8) == 0 and byte_size(bytes) >= 16,
    do: wrapped(key, @iv, bytes)

  @doc "Wraps bytes of any length but none."
  @spec wrap_padded(key :: binary, binary) :: binary
  def wrap_padded(key, bytes) when byte_size(bytes) > 0 do
    iv = <<@padded::32, byte_size(bytes)::32>>
    fill = rem(8 - rem(byte_size(bytes), 8), 8)
    padded = <<bytes::binary, 0::size(fill)-unit(8)>>

    if byte_size(padded) == 8,
      do: block(key, iv <> padded),
      else: wrapped(key, iv, padded)
  end

  defp wrapped(key, iv, bytes) do
    blocks = for <<block::binary-8 <- bytes>>, do: block
    count = length(blocks)

    {a, blocks} =
      Enum.reduce(0..5, {iv, blocks}, fn round, {a, blocks} ->
        Enum.reduce(Enum.with_index(blocks, round * count + 1), {a, []}, fn {block, step},
                                                                            {a, done} ->
          <<a::64, block::binary-8>> = block(key, a <> block)
          {<<Bitwise.bxor(a, step)::64>>, [block | done]}
        end)
        |> then(fn {a, done} -> {a, Enum.reverse(done)} end)
      end)

    IO.iodata_to_binary([a | blocks])
  end

  @des_iv <<0x4ADDA22C79E82105::64>>

  @doc "A key of triple DES that another one wraps (RFC 3217, section 3.2); `:error` as for `unwrap/2`."
  @spec unwrap_des_ede3(binary, binary) :: {:ok, binary} | :error
  def unwrap_des_ede3(kek, wrapped) when byte_size(kek) == 24 and byte_size(wrapped) == 40 do
    <<iv::binary-8, rest::binary-32>> = reversed(des_ede3(kek, @des_iv, wrapped))
    <<key::binary-24, check::binary-8>> = des_ede3(kek, iv, rest)

    if binary_part(:crypto.hash(:sha, key), 0, 8) == check, do: {:ok, key}, else: :error
  rescue
    # What this OpenSSL does not have: the trace would have the key.
    _error -> :error
  end

  def unwrap_des_ede3(_kek, _other), do: :error

  defp reversed(bytes),
    do: bytes |> :binary.bin_to_list() |> Enum.reverse() |> :binary.list_to_bin()

  defp des_ede3(key, iv, bytes),
    do: :crypto.crypto_one_time(:des_ede3_cbc, key, iv, bytes, encrypt: false, padding: :none)

  @doc "What `wrap/2` has wrapped, 64 bytes at most; `:error` when it has not, or not with this key."
  @spec unwrap(binary, binary) :: {:ok, binary} | :error
  def unwrap(kek, <<a::binary-8, rest::binary>>)
      when rem(byte_size(rest), 8) == 0 and byte_size(rest) in 16..64 do
    blocks = for <<block::binary-8 <- rest>>, do: block

    {a, blocks} =
      Enum.reduce(5..0//-1, {a, blocks}, fn round, {a, blocks} ->
        {blocks, a} =
          blocks
          |> Enum.with_index(round * length(blocks) + 1)
          |> Enum.reverse()
          |> Enum.map_reduce(a, fn {block, t}, <<a::64>> ->
            <<a::binary-8, block::binary-8>> =
              block(kek, <<Bitwise.bxor(a, t)::64, block::binary>>, false)

            {block, a}
          end)

        {a, Enum.reverse(blocks)}
      end)

    if :crypto.exor(a, @iv) == <<0::64>>, do: {:ok, IO.iodata_to_binary(blocks)}, else: :error
  end

  def unwrap(_kek, _other), do: :error

  defp block(key, bytes, encrypt? \\ true),
    do: :crypto.crypto_one_time(:"aes_#{bit_size(key)}_ecb", key, bytes, encrypt?)
end
