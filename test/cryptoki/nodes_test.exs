defmodule Cryptoki.NodesTest do
  # Instances of other nodes: {name, node} in the place of a name.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{Cluster, MainToken, Panics}

  @name __MODULE__.HSM
  @cbc {:aes_cbc_pad, iv: <<0::128>>}

  setup_all do
    Cluster.join()
    {peer, node} = Cluster.start()
    options = MainToken.own(name: @name, sessions: 2, timeout: 20_000)
    {:ok, _hsm} = :peer.call(peer, Panics, :start, [options])
    hsm = {@name, node}

    {:ok, aes} =
      Cryptoki.generate_key(hsm, :aes_key_gen,
        value_len: 16,
        label: "aes",
        token: true,
        encrypt: true,
        decrypt: true
      )

    {:ok, {public, private}} =
      Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen,
        label: "ec",
        id: <<1>>,
        curve: :secp256r1,
        token: true,
        sign: true,
        verify: true
      )

    %{
      peer: peer,
      node: node,
      hsm: hsm,
      options: options,
      aes: aes,
      public: public,
      private: private
    }
  end

  # Nothing that is of no call is left in the mailbox of whoever calls.
  setup do
    {:messages, []} = Process.info(self(), :messages)
    :ok
  end

  defp empty_mailbox, do: assert({:messages, []} == Process.info(self(), :messages))

  describe "a verb" do
    test "answers what it answers there", %{hsm: hsm, private: private} do
      assert {:ok, %{state: :ready, token: %{slot: _}}} = Cryptoki.status(hsm)
      assert {:ok, <<_::256>>} = Cryptoki.random(hsm, 32)

      assert {:ok, signature} =
               Cryptoki.sign(hsm, [label: "ec"], :ecdsa_sha256, "data", format: :der)

      {:ok, public} = Cryptoki.public_key(hsm, private)
      assert :public_key.verify("data", :sha256, signature, public)

      assert :ok =
               Cryptoki.verify(hsm, [label: "ec"], :ecdsa_sha256, "data", signature, format: :der)

      refute Cryptoki.valid?(hsm, [label: "ec"], :ecdsa_sha256, "other", signature, format: :der)
      assert {:ok, text} = Cryptoki.encrypt(hsm, [label: "aes"], @cbc, "text")
      assert Cryptoki.decrypt!(hsm, [label: "aes"], @cbc, text) == "text"

      assert {:error, %Error{reason: :key_not_found}} =
               Cryptoki.sign(hsm, [label: "no"], :ecdsa, "")

      assert_raise Error, fn -> Cryptoki.sign!(hsm, [label: "no"], :ecdsa, "") end
      empty_mailbox()
    end

    test "is the same from Erlang", %{hsm: hsm} do
      assert {:ok, <<_::64>>} = :cryptoki.random(hsm, 8)
      assert {:ok, [_, _]} = :cryptoki.find(hsm, %{label: "ec"})

      assert {:error, {:key_not_found, %{executed: false}}} =
               :cryptoki.find_one(hsm, %{label: "no"})

      assert_raise ArgumentError, fn -> :cryptoki.sign(hsm, %{lable: "ec"}, :ecdsa, "") end

      assert {:error, {:node_down, %{executed: false}}} =
               :cryptoki.random({@name, :gone@nowhere}, 1)
    end

    test "is refused for a mistake as it is here", %{hsm: hsm} do
      for call <- [
            &Cryptoki.random(&1, -1),
            &Cryptoki.random(&1, 1, timout: 1),
            &Cryptoki.sign(&1, [lable: "ec"], :ecdsa, ""),
            &Cryptoki.find(&1, "pkcs11:no")
          ] do
        there = assert_raise ArgumentError, fn -> call.(hsm) end
        here = assert_raise ArgumentError, fn -> call.(:nobody) end
        assert Exception.message(there) == Exception.message(here)
      end
    end

    test "finds it by pid and by global name", %{peer: peer, node: node} do
      pid = :peer.call(peer, :erlang, :whereis, [@name])
      assert node(pid) == node
      assert {:ok, <<_>>} = Cryptoki.random(pid, 1)
      assert {:ok, <<_>>} = Cryptoki.random(pid, 1, timeout: 5_000)
      :yes = :global.register_name(@name, pid)
      assert {:ok, <<_>>} = Cryptoki.random({:global, @name}, 1)
      :global.unregister_name(@name)
    end

    test "is what certificates and messages are made by", %{hsm: hsm, private: private} do
      {:ok, public} = Cryptoki.public_key(hsm, private)
      assert {:ok, jws} = Cryptoki.JWS.sign(hsm, [label: "ec"], "payload")
      assert {:ok, _} = Cryptoki.JWS.verify(hsm, [label: "ec"], jws)

      assert {:ok, der} = Cryptoki.X509.self_signed(hsm, private, subject: "/CN=there")
      assert :public_key.pkix_verify(der, public)
      assert {:ok, _} = Cryptoki.SSH.public_key(hsm, private)
    end

    test "of what does not run there", %{node: node} do
      assert {:error, %Error{reason: :shutdown, executed: false}} =
               Cryptoki.random({:nobody, node}, 1)

      assert :ok = Cryptoki.stop({:nobody, node})
      empty_mailbox()
    end

    test "tells the caller, not who ran it, of the token", %{hsm: hsm} do
      {:ok, ref} = Cryptoki.subscribe(hsm)
      assert :ok = Cryptoki.unsubscribe(hsm, ref)
      empty_mailbox()
    end
  end

  describe "a key" do
    test "of there is used there", %{hsm: hsm, aes: aes} do
      assert {:ok, text} = Cryptoki.encrypt(hsm, aes, @cbc, "text")
      assert {:ok, "text"} = Cryptoki.decrypt(hsm, aes, @cbc, text)
      {:ok, session_key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16, encrypt: true)
      assert {:ok, _} = Cryptoki.encrypt(hsm, session_key, @cbc, "text")
    end

    # Its number may be that of another object here.
    test "of there is looked for by what identifies it here", %{options: options} = context do
      {:ok, here} = Cryptoki.start_link(Keyword.delete(options, :name))
      {:ok, public} = Cryptoki.find_one(here, label: "ec", class: :public_key)
      {number, _life, _generation} = context.private.handle

      # Numbers that are good here, of another key.
      forged = %{context.private | handle: public.handle}
      {:ok, signature} = Cryptoki.sign(here, forged, :ecdsa_sha256, "data")
      assert :ok = Cryptoki.verify(context.hsm, context.public, :ecdsa_sha256, "data", signature)
      assert is_integer(number)

      {:ok, session_key} =
        Cryptoki.generate_key(context.hsm, :aes_key_gen,
          value_len: 16,
          label: "of session",
          encrypt: true,
          token: false
        )

      {:ok, own} =
        Cryptoki.generate_key(here, :aes_key_gen,
          value_len: 16,
          label: "of session",
          encrypt: true
        )

      for handle <- [session_key.handle, own.handle] do
        assert {:error, %Error{reason: :key_not_found} = error} =
                 Cryptoki.encrypt(here, %{session_key | handle: handle}, @cbc, "text")

        assert error.detail =~ "of another node"
      end

      Cryptoki.stop(here)
    end
  end

  describe "a secret" do
    test "stays on its node", %{hsm: hsm} do
      for call <- [
            &Cryptoki.sign(&1, [label: "ec"], :ecdsa_sha256, "", pin: "1234"),
            &Cryptoki.sign(&1, [label: "ec"], :ecdsa_sha256, "", %{pin: fn -> flunk("asked") end}),
            &Cryptoki.sign(&1, [label: "ec"], :ecdsa_sha256, {:stream, ["1"]}, pin: "1234"),
            &Cryptoki.unlock(&1, "1234"),
            &Cryptoki.unlock(&1, fn -> "1234" end),
            &Cryptoki.import_key(&1, "pem", [label: "x"], password: "1234"),
            &Cryptoki.JWS.sign(&1, [label: "ec"], "x", pin: "1234")
          ] do
        assert {:error, %Error{reason: :unsupported, executed: false} = error} = call.(hsm)
        assert Exception.message(error) =~ ~r/stays on its node|does not leave its node/
        refute inspect(error) =~ "1234"
      end

      assert :ok = Cryptoki.unlock(hsm, {:env, "CRYPTOKI_NO_SUCH_PIN"})
      assert :ok = Cryptoki.unlock(hsm, &System.pid/0)
    end
  end

  describe "a stream" do
    test "is read here and goes there", %{hsm: hsm} do
      me = self()

      chunks =
        Stream.map(1..40, fn n ->
          ^me = self()
          :binary.copy(<<n>>, 10_000)
        end)

      whole = Enum.join(chunks)
      assert {:ok, text} = Cryptoki.encrypt(hsm, [label: "aes"], @cbc, {:stream, chunks})
      assert {:ok, ^whole} = Cryptoki.decrypt(hsm, [label: "aes"], @cbc, {:stream, [text]})

      lazy = Cryptoki.encrypt_stream(hsm, [label: "aes"], @cbc, chunks)
      assert Enum.join(lazy) == text
      assert hsm |> Cryptoki.decrypt_stream([label: "aes"], @cbc, lazy) |> Enum.join() == whole
      assert {:ok, digest} = Cryptoki.digest(hsm, :sha256, {:stream, chunks})
      assert digest == :crypto.hash(:sha256, whole)

      assert {:ok, signature} =
               Cryptoki.sign(hsm, [label: "ec"], :ecdsa_sha256, {:stream, chunks})

      assert :ok =
               Cryptoki.verify(hsm, [label: "ec"], :ecdsa_sha256, {:stream, chunks}, signature)

      assert [_] = hsm |> Cryptoki.stream(label: "aes") |> Enum.to_list()
      empty_mailbox()
    end

    test "that raises gives its session back", %{hsm: hsm} do
      for _ <- 1..5 do
        chunks =
          Stream.map(1..40, fn n ->
            if(n == 30, do: raise("mine"), else: :binary.copy(<<n>>, 10_000))
          end)

        assert_raise RuntimeError, "mine", fn ->
          Cryptoki.digest(hsm, :sha256, {:stream, chunks})
        end

        lazy = Cryptoki.encrypt_stream(hsm, [label: "aes"], @cbc, chunks)
        assert_raise RuntimeError, "mine", fn -> Enum.to_list(lazy) end

        assert [_] =
                 Enum.take(
                   Cryptoki.encrypt_stream(
                     hsm,
                     [label: "aes"],
                     @cbc,
                     Stream.cycle([:binary.copy("x", 70_000)])
                   ),
                   1
                 )
      end

      await(fn -> match?({:ok, %{sessions: %{busy: 0}}}, Cryptoki.status(hsm)) end)
      empty_mailbox()
    end
  end

  describe "a session" do
    test "is there, its function here", %{hsm: hsm, aes: aes, node: node} do
      me = self()

      assert :done =
               Cryptoki.with_session(hsm, fn session ->
                 assert self() == me
                 assert inspect(session) =~ "NodesTest"
                 {:ok, op} = Cryptoki.start(session, :digest, :sha256)
                 assert inspect(op) =~ "digest"
                 :ok = Operation.update(op, ["a", ["b" | "c"]])
                 {:ok, digest} = Operation.finish(op)
                 assert digest == :crypto.hash(:sha256, "abc")

                 assert {:error, %Error{reason: :operation_not_initialized}} =
                          Operation.finish(op)

                 {:ok, op} = Cryptoki.start(session, :encrypt, aes, @cbc)
                 {:ok, one} = Operation.update(op, String.duplicate("x", 20))
                 {:ok, two} = Operation.finish(op)
                 assert {:ok, text} = Cryptoki.decrypt(session, aes, @cbc, one <> two)
                 assert text == String.duplicate("x", 20)
                 {:ok, op} = Cryptoki.start(session, :digest, :sha256)
                 assert :ok = Operation.cancel(op)
                 assert {:ok, %{state: _}} = Cryptoki.session_info(session)
                 assert {:ok, <<_>>} = Cryptoki.with_session(session, &Cryptoki.random(&1, 1))

                 Task.async(fn ->
                   assert_raise ArgumentError, ~r/belongs to/, fn ->
                     Cryptoki.random(session, 1)
                   end
                 end)
                 |> Task.await(60_000)

                 send(me, {:session, session})
                 :done
               end)

      assert_received {:session, session}

      assert {:error, %Error{reason: :session_lost, executed: executed}} =
               Cryptoki.random(session, 1)

      assert executed in [false, :maybe]
      assert is_atom(node)
      empty_mailbox()
    end

    test "ends with its caller", %{hsm: hsm} do
      me = self()

      callers =
        for _ <- 1..2 do
          spawn(fn ->
            Cryptoki.with_session(hsm, fn _session ->
              send(me, :holds)
              receive do: (:never -> :ok)
            end)
          end)
        end

      for _ <- callers, do: assert_receive(:holds)

      assert {:error, %Error{reason: :timeout, executed: false}} =
               Cryptoki.random(hsm, 1, timeout: 50)

      for pid <- callers, do: Process.exit(pid, :kill)
      assert {:ok, <<_>>} = Cryptoki.random(hsm, 1)
      empty_mailbox()
    end
  end

  test "another version there is refused, and none" do
    folder = Path.join(System.tmp_dir!(), "cryptoki-other-#{System.unique_integer([:positive])}")
    ebin = Path.join(folder, "cryptoki/ebin")
    File.mkdir_p!(ebin)
    on_exit(fn -> File.rm_rf!(folder) end)
    app = :cryptoki |> Application.app_dir("ebin/cryptoki.app") |> File.read!()

    File.write!(
      Path.join(ebin, "cryptoki.app"),
      String.replace(app, ~r/\{vsn,"[^"]+"\}/, ~s({vsn,"99.0.0"}))
    )

    {_peer, other} = Cluster.start([ebin])

    assert {:error, %Error{reason: :unsupported, executed: false} = error} =
             Cryptoki.random({@name, other}, 1)

    assert Exception.message(error) =~ "cryptoki is 99.0.0 on #{other} and "

    {:error, error} = Cryptoki.with_session({@name, other}, fn _ -> flunk("a session") end)
    assert error.reason == :unsupported

    args = [~c"-setcookie", Atom.to_charlist(Node.get_cookie())]
    name = ~c"bare-#{System.unique_integer([:positive])}"

    {:ok, peer, bare} =
      :peer.start_link(%{
        name: name,
        host: ~c"127.0.0.1",
        longnames: true,
        connection: :standard_io,
        # Nor on a path of the environment's.
        env: [{~c"ERL_LIBS", ~c""}],
        args: args
      })

    assert {:error, %Error{reason: :unsupported, executed: false} = error} =
             Cryptoki.random({@name, bare}, 1)

    assert Exception.message(error) =~ "there is no cryptoki on #{bare}"
    :peer.stop(peer)
    empty_mailbox()
  end

  describe "a node that is away" do
    test "is an error that says what is known" do
      for call <- calls() do
        assert {:error, %Error{reason: :node_down, executed: false} = error} =
                 call.({@name, :"gone@127.0.0.1"})

        assert Exception.message(error) =~ "gone@127.0.0.1: it cannot be reached"
      end

      assert_raise Error, fn ->
        Cryptoki.valid?({@name, :"gone@127.0.0.1"}, [label: "ec"], :ecdsa, "", "")
      end

      assert_raise Error, fn -> Enum.to_list(Cryptoki.stream({@name, :"gone@127.0.0.1"}, [])) end
      empty_mailbox()
    end

    test "in the middle: nobody knows, and the deadline holds" do
      {peer, node} = Cluster.start()
      options = MainToken.own(name: @name, sessions: 1)
      {:ok, _} = :peer.call(peer, Panics, :start, [options])
      hsm = {@name, node}
      assert {:ok, _} = Cryptoki.random(hsm, 1)
      pid = :peer.call(peer, :os, :getpid, [])
      Cluster.signal(pid, "STOP")

      assert {:error, %Error{reason: :timeout, executed: :maybe}} =
               Cryptoki.random(hsm, 1, timeout: 100)

      task = Task.async(fn -> {Cryptoki.random(hsm, 1), Process.info(self(), :messages)} end)
      Cluster.signal(pid, "KILL")

      assert {{:error, %Error{reason: :node_down, executed: executed}}, {:messages, []}} =
               Task.await(task, 30_000)

      # It may have been started before the node was seen to be gone, or after.
      assert executed in [:maybe, false]
      assert {:error, %Error{reason: :node_down, executed: false}} = Cryptoki.random(hsm, 1)
      empty_mailbox()
    end
  end

  # Three nodes, of which this one has no token; each calls the tokens of the others.
  test "nodes leave, join and are cut off under load", %{peer: one, node: first, hsm: hsm} do
    {two, second} = Cluster.start()
    options = MainToken.own(name: @name, sessions: 2)
    {:ok, _} = :peer.call(two, Panics, :start, [options])
    other = {@name, second}
    time = 3_000

    callers =
      for {load, hsm} <- [
            {&Cluster.load/2, hsm},
            {&Cluster.load/2, other},
            {&:peer.call(one, Cluster, :load, [&1, &2], 60_000), other},
            {&:peer.call(two, Cluster, :load, [&1, &2], 60_000), hsm}
          ],
          do: Task.async(fn -> Cluster.until_answered(fn -> load.(hsm, time) end) end)

    Cluster.cut(10, {one, first}, {two, second})

    outcomes = Task.await_many(callers, 60_000)
    for counts <- outcomes, do: assert(counts.ok > 0 and Map.keys(counts) -- known() == [])
    assert Enum.any?(outcomes, &(Map.keys(&1) != [:ok]))

    # What was begun over a connection that was cut has ended.
    for there <- [hsm, other],
        do: await(fn -> match?({:ok, %{sessions: %{busy: 0}}}, Cryptoki.status(there)) end)

    # It leaves, and another joins with the same token, while calls go on.
    task = Task.async(Cluster, :load, [other, 1_000])
    Cluster.stop(two)
    counts = Task.await(task, 30_000)
    assert Map.keys(counts) -- known() == [] and Map.has_key?(counts, {:node_down, false})

    {counts, third} =
      Cluster.load_while(hsm, fn ->
        {three, third} = Cluster.start()
        {:ok, _} = :peer.call(three, Panics, :start, [options])
        assert %{ok: _} = :peer.call(three, Cluster, :load, [hsm, 100], 60_000)
        third
      end)

    assert Map.keys(counts) == [:ok]
    assert %{ok: _} = Cluster.load({@name, third}, 100)
    empty_mailbox()
  end

  defp known do
    for reason <- [:node_down, :session_lost, :timeout],
        executed <- [false, :maybe],
        reduce: [:ok] do
      known -> [{reason, executed} | known]
    end
  end

  defp calls do
    [
      &Cryptoki.status/1,
      &Cryptoki.stop/1,
      &Cryptoki.subscribe/1,
      &Cryptoki.slots/1,
      &Cryptoki.unlock(&1, {:env, "X"}),
      &Cryptoki.random(&1, 1, timeout: 5_000),
      &Cryptoki.find(&1, label: "x"),
      &Cryptoki.digest(&1, :sha256, {:stream, ["x"]}),
      &Cryptoki.with_session(&1, fn _ -> flunk("no session") end)
    ]
  end
end
