defmodule Cryptoki.GroupMembersTest do
  # Which member of a group takes a call, and what becomes of one that fails and comes back.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Group}
  alias Cryptoki.Group.{Member, Picking}
  alias Cryptoki.Test
  alias Cryptoki.Test.{FaultyModule, MainToken, Scratch, SoftHSM, TLS, Token}

  @one __MODULE__.One
  @two __MODULE__.Two
  @group __MODULE__.Group

  defp start(members, more \\ []) do
    options = [name: @group, members: members, reconnect: [min: 20, max: 100]]
    start_supervised!({Group, Keyword.merge(options, more)})
  end

  defp two(more \\ []) do
    key = Test.Group.key()
    modules = for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}], more)
    %{key: key, modules: modules}
  end

  defp sign(data \\ "data", opts \\ []),
    do: Cryptoki.sign(@group, [label: "invoice"], :ecdsa_sha256, data, [format: :der] ++ opts)

  defp of(member) do
    {:ok, status} = Group.status(@group)
    Test.Group.of(status, member)
  end

  # Many at once, so that who is slow has something to do when the next call comes.
  defp load(callers, calls, sign \\ &sign/0) do
    1..callers
    |> Task.async_stream(fn _ -> for(_ <- 1..calls, do: sign.()) end,
      timeout: :infinity,
      max_concurrency: callers
    )
    |> Enum.flat_map(fn {:ok, answers} -> answers end)
  end

  test "a key just made is that of its member until it is seen elsewhere" do
    %{modules: _} = two()
    start([@one, @two], writes: @one)
    key = Test.Group.key()

    {:ok, _made} = Test.Group.import_key(@group, key, "fresh")
    assert {:ok, [_]} = Cryptoki.find(@one, label: "fresh", class: :private_key)
    assert {:ok, []} = Cryptoki.find(@two, label: "fresh")

    signed = fn ->
      {:ok, signature} = Cryptoki.sign(@group, [label: "fresh"], :ecdsa_sha256, "x", format: :der)
      assert Test.Group.valid?(signature, "x", key)
    end

    calls = of(@two).calls
    for _ <- 1..30, do: signed.()
    assert of(@two).calls == calls

    assert {:ok, %{keys: %{not_everywhere: [%{on: [@one], not_on: %{@two => :missing}}]}}} =
             Group.status(@group)

    assert {:error, %Error{reason: :timeout} = error} =
             Group.await_key(@group, [label: "fresh"], 300)

    assert error.detail =~ "missing"

    # It is replicated, and the group sees that.
    waiting = Task.async(fn -> Group.await_key(@group, [label: "fresh"], 60_000) end)
    {:ok, _} = Test.Group.import_key(@two, key, "fresh")
    assert :ok = Task.await(waiting, :infinity)

    await(fn ->
      signed.()
      of(@two).calls > calls
    end)

    # A key that nobody has is not found, and one that the group has made is of use at once.
    assert {:error, %Error{reason: :key_not_found}} =
             Cryptoki.sign(@group, [label: "none"], :ecdsa_sha256, "")

    {:ok, _} = Test.Group.import_key(@group, key, "none")
    assert {:ok, _} = Cryptoki.sign(@group, [label: "none"], :ecdsa_sha256, "")
  end

  test "a key that was made anew under its name is the key, when no member has the old one" do
    two()
    start([@one, @two])
    {:ok, _} = sign()
    other = Test.Group.key()

    for name <- [@one, @two] do
      for key <- Cryptoki.find!(name, label: "invoice"), do: :ok = Cryptoki.destroy(name, key)
      {:ok, _} = Test.Group.import_key(name, other, "invoice")
    end

    await(fn -> match?({:ok, _}, sign()) end)
    {:ok, signature} = sign()
    assert Test.Group.valid?(signature, "data", other)
  end

  test "sessions, what was begun on them and their keys are one member's, and say when it went" do
    %{key: key, modules: [module | _]} = two()
    start([@one, @two], writes: @one)

    {:ok, session_key} =
      Cryptoki.generate_key(@group, :aes_key_gen, value_len: 16, label: "s", encrypt: true)

    for _ <- 1..20,
        do:
          assert(
            {:ok, _} =
              Cryptoki.encrypt(@group, session_key, {:aes_cbc, iv: <<0::128>>}, <<0::128>>)
          )

    Cryptoki.with_session(@group, fn session ->
      {:ok, op} = Cryptoki.start(session, :digest, :sha256)
      :ok = Cryptoki.Operation.update(op, "data")
      {:ok, digest} = Cryptoki.Operation.finish(op)
      assert digest == :crypto.hash(:sha256, "data")

      assert {:ok, signature} =
               Cryptoki.sign(session, [label: "invoice"], :ecdsa_sha256, "data", format: :der)

      assert Test.Group.valid?(signature, "data", key)
    end)

    # Only one member is left, and it goes as well.
    :ok = stop_supervised(@two)
    await(fn -> sign() && of(@two).state == :out end)

    error =
      Cryptoki.with_session(@group, fn session ->
        {:ok, _} = Cryptoki.random(session, 1)
        FaultyModule.control(module, "token remove")
        {:error, error} = Cryptoki.random(session, 1)
        error
      end)

    assert %Error{member: @one} = error
    assert Exception.message(error) =~ inspect(@one)
  end

  test "a session goes to no member that has another key under a name that is used" do
    key = Test.Group.key()
    Test.Group.member(@one, [{"invoice", key}])
    Test.Group.member(@two, [{"invoice", Test.Group.key()}])
    start([@one, @two], writes: @one)
    {:ok, _} = sign()

    await(fn ->
      match?(
        {:ok, %{keys: %{not_everywhere: [%{not_on: %{@two => :another_key}}]}}},
        Group.status(@group)
      )
    end)

    for _ <- 1..20 do
      {:ok, signature} =
        Cryptoki.with_session(
          @group,
          &Cryptoki.sign(&1, [label: "invoice"], :ecdsa_sha256, "data", format: :der)
        )

      assert Test.Group.valid?(signature, "data", key)
    end

    # And if it is all that is left, it is not taken for the other.
    :ok = stop_supervised(@one)
    await(fn -> sign() && of(@one).state == :out end)

    assert {:error, %Error{member: @two, reason: :key_not_found}} =
             Cryptoki.with_session(
               @group,
               &Cryptoki.sign(&1, [label: "invoice"], :ecdsa_sha256, "data")
             )
  end

  test "the slow one gets less" do
    %{modules: [slow | _]} = two()
    start([@one, @two])
    {:ok, _} = sign()
    FaultyModule.control(slow, "C_Sign delay=30")
    for answer <- load(8, 40), do: assert({:ok, _} = answer)
    assert of(@one).calls * 4 < of(@two).calls
    FaultyModule.control(slow, "")
    before = of(@one).calls
    await(fn -> load(8, 20) && of(@one).calls > before + 100 end)
  end

  test "one whose calls go overdue is out, and comes back one call at a time" do
    %{modules: [hangs | _]} = two(sessions: 2, timeout: 300)
    start([@one, @two])
    {:ok, _} = sign()
    FaultyModule.control(hangs, "C_Sign hang")
    # Whoever is there waits for its own deadline; then it gets no more.
    answers = load(16, 30)
    assert Enum.count(answers, &match?({:error, %Error{reason: :timeout}}, &1)) <= 40
    await(fn -> sign() && match?(%Error{reason: :timeout}, of(@one).reason) end)

    FaultyModule.control(hangs, "")
    await(fn -> load(4, 10) && of(@one).state == :in end)
    before = of(@one).calls
    await(fn -> load(8, 10) && of(@one).calls > before + 50 end)
  end

  test "one that is half open gets one call at a time, before the others, until one succeeds" do
    members = for {name, slot} <- [{@one, 0}, {@two, 1}], do: Member.new(slot, name)
    [one, two] = members
    pick = fn -> Picking.pick(List.to_tuple(members), -1) end
    assert pick.() == :none
    true = Member.change(two, :out, :in)
    for _ <- 1..20, do: assert({:ok, ^two} = pick.())
    true = Member.change(one, :out, :half_open)
    assert {:ok, ^one} = pick.()
    for _ <- 1..20, do: assert({:ok, ^two} = pick.())
    # The trial said nothing: another.
    Member.untried(one)
    assert {:ok, ^one} = pick.()
    # It failed.
    true = Member.change(one, :half_open, :out)
    for _ <- 1..20, do: assert({:ok, ^two} = pick.())
    # It is all there is.
    true = Member.change(one, :out, :half_open)
    true = Member.change(two, :in, :out)
    for _ <- 1..20, do: assert({:ok, ^one} = pick.())
  end

  test "a PIN that was refused is tried on no other member, and locks no other" do
    key = Test.Group.key()
    modules = for name <- [@one, @two], do: Test.Group.member(name, [{"invoice", key}])
    start([@one, @two])
    {:ok, _} = sign()
    marks = Enum.map(modules, &FaultyModule.mark/1)

    # The member refuses the PIN of its next login; what is asked meanwhile goes to the other.
    FaultyModule.control(hd(modules), "logout\nC_Login rv=0xA0")
    await(fn -> sign() && of(@one).state == :out end)
    await(fn -> match?({:ok, %{state: :locked}}, Cryptoki.status(@one)) end)
    assert {:ok, %{state: :ready}} = Cryptoki.status(@two)
    for _ <- 1..30, do: assert({:ok, _} = sign())
    assert [1, 0] = for({module, mark} <- Enum.zip(modules, marks), do: logins(module, mark))
    assert {:error, %Error{reason: :unsupported}} = Cryptoki.unlock(@group, SoftHSM.pin())

    # A person gives the right one.
    FaultyModule.control(hd(modules), "")
    assert :ok = Cryptoki.unlock(@one, SoftHSM.pin(), force: true)
    await(fn -> sign() && of(@one).state == :in end)
  end

  defp logins(module, mark),
    do: Enum.count(FaultyModule.since(module, mark), &match?({"C_Login", _, _}, &1))

  test "a full queue takes nobody out: the others are asked, then the caller is told" do
    %{modules: modules} = two(sessions: 1, queue_limit: 1, timeout: 250_000)
    start([@one, @two])
    {:ok, _} = sign()
    for module <- modules, do: FaultyModule.control(module, "C_Sign hang")

    callers = for _ <- 1..4, do: Task.async(&sign_when_taken/0)
    # Until then one may be in a queue that a session has still to come for.
    for module <- modules, do: FaultyModule.await(module, ~r/^C_Sign hangs/)
    await(fn -> Enum.all?([@one, @two], &match?({:ok, %{queue: 1}}, Cryptoki.status(&1))) end)
    assert {:error, %Error{reason: :busy, executed: false, member: member}} = sign()
    assert member in [@one, @two]
    {:ok, status} = Group.status(@group)
    assert Enum.map(status.members, & &1.state) == [:in, :in]
    for module <- modules, do: FaultyModule.control(module, "")
    for answer <- Task.await_many(callers, :infinity), do: assert({:ok, _} = answer)
  end

  # A session that has not come for its first call yet leaves it in the queue.
  defp sign_when_taken,
    do: with({:error, %Error{reason: :busy}} <- sign(), do: sign_when_taken())

  test "writes go to one member, and what the others have not is seen" do
    %{modules: _} = two()
    start([@one, @two], writes: @two)

    {:ok, made} =
      Cryptoki.generate_key(@group, :aes_key_gen, label: "kek", value_len: 32, token: true)

    assert {:ok, [_]} = Cryptoki.find(@two, label: "kek")
    assert {:ok, []} = Cryptoki.find(@one, label: "kek")

    {:ok, _} =
      Cryptoki.import_key(@one, {:aes, :crypto.strong_rand_bytes(32)}, label: "kek", token: true)

    {:ok, _} = Cryptoki.create(@group, class: :data, label: "note", value: "x", token: true)
    :ok = certificate_on(@two)

    {:ok, compared} = Group.compare(@group)
    assert %{same: 2, unreachable: none} = compared
    assert none == %{}
    assert [missing, different] = Enum.sort_by(compared.differences, & &1.class)
    assert %{class: :data, label: "note", what: :missing, members: %{@one => :missing}} = missing
    assert %{class: :secret_key, label: "kek", what: :different} = different
    assert %{@one => {:key, a}, @two => {:key, b}} = different.members
    assert a != b

    :ok = Cryptoki.destroy(@group, made)
    assert {:ok, []} = Cryptoki.find(@two, label: "kek")
    stop_supervised!(@group)
    start([@one, @two])

    assert {:error, %Error{reason: :unsupported} = error} =
             Cryptoki.generate_key(@group, :aes_key_gen, label: "kek", value_len: 32, token: true)

    assert error.detail =~ "writes:"
    # One of a session is anybody's.
    assert {:ok, _} = Cryptoki.generate_key(@group, :aes_key_gen, label: "s", value_len: 32)
  end

  # Gone again, so that it makes no difference.
  defp certificate_on(member) do
    directory = TLS.authority(Scratch.directory("group-certificate"))
    file = File.read!(Path.join(directory, "ca.pem"))
    template = [label: "ca", token: true]
    {:ok, _} = Cryptoki.import_certificate(@group, file, template)
    {:ok, [made]} = Cryptoki.find(member, [class: :certificate] ++ template)
    Cryptoki.destroy(member, made)
  end

  test "status says what is left when one more goes" do
    %{key: key} = two(sessions: 3)
    {:ok, _} = Test.Group.import_key(@one, key, "only here")
    start([@one, @two])
    {:ok, _} = sign()
    {:ok, _} = Cryptoki.sign(@group, [label: "only here"], :ecdsa_sha256, "")

    status =
      Test.Group.await(
        @group,
        &match?(%{keys: %{not_everywhere: [%{not_on: %{@two => :missing}}]}}, &1)
      )

    assert %{in: 2, left: %{members: 1, sessions: 3, keys_lost: [[label: "only here"]]}} = status
    assert {:ok, %{state: :ready, health: :ok, sessions: %{wanted: 6}}} = Cryptoki.status(@group)
    assert Enum.sum(Enum.map(status.members, & &1.share)) == 1.0
    :ok = stop_supervised(@two)
    await(fn -> sign() && of(@two).state == :out end)
    assert %Error{member: @two} = of(@two).reason

    assert {:ok, %{in: 1, left: %{members: 0, sessions: 0, keys_lost: [_, _]}}} =
             Group.status(@group)

    assert {:ok, %{state: :ready, health: :degraded, reason: %Error{member: @two}}} =
             Cryptoki.status(@group)

    :ok = stop_supervised(@one)
    await(fn -> sign() && of(@one).state == :out end)
    assert {:error, %Error{executed: false, reason: :shutdown}} = sign()
    assert {:ok, %{state: :absent, health: :down}} = Cryptoki.status(@group)
  end

  test "callers that were killed count for nothing" do
    %{modules: modules} = two()
    start([@one, @two])
    {:ok, _} = sign()
    for module <- modules, do: FaultyModule.control(module, "C_Sign hang")
    callers = for _ <- 1..4, do: spawn(&sign/0)
    await(fn -> of(@one).outstanding + of(@two).outstanding == 4 end)
    for pid <- callers, do: Process.exit(pid, :kill)
    for module <- modules, do: FaultyModule.control(module, "")
    await(fn -> of(@one).outstanding + of(@two).outstanding == 0 end)
  end

  test "every verb that looks for its instance has its row" do
    rows =
      for file <- Path.wildcard("lib/**/*.ex"),
          source = String.replace(File.read!(file), ~r/\s+/, " "),
          [_, module, function] <-
            Regex.scan(~r/\bat\(\s*(?:hsm|session), (__MODULE__|[A-Z][\w.]*)\.(\w+)/, source),
          do: {file, module, function}

    assert length(rows) > 40

    for {file, module, function} <- rows, {module, function} != {"Module", "function"} do
      [_, own] = Regex.run(~r/defmodule ([\w.]+)/, File.read!(file))
      module = if module == "__MODULE__", do: own, else: "Cryptoki." <> module
      module = Module.concat([module])
      arguments = [@group, :sign, :sign, :sign, :sign, :sign]

      assert Group.Verbs.row(module, String.to_atom(function), arguments) ||
               function in ~w(found readable unread),
             "#{file}: #{inspect(module)}.#{function} has no row in group/verbs.ex"
    end
  end

  @kryoptic Token.named(:kryoptic)
  @tag skip: @kryoptic.skip
  test "members of other libraries have the same key" do
    key = Test.Group.key()
    Test.Group.member(@one, [{"invoice", key}])
    start_supervised!({Cryptoki, Token.options(@kryoptic, name: @two)}, id: @two)
    {:ok, _} = Test.Group.import_key(@two, key, "invoice of a group")
    {:ok, _} = Test.Group.import_key(@one, key, "invoice of a group")
    start([@one, @two])
    on_exit(fn -> :ok end)

    await(fn ->
      {:ok, signature} =
        Cryptoki.sign(@group, [label: "invoice of a group"], :ecdsa_sha256, "data", format: :der)

      assert Test.Group.valid?(signature, "data", key)
      of(@one).calls > 10 and of(@two).calls > 10
    end)

    for found <- Cryptoki.find!(@two, label: "invoice of a group"),
        do: :ok = Cryptoki.destroy(@two, found)
  end

  test "what is made with keys takes a group" do
    %{key: key} = two()
    start([@one, @two], writes: @one)

    for _ <- 1..10,
        do: assert({:ok, _} = Cryptoki.JWS.sign(@group, [label: "invoice"], "payload"))

    {:ok, der} = Cryptoki.X509.self_signed(@group, [label: "invoice"], subject: "/CN=group")
    assert :public_key.pkix_verify(der, Test.Group.public(key))

    assert [_] =
             @group |> Cryptoki.stream(label: "invoice", class: :private_key) |> Enum.to_list()

    assert {:ok, public} = Cryptoki.public_key(@group, label: "invoice")
    assert public == Test.Group.public(key)
    assert {:ok, digest} = Cryptoki.digest(@group, :sha256, {:stream, ["a", "b"]})
    assert digest == :crypto.hash(:sha256, "ab")
    assert {:ok, <<_::64>>} = :cryptoki.random(@group, 8)
    {:ok, member} = Cryptoki.find_one(@group, label: "invoice", class: :private_key)
    for _ <- 1..10, do: assert({:ok, _} = Cryptoki.sign(@group, member, :ecdsa_sha256, "data"))
    assert {:ok, %{in: 2, members: [_, _]}} = :cryptoki_group.status(@group)
    assert {:error, %Error{reason: :unsupported}} = Cryptoki.subscribe(@group)

    assert_raise ArgumentError, ~r/did you mean :label/, fn ->
      Cryptoki.sign(@group, [lable: "x"], :ecdsa, "")
    end

    assert_raise ArgumentError, fn ->
      Cryptoki.sign(@group, [label: "invoice"], :ecdsa_sha265, "")
    end

    assert_raise ArgumentError, fn -> Cryptoki.random(@group, 1, timout: 5) end
    :ok = Cryptoki.stop(@group)
  end

  test "options that are wrong say so" do
    for {options, text} <- [
          {[], "members: must be"},
          {[members: []], "members: must be"},
          {[members: [@one, @one]], "twice"},
          {[members: [@one], writes: @two], "writes: must be one of the members"},
          {[members: [@one], failover: [verify: true]], "failover: must be"},
          {[members: [@one], reconnect: [mn: 1]], "reconnect: must be"},
          {[memebrs: [@one]], "did you mean :members?"}
        ] do
      error = assert_raise ArgumentError, fn -> Group.start_link(options) end
      assert Exception.message(error) =~ text
    end

    assert {:error, %Error{reason: :shutdown}} = Group.status(:nobody)
    assert {:error, %Error{reason: :shutdown}} = Group.compare(:nobody)
    _ = MainToken.name()
  end
end
