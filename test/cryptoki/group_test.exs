defmodule Cryptoki.GroupTest do
  # One name over several instances: which key, which member, and what happens when one fails.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Group}
  alias Cryptoki.Test
  alias Cryptoki.Test.FaultyModule

  doctest Cryptoki.Group, only: [child_spec: 1]

  @one __MODULE__.One
  @two __MODULE__.Two
  @three __MODULE__.Three
  @group __MODULE__.Group

  defp start(members, more \\ []) do
    options = [name: @group, members: members, reconnect: [min: 20, max: 100]]
    start_supervised!({Group, Keyword.merge(options, more)})
  end

  defp sign(data, opts \\ [], hsm \\ @group),
    do: Cryptoki.sign(hsm, [label: "invoice"], :ecdsa_sha256, data, [format: :der] ++ opts)

  # Signs until the group says that it is so.
  defp sign_until(holds?) do
    _ = sign("data")
    {:ok, status} = Group.status(@group)
    if holds?.(status), do: status, else: sign_until(holds?)
  end

  defp state(status, member), do: Test.Group.of(status, member).state

  defp signed(module), do: FaultyModule.count(module, ~r/^C_Sign (ran|faked)/)

  describe "which key" do
    test "a member with another key of that name is out for it, with a reason" do
      key = Test.Group.key()
      for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}])
      other = Test.Group.member(@three, [{"invoice", Test.Group.key()}])
      start([@one, @two, @three])
      before = signed(other)

      for n <- 1..60 do
        {:ok, signature} = sign("data #{n}")
        assert Test.Group.valid?(signature, "data #{n}", key)
      end

      status = Test.Group.await(@group, &match?(%{keys: %{not_everywhere: [_]}}, &1))
      assert [%{on: [@one, @two], not_on: %{@three => :another_key}}] = status.keys.not_everywhere
      assert Test.Group.of(status, @three).calls == 0
      # But for what proves which key it is.
      assert signed(other) - before <= 1
    end

    test "of two members with two keys the one for writes has it; without one nobody knows" do
      keys = [one, _two] = [Test.Group.key(), Test.Group.key()]

      for {name, key} <- Enum.zip([@one, @two], keys),
          do: Test.Group.member(name, [{"invoice", key}])

      start([@one, @two])
      assert {:error, %Error{reason: :key_ambiguous, executed: false}} = sign("data")
      stop_supervised!(@group)
      start([@one, @two], writes: @one)

      for _ <- 1..20 do
        {:ok, signature} = sign("data")
        assert Test.Group.valid?(signature, "data", one)
      end
    end

    test "a member that comes back with another key is not taken in for it" do
      key = Test.Group.key()
      modules = for name <- [@one, @two, @three], do: Test.Group.member(name, [{"invoice", key}])
      start([@one, @two, @three])
      {:ok, _} = sign("data")
      FaultyModule.control(hd(modules), "token remove")
      sign_until(&(state(&1, @one) == :out))

      # What an old backup looks like.
      FaultyModule.control(hd(modules), "")
      await(fn -> match?({:ok, %{state: :ready}}, Cryptoki.status(@one)) end)
      for key <- Cryptoki.find!(@one, label: "invoice"), do: :ok = Cryptoki.destroy(@one, key)
      {:ok, _} = Test.Group.import_key(@one, Test.Group.key(), "invoice")

      for _ <- 1..200 do
        {:ok, signature} = sign("data")
        assert Test.Group.valid?(signature, "data", key)
      end

      Test.Group.await(@group, fn status ->
        {:ok, signature} = sign("data")
        assert Test.Group.valid?(signature, "data", key)
        match?([%{not_on: %{@one => :another_key}}], status.keys.not_everywhere)
      end)
    end

    test "a secret key is known by its check value" do
      value = :crypto.strong_rand_bytes(32)
      for name <- [@one, @two, @three], do: Test.Group.member(name, [])
      template = [label: "kek", id: <<2>>, token: true, encrypt: true, decrypt: true]
      for name <- [@one, @two], do: {:ok, _} = Cryptoki.import_key(name, {:aes, value}, template)
      {:ok, _} = Cryptoki.import_key(@three, {:aes, :crypto.strong_rand_bytes(32)}, template)
      start([@one, @two, @three])

      for _ <- 1..30 do
        {:ok, text} =
          Cryptoki.encrypt(@group, [label: "kek"], {:aes_cbc, iv: <<0::128>>}, <<7::128>>)

        assert text == :crypto.crypto_one_time(:aes_256_cbc, value, <<0::128>>, <<7::128>>, true)
      end
    end
  end

  describe "what runs again" do
    setup do
      key = Test.Group.key()
      modules = for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}])
      start([@one, @two])
      {:ok, signature} = sign("data")
      %{key: key, modules: modules, signature: signature}
    end

    test "is what was certainly not executed", %{key: key, modules: modules} do
      FaultyModule.control(hd(modules), "C_SignInit rv=0x30")

      for _ <- 1..40 do
        {:ok, signature} = sign("data")
        assert Test.Group.valid?(signature, "data", key)
      end

      status = sign_until(&(Test.Group.of(&1, @one).reason != nil))
      assert %Error{reason: :device_error, member: @one} = Test.Group.of(status, @one).reason
      assert Test.Group.of(status, @one).failovers > 0
    end

    test "is no signature that may have been made", %{modules: modules} do
      for module <- modules,
          do: FaultyModule.control(module, "C_Sign rv=0x30 after_forward count=1")

      marks = Enum.map(modules, &FaultyModule.mark/1)

      assert {:error, %Error{reason: :device_error, executed: :maybe, member: member}} =
               sign("data")

      assert member in [@one, @two]

      assert [1] =
               for(
                 {module, mark} <- Enum.zip(modules, marks),
                 do: FaultyModule.since(module, mark)
               )
               |> Enum.map(&Enum.count(&1, fn call -> match?({"C_Sign", "ran", _}, call) end))
               |> Enum.reject(&(&1 == 0))
    end

    test "is a signature where failover: says so", %{modules: modules, key: key} do
      stop_supervised!(@group)
      start([@one, @two], failover: [sign: true])
      {:ok, _} = sign("data")
      FaultyModule.control(hd(modules), "C_Sign rv=0x30 after_forward")

      for _ <- 1..20 do
        {:ok, signature} = sign("data")
        assert Test.Group.valid?(signature, "data", key)
      end
    end

    test "is what makes no difference", %{modules: modules, signature: signature} do
      FaultyModule.control(
        hd(modules),
        "C_Verify rv=0x30 after_forward\nC_Digest rv=0x30 after_forward"
      )

      for _ <- 1..20 do
        assert Cryptoki.valid?(@group, [label: "invoice"], :ecdsa_sha256, "data", signature,
                 format: :der
               )

        assert {:ok, _} = Cryptoki.digest(@group, :sha256, "data")
      end
    end

    test "is nothing that every member would say, and it takes nobody out", %{modules: modules} do
      for _ <- 1..10 do
        assert {:error, %Error{reason: :mechanism_invalid}} =
                 Cryptoki.sign(@group, [label: "invoice"], {0x80001234, ""}, "data")
      end

      # A library that answers so for whatever it does not like.
      for module <- modules, do: FaultyModule.control(module, "C_DigestInit rv=0x5")

      for _ <- 1..10 do
        assert {:error, %Error{reason: :general_error}} = Cryptoki.digest(@group, :sha256, "data")
      end

      {:ok, status} = Group.status(@group)
      assert Enum.map(status.members, & &1.state) == [:in, :in]
    end

    test "is no stream of which something was read", %{modules: modules} do
      for module <- modules, do: FaultyModule.control(module, "C_DigestUpdate rv=0x30")
      {:ok, read} = Agent.start_link(fn -> 0 end)
      stream = Stream.map(["a", "b"], &(Agent.update(read, fn n -> n + 1 end) && &1))

      assert {:error, %Error{reason: :device_error}} =
               Cryptoki.digest(@group, :sha256, {:stream, stream})

      assert Agent.get(read, & &1) <= 2
    end
  end
end
