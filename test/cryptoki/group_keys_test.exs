defmodule Cryptoki.GroupKeysTest do
  # What a group knows of its keys when it looks again, and of members that could not be asked then.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Group, Groups}
  alias Cryptoki.Group.{Key, Member}
  alias Cryptoki.Test
  alias Cryptoki.Test.FaultyModule

  @one __MODULE__.One
  @two __MODULE__.Two
  @group __MODULE__.Group
  @names [label: "invoice"]

  defp two do
    key = Test.Group.key()
    for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}])
    key
  end

  defp start(more \\ []) do
    options = [name: @group, members: [@one, @two], reconnect: [min: 20, max: 100]]
    start_supervised!({Group, Keyword.merge(options, more)})
  end

  defp sign(key \\ @names, opts \\ [], hsm \\ @group),
    do: Cryptoki.sign(hsm, key, :ecdsa_sha256, "data", [format: :der] ++ opts)

  # As when the proof of it is old, and until that has come to something.
  defp prove_again(pid, selector) do
    send(pid, {:prove_again, {:sign, selector}})
    await(fn -> :sys.get_state(pid).proving == %{} end)
  end

  test "a key that a member gave is found also when its proof is old" do
    key = two()
    pid = start()
    {:ok, given} = Cryptoki.find_one(@group, @names ++ [class: :private_key])

    for _ <- 1..20 do
      assert {:ok, signature} = sign(given)
      assert Test.Group.valid?(signature, "data", key)
      prove_again(pid, given)
    end
  end

  test "what names no key is refused, and no other key of the call stands in for it" do
    two()
    start()

    for nothing <- [false, 0, ""],
        call <- [
          &Cryptoki.sign(@group, &1, :ecdsa, "data"),
          &Cryptoki.update(@group, &1, label: "x"),
          &Cryptoki.wrap_key(@group, @names, :aes_key_wrap, &1),
          &Cryptoki.wrap_key(@group, &1, :aes_key_wrap, @names),
          &Cryptoki.Transfer.export(@group, &1, @names)
        ] do
      assert_raise ArgumentError, ~r/names no key|URI/, fn -> call.(nothing) end
    end
  end

  test "members that could not say when a proof is old have their keys still, those that say otherwise have not" do
    table = :ets.new(:group, [:set, :public])
    :ets.insert(table, {:members, {Member.new(0, @one), Member.new(1, @two)}})
    group = struct(Groups, table: table, called: @group, pid: self())
    used = {:sign, @names}

    proven = fn decision, outcomes ->
      Key.proven(%{group: group, proving: %{}}, used, decision, outcomes)
      mask(group)
    end

    also = fn slot, outcome ->
      Key.also(%{group: group, proving: %{}}, used, slot, outcome)
      mask(group)
    end

    full = Error.new(:busy, nil, executed: false)
    missing = Error.new(:key_not_found, nil, executed: false)
    assert 0b11 == proven.({:ok, :a}, %{0 => {:ok, :a, :there}, 1 => {:ok, :a, :there}})
    assert 0b11 == proven.({:error, full}, %{0 => {:error, full}, 1 => {:error, full}})

    assert [{_proven, :a, %{0 => {:ok, :a}, 1 => {:ok, :a}}}] =
             Groups.lookup(group, {:proven, :sign, @names})

    # And whoever waits for it is told so.
    waiting = %{used => %{waiting: [{self(), :waits}]}}
    state = %{group: group, proving: waiting}
    Key.proven(state, used, {:error, full}, %{0 => {:error, full}, 1 => {:error, full}})
    assert_received {:waits, {:ok, 0b11}}
    # One has not answered yet, then it has.
    assert 0b11 == proven.({:ok, :a}, %{0 => {:ok, :a, :there}})
    assert 0b11 == also.(1, {:error, full})
    assert 0b01 == also.(1, {:missing, missing})
    assert 0b11 == also.(1, {:ok, :a, :there})
    assert 0b01 == proven.({:ok, :a}, %{0 => {:error, full}, 1 => {:ok, :b, :there}})
    # Of another key nobody has anything from before.
    assert 0b10 == proven.({:ok, :b}, %{1 => {:ok, :b, :there}})
  end

  defp mask(group) do
    [{_proof, mask, _until}] = Groups.lookup(group, {:proof, :sign, @names})
    mask
  end

  test "what one member may have executed is not denied by the next" do
    # Of RSA: nothing has to be signed to prove which key it is.
    key = Test.Group.rsa_key()
    [one, two] = for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}])
    start(failover: [sign: true])
    sign = fn -> Cryptoki.sign(@group, @names, :sha256_rsa_pkcs, "data") end
    {:ok, _} = sign.()
    FaultyModule.control(one, "C_Sign rv=0x30 after_forward")
    FaultyModule.control(two, "C_SignInit rv=0x30")

    for _ <- 1..20 do
      mark = FaultyModule.mark(one)
      assert {:error, error} = sign.()
      ran? = Enum.any?(FaultyModule.since(one, mark), &match?({"C_Sign", "ran", _}, &1))
      assert error.executed == if(ran?, do: :maybe, else: false)
    end
  end

  test "a PIN that came with a call takes no member out, on a session neither" do
    two()
    start()
    {:ok, _} = sign()
    unavailable = fn -> {:error, :nobody_there} end

    for _ <- 1..10 do
      _ = sign(@names, pin: unavailable)
      Cryptoki.with_session(@group, &sign(@names, [pin: unavailable], &1))
    end

    assert {:ok, %{members: members}} = Group.status(@group)
    assert Enum.map(members, & &1.state) == [:in, :in]
  end

  test "a PIN that came with a call and was refused is tried on no other member" do
    key = Test.Group.key()
    modules = for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}])
    start()
    {:ok, _} = sign()
    for module <- modules, do: FaultyModule.control(module, "C_Login rv=0xA0")
    marks = Enum.map(modules, &FaultyModule.mark/1)
    assert {:error, %Error{reason: :pin_incorrect}} = sign(@names, pin: "wrong")

    assert 1 ==
             modules
             |> Enum.zip(marks)
             |> Enum.flat_map(fn {module, mark} -> FaultyModule.since(module, mark) end)
             |> Enum.count(&match?({"C_Login", _, _}, &1))
  end

  test "a trial of which nobody hears any more makes room for another" do
    member = Member.new(0, @one)
    true = Member.change(member, :out, :half_open)
    now = Member.now()
    assert Member.trial?(member, now)
    refute Member.trial?(member, now + 1_000_000_000)
    assert Member.trial?(member, now + 60_000_000_000)
    refute Member.trial?(member, now + 61_000_000_000)
  end
end
