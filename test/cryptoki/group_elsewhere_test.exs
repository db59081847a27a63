defmodule Cryptoki.GroupElsewhereTest do
  # Groups of other nodes, {group, node} in the place of a name; and a cluster of three nodes with a group on each, two
  # tokens, and connections that are cut.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Group, Operation}
  alias Cryptoki.Test
  alias Cryptoki.Test.{Cluster, MainToken, Panics}

  @hsm __MODULE__.HSM
  @group __MODULE__.Group
  @cluster __MODULE__.Cluster
  @invoice [label: "invoice"]
  @cbc {:aes_cbc_pad, iv: <<0::128>>}

  setup_all do
    Cluster.join()
    key = Test.Group.key()
    others = [Test.Group.key(), Test.Group.key()]

    nodes =
      for other <- others do
        {peer, node} = Cluster.start()
        options = MainToken.own(name: @hsm, sessions: 2, timeout: 20_000)
        {:ok, _hsm} = :peer.call(peer, Panics, :start, [options], :infinity)
        {:ok, _} = Test.Group.import_key({@hsm, node}, key, "invoice")
        {:ok, _} = Test.Group.import_key({@hsm, node}, other, "differs")
        {peer, node}
      end

    members = for {_peer, node} <- nodes, do: {@hsm, node}

    options = [
      name: @group,
      members: members,
      writes: hd(members),
      reconnect: [min: 20, max: 100]
    ]

    for {peer, _node} <- nodes,
        do: {:ok, _} = :peer.call(peer, Test.Group, :alone, [options], :infinity)

    [{one, first}, {_two, second}] = nodes
    group = {@group, first}
    await(fn -> match?({:ok, %{in: 2}}, Group.status(group)) end)

    %{
      one: one,
      nodes: [first, second],
      group: group,
      members: members,
      options: options,
      key: key,
      differs: hd(others)
    }
  end

  setup do
    {:messages, []} = Process.info(self(), :messages)
    :ok
  end

  defp empty_mailbox, do: assert({:messages, []} == Process.info(self(), :messages))

  defp sign(hsm, key \\ @invoice, data \\ "data"),
    do: Cryptoki.sign(hsm, key, :ecdsa_sha256, data, format: :der)

  test "every verb takes one, by its name and by its pid", context do
    %{one: one, group: {name, node} = group, members: [first | _] = members, key: key} = context
    pid = :peer.call(one, :erlang, :whereis, [name])

    for hsm <- [group, pid], _ <- 1..10 do
      {:ok, signature} = sign(hsm)
      assert Test.Group.valid?(signature, "data", key)
    end

    assert {:ok, <<_::64>>} = Cryptoki.random(group, 8)
    assert {:ok, <<_::64>>} = :cryptoki.random(group, 8)
    template = [label: "kek", value_len: 16, token: true, encrypt: true, decrypt: true]
    {:ok, made} = Cryptoki.generate_key(group, :aes_key_gen, template)
    assert {:ok, [_]} = Cryptoki.find(first, label: "kek")

    # With what is read here.
    chunks = for n <- 1..10, do: :binary.copy(<<n>>, 10_000)
    whole = Enum.join(chunks)
    {:ok, text} = Cryptoki.encrypt(group, [label: "kek"], @cbc, {:stream, chunks})
    assert {:ok, ^whole} = Cryptoki.decrypt(group, [label: "kek"], @cbc, {:stream, [text]})
    # On one that has the key, of which there is one.
    for _ <- 1..5 do
      assert group |> Cryptoki.encrypt_stream([label: "kek"], @cbc, chunks) |> Enum.join() == text

      assert group |> Cryptoki.decrypt_stream([label: "kek"], @cbc, [text]) |> Enum.join() ==
               whole
    end

    assert [_] = group |> Cryptoki.stream(@invoice ++ [class: :private_key]) |> Enum.to_list()
    {:ok, found} = Cryptoki.find_one(group, @invoice ++ [class: :private_key])
    for _ <- 1..5, do: assert({:ok, _} = sign(group, found))
    assert {:ok, public} = Cryptoki.public_key(group, @invoice)
    assert public == Test.Group.public(key)
    {:ok, jws} = Cryptoki.JWS.sign(group, @invoice, "payload")
    {:ok, jwk} = Cryptoki.JWK.public(group, @invoice)
    assert {:ok, _} = Cryptoki.JWS.verify({:jwks, [jwk]}, jws)
    assert :ok = Cryptoki.destroy(group, made)

    assert {:error, %Error{reason: :key_not_found, member: member}} = sign(group, label: "none")
    assert member == nil or member in members
    assert {:error, %Error{reason: :unsupported}} = Cryptoki.subscribe(group)
    assert {:error, %Error{reason: :unsupported}} = Cryptoki.unlock(group, {:env, "NO_SUCH"})
    assert_raise ArgumentError, ~r/did you mean :label/, fn -> sign(group, lable: "x") end
    assert {:error, %Error{reason: :shutdown}} = Cryptoki.random({:nobody, node}, 1)
    empty_mailbox()
  end

  test "it says of itself there what it says here", %{group: {_name, node} = group} = context do
    assert {:ok, %{state: :ready, sessions: %{wanted: 4}}} = Cryptoki.status(group)
    assert {:ok, %{in: 2, members: [_, _]}} = Group.status(group)
    assert {:ok, %{in: 2}} = :cryptoki_group.status(group)
    assert {:ok, %{differences: [], same: 2}} = Group.compare(group, @invoice)
    assert {:ok, %{differences: [_ | _]}} = :cryptoki_group.compare(group, %{label: "differs"})
    assert :ok = Group.await_key(group, @invoice, 20_000)
    assert {:error, %Error{reason: :timeout}} = Group.await_key(group, [label: "differs"], 300)
    assert {:ok, %{in: 2}} = Group.status(:peer.call(context.one, :erlang, :whereis, [@group]))

    assert {:error, %Error{reason: :shutdown} = error} = Group.status({:nobody, node})
    assert Exception.message(error) =~ "no group :nobody is running on #{node}"

    for away <- [{@group, :"gone@127.0.0.1"}],
        do: assert({:error, %Error{reason: :node_down}} = Group.compare(away))

    # What is asked for may have a PIN in it.
    uri = "pkcs11:object=invoice?pin-value=1234"
    assert {:error, %Error{reason: :unsupported} = error} = Group.compare(group, uri)
    assert Exception.message(error) =~ "stays on its node"
    empty_mailbox()
  end

  test "a session is of a member there, and takes no other key than the group", context do
    %{group: group, members: members, differs: key} = context

    for _ <- 1..20 do
      answer =
        Cryptoki.with_session(group, fn session ->
          {:ok, op} = Cryptoki.start(session, :digest, :sha256)
          :ok = Operation.update(op, "data")
          {:ok, digest} = Operation.finish(op)
          assert digest == :crypto.hash(:sha256, "data")
          sign(session, label: "differs")
        end)

      case answer do
        {:ok, signature} -> assert Test.Group.valid?(signature, "data", key)
        {:error, error} -> assert %Error{reason: :key_not_found, member: {@hsm, _}} = error
      end
    end

    assert {:error, %Error{reason: :unsupported} = error} =
             Cryptoki.with_session(
               group,
               &Cryptoki.sign(&1, @invoice, :ecdsa_sha256, "", pin: "1234")
             )

    assert Exception.message(error) =~ "stays on its node"
    assert {:error, %Error{reason: :unsupported}} = sign_with_pin(group)
    assert length(members) == 2
    empty_mailbox()
  end

  defp sign_with_pin(group),
    do: Cryptoki.sign(group, @invoice, :ecdsa_sha256, "data", pin: fn -> flunk("asked") end)

  # This node has no token; the third is of this test alone, for it leaves.
  test "nodes with groups leave, join and are cut off under load", context do
    %{one: one, nodes: [first, _], members: [member, _], key: key, options: options} = context
    {two, second} = Cluster.start()
    hsm = {@hsm, second}
    own = MainToken.own(name: @hsm, sessions: 2, timeout: 20_000)
    {:ok, _hsm} = :peer.call(two, Panics, :start, [own], :infinity)
    {:ok, _} = Test.Group.import_key(hsm, key, "invoice")
    options = Keyword.merge(options, name: @cluster, members: [member, hsm])

    for peer <- [one, two],
        do: {:ok, _} = :peer.call(peer, Test.Group, :alone, [options], :infinity)

    start_supervised!({Group, options})
    group = {@cluster, first}
    for there <- [@cluster, group], do: Test.Group.await(there, &match?(%{in: 2}, &1))
    time = 3_000

    callers =
      for {load, hsm} <- [
            {&Cluster.load/2, @cluster},
            {&Cluster.load/2, group},
            {&:peer.call(one, Cluster, :load, [&1, &2], :infinity), @cluster},
            {&:peer.call(two, Cluster, :load, [&1, &2], :infinity), group}
          ],
          do: Task.async(fn -> Cluster.until_answered(fn -> load.(hsm, time) end) end)

    Cluster.cut(5, {one, first}, {two, second})

    for counts <- Task.await_many(callers, :infinity),
        do: assert(counts.ok > 0 and Map.keys(counts) -- known() == [])

    # One leaves with its token: whoever is left goes on with the other.
    task = Task.async(fn -> Cluster.until_answered(fn -> Cluster.load(@cluster, 1_000) end) end)
    Cluster.stop(two)
    counts = Task.await(task, :infinity)
    assert counts.ok > 0 and Map.keys(counts) -- known() == []
    Test.Group.await(@cluster, &match?(%{in: 1}, &1))
    Test.Group.await(group, &match?(%{in: 1}, &1))
    for hsm <- [@cluster, group], do: assert(Map.keys(Cluster.load(hsm, 200)) == [:ok])
    empty_mailbox()
  end

  defp known do
    for reason <- [:node_down, :session_lost, :timeout, :token_absent, :shutdown],
        executed <- [false, :maybe],
        reduce: [:ok] do
      known -> [{reason, executed} | known]
    end
  end
end
