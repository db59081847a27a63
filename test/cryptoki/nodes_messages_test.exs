defmodule Cryptoki.NodesMessagesTest do
  # Messages about tokens of other nodes: as long as there is a connection, to whoever asked for them, and to nobody
  # who has not, or not any more.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.Elsewhere.Host
  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Test.{Cluster, FaultyModule, Panics}

  @name __MODULE__.HSM
  @soon 30_000

  setup_all do
    Cluster.join()
    :ok
  end

  setup do
    {:messages, []} = Process.info(self(), :messages)
    {peer, node} = Cluster.start()
    module = FaultyModule.new()
    options = [name: @name, sessions: 1, timeout: 60_000, reconnect: [min: 1, max: 50]]
    {:ok, _hsm} = start(peer, module, options)
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{peer: peer, node: node, module: module, hsm: {@name, node}, options: options}
  end

  defp start(peer, module, options) do
    options = FaultyModule.options(module, options)
    :peer.call(peer, Panics, :start, [options], :infinity)
  end

  defp empty_mailbox, do: assert({:messages, []} == Process.info(self(), :messages))

  defp server(peer) do
    hsm = :peer.call(peer, :erlang, :whereis, [@name])
    :peer.call(peer, Instances, :get, [hsm, :server])
  end

  defp subscribers(peer), do: :peer.call(peer, :sys, :get_state, [server(peer)]).watch.subscribers

  # The token is pulled and put back; each subscription tells it once.
  defp pulled(%{module: module}, refs) do
    FaultyModule.control(module, "token remove")

    for ref <- refs do
      assert_receive {:cryptoki, ^ref, {:token_removed, %{label: _, slot: _}}}, @soon
      assert_receive {:cryptoki, ^ref, {:state, :absent, %Error{}}}, @soon
    end

    FaultyModule.control(module, "")

    for ref <- refs do
      assert_receive {:cryptoki, ^ref, {:token_inserted, %{label: _, slot: _}}}, @soon
      assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}, @soon
    end
  end

  # Away for both sides, until `fun` has ended; with another cookie nothing connects them again.
  defp cut(%{node: node, peer: peer}, fun) do
    true = :erlang.set_cookie(node, :another)
    true = Node.disconnect(node)
    await(fn -> node() not in :peer.call(peer, :erlang, :nodes, []) end)
    answer = fun.()
    true = :erlang.set_cookie(node, Node.get_cookie())
    true = Node.connect(node)
    answer
  end

  # The connection was lost and is there again, and the other side knows it first.
  test "nothing is answered to a caller that is taken for gone, in the middle of its stream",
       context do
    caller = spawn(fn -> receive do: (:never -> :ok) end)
    host = :erpc.call(context.node, Host, :start, [caller])
    ref = :erlang.monitor(:process, host, alias: :explicit_unalias)
    verb = {Cryptoki, :digest, [@name, :sha256, {:stream, :elsewhere}]}
    send(host, {:run, ref, verb})
    assert_receive {^ref, {:piece, _question, :first}}, @soon
    Process.exit(caller, :kill)
    assert_receive {:DOWN, ^ref, :process, ^host, :normal}, @soon
    empty_mailbox()
  end

  test "come over the connection, to each who asked, until there is no subscription", context do
    {:ok, one} = Cryptoki.subscribe(context.hsm)
    {:ok, two} = Cryptoki.subscribe(context.hsm)
    pulled(context, [one, two])
    assert :ok = Cryptoki.unsubscribe(context.hsm, one)
    pulled(context, [two])
    FaultyModule.control(context.module, "token remove")
    await(fn -> match?({:ok, %{state: :absent}}, Cryptoki.status(context.hsm)) end)
    # What is in the mailbox by now does not stay there.
    assert :ok = Cryptoki.unsubscribe(context.hsm, two)
    assert subscribers(context.peer) == %{}
    empty_mailbox()
  end

  test "end with the connection, which says nothing of it; a new subscription tells again",
       context do
    {:ok, old} = Cryptoki.subscribe(context.hsm)

    cut(context, fn ->
      await(fn -> subscribers(context.peer) == %{} end)
      FaultyModule.control(context.module, "token remove")
      # Nobody looks any more: a call sees it.
      assert {:error, %Error{}} = :peer.call(context.peer, Cryptoki, :random, [@name, 1])
      assert {:error, %Error{reason: :node_down}} = Cryptoki.subscribe(context.hsm)
      empty_mailbox()
    end)

    FaultyModule.control(context.module, "")
    await(fn -> match?({:ok, <<_>>}, Cryptoki.random(context.hsm, 1)) end)
    {:ok, new} = Cryptoki.subscribe(context.hsm)
    pulled(context, [new])
    refute_received {:cryptoki, ^old, _event}
    # The old one is none any more, and ending it harms nobody.
    assert :ok = Cryptoki.unsubscribe(context.hsm, old)
    pulled(context, [new])
    assert :ok = Cryptoki.unsubscribe(context.hsm, new)
    empty_mailbox()
  end

  test "what has come before the connection was lost is gone with the subscription", context do
    {:ok, ref} = Cryptoki.subscribe(context.hsm)
    FaultyModule.control(context.module, "token remove")
    await(fn -> match?({:ok, %{state: :absent}}, Cryptoki.status(context.hsm)) end)
    # It came before the answer.
    assert {:messages, [_ | _]} = Process.info(self(), :messages)

    cut(context, fn ->
      assert {:error, %Error{reason: :node_down}} = Cryptoki.unsubscribe(context.hsm, ref)
      empty_mailbox()
    end)
  end

  test "end with the node; the one that comes in its place is asked anew", context do
    {:ok, ref} = Cryptoki.subscribe(context.hsm)
    Cluster.stop(context.peer)
    assert {:error, %Error{reason: :node_down}} = Cryptoki.subscribe(context.hsm)
    assert {:error, %Error{reason: :node_down}} = Cryptoki.unsubscribe(context.hsm, ref)
    empty_mailbox()

    {peer, node} = Cluster.start()
    {:ok, _hsm} = start(peer, context.module, context.options)
    {:ok, ref} = Cryptoki.subscribe({@name, node})
    pulled(context, [ref])
    assert :ok = Cryptoki.unsubscribe({@name, node}, ref)
    empty_mailbox()
  end

  test "of a subscription that was given up, but was made, none comes", context do
    %{peer: peer, hsm: hsm} = context
    :ok = :peer.call(peer, Cryptoki, :stop, [@name])
    options = Keyword.put(context.options, :timeout, 1_000)
    module = FaultyModule.beside(context.module)
    {:ok, _hsm} = start(peer, module, options)
    server = server(peer)
    :ok = :peer.call(peer, :sys, :suspend, [server])
    me = self()

    asking =
      Task.async(fn ->
        answer = Cryptoki.subscribe(hsm)
        send(me, :given_up)
        receive(do: (:look -> :ok))
        {answer, Process.info(self(), :messages)}
      end)

    length = fn ->
      {:message_queue_len, length} =
        :peer.call(peer, :erlang, :process_info, [server, :message_queue_len])

      length
    end

    await(fn -> length.() > 0 end)
    # News between the question, and that it is asked no more.
    before = length.()
    FaultyModule.control(module, "token remove")
    assert {:error, %Error{}} = :peer.call(peer, Cryptoki, :random, [@name, 1])
    await(fn -> length.() > before end)
    assert_receive :given_up, @soon
    :ok = :peer.call(peer, :sys, :resume, [server])
    await(fn -> subscribers(peer) == %{} end)
    send(asking.pid, :look)
    assert {{:error, %Error{reason: :timeout}}, {:messages, []}} = Task.await(asking, @soon)
    empty_mailbox()
  end
end
