defmodule Cryptoki.Recovery.IsolationTest do
  # `isolation: :process`: whatever a library does to its process, the VM and its other instances do not notice.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Test.{Crashes, FaultyModule, MainToken, SoftHSM, Workers}

  @moduletag :capture_log

  setup do: FaultyModule.own()

  defp start(module, opts \\ []) do
    own = [isolation: :process, sessions: 2, reconnect: [min: 10, max: 200]]
    start_supervised!({Cryptoki, FaultyModule.options(module, Keyword.merge(own, opts))})
  end

  # What the instance does when it works with a key, in the order in which it calls them.
  # C_Login has tests of its own below: a second crash in it is not undone by itself.
  @called ~w(C_GetTokenInfo C_OpenSession C_FindObjectsInit C_FindObjects C_FindObjectsFinal
             C_GetAttributeValue C_SignInit C_Sign)

  describe "a library that crashes" do
    for word <- ~w(segv abort cxx quit close) do
      if word == "segv", do: @tag(:unsanitized)

      test "by #{word} in C_Sign: who waits is told how, and the next is served", %{
        module: module
      } do
        hsm = start(module)
        key = key(hsm)
        FaultyModule.control(module, "C_Sign crash=#{unquote(word)} count=1")

        assert {:error, %Error{reason: :library_crashed, executed: :maybe} = error} =
                 sign(hsm, key)

        assert Exception.message(error) =~ Crashes.ending(unquote(word))
        FaultyModule.control(module, "")
        assert signed(hsm, key)
        assert %{state: :ready, health: :ok} = await_status(hsm, &(&1.sessions.open == 2))
      end
    end

    test "by closing what is open, and goes on: it is told so whoever finds it first", %{
      module: module
    } do
      hsm = start(module)
      close = "C_GenerateRandom crash=close count=1\nC_GenerateRandom hang"
      FaultyModule.control(module, close)
      waiting = Task.async(fn -> Cryptoki.random(hsm, 8) end)
      await(fn -> FaultyModule.count(module, ~r/^C_GenerateRandom crashes/) > 0 end)
      # On the connection that is served while calls hang.
      assert %{health: _} = Cryptoki.status!(hsm)
      assert {:error, %Error{reason: :library_crashed} = error} = Task.await(waiting)
      assert Exception.message(error) =~ Crashes.ending("close")
    end

    for function <- @called do
      test "in #{function} costs an error, and comes back", %{module: module} do
        hsm = start(module)
        key = key(hsm)
        # What is known of keys and the login goes with the process: all of it is called again.
        FaultyModule.control(module, "C_Sign crash=segv count=1")
        assert {:error, %Error{reason: :library_crashed}} = sign(hsm, key)
        FaultyModule.control(module, "#{unquote(function)} crash=segv")

        provoked(hsm, key, fn ->
          FaultyModule.count(module, ~r/^#{unquote(function)} crashes/) > 0
        end)

        FaultyModule.control(module, "")
        assert signed(hsm, key)
      end
    end

    test "while nobody calls it is started again by itself", %{module: module} do
      hsm = start(module)
      key = key(hsm)
      before = Cryptoki.status!(hsm).epoch
      kill(hsm, "KILL")
      assert %{state: :ready} = await_status(hsm, &(&1.epoch > before and &1.state == :ready))
      assert signed(hsm, key)
    end

    test "again and again is started less and less often, and the status says why", %{
      module: module
    } do
      hsm = start(module)
      FaultyModule.control(module, "C_GetSlotList crash=abort")
      kill(hsm, "KILL")

      status = await_status(hsm, &(&1.reason != nil and &1.reason.detail =~ "SIGABRT"))
      assert %{state: :absent, health: :down, reason: %Error{reason: :library_crashed}} = status
      assert {:error, %Error{reason: :library_crashed, executed: false}} = Cryptoki.random(hsm, 8)
      FaultyModule.control(module, "")
      assert %{state: :ready} = await_status(hsm, &(&1.state == :ready))
    end

    test "at the first work that it is given, too, until something works", %{module: module} do
      hsm = start(module)
      key = key(hsm)
      server = Instances.get(hsm, :server)
      crashes = fn -> elem(:sys.get_state(server).reconnect.crashes, 1) end
      FaultyModule.control(module, "C_Sign crash=segv")
      provoked(hsm, key, fn -> crashes.() == 3 end)
      FaultyModule.control(module, "")
      assert signed(hsm, key)
      FaultyModule.control(module, "C_Sign crash=segv")
      provoked(hsm, key, fn -> crashes.() == 1 end)
    end

    test "leaves no process, no thread and no file", %{module: module} do
      hsm = start(module)
      key = key(hsm)

      held = fn ->
        own = for kind <- ["fd", "task"], do: length(File.ls!("/proc/self/" <> kind))
        {own, length(Workers.processes())}
      end

      again = fn ->
        before = Cryptoki.status!(hsm).epoch
        kill(hsm, "KILL")
        _ready = await_status(hsm, &(&1.epoch > before and &1.sessions.open == 2))
        assert signed(hsm, key)
      end

      again.()
      before = held.()
      for _ <- 1..10, do: again.()
      await(fn -> held.() == before end)
    end

    test "goes with its keeper, and comes back", %{module: module} do
      hsm = start(module)
      key = key(hsm)
      worker = worker(hsm)
      {_, 0} = System.cmd("kill", ["-KILL", keeper(hsm)])
      await(fn -> not alive?(worker) end)
      await_status(hsm, &(&1.state == :ready and worker(hsm) not in [worker, nil]))
      assert signed(hsm, key)
    end

    @tag :unsanitized
    test "at the start is the error of the start", %{module: module} do
      FaultyModule.control(module, "C_Initialize crash=segv")

      assert {:error, %Error{reason: :library_crashed} = error} =
               Cryptoki.start_link(FaultyModule.options(module, isolation: :process))

      assert Exception.message(error) =~ "SIGSEGV"
    end

    test "takes nobody's leases or streams along but its own", %{module: module} do
      other = start_supervised!({Cryptoki, MainToken.options(isolation: :none)}, id: :other)
      hsm = start(module)

      assert {:ok, {:error, %Error{reason: :library_crashed}}} =
               Cryptoki.with_session(hsm, fn session ->
                 FaultyModule.control(module, "C_GenerateRandom crash=segv count=1")
                 {:ok, Cryptoki.random(session, 8)}
               end)

      FaultyModule.control(module, "")
      assert {:ok, <<_::64>>} = Cryptoki.random(other, 8)
      await(fn -> match?({:ok, _}, Cryptoki.random(hsm, 8)) end)
    end
  end

  describe "a PIN" do
    test "with which the library crashed, and which is not known to be good, is not tried again",
         context do
      %{module: module} = context
      FaultyModule.control(module, "C_Login crash=segv")
      pin = "#{System.unique_integer([:positive])}1"
      hsm = start(module, pin: fn -> pin end)
      await(fn -> Cryptoki.status!(hsm).state == :locked end)
      assert FaultyModule.count(module, ~r/^C_Login crashes/) == 1

      FaultyModule.control(module, "")
      assert Cryptoki.unlock(hsm, SoftHSM.pin()) == :ok
      assert {:ok, _} = Cryptoki.random(hsm, 8)
    end

    test "that was taken before is tried once more, and no third time", %{module: module} do
      hsm = start(module)
      key = key(hsm)
      FaultyModule.control(module, "C_Login crash=segv")
      kill(hsm, "KILL")
      await(fn -> Cryptoki.status!(hsm).state == :locked end)
      assert FaultyModule.count(module, ~r/^C_Login crashes/) == 2

      FaultyModule.control(module, "")
      assert Cryptoki.unlock(hsm, SoftHSM.pin(), force: true) == :ok
      assert signed(hsm, key)
    end
  end

  test "a PIN with which the library was ended, and whose caller had given up, is not handed over once more unasked",
       %{module: module} do
    hsm = start(module, sessions: 1)
    label = [label: "authenticated-#{System.unique_integer([:positive])}"]
    template = [modulus_bits: 2048, always_authenticate: true, sign: true, token: true] ++ label
    {:ok, _pair} = Cryptoki.generate_key_pair(hsm, :rsa_pkcs_key_pair_gen, template)
    used = fn options -> Cryptoki.sign(hsm, label, :sha256_rsa_pkcs, "text", options) end
    assert {:ok, _} = used.([])

    FaultyModule.control(module, "C_Login hang")
    assert {:error, %Error{reason: :timeout, executed: :maybe}} = used.(timeout: 1_000)
    before = worker(hsm)
    kill(hsm, "KILL")
    FaultyModule.control(module, "")
    await(fn -> worker(hsm) not in [before, nil] end)
    await_status(hsm, &(&1.state == :ready and &1.sessions.open == 1))
    assert {:error, %Error{reason: :library_crashed, function: :C_Login}} = used.([])
    assert {:ok, _} = used.([])
  end

  @tag :unsanitized
  test "who has a session of its own is told how its process ended, by each call that comes after",
       %{
         module: module
       } do
    hsm = start(module)

    Cryptoki.with_session(hsm, fn session ->
      FaultyModule.control(module, "C_GenerateRandom crash=segv")
      assert {:error, %Error{executed: :maybe}} = Cryptoki.random(session, 8)
      FaultyModule.control(module, "")

      for _ <- 1..2 do
        assert {:error, %Error{reason: :library_crashed, executed: false} = error} =
                 Cryptoki.random(session, 8)

        assert Exception.message(error) =~ "SIGSEGV"
      end
    end)
  end

  test "a key of one process is found again in the next, also when its handle has been another's there",
       %{
         module: module
       } do
    hsm = start(module)

    make = fn label, token ->
      template = [label: label, value_len: 32, sign: true, token: token]
      Cryptoki.generate_key!(hsm, :generic_secret_key_gen, template)
    end

    kept = make.("kept", true)
    assert {:ok, mac} = sign(hsm, kept)
    before = worker(hsm)
    kill(hsm, "KILL")
    await(fn -> worker(hsm) not in [before, nil] end)
    await_status(hsm, &(&1.state == :ready and &1.sessions.open == 2))
    # The first of its process, as the other was of its own.
    gone = make.("gone", false)
    assert elem(gone.handle, 0) == elem(kept.handle, 0)
    Cryptoki.destroy!(hsm, gone)
    assert sign(hsm, kept) == {:ok, mac}
  end

  test "a start that hangs in the library leaves no process when nobody waits for it any more", %{
    module: module
  } do
    FaultyModule.control(module, "C_Initialize hang")
    options = FaultyModule.options(module, isolation: :process, timeout: 3_000)
    starting = Task.async(fn -> Cryptoki.start_link(options) end)
    await(fn -> worker(nil) != nil end)
    worker = worker(nil)
    assert {:error, %Error{reason: :timeout}} = Task.await(starting, :infinity)
    await(fn -> not alive?(worker) end)
  end

  test "a library that returns from nothing is killed, when that was asked for", %{module: module} do
    hsm = start(module, kill_after: 200)
    key = key(hsm)
    before = worker(hsm)
    FaultyModule.control(module, "C_Sign hang")

    # Those that are opened in the place of the overdue ones hang, too.
    await(fn ->
      assert {:error, %Error{}} = sign(hsm, key, timeout: 100)
      worker(hsm) not in [before, nil]
    end)

    FaultyModule.control(module, "")
    assert signed(hsm, key)
  end

  @tag :unsanitized
  test "memory has a limit, and the others do not feel its end", %{module: module} do
    hsm = start(module, memory: 256 * 1024 * 1024)
    key = key(hsm)
    FaultyModule.control(module, "C_Sign crash=memory count=1")
    assert {:error, %Error{reason: :library_crashed}} = sign(hsm, key)
    FaultyModule.control(module, "")
    assert signed(hsm, key)
  end

  test "what a service manager sends to every process of a service is for the VM alone", %{
    module: module
  } do
    hsm = start(module)
    key = key(hsm)
    {keeper, worker} = {keeper(hsm), worker(hsm)}

    for signal <- ~w(TERM INT HUP QUIT),
        process <- [keeper, worker],
        do: {_, 0} = System.cmd("kill", ["-#{signal}", process])

    assert {:ok, <<_::256>>} = sign(hsm, key)
    assert {keeper, worker} == {keeper(hsm), worker(hsm)}
    :ok = stop_supervised(Cryptoki)
    await(fn -> not alive?(keeper) and not alive?(worker) end)
  end

  test "the same program is started again, whatever was installed since", %{module: module} do
    folder = installed()
    hsm = start(module)
    key = key(hsm)
    File.write!(Path.join(folder, "current_worker"), "cryptoki_worker-another")
    kill(hsm, "KILL")
    assert signed(hsm, key)
  end

  test "a program that somebody else has put there is not started, and gets no PIN", %{
    module: module
  } do
    folder = installed()
    {:ok, program} = Cryptoki.Native.Loader.worker()
    pins = :counters.new(1, [])

    pin = fn ->
      :counters.add(pins, 1, 1)
      SoftHSM.pin()
    end

    hsm = start(module, pin: pin)
    key = key(hsm)
    before = :counters.get(pins, 1)
    started = Path.join(folder, "started")
    File.rename!(program, program <> ".aside")
    File.write!(program, "#!/bin/sh\n: > #{started}\n")
    File.chmod!(program, 0o755)
    kill(hsm, "KILL")

    status = await_status(hsm, &(&1.reason != nil and &1.reason.reason == :library_not_loaded))
    assert status.reason.detail =~ "is not what was built"
    assert {:error, %Error{executed: false}} = sign(hsm, key)
    refute File.exists?(started)
    assert :counters.get(pins, 1) == before

    File.rename!(program <> ".aside", program)
    assert signed(hsm, key)
  end

  test "all goes with the instance", %{module: module} do
    hsm = start(module)
    {keeper, worker} = {keeper(hsm), worker(hsm)}
    assert alive?(keeper) and alive?(worker)
    :ok = stop_supervised(Cryptoki)
    await(fn -> not alive?(keeper) and not alive?(worker) end)
  end

  test "of the VM the process has what it needs, and nothing can be read from it", %{
    module: module
  } do
    System.put_env("CRYPTOKI_TEST_SECRET", "secret")
    on_exit(fn -> System.delete_env("CRYPTOKI_TEST_SECRET") end)
    worker = module |> start() |> worker()
    # As the kernel shows it to root alone, since it may not be dumped.
    with {:ok, shown} <- File.read("/proc/#{worker}/environ"),
         do: refute(shown =~ "CRYPTOKI_TEST_SECRET")

    assert File.read_link("/proc/#{worker}/cwd") in [{:ok, "/"}, {:error, :eacces}]
    assert %{uid: 0} = File.stat!("/proc/#{worker}/environ")
    open = for fd <- descriptors(worker), fd not in ~w(0 1 2), do: target(worker, fd)
    assert Enum.all?(open, &(&1 =~ ~r{^socket:|^/dev/null$|faulty|softhsm|tokens}))
  end

  test "options that only a process can keep are refused without one", %{module: module} do
    for option <- [memory: 64 * 1024 * 1024, kill_after: 100] do
      assert_raise ArgumentError, ~r/isolation: :process/, fn ->
        Cryptoki.start_link(FaultyModule.options(module, [isolation: :none] ++ [option]))
      end
    end
  end

  # Where other tests find theirs nothing is installed.
  defp installed do
    {:ok, program} = Cryptoki.Native.Loader.worker()
    copy = Path.join(SoftHSM.directory(), "installed-#{System.unique_integer([:positive])}")
    copy = Path.join(copy, "cryptoki")
    for folder <- ["ebin", "priv"], do: File.mkdir_p!(Path.join(copy, folder))
    folder = Path.join(copy, "priv/native")
    File.cp_r!(Path.dirname(program), folder)
    ebin = to_charlist(Path.join(copy, "ebin"))
    on_exit(fn -> :code.del_path(ebin) end)
    true = :code.add_patha(ebin)
    folder
  end

  defp descriptors(worker) do
    case File.ls("/proc/#{worker}/fd") do
      {:ok, descriptors} -> descriptors
      {:error, :eacces} -> []
    end
  end

  defp target(worker, fd) do
    case File.read_link("/proc/#{worker}/fd/#{fd}") do
      {:ok, target} -> target
      {:error, _closed} -> "/dev/null"
    end
  end

  defp key(hsm) do
    label = "isolated-#{System.unique_integer([:positive])}"
    options = [value_len: 32, sign: true, label: label, token: true]
    assert {:ok, _key} = Cryptoki.generate_key(hsm, :generic_secret_key_gen, options)
    [label: label]
  end

  defp sign(hsm, key, options \\ []), do: Cryptoki.sign(hsm, key, :sha256_hmac, "text", options)

  # What was absent a moment ago comes back.
  defp signed(hsm, key) do
    await(fn -> match?({:ok, <<_::256>>}, sign(hsm, key)) end)
    true
  end

  defp provoked(hsm, key, done?) do
    sign(hsm, key)
    unless done?.(), do: provoked(hsm, key, done?)
  end

  defp await_status(hsm, fun) do
    status = Cryptoki.status!(hsm)
    if fun.(status), do: status, else: await_status(hsm, fun)
  end

  # The process of the one instance that has one here, or of the youngest.
  defp keeper(hsm), do: hsm |> worker() |> Workers.parent()
  defp worker(_hsm), do: List.last(Workers.all())
  defp alive?(pid), do: Workers.alive?(pid)

  defp kill(hsm, signal), do: {_, 0} = System.cmd("kill", ["-#{signal}", worker(hsm)])
end
