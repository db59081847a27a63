defmodule Cryptoki.NodesKnownTest do
  # What is known here of instances of other nodes, and what does not go there.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Elsewhere, Error, Instances}
  alias Cryptoki.Test.{Cluster, FaultyModule, MainToken, Panics}

  @moduletag timeout: 600_000
  @name __MODULE__.HSM

  setup_all do
    Cluster.join()
    {peer, node} = Cluster.start()
    options = MainToken.own(name: @name, sessions: 2, timeout: 60_000)
    {:ok, _hsm} = :peer.call(peer, Panics, :start, [options], 120_000)
    hsm = {@name, node}
    template = [label: "ec", id: <<1>>, curve: :secp256r1, token: true]
    {:ok, _pair} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, template)
    %{node: node, hsm: hsm}
  end

  setup do
    {:messages, []} = Process.info(self(), :messages)
    :ok
  end

  defp empty_mailbox, do: assert({:messages, []} == Process.info(self(), :messages))

  # It may come from a configuration that has more in it than the key.
  test "a PIN in a URI that names a key stays on its node", %{hsm: hsm} do
    for secret <-
          ~w[pin-value=1234 PIN-VALUE=1234 x-pin-value=1234 pin-value=12%34%3 pin-value=a&pin-value=1234],
        uri = "pkcs11:object=ec?" <> secret,
        parsed = with({:ok, uri} <- Cryptoki.URI.parse(uri), do: [uri], else: (_ -> [])),
        key <-
          [uri, "PKCS11" <> binary_part(uri, 6, byte_size(uri) - 6), to_charlist(uri)] ++ parsed,
        call <- [
          &Cryptoki.sign(&1, key, :ecdsa_sha256, ""),
          &Cryptoki.digest(&1, {:concatenate_base_and_key, key: key}, ""),
          &Cryptoki.wrap_key(&1, [label: "aes"], :aes_key_wrap, key),
          &Cryptoki.encrypt(&1, [label: "aes"], :aes_ecb, "", sign: {key, :aes_cmac}),
          &Cryptoki.decrypt(&1, [label: "aes"], :aes_ecb, "", verify: {key, :aes_cmac, ""}),
          &Cryptoki.with_session(&1, fn session ->
            Cryptoki.start(session, :sign, key, :ecdsa_sha256)
          end)
        ] do
      assert {:error, %Error{reason: :unsupported, executed: false} = error} = call.(hsm)
      assert Exception.message(error) =~ "stays on its node"
      refute inspect(error) =~ "1234"
    end

    for uri <- ["pkcs11:object=ec?pin-source=/nowhere", ~c"pkcs11:object=ec"],
        do: assert({:ok, _} = Cryptoki.sign(hsm, uri, :ecdsa_sha256, "data"))

    # What is signed is no selector, and it is what it was.
    assert {:ok, _} = Cryptoki.sign(hsm, [label: "ec"], :ecdsa_sha256, "pkcs11:")
    empty_mailbox()
  end

  test "a PIN among the options of a lazy stream is sent to nobody", %{hsm: hsm} do
    me = self()
    cbc = {:aes_cbc_pad, iv: <<0::128>>}

    pid =
      spawn(fn ->
        receive(do: (:go -> :ok))
        stream = Cryptoki.encrypt_stream(hsm, [label: "aes"], cbc, ["x"], pin: "1234")
        error = assert_raise Error, fn -> Enum.to_list(stream) end
        send(me, {:raised, error})
      end)

    :erlang.trace(pid, true, [:send])
    send(pid, :go)
    assert_receive {:raised, %Error{reason: :unsupported} = error}
    assert Exception.message(error) =~ "stays on its node"
    sent = sent(pid)
    refute inspect(for(message <- sent, not match?({:raised, _}, message), do: message)) =~ "pin"
  end

  # What it has sent until it ended.
  defp sent(pid) do
    receive do
      {:trace, ^pid, _send, message, _to} -> [message | sent(pid)]
    after
      0 -> []
    end
  end

  test "another timeout there than the one that is known" do
    {peer, node} = Cluster.start()
    module = FaultyModule.new()
    hsm = {@name, node}

    options = FaultyModule.options(module, name: @name, sessions: 1, timeout: 120_000)
    {:ok, _} = :peer.call(peer, Panics, :start, [options], 120_000)
    await(fn -> match?({:ok, <<_>>}, Cryptoki.random(hsm, 1)) end)
    # As if it had been started anew since.
    Instances.put(@name, {:there, node}, 1)
    # Longer than what is known, and what that is waited for longer.
    FaultyModule.control(module, "C_GenerateRandom delay=2000")
    assert {:error, %Error{reason: :timeout, executed: :maybe}} = Cryptoki.random(hsm, 1)
    assert {:ok, <<_>>} = Cryptoki.random(hsm, 1)
    empty_mailbox()
  end

  test "a name that is gone, and a session that is refused", %{node: node} do
    gone = {:via, __MODULE__.Gone, node}

    for call <- [&Cryptoki.random(&1, 1), &Cryptoki.with_session(&1, fn _ -> flunk("one") end)] do
      Process.delete(__MODULE__.Gone)
      assert {:error, %Error{reason: :shutdown}} = call.(gone)
    end

    # What raises there has no host any more.
    hosts = fn -> length(hosts(node)) end
    before = hosts.()
    # A verb there as any other.
    verb = {String, :to_integer, ["there"]}
    assert_raise ArgumentError, fn -> Elsewhere.take(node, @name, %{}, verb) end
    await(fn -> hosts.() <= before end)
    empty_mailbox()
  end

  # A registry whose name goes after the first look.
  defmodule Gone do
    def whereis_name(node) do
      case Process.put(__MODULE__, true) do
        nil -> :erpc.call(node, :erlang, :whereis, [Cryptoki.NodesKnownTest.HSM])
        true -> :undefined
      end
    end
  end

  defp hosts(node) do
    for pid <- :erpc.call(node, :erlang, :processes, []),
        {:current_function, {Elsewhere.Host, _, _}} <-
          [:erpc.call(node, :erlang, :process_info, [pid, :current_function])],
        do: pid
  end

  describe "telemetry" do
    setup do
      Code.require_file("test/support/telemetry.exs")
      apply(:telemetry, :start, [])

      on_exit(fn ->
        :code.purge(:telemetry)
        :code.delete(:telemetry)
        Code.unrequire_files([Path.expand("test/support/telemetry.exs")])
      end)
    end

    test "measures what is there, here", %{hsm: hsm} do
      forward = fn event, measured, metadata, to -> send(to, {event, measured, metadata}) end
      :ok = apply(:telemetry, :attach_many, ["test", [[:cryptoki, :status]], forward, self()])
      assert :ok = Cryptoki.Telemetry.measure(hsm)

      assert_received {[:cryptoki, :status], %{open: 2, queue: 0},
                       %{instance: ^hsm, state: :ready, health: _}}

      assert :ok = Cryptoki.Telemetry.measure({@name, :gone@nowhere})
      refute_received {[:cryptoki, :status], _, _}
    end
  end
end
