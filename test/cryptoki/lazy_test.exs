defmodule Cryptoki.LazyTest do
  # Alone: one of them measures the memory of the VM.
  use ExUnit.Case, async: false

  # encrypt_stream and decrypt_stream, judged by :crypto, and what they leave of the session.

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.MainToken

  @key :binary.copy("l", 32)
  @iv :binary.copy("i", 16)
  @cbc {:aes_cbc_pad, iv: @iv}

  setup do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1)})
    # Not a session object: a caller that dies may take the session with it.
    name = [label: "lazy", id: <<System.unique_integer([:positive])::64>>, token: true]
    template = [class: :secret_key, key_type: :aes, value: @key, encrypt: true, decrypt: true]
    %{hsm: hsm, key: Cryptoki.create!(hsm, name ++ template)}
  end

  test "what :crypto makes of it, and back", %{hsm: hsm, key: key} do
    for chunks <- [[], [""], ["text"], for(n <- 1..50, do: [<<n>>, :binary.copy(<<n>>, n * 997)])] do
      text = IO.iodata_to_binary(chunks)
      ciphertext = hsm |> Cryptoki.encrypt_stream(key, @cbc, chunks) |> Enum.join()

      assert ciphertext ==
               :crypto.crypto_one_time(:aes_256_cbc, @key, @iv, text,
                 encrypt: true,
                 padding: :pkcs_padding
               )

      pieces = for <<piece::binary-16 <- ciphertext>>, do: piece
      assert hsm |> Cryptoki.decrypt_stream(key, @cbc, pieces) |> Enum.join() == text
    end
  end

  test "nothing happens before it is consumed, and each time anew", %{hsm: hsm, key: key} do
    me = self()

    read = fn n ->
      send(me, {:read, n})
      "chunk"
    end

    chunks = Stream.map(1..3, read)
    stream = Cryptoki.encrypt_stream(hsm, key, @cbc, chunks)
    refute_received {:read, _}
    assert Enum.join(stream) == Enum.join(stream)
    assert_received {:read, 3}
    missing = Cryptoki.encrypt_stream(hsm, [label: "none such"], @cbc, chunks)
    assert %Error{reason: :key_not_found} = catch_error(Enum.to_list(missing))
    assert {:ok, _} = Cryptoki.digest(hsm, :sha256, "")
  end

  test "reads as it goes: it may have no end", %{hsm: hsm, key: key} do
    zeros = Stream.repeatedly(fn -> <<0::size(65_536)>> end)
    [first | _] = hsm |> Cryptoki.encrypt_stream(key, @cbc, zeros) |> Enum.take(3)
    assert <<block::binary-16, _::binary>> = first
    assert block == :crypto.crypto_one_time(:aes_256_cbc, @key, @iv, <<0::128>>, true)
    # The only session is free again.
    assert {:ok, _} = Cryptoki.encrypt(hsm, key, @cbc, "text")
  end

  test "an enumerable that raises gives the session back", %{hsm: hsm, key: key} do
    bad =
      Stream.map(1..9, fn n -> if n == 7, do: raise("stop"), else: :binary.copy("x", 50_000) end)

    for _ <- 1..5 do
      assert_raise RuntimeError, "stop", fn ->
        hsm |> Cryptoki.encrypt_stream(key, @cbc, bad) |> Stream.run()
      end

      assert {:ok, _} = Cryptoki.encrypt(hsm, key, @cbc, "text")
    end
  end

  test "a consumer that dies gives the session back", %{hsm: hsm, key: key} do
    me = self()

    endless = Stream.repeatedly(fn -> :binary.copy("x", 70_000) end)

    {pid, ref} =
      spawn_monitor(fn ->
        hsm
        |> Cryptoki.encrypt_stream(key, @cbc, endless)
        |> Enum.each(fn _ -> send(me, :going) end)
      end)

    assert_receive :going
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    assert {:ok, _} = Cryptoki.encrypt(hsm, key, @cbc, "text")
  end

  test "on a session of one's own", %{hsm: hsm, key: key} do
    Cryptoki.with_session(hsm, fn session ->
      chunks = Stream.repeatedly(fn -> :binary.copy("x", 70_000) end)
      assert [_] = session |> Cryptoki.encrypt_stream(key, @cbc, chunks) |> Enum.take(1)
      assert {:ok, op} = Cryptoki.start(session, :encrypt, key, @cbc)
      # Kryoptic takes no end without a part.
      assert {:ok, _} = Operation.update(op, "part")
      assert {:ok, _} = Operation.finish(op)
    end)
  end

  test "the token's errors are raised", %{hsm: hsm, key: key} do
    not_whole = ["not a multiple of the block"]
    stream = Cryptoki.encrypt_stream(hsm, key, put_elem(@cbc, 0, :aes_cbc), not_whole)
    assert %Error{code: code} = catch_error(Enum.to_list(stream))
    assert code != nil
    stream = Cryptoki.decrypt_stream(hsm, key, @cbc, not_whole)
    assert %Error{reason: :encrypted_data_len_range} = catch_error(Enum.to_list(stream))
    assert {:ok, _} = Cryptoki.encrypt(hsm, key, @cbc, "text")
    assert_raise ArgumentError, fn -> Cryptoki.encrypt_stream(hsm, key, @cbc, 7) end

    assert_raise ArgumentError, fn ->
      Cryptoki.encrypt_stream(hsm, key, @cbc, [], digest: :sha256)
    end
  end

  test "memory stays bounded", %{hsm: hsm, key: key} do
    chunk = :binary.copy("x", 1024 * 1024)
    before = :erlang.memory(:binary)

    most =
      hsm
      |> Cryptoki.encrypt_stream(key, @cbc, Stream.map(1..64, fn _ -> chunk end))
      |> Enum.reduce(0, fn _bytes, most -> max(most, :erlang.memory(:binary)) end)

    assert most - before < 32 * 1024 * 1024
  end
end
