defmodule Cryptoki.Referee.StreamTest do
  # Not async: it watches the memory of the VM.
  use Cryptoki.Test.Referee

  # Large data piece by piece: the same as at once, and never all of it in memory.

  @chunk 1_000_003
  @chunks 80
  @most 32 * 1024 * 1024

  on_each_token do
    check "80 MB in little memory",
          [:sha256, :sha256_hmac, :sha256_rsa_pkcs, :aes_cbc_pad],
          %{hsm: hsm} do
      mac = secret(hsm, :generic_secret, raw_mac = bytes(32), sign: true)
      template = [modulus_bits: 2048]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)

      digest =
        Enum.reduce(data(), :crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))
        |> :crypto.hash_final()

      hmac =
        Enum.reduce(
          data(),
          :crypto.mac_init(:hmac, :sha256, raw_mac),
          &:crypto.mac_update(&2, &1)
        )
        |> :crypto.mac_final()

      in_little_memory(fn stream ->
        assert Cryptoki.digest!(hsm, :sha256, stream) == digest
      end)

      in_little_memory(fn stream ->
        assert Cryptoki.sign!(hsm, mac, :sha256_hmac, stream) == hmac
      end)

      signature =
        in_little_memory(fn stream -> Cryptoki.sign!(hsm, private, :sha256_rsa_pkcs, stream) end)

      public_key = Cryptoki.public_key!(hsm, public)
      assert :public_key.verify({:digest, digest}, :sha256, signature, public_key)

      in_little_memory(fn stream ->
        assert Cryptoki.verify(hsm, public, :sha256_rsa_pkcs, stream, signature) == :ok
      end)
    end

    check "piece by piece by hand", [:aes_ctr, :sha512, :sha256_rsa_pkcs], %{hsm: hsm} do
      key = secret(hsm, :aes, raw = bytes(32), encrypt: true, decrypt: true)
      data = bytes(300_000)
      mechanism = {:aes_ctr, iv: iv = bytes(16)}
      expected = :crypto.crypto_one_time(:aes_256_ctr, raw, iv, data, true)

      Cryptoki.with_session(hsm, fn session ->
        {:ok, op} = Cryptoki.start(session, :encrypt, key, mechanism)

        pieces =
          for chunk <- chunks(data) do
            {:ok, piece} = Cryptoki.Operation.update(op, chunk)
            piece
          end

        {:ok, last} = Cryptoki.Operation.finish(op)
        assert IO.iodata_to_binary([pieces, last]) == expected

        # Given up in the middle, the session is free for another.
        {:ok, op} = Cryptoki.start(session, :digest, :sha512)
        :ok = Cryptoki.Operation.update(op, "what nobody wants to know")
        :ok = Cryptoki.Operation.cancel(op)
        assert Cryptoki.digest!(session, :sha512, data) == :crypto.hash(:sha512, data)
      end)
    end
  end

  defp data, do: Stream.map(1..@chunks, fn n -> :binary.copy(<<n>>, @chunk) end)

  # What is taken is what was taken at most while the stream was read.
  defp in_little_memory(fun) do
    :erlang.garbage_collect()
    before = :erlang.memory(:total)
    most = :counters.new(1, [])

    watched =
      Stream.each(data(), fn _chunk ->
        taken = :erlang.memory(:total) - before
        if taken > :counters.get(most, 1), do: :counters.put(most, 1, taken)
      end)

    result = fun.({:stream, watched})
    assert :counters.get(most, 1) < @most
    result
  end
end
