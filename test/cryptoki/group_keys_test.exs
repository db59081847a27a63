defmodule Cryptoki.GroupKeysTest do
  # What a group knows of its keys when it looks again, and of members that could not be asked then.
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Group}
  alias Cryptoki.Group.Member
  alias Cryptoki.Test
  alias Cryptoki.Test.FaultyModule

  @one __MODULE__.One
  @two __MODULE__.Two
  @group __MODULE__.Group
  @names [label: "invoice"]
  @moduletag timeout: :infinity

  defp two(more \\ []) do
    key = Test.Group.key()
    modules = for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}], more)
    %{key: key, modules: modules}
  end

  defp start(more \\ []) do
    options = [name: @group, members: [@one, @two], reconnect: [min: 20, max: 100]]
    start_supervised!({Group, Keyword.merge(options, more)})
  end

  defp sign(key \\ @names, opts \\ [], hsm \\ @group),
    do: Cryptoki.sign(hsm, key, :ecdsa_sha256, "data", [format: :der] ++ opts)

  defp await(holds?), do: if(holds?.(), do: :ok, else: await(holds?))

  # As when the proof of it is old, and until that has come to something.
  defp prove_again(pid, selector) do
    send(pid, {:prove_again, {:sign, selector}})
    await(fn -> :sys.get_state(pid).proving == %{} end)
  end

  test "a key that a member gave is found also when its proof is old" do
    %{key: key} = two()
    pid = start()
    {:ok, given} = Cryptoki.find_one(@group, @names ++ [class: :private_key])

    for _ <- 1..20 do
      assert {:ok, signature} = sign(given)
      assert Test.Group.valid?(signature, "data", key)
      prove_again(pid, given)
    end
  end

  test "members that are full when a proof is old have their keys still" do
    %{modules: modules} = two(sessions: 1, queue_limit: 1)
    pid = start()
    {:ok, _} = sign()
    for module <- modules, do: FaultyModule.control(module, "C_Sign hang")
    callers = for _ <- 1..4, do: Task.async(&sign_when_taken/0)
    await(fn -> Enum.all?([@one, @two], &match?({:ok, %{queue: 1}}, Cryptoki.status(&1))) end)
    prove_again(pid, @names)
    assert {:error, %Error{reason: :busy, executed: false}} = sign()
    for module <- modules, do: FaultyModule.control(module, "")
    for answer <- Task.await_many(callers, :infinity), do: assert({:ok, _} = answer)
  end

  # A session that has not come for its first call yet leaves it in the queue.
  defp sign_when_taken,
    do: with({:error, %Error{reason: :busy}} <- sign(), do: sign_when_taken())

  test "what one member may have executed is not denied by the next" do
    %{modules: [one, two]} = two()
    start(failover: [sign: true])
    {:ok, _} = sign()
    FaultyModule.control(one, "C_Sign rv=0x30 after_forward")
    FaultyModule.control(two, "C_SignInit rv=0x30")

    for _ <- 1..20 do
      mark = FaultyModule.mark(one)
      assert {:error, error} = sign()
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
