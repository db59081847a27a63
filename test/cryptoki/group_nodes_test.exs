defmodule Cryptoki.GroupNodesTest do
  # Members on other nodes, by name and by :pg; nodes that go and come. There is no leader: each node has its group.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Group}
  alias Cryptoki.Test
  alias Cryptoki.Test.{Cluster, MainToken, Panics}

  @here __MODULE__.Here
  @there __MODULE__.There
  @group __MODULE__.Group
  @alone __MODULE__.Alone

  setup_all do
    Cluster.join()
    {peer, node} = Cluster.start()
    options = MainToken.own(name: @there, sessions: 2, timeout: 20_000)
    {:ok, _hsm} = :peer.call(peer, Panics, :start, [options], :infinity)
    start_supervised!({Cryptoki, MainToken.own(name: @here, sessions: 2, timeout: 20_000)})
    key = Test.Group.key()
    for hsm <- [@here, {@there, node}], do: {:ok, _} = Test.Group.import_key(hsm, key, "invoice")
    %{peer: peer, node: node, key: key}
  end

  defp start(members, more \\ []) do
    options = [name: @group, members: members, reconnect: [min: 20, max: 100], timeout: 60_000]
    start_supervised!({Group, Keyword.merge(options, more)})
  end

  defp sign(data \\ "data", opts \\ []),
    do: Cryptoki.sign(@group, [label: "invoice"], :ecdsa_sha256, data, [format: :der] ++ opts)

  defp of(member) do
    {:ok, status} = Group.status(@group)
    Test.Group.of(status, member)
  end

  defp both(member, key) do
    before = {of(@here).calls, of(member).calls}

    await(fn ->
      several(key)
      of(@here).calls > elem(before, 0) + 5 and of(member).calls > elem(before, 1) + 5
    end)
  end

  # At once: of one call after the other each goes to whoever is faster.
  defp several(key) do
    signing = for _ <- 1..8, do: Task.async(fn -> sign() end)

    for answer <- Task.await_many(signing, :infinity) do
      {:ok, signature} = answer
      assert Test.Group.valid?(signature, "data", key)
    end
  end

  test "a member of another node takes its share; a node that is away is a member that is away",
       context do
    %{node: node, key: key} = context
    there = {@there, node}
    start([@here, there], writes: there)
    await(fn -> of(there).state != :out end)
    both(there, key)

    # A PIN of the call stays here, and so does the call.
    calls = of(there).calls
    for _ <- 1..10, do: _ = sign("data", pin: fn -> Test.SoftHSM.pin() end)
    assert of(there).calls == calls

    # Also when there is no other member: then nobody is asked.
    options = [name: @alone, members: [there], timeout: 60_000]
    start_supervised!(Supervisor.child_spec({Group, options}, id: @alone))
    Test.Group.await(@alone, &match?(%{in: 1}, &1))
    pin = [pin: fn -> flunk("asked") end]

    assert {:error, %Error{reason: :shutdown, executed: false}} =
             Cryptoki.sign(@alone, [label: "invoice"], :ecdsa_sha256, "data", pin)

    {:ok, status} = Group.status(@alone)
    assert %{calls: 0} = Test.Group.of(status, there)

    # A session and its keys are there.
    Cryptoki.with_session(@alone, fn session ->
      {:ok, signature} =
        Cryptoki.sign(session, [label: "invoice"], :ecdsa_sha256, "data", format: :der)

      assert Test.Group.valid?(signature, "data", key)
      assert inspect(session) =~ "There"
    end)

    :ok = stop_supervised(@alone)

    {:ok, made} =
      Cryptoki.generate_key(@group, :aes_key_gen, label: "kek", value_len: 32, token: true)

    assert {:ok, [_]} = Cryptoki.find(there, label: "kek")
    assert :ok = Cryptoki.destroy(@group, made)

    assert {:ok, %{differences: [], same: 2, unreachable: none}} =
             Group.compare(@group, label: "invoice")

    assert none == %{}

    # What was under way may say that it may have been executed; what comes after it does not fail.
    # With another cookie it does not come back by itself before anybody has seen it away.
    true = :erlang.set_cookie(node, :another)
    true = Node.disconnect(node)
    await(fn -> sign() && match?(%{state: :out, reason: %Error{}}, of(there)) end)
    assert %Error{reason: :node_down} = of(there).reason
    for _ <- 1..20, do: assert({:ok, _} = sign())

    # A node that hangs is no different, and comes back.
    true = :erlang.set_cookie(node, Node.get_cookie())
    true = Node.connect(node)
    await(fn -> sign() && of(there).state == :in end)
    both(there, key)
  end

  test "instances join and leave by :pg, under load", %{peer: peer, node: node, key: key} do
    scope = __MODULE__.Scope
    start_supervised!(%{id: scope, start: {:pg, :start_link, [scope]}})
    {:ok, _pid} = :peer.call(peer, :pg, :start, [scope], :infinity)
    here = Process.whereis(@here)
    there = :peer.call(peer, :erlang, :whereis, [@there])
    start({:pg, scope, :hsms})
    assert {:error, %Error{reason: :shutdown, executed: false}} = sign()

    :ok = :pg.join(scope, :hsms, here)
    await(fn -> match?({:ok, _}, sign()) end)

    {counts, :ok} =
      Cluster.load_while(@group, fn ->
        :ok = :peer.call(peer, :pg, :join, [scope, :hsms, there])
        await(fn -> match?({:ok, %{in: 2}}, Group.status(@group)) end)

        await(fn ->
          several(key)
          of(here).calls > 5 and of(there).calls > 5
        end)

        assert node(there) == node
        :ok = :peer.call(peer, :pg, :leave, [scope, :hsms, there])
        await(fn -> match?({:ok, %{members: [_]}}, Group.status(@group)) end)
      end)

    assert Map.keys(counts) == [:ok]
    for _ <- 1..10, do: assert({:ok, _} = sign())
  end
end
