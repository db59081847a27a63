defmodule Cryptoki.GroupCountedTest do
  # What counts against a member of a group, and what does not: sessions that are held, callers without patience, one
  # success between failures; and what its process remembers, asks and shows.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Cache, Error, Group, Groups, Instances, KeyIdentity}
  alias Cryptoki.ContentKey.{Agreement, Holder, Wrapped}
  alias Cryptoki.Group.{Failure, Key, Look, Member, Server, Slots}
  alias Cryptoki.Test
  alias Cryptoki.Test.FaultyModule

  @one __MODULE__.One
  @two __MODULE__.Two
  @group __MODULE__.Group
  @names [label: "invoice"]

  defp two(more \\ []) do
    key = Test.Group.rsa_key()
    for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}], more)
  end

  defp start(more \\ []) do
    options = [name: @group, members: [@one, @two], reconnect: [min: 20, max: 100]]
    start_supervised!({Group, Keyword.merge(options, more)})
  end

  defp sign(opts \\ []), do: Cryptoki.sign(@group, @names, :sha256_rsa_pkcs, "data", opts)

  defp members, do: @group |> Groups.get() |> Groups.members() |> Tuple.to_list()
  defp states, do: Enum.map(members(), &Member.state/1)

  describe "a session that is held" do
    test "is one less for others, and no call that does not end" do
      member = Member.new(0, @one)
      true = Member.change(member, :out, :in)
      later = Member.now() + 60_000_000_000
      free = Member.load(member, later)
      Member.hold(member)
      assert Member.load(member, later) == 2 * free
      _began = Member.begin(member)
      assert Member.load(member, later) > 1_000 * free
      assert %{outstanding: 2} = Member.numbers(member)
      Member.finish(member, nil)
      Member.release(member)
      assert %{outstanding: 0} = Member.numbers(member)
    end

    test "and whose caller was killed counts for nothing" do
      two()
      start()
      {:ok, _} = sign()
      me = self()

      holders =
        for _ <- 1..3 do
          spawn(fn ->
            Cryptoki.with_session(@group, fn _ ->
              send(me, :holds)
              receive(do: (:never -> :ok))
            end)
          end)
        end

      for _ <- holders, do: assert_receive(:holds)
      assert 3 == members() |> Enum.map(&Member.outstanding/1) |> Enum.sum()
      for pid <- holders, do: Process.exit(pid, :kill)
      await(fn -> Enum.all?(members(), &(Member.outstanding(&1) == 0)) end)
      {:ok, _} = sign()
      await(fn -> Enum.all?(members(), &(Member.numbers(&1).outstanding == 0)) end)
    end

    test "and calls that were taken for lost, and have ended after all, weigh nothing" do
      member = Member.new(0, @one)
      true = Member.change(member, :out, :in)
      later = Member.now() + 60_000_000_000
      free = Member.load(member, later)
      about = %{queue: 0, sessions: %{busy: 0}}

      # As when they wait for a login, and are in no queue and on no session.
      for {begins, ends} <- [
            {&Member.begin/1, &Member.finish(&1, nil)},
            {&Member.hold/1, &Member.release/1}
          ] do
        for _ <- 1..7, do: begins.(member)
        Look.settle(member, %{excess: 7}, about)
        for _ <- 1..7, do: ends.(member)
        for _ <- 1..3, do: Look.settle(member, %{excess: Look.excess(member, about)}, about)
        assert Member.load(member, later) == free
        # The next is counted as if nothing had been.
        begins.(member)
        assert %{outstanding: 1} = Member.numbers(member)
        ends.(member)
      end
    end

    test "says nothing of the device: what is called on it does" do
      two()
      start()
      {:ok, _} = sign()
      [member | _] = members()
      true = Member.change(member, :in, :out)
      true = Member.change(member, :out, :half_open)

      Cryptoki.with_session(@group, fn session ->
        assert Member.state(member) == :half_open
        {:ok, _} = Cryptoki.random(session, 1)
        assert Member.state(member) == :in
      end)
    end

    test "is of a member that has the key, where that is known" do
      two()
      start(writes: @one)
      template = [token: true, encrypt: true, decrypt: true, wrap: true, unwrap: true]

      {:ok, _} =
        Cryptoki.generate_key(@group, :aes_key_gen, template ++ [label: "kek", value_len: 32])

      key = Test.Group.key()

      {:ok, _} =
        Cryptoki.import_key(@one, key, label: "agrees", token: true, derive: true, sign: true)

      secret = [class: :secret_key, extractable: true, sensitive: false]

      {:ok, wrapped} =
        Cryptoki.with_session(@one, fn session ->
          {:ok, key} = Cryptoki.generate_key(session, :aes_key_gen, secret ++ [value_len: 16])
          Cryptoki.wrap_key(session, [label: "kek"], :aes_key_wrap, key)
        end)

      kek = %Holder{
        hsm: @group,
        key: [label: "kek"],
        call: [],
        class: :secret_key,
        key_type: :aes
      }

      {point, _private} = :crypto.generate_key(:ecdh, :secp256r1)

      agrees = %Holder{
        hsm: @group,
        key: [label: "agrees"],
        call: [],
        class: :private_key,
        key_type: :ec,
        curve: :secp256r1
      }

      for _ <- 1..20 do
        cbc = {:aes_cbc_pad, iv: <<0::128>>}
        text = @group |> Cryptoki.encrypt_stream([label: "kek"], cbc, ["a", "b"]) |> Enum.join()
        assert byte_size(text) == 16
        assert {:ok, <<_::128>>} = Wrapped.open(kek, :key_wrap, wrapped, 16)
        assert {:ok, <<_::256>>} = Agreement.secret(agrees, point)
      end
    end
  end

  describe "a time that is over" do
    test "in the queue, or before the member's own, takes nobody out" do
      assert :full == Failure.of(Error.new(:timeout, nil, executed: false))
      assert :overdue == Failure.of(Error.new(:timeout, nil, executed: :maybe))

      modules = two(sessions: 4)
      start()
      {:ok, _} = sign()
      for module <- modules, do: FaultyModule.control(module, "C_Sign delay=30")

      for _ <- 1..8,
          do: await(fn -> match?({:error, %Error{reason: :timeout}}, sign(timeout: 1)) end)

      assert states() == [:in, :in]
    end

    test "takes out a member that had as long as it takes itself, three times without a success" do
      modules = two(sessions: 8, timeout: 2_000)
      start()
      {:ok, _} = sign()
      for module <- modules, do: FaultyModule.control(module, "C_Sign hang")

      await(fn ->
        1..6 |> Enum.map(fn _ -> Task.async(&sign/0) end) |> Task.await_many(:infinity)
        :out in states()
      end)

      # By its calls: what a look has seen was not executed.
      errors = for member <- members(), error = Groups.why(Groups.get(@group), member), do: error
      assert [%Error{reason: :timeout, executed: :maybe} | _] = errors
      for module <- modules, do: FaultyModule.control(module, "")
    end

    test "is the member's when it had as long as it takes itself" do
      member = Member.new(0, @one)
      began = Member.now() - 1_000_000_000
      Member.limit(member, 900)
      refute Member.impatient?(member, began, :infinity)
      Member.limit(member, 5_000)
      assert Member.impatient?(member, began, :infinity)
      # One that takes any time is measured by the group.
      Member.limit(member, :infinity)
      assert Member.impatient?(member, began, 5_000)
      refute Member.impatient?(member, began, 900)
      refute Member.impatient?(member, began, :infinity)
    end
  end

  test "who is away, in whatever way, is asked for nothing, and another is where nothing was executed" do
    away = ~w[token_absent locked shutdown node_down library_crashed device_removed]a

    for reason <- away, error = Error.new(reason, nil, executed: false) do
      assert Failure.of(error) == :gone
      assert Failure.over?(:gone, error, false)
      refute Failure.over?(:gone, %{error | executed: :maybe}, false)
      assert Failure.over?(:gone, %{error | executed: :maybe}, true)
    end
  end

  test "who was slow is measured anew when it comes back, and what was forgotten stays so" do
    member = Member.new(0, @one)
    true = Member.change(member, :out, :in)
    Member.begin(member)
    Member.finish(member, Member.now() - 10_000_000_000)
    slow = Member.load(member, Member.now())
    assert slow > 1_000_000_000
    # Long after that a short call: not seven eighths of how slow it was.
    :atomics.put(member.numbers, 3, Member.now() - 40_000_000_000)
    Member.finish(member, Member.begin(member))
    assert Member.load(member, Member.now()) < 1_000_000_000

    Member.begin(member)
    Member.finish(member, Member.now() - 10_000_000_000)
    true = Member.change(member, :in, :out)
    true = Member.change(member, :out, :half_open)
    Member.finish(member, Member.begin(member))
    assert Member.load(member, Member.now()) < 1_000_000_000
  end

  test "who is out says why from the first moment, whatever its process is doing" do
    modules = two()
    pid = start()
    {:ok, _} = sign()
    :ok = :sys.suspend(pid)
    for module <- modules, do: FaultyModule.control(module, "C_Sign rv=0x32")

    await(fn ->
      _ = sign()
      {:ok, status} = Group.status(@group)

      for %{state: :out} = member <- status.members,
          do: assert(%Error{reason: :device_removed} = member.reason)

      status.in == 0
    end)

    :ok = :sys.resume(pid)
  end

  test "one success is no end of what a member that fails again and again is left alone for" do
    two()
    pid = start(reconnect: [min: 10_000, max: 1_000_000])
    [member, other] = members()
    error = Error.new(:device_error, nil, executed: :maybe)

    out = fn member ->
      send(pid, {:out, member, error})
      {delay, _at} = :sys.get_state(pid).waits[member.slot]
      delay
    end

    delays =
      for _ <- 1..4 do
        send(pid, {:in, member})
        out.(member)
      end

    assert delays == [10_000, 20_000, 40_000, 80_000]
    # A caller that speaks of one that is gone means no other of its slot.
    send(pid, {:out, %{other | numbers: :atomics.new(1, [])}, error})
    assert :sys.get_state(pid).waits[other.slot] == nil

    stop_supervised!(@group)
    pid = start(reconnect: [min: 1, max: 1_000_000])
    [member, _other] = members()
    send(pid, {:out, member, error})
    out = fn -> elem(:sys.get_state(pid).waits[member.slot], 0) end
    assert out.() == 1
    send(pid, {:in, member})
    came = :sys.get_state(pid).came[member.slot]
    await(fn -> System.monotonic_time(:millisecond) > came + 1 end)
    send(pid, {:out, member, error})
    assert out.() == 1
  end

  describe "what its process knows of keys" do
    defp table(members) do
      table = :ets.new(:group, [:set, :public])
      :ets.insert(table, {:members, List.to_tuple(members)})
      struct(Groups, table: table, called: @group, pid: self())
    end

    test "is not asked anew every moment because a member is out" do
      [one, _out] = members = [Member.new(0, @one), Member.new(1, @two)]
      true = Member.change(one, :out, :in)
      group = table(members)
      answer = %{0 => {:ok, :a, :there}}
      Key.proven(%{group: group, proving: %{}}, {:sign, @names}, {:ok, :a}, answer)
      [{_proof, 0b01, until}] = Groups.lookup(group, {:proof, :sign, @names})
      assert until > System.monotonic_time(:millisecond) + 10_000
    end

    test "makes room by the oldest alone" do
      group = table([Member.new(0, @one)])

      for n <- 1..100 do
        :ets.insert(group.table, {{:proof, :sign, n}, 1, n})
        :ets.insert(group.table, {{:proven, :sign, n}, :a, %{}})
        :ets.insert(group.table, {{:key, :sign, n, 0}, :there})
      end

      :ok = Key.make_room(group, 1_000)
      assert :ets.info(group.table, :size) == 301
      :ok = Key.make_room(group, 300)
      assert :ets.info(group.table, :size) == 271
      assert [] == Groups.lookup(group, {:proven, :sign, 10})
      assert [] == Groups.lookup(group, {:key, :sign, 10, 0})
      assert [_] = Groups.lookup(group, {:proven, :sign, 11})
    end

    test "is asked for once when it is old" do
      modules = two()
      pid = start()
      {:ok, _} = sign()
      # What was asked when the group did not know.
      await(fn -> :sys.get_state(pid).proving == %{} end)
      for module <- modules, do: FaultyModule.control(module, "C_FindObjectsInit hang")

      :sys.replace_state(pid, fn state ->
        old = System.monotonic_time(:millisecond) - 1
        true = :ets.update_element(state.group.table, {:proof, :sign, @names}, {3, old})
        state
      end)

      {:ok, _} = sign()
      assert map_size(:sys.get_state(pid).proving) == 1
      :erlang.trace(pid, true, [:receive])
      for _ <- 1..20, do: {:ok, _} = sign()
      :erlang.trace(pid, false, [:receive])
      refute_received {:trace, ^pid, :receive, {:prove_again, _used}}
      for module <- modules, do: FaultyModule.control(module, "")
    end

    test "is shown by nobody" do
      modules = two()
      pid = start()
      {:ok, _} = sign()
      for module <- modules, do: FaultyModule.control(module, "C_FindObjectsInit hang")
      secret = "bytes of a key"

      task =
        Task.async(fn -> Cryptoki.sign(@group, [label: secret], :sha256_rsa_pkcs, "data") end)

      await(fn -> map_size(:sys.get_state(pid).proving) > 0 end)
      assert inspect(:sys.get_state(pid), limit: :infinity) =~ secret
      refute inspect(:sys.get_status(pid), limit: :infinity) =~ secret
      for module <- modules, do: FaultyModule.control(module, "")
      assert {:error, %Error{reason: :key_not_found}} = Task.await(task, :infinity)

      used = {:sign, [label: secret]}

      shown =
        Server.format_status(%{
          state: %{proving: %{used => %{}}},
          message: {:"$gen_call", {self(), make_ref()}, {:prove, used}},
          reason: {{:badmatch, used}, [{Key, :ask, [%{}, used], []}, {Key, :again, 2, []}]},
          log: [{:in, {:prove_again, used}}]
        })

      refute inspect(shown) =~ secret
      assert %{message: :prove, state: %{proving: 1}, reason: {:badmatch, _}} = shown
    end

    test "is proven anew, not remembered" do
      two()
      {:ok, key} = Cryptoki.find_one(@one, @names ++ [class: :private_key])
      {:ok, identity, _names} = KeyIdentity.of(@one, :sign, @names, [])
      # As when the token has given its number to another key since.
      {:ok, target} = Instances.lookup(@one)
      Cache.put(target.cache, {:public_half, key.handle}, {:proven, :another})
      assert {:ok, ^identity, _names} = KeyIdentity.of(@one, :sign, @names, [])
    end
  end

  test "a slot is given again, when nobody speaks any more of the member that had it" do
    {[0, 1, 2], slots} = Slots.take(Slots.new(), 3, 0)
    slots = Slots.give_back(slots, [1], 0)
    {[3], slots} = Slots.take(slots, 1, 20_000)
    slots = Slots.give_back(slots, [0], 25_000)
    {[1, 4], slots} = Slots.take(slots, 2, 50_000)
    assert {[0, 5], _slots} = Slots.take(slots, 2, 60_000)
  end
end
