defmodule Cryptoki.Recovery.IsolationLargeTest do
  # `isolation: :process` with large data, which lies in memory that both processes have.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, Workers}

  @moduletag :capture_log

  @iv :binary.copy(<<1>>, 12)
  @gcm {:aes_gcm, iv: @iv, tag_bits: 128}
  @mebibyte 1_048_576
  # Around what goes by itself, and around what the memory holds.
  @sizes [65_535, 65_536, @mebibyte, 2 * @mebibyte, 2 * @mebibyte + 1, 5 * @mebibyte]

  setup do
    %{module: module} = FaultyModule.own()
    own = [isolation: :process, sessions: 2, reconnect: [min: 10, max: 200]]
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, own)})
    secret = :crypto.strong_rand_bytes(32)
    usage = [encrypt: true, decrypt: true, sensitive: false, extractable: true]

    template = [
      class: :secret_key,
      key_type: :aes,
      value: secret,
      private: true,
      label: "large",
      token: true
    ]

    {:ok, _key} = Cryptoki.create(hsm, template ++ usage)
    %{module: module, hsm: hsm, key: [label: "large"], secret: secret}
  end

  test "what comes back is that of the data, whichever way it has gone", %{hsm: hsm} = context do
    %{key: key, secret: secret} = context

    for size <- Enum.shuffle(@sizes ++ @sizes) do
      data = :crypto.strong_rand_bytes(size)
      assert Cryptoki.digest!(hsm, :sha256, data) == :crypto.hash(:sha256, data)
      {text, tag} = :crypto.crypto_one_time_aead(:aes_256_gcm, secret, @iv, data, "", 16, true)
      encrypted = Cryptoki.encrypt!(hsm, key, @gcm, data)
      assert encrypted == text <> tag
      assert Cryptoki.decrypt!(hsm, key, @gcm, encrypted) == data
    end

    # A failure leaves nothing behind either.
    assert {:error, %Error{function: :C_Decrypt}} =
             Cryptoki.decrypt(hsm, key, @gcm, :binary.copy(<<0>>, @mebibyte))

    assert Cryptoki.digest!(hsm, :sha256, "abc") == :crypto.hash(:sha256, "abc")
  end

  test "in parts of a mebibyte as well", %{hsm: hsm, key: key, secret: secret} do
    data = :crypto.strong_rand_bytes(5 * @mebibyte)
    parts = for <<part::binary-size(@mebibyte) <- data>>, do: part
    cbc = {:aes_cbc_pad, iv: :binary.copy(<<1>>, 16)}
    encrypted = hsm |> Cryptoki.encrypt_stream(key, cbc, parts) |> Enum.join()
    opts = [encrypt: true, padding: :pkcs_padding]

    assert encrypted ==
             :crypto.crypto_one_time(:aes_256_cbc, secret, :binary.copy(<<1>>, 16), data, opts)

    decrypted = hsm |> Cryptoki.decrypt_stream(key, cbc, [encrypted]) |> Enum.join()
    assert decrypted == data
  end

  @tag :unsanitized
  test "a thousand of them, and ten crashes, leave no memory and no descriptor", context do
    %{module: module, hsm: hsm, key: key} = context
    data = :binary.copy(<<7>>, @mebibyte)
    call = fn -> assert {:ok, _} = Cryptoki.encrypt(hsm, key, @gcm, data) end
    assert mapped("self") == 0
    both = for _ <- 1..2, do: Task.async(fn -> for _ <- 1..20, do: {call.(), nil} end)
    Task.await_many(both, 60_000)
    worker = List.last(Workers.all())
    before = held(worker)
    Enum.each(1..1000, fn _ -> call.() end)
    # One of each session that had any, however often.
    assert mapped("self") in 1..2 and mapped(worker) == mapped("self")
    assert held(worker).descriptors == before.descriptors
    assert held(worker).kilobytes < before.kilobytes + 8 * 1024

    for _ <- 1..10 do
      FaultyModule.control(module, "C_Encrypt crash=segv count=1")
      assert {:error, %Error{reason: :library_crashed}} = Cryptoki.encrypt(hsm, key, @gcm, data)
      FaultyModule.control(module, "")
      await(fn -> match?({:ok, _}, Cryptoki.encrypt(hsm, key, @gcm, data)) end)
    end

    await(fn -> Cryptoki.status!(hsm).sessions.open == 2 end)
    await(fn -> mapped("self") in 1..2 end)
    await(fn -> length(File.ls!("/proc/self/fd")) <= before.ours end)
    :ok = stop_supervised(Cryptoki)
    await(fn -> mapped("self") == 0 end)
  end

  # Mappings of such memory that a process has.
  defp mapped(process) do
    "/proc/#{process}/maps"
    |> File.read!()
    |> String.split("memfd:cryptoki")
    |> length()
    |> Kernel.-(1)
  end

  defp held(worker) do
    [_, kilobytes] = Regex.run(~r/^RssAnon:\s+(\d+) kB/m, File.read!("/proc/#{worker}/status"))

    %{
      ours: length(File.ls!("/proc/self/fd")),
      descriptors: length(File.ls!("/proc/#{worker}/fd")),
      kilobytes: String.to_integer(kilobytes)
    }
  end
end
