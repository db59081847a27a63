defmodule Cryptoki.ContentKey.Derivation do
  @moduledoc false
  # Keys from what two have agreed on: the KDF of ANSI X9.63 (SEC 1, section 3.6.1), that of SP 800-56A (JWA's),
  # and HKDF (RFC 5869). Pure.

  @type kdf :: {:x963 | :concat | :hkdf, hash :: atom}

  @doc "So many bytes of a secret and of what else is in them."
  @spec derive(kdf, binary, iodata, pos_integer) :: binary
  def derive({:x963, hash}, secret, info, size),
    do: blocks(size, fn n, _before -> :crypto.hash(hash, [secret, <<n::32>>, info]) end)

  def derive({:concat, hash}, secret, info, size),
    do: blocks(size, fn n, _before -> :crypto.hash(hash, [<<n::32>>, secret, info]) end)

  # Without a salt, which is zeros then.
  def derive({:hkdf, hash}, secret, info, size) do
    zeros = <<0::unit(8)-size(:crypto.hash_info(hash).size)>>
    key = :crypto.mac(:hmac, hash, zeros, secret)
    blocks(size, fn n, before -> :crypto.mac(:hmac, hash, key, [before, info, n]) end)
  end

  # Each by its number and the one before it.
  defp blocks(size, block, number \\ 1, before \\ "", done \\ "") do
    made = block.(number, before)
    done = done <> made

    if byte_size(done) >= size,
      do: binary_part(done, 0, size),
      else: blocks(size, block, number + 1, made, done)
  end
end
