defmodule Cryptoki.ContentKey.Derivation do
  @moduledoc false
  # Keys from what two have agreed on: the KDF of ANSI X9.63 (SEC 1, section 3.6.1), that of SP 800-56A (JWA's),
  # and HKDF (RFC 5869). Pure.

  @type kdf :: {:x963 | :concat | :hkdf, hash :: atom}

  @doc "So many bytes of a secret and of what else is in them."
  @spec derive(kdf, binary, iodata, pos_integer) :: binary
  def derive({:x963, hash}, secret, info, size),
    do: blocks(size, &:crypto.hash(hash, [secret, <<&1::32>>, info]))

  def derive({:concat, hash}, secret, info, size),
    do: blocks(size, &:crypto.hash(hash, [<<&1::32>>, secret, info]))

  # Without a salt, which is zeros then.
  def derive({:hkdf, hash}, secret, info, size) do
    zeros = <<0::unit(8)-size(:crypto.hash_info(hash).size)>>
    expand(hash, :crypto.mac(:hmac, hash, zeros, secret), info, size, "", 1, [])
  end

  defp expand(hash, key, info, size, before, counter, done) do
    block = :crypto.mac(:hmac, hash, key, [before, info, counter])
    done = [done, block]

    if IO.iodata_length(done) >= size,
      do: binary_part(IO.iodata_to_binary(done), 0, size),
      else: expand(hash, key, info, size, block, counter + 1, done)
  end

  defp blocks(size, block, counter \\ 1, done \\ []) do
    done = [done, block.(counter)]

    if IO.iodata_length(done) >= size,
      do: binary_part(IO.iodata_to_binary(done), 0, size),
      else: blocks(size, block, counter + 1, done)
  end
end
