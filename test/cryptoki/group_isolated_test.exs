defmodule Cryptoki.GroupIsolatedTest do
  # Members in processes of their own: what kills their library is one member that is away.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Group}
  alias Cryptoki.Test
  alias Cryptoki.Test.{FaultyModule, Token}

  @one __MODULE__.One
  @two __MODULE__.Two
  @group __MODULE__.Group
  @names [label: "invoice of a group"]
  @kryoptic Token.named(:kryoptic)

  defp start do
    options = [name: @group, members: [@one, @two], reconnect: [min: 20, max: 100]]
    start_supervised!({Group, options})
  end

  defp isolated(name, key) do
    options = [isolation: :process, sessions: 2, reconnect: [min: 10, max: 100]]
    Test.Group.member(name, [{"invoice of a group", key}], options)
  end

  defp sign(key) do
    answer = Cryptoki.sign(@group, @names, :ecdsa_sha256, "data", format: :der)
    with {:ok, signature} <- answer, do: assert(Test.Group.valid?(signature, "data", key))
    answer
  end

  defp of(member) do
    {:ok, status} = Group.status(@group)
    Test.Group.of(status, member)
  end

  defp both(key) do
    before = {of(@one).calls, of(@two).calls}

    await(fn ->
      {:ok, _} = sign(key)
      of(@one).calls > elem(before, 0) + 5 and of(@two).calls > elem(before, 1) + 5
    end)
  end

  # Under load from several callers, so that some are in the middle of it.
  defp crashes(module, key) do
    FaultyModule.control(module, "C_Sign crash=abort")

    await(fn ->
      for {:error, error} <- signed(key),
          do: assert(%Error{reason: :library_crashed, executed: :maybe, member: @one} = error)

      match?(%{state: :out, reason: %Error{reason: :library_crashed}}, of(@one))
    end)

    for _ <- 1..20, do: assert({:ok, _} = sign(key))
    FaultyModule.control(module, "")
    await(fn -> sign(key) && of(@one).state == :in end)
    both(key)
  end

  defp signed(key) do
    1..4
    |> Task.async_stream(fn _ -> sign(key) end, timeout: :infinity)
    |> Enum.map(fn {:ok, answer} -> answer end)
  end

  test "one that crashes is out, and comes back with its keys; so does a session of it" do
    key = Test.Group.key()
    modules = for name <- [@one, @two], do: isolated(name, key)
    start()
    both(key)
    crashes(hd(modules), key)

    Cryptoki.with_session(@group, fn session ->
      {:ok, signature} = Cryptoki.sign(session, @names, :ecdsa_sha256, "data", format: :der)
      assert Test.Group.valid?(signature, "data", key)
    end)

    assert {:ok, %{differences: [], same: 2}} = Group.compare(@group, @names)
  end

  @tag skip: @kryoptic.skip
  test "one of SoftHSM in a process of its own and one of Kryoptic in this have the same key" do
    key = Test.Group.key()
    start_supervised!({Cryptoki, Token.options(@kryoptic, name: @two)}, id: @two)
    {:ok, _} = Test.Group.import_key(@two, key, "invoice of a group")
    module = isolated(@one, key)
    start()
    both(key)
    assert {:ok, %{differences: [], same: 2}} = Group.compare(@group, @names)
    crashes(module, key)

    for found <- Cryptoki.find!(@two, @names), do: :ok = Cryptoki.destroy(@two, found)
  end
end
