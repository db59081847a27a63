defmodule Cryptoki.Recovery.HealthTest do
  # What an instance says of itself while its library hangs, fails, or keeps it from connecting: a health and
  # a reason that code can match, sentences that are true, a line in the log when it begins and when it ends.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @moduletag :capture_log

  setup do: FaultyModule.own()

  defp start(module, opts) do
    opts = Keyword.merge([reconnect: [min: 1, max: 50]], opts)
    start_supervised!({Cryptoki, FaultyModule.options(module, opts)})
  end

  describe "sessions that cannot be opened while connecting" do
    # Those that speak of a limit, and those that do not.
    for code <- [0xB1, 0x31, 0x30, 0x05, 0x02, 0x54, 0x80000001] do
      test "0x#{Integer.to_string(code, 16)}: the rest comes by itself", %{module: module} do
        # The first is that of the login.
        rule = "C_OpenSession rv=0x#{Integer.to_string(unquote(code), 16)} after=3"
        FaultyModule.control(module, rule)

        log =
          capture_log(fn ->
            hsm = start(module, sessions: 4)

            assert %{state: :ready, health: :degraded, sessions: %{open: 2}} =
                     status = Cryptoki.status!(hsm)

            assert %Error{code: unquote(code), function: :C_OpenSession} = status.reason
            assert {:ok, _} = Cryptoki.random(hsm, 1)
            # The status has it first, then the log, then who has subscribed.
            {:ok, ref} = Cryptoki.subscribe(hsm)
            FaultyModule.control(module, "")
            assert_receive {:cryptoki, ^ref, {:health, :ok, nil}}
            status = Cryptoki.status!(hsm)
            assert %{health: :ok, reason: nil, sessions: %{wanted: 4, open: 4}} = status
          end)

        assert log =~ "ready with 2 of 4 sessions"
        assert lines(log, "well again, 4 of 4 sessions serve") == 1
      end
    end

    test "one that hangs", %{module: module} do
      FaultyModule.control(module, "C_OpenSession hang after=3 count=1")

      log =
        capture_log(fn ->
          hsm = start(module, sessions: 4, timeout: 300)

          # While it hangs it counts as one, and is made good for: a millisecond later, when nothing else is to do.
          status(hsm, &(&1.health == :ok and &1.sessions.overdue == 1))
        end)

      assert log =~ "ready with 2 of 4 sessions: C_OpenSession: no answer in time"
    end

    test "a session that is lost later, and others that have no room", %{module: module} do
      hsm = start(module, sessions: 3)
      FaultyModule.control(module, "sessions max=2\nC_GenerateRandom rv=0xB3 count=1")
      Cryptoki.random(hsm, 1)
      status(hsm, &match?(%{health: :degraded, reason: %Error{reason: :session_count}}, &1))
      FaultyModule.control(module, "")
      status(hsm, &(&1.health == :ok and &1.sessions.open == 3))
    end
  end

  describe "a library that hangs" do
    test "under all sessions: the reason, a line when it begins and one when it ends", context do
      %{module: module} = context

      log =
        capture_log(fn ->
          hsm = start(module, sessions: 2)
          {:ok, ref} = Cryptoki.subscribe(hsm)
          assert %{health: :ok, oldest_call: nil} = Cryptoki.status!(hsm)
          FaultyModule.control(module, "C_Digest hang")
          for _ <- 1..4, do: assert({:error, %Error{reason: :timeout}} = digest(hsm, 100))

          assert_receive {:cryptoki, ^ref, {:health, :unresponsive, %Error{reason: :timeout}}},
                         20_000

          assert %{state: :ready, health: :unresponsive, reason: reason} =
                   status = Cryptoki.status!(hsm)

          assert %{oldest_call: %{function: :C_Digest, milliseconds: _}} = status
          assert %Error{reason: :timeout, function: :C_Digest} = reason

          assert Exception.message(reason) =~
                   ~r/C_Digest has not returned since \d{4}-\d\d-\d\d \d\d:/

          assert {:ok, %{health: :unresponsive, reason: {:timeout, _info}}} =
                   :cryptoki.status(hsm)

          # What waits for a session is told what keeps them.
          {:error, %Error{reason: :timeout, executed: false} = error} = digest(hsm, 1_500)
          assert error.detail =~ "nothing was executed: C_Digest has not returned since"

          # It comes and goes before all is well: that is told once.
          FaultyModule.control(module, "")
          assert_receive {:cryptoki, ^ref, {:health, :ok, nil}}

          assert %{state: :ready, reason: nil, oldest_call: nil} =
                   status(hsm, &(&1.sessions.overdue == 0))
        end)

      assert lines(log, "the library does not return") == 1
      assert lines(log, "well again, 2 of 2 sessions serve") == 1
    end

    for function <- ~w(C_GetSlotList C_GetTokenInfo C_GetMechanismList C_OpenSession C_Login) do
      test "in #{function} while connecting: it is named, by status and to callers, until it returns",
           %{module: module} do
        function = unquote(function)
        FaultyModule.control(module, "#{function} hang")

        log =
          capture_log(fn ->
            hsm = start(module, sessions: 1, timeout: 400)
            # Half of the timeout in the function is what it takes.
            status(hsm, &(&1.health == :unresponsive)) |> named(function)
            # The attempt is given up, and others with it.
            for _ <- 1..3, do: named(Cryptoki.status!(hsm), function)

            status(hsm, fn status ->
              named(status, function)
              status.oldest_call.milliseconds > 900
            end)

            {:error, %Error{reason: :timeout, executed: false, code: nil} = error} =
              digest(hsm, 400)

            assert Exception.message(error) =~ "#{function} has not returned since"
            refute Exception.message(error) =~ "no session was free"

            {:error, %Error{reason: :timeout, executed: false} = error} =
              Cryptoki.slots(hsm, timeout: 50)

            assert Exception.message(error) =~ "#{function} has not returned since"

            FaultyModule.control(module, "")
            status(hsm, &(&1.state == :ready and &1.health == :ok))
          end)

        assert lines(log, "no token, it is looked for again") <= 1
      end
    end

    defp named(status, function) do
      function = String.to_atom(function)
      assert %{state: :absent, health: :unresponsive, reason: %Error{} = reason} = status
      assert %Error{reason: :timeout, function: ^function} = reason
    end
  end

  describe "nothing but device errors" do
    for code <- [0x30, 0x06, 0x05] do
      test "0x#{Integer.to_string(code, 16)}: failing, until something succeeds", %{
        module: module
      } do
        log =
          capture_log(fn ->
            hsm = start(module, sessions: 2)
            {:ok, ref} = Cryptoki.subscribe(hsm)
            code = unquote(code)
            FaultyModule.control(module, "C_Digest rv=0x#{Integer.to_string(code, 16)}")
            for _ <- 1..2, do: digest(hsm, 5_000)
            assert {:ok, _} = Cryptoki.random(hsm, 1)
            for _ <- 1..2, do: digest(hsm, 5_000)
            refute_received {:cryptoki, ^ref, {:health, _, _}}
            digest(hsm, 5_000)
            assert_receive {:cryptoki, ^ref, {:health, :failing, %Error{code: ^code}}}
            assert %{state: :ready, health: :failing} = status = Cryptoki.status!(hsm)
            assert %Error{code: ^code, function: :C_Digest} = status.reason

            # A search is answered from memory: it says nothing of the device.
            assert {:ok, _} = Cryptoki.find(hsm, label: "anything")
            assert %{health: :failing} = Cryptoki.status!(hsm)
            FaultyModule.control(module, "")
            assert {:ok, _} = digest(hsm, 5_000)
            assert_receive {:cryptoki, ^ref, {:health, :ok, nil}}
            assert %{health: :ok, reason: nil} = Cryptoki.status!(hsm)
          end)

        assert lines(log, "operations end with device errors") == 1
        assert lines(log, "well again") == 1
      end
    end

    test "errors that may be about the data are none of these", %{module: module} do
      hsm = start(module, sessions: 1)
      key = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 16, token: true, label: "k")
      FaultyModule.control(module, "C_Decrypt rv=0x05")

      for _ <- 1..5 do
        assert {:error, %Error{code: 5}} = Cryptoki.decrypt(hsm, key, :aes_ecb, <<0::128>>)
      end

      assert %{state: :ready, health: :ok} = Cryptoki.status!(hsm)
    end
  end

  describe "what keeps it from connecting has a reason of its own" do
    test "and calls meanwhile answer with it, in a sentence that comes once", %{module: module} do
      twins = FaultyModule.new(labels: ["twin", "twin"])
      raising = fn -> raise "the vault is closed" end

      causes = [
        {:pin_unavailable, module, [pin: {:env, "CRYPTOKI_TEST_NO_SUCH_PIN"}], ""},
        {:pin_unavailable, module, [pin: raising], ""},
        {:pin_unavailable, module, [pin: fn -> 1234 end], ""},
        {:token_absent, module, [token: [label: "nowhere"]], ""},
        {:token_absent, module, [], "token remove"},
        {:token_absent, module, [], "C_GetTokenInfo rv=0xE1"},
        {:token_ambiguous, twins, [], ""},
        {:general_error, module, [], "C_GetSlotList rv=0x05"},
        {:device_error, module, [], "C_GetMechanismList rv=0x30"},
        {:session_count, module, [], "C_OpenSession rv=0xB1"},
        {:host_memory, module, [], "C_OpenSession rv=0x02 after=1"}
      ]

      for {reason, module, opts, rules} <- causes do
        FaultyModule.control(module, rules <> "\n# #{System.unique_integer()}")
        opts = Keyword.merge([sessions: 1, reconnect: [min: 50, max: 100]], opts)
        {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, opts))
        assert %{state: :absent, health: :down, reason: %Error{} = why} = Cryptoki.status!(hsm)
        assert why.reason in [reason, :token_not_present, :token_not_recognized]
        once(why)

        for {call, answer} <- answers(hsm) do
          assert {:error, %Error{reason: ^reason, code: nil, executed: false} = error} = answer,
                 "#{call} while #{reason}: #{inspect(answer)}"

          once(error)
        end

        FaultyModule.control(module, "# #{System.unique_integer()}")
        Cryptoki.stop(hsm)
      end
    end

    # One that is connected is not asked again when its PIN goes away; when it is lost it is.
    test "also after it was connected", %{module: module} do
      hsm = start(module, sessions: 1, pin: {:env, "CRYPTOKI_TEST_HEALTH_PIN"}, timeout: 5_000)
      assert %{reason: %Error{reason: :pin_unavailable}} = Cryptoki.status!(hsm)
      System.put_env("CRYPTOKI_TEST_HEALTH_PIN", SoftHSM.pin())
      on_exit(fn -> System.delete_env("CRYPTOKI_TEST_HEALTH_PIN") end)
      status(hsm, &match?(%{state: :ready, health: :ok, reason: nil}, &1))
    end

    defp answers(hsm) do
      selector = [label: "k"]

      [
        digest: Cryptoki.digest(hsm, :sha256, ""),
        stream: Cryptoki.digest(hsm, :sha256, {:stream, ["a"]}),
        random: Cryptoki.random(hsm, 1),
        sign: Cryptoki.sign(hsm, selector, :ecdsa_sha256, "data"),
        place: Cryptoki.sign(hsm, "pkcs11:token=other;object=k", :ecdsa, "data"),
        find: Cryptoki.find(hsm, selector),
        find_one: Cryptoki.find_one(hsm, selector),
        generate: Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16),
        with_session: Cryptoki.with_session(hsm, fn _ -> flunk("there is none") end),
        token_info: Cryptoki.token_info(hsm),
        mechanisms: Cryptoki.mechanisms(hsm),
        session_info: Cryptoki.session_info(hsm)
      ]
    end

    # What the reason means stands in its sentence once.
    defp once(error) do
      message = Exception.message(error)
      means = Exception.message(Error.new(error.reason))
      assert length(String.split(message, means)) == 2, message
      assert length(String.split(message, "the token is not there")) <= 2, message
    end
  end

  @tag skip: MainToken.apart("each instance has a library of its own")
  test "however many callers ask about the token, an instance connects", %{module: module} do
    hsm = start(module, sessions: 1)
    opts = [sessions: 1, timeout: 400, reconnect: [min: 1, max: 20]]
    {:ok, second} = Cryptoki.start_link(FaultyModule.options(module, opts))
    FaultyModule.control(module, "C_GetMechanismInfo hang")
    ask = fn -> Cryptoki.mechanism_info(hsm, :aes_ecb, timeout: :infinity) end
    first = Task.async(ask)
    FaultyModule.await(module, ~r/^C_GetMechanismInfo hangs/)
    test = self()
    asked = fn -> with {:error, error} <- ask.(), do: send(test, {:refused, error}) end
    others = for _ <- 1..300, do: Task.async(asked)
    # As many as may wait are there, and more are told so.
    assert_receive {:refused, %Error{reason: :busy}}

    # Another one has to connect anew.
    server = Instances.get(second, :server)
    Process.exit(server, :kill)
    status = status(second, &(&1.health == :unresponsive))
    assert %{reason: %Error{reason: :timeout, function: :C_GetMechanismInfo}} = status

    third = FaultyModule.options(module, sessions: 1, timeout: 100)
    assert {:error, %Error{reason: :timeout} = error} = Cryptoki.start_link(third)
    refute Exception.message(error) =~ "no session was free"

    FaultyModule.control(module, "C_GetMechanismInfo delay=20")
    status(second, &(&1.state == :ready))
    # It did not wait for what they had asked before.
    assert FaultyModule.count(module, ~r/^C_GetMechanismInfo ran/) < 200
    FaultyModule.control(module, "")
    assert {:ok, _} = Task.await(first, :infinity)
    answers = Enum.map(others, &Task.await(&1, :infinity))
    assert Enum.any?(answers, &match?({:ok, _}, &1))
    for {:refused, error} <- answers, do: assert(error.reason == :busy)
    Cryptoki.stop(second)
  end

  test "who reads that an instance is ready is served, and who is refused reads why", context do
    %{module: module} = context
    hsm = start(module, sessions: 1)
    server = Instances.get(hsm, :server)
    :erlang.trace(server, true, [:call])

    for traced <- [{Cryptoki.Native, :instance_state, 2}, {Cryptoki.Instances, :put_state, 4}],
        do: :erlang.trace_pattern(traced, true, [])

    FaultyModule.control(module, "sessions forget\nC_OpenSession rv=0xE0")
    assert {:error, %Error{}} = Cryptoki.random(hsm, 1)
    status(hsm, &(&1.state == :absent))
    FaultyModule.control(module, "")
    status(hsm, &(&1.state == :ready))
    assert {:ok, _bytes} = Cryptoki.random(hsm, 1)
    delivered = :erlang.trace_delivered(server)
    assert_receive {:trace_delivered, ^server, ^delivered}
    :erlang.trace(server, false, [:call])

    told = changes()
    assert [{:said, :absent}, {:taken, :absent}] = Enum.take(told, 2)

    assert [{:taken, :ready}, {:said, :ready} | _health] =
             Enum.drop_while(told, &(elem(&1, 1) != :ready))
  end

  defp changes do
    receive do
      {:trace, _server, :call, {Cryptoki.Native, :instance_state, [_, state]}} ->
        [{:taken, state} | changes()]

      {:trace, _server, :call, {Cryptoki.Instances, :put_state, [_, state | _]}} ->
        [{:said, state} | changes()]
    after
      0 -> []
    end
  end

  describe "while nobody has facts about the token" do
    test "a token server that was started again says what holds now", %{module: module} do
      hsm = start(module, sessions: 2, timeout: 2_000)
      assert %{state: :ready} = Cryptoki.status!(hsm)
      FaultyModule.control(module, "C_GetSlotList hang")
      server = Instances.get(hsm, :server)
      monitor = Process.monitor(server)
      Process.exit(server, :kill)
      assert_receive {:DOWN, ^monitor, :process, ^server, :killed}
      assert %{state: :absent, health: health, reason: %Error{}} = Cryptoki.status!(hsm)
      assert health in [:down, :unresponsive]
      # The next one has nothing to say but that.
      await(fn -> Instances.get(hsm, :server) not in [nil, server] end)
      assert %{state: :absent, health: health, reason: %Error{}} = Cryptoki.status!(hsm)
      assert health in [:down, :unresponsive]
      status(hsm, &(&1.health == :unresponsive))

      for {call, answer} <- answers(hsm) do
        assert {:error, %Error{reason: reason, executed: false}} = answer,
               "#{call}: #{inspect(answer)}"

        assert reason in [:token_absent, :timeout], "#{call}: #{reason}"
      end

      FaultyModule.control(module, "")
      status(hsm, &(&1.state == :ready and &1.health == :ok))
    end

    test "no call says that there is nothing, or that the token cannot", %{module: module} do
      hsm = start(module, sessions: 2)
      pair = [label: "there", token: true, curve: :secp256r1]
      Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, pair)

      callers =
        for call <- [
              fn -> Cryptoki.sign(hsm, [label: "there"], :ecdsa_sha256, "data") end,
              fn -> Cryptoki.find(hsm, label: "there", class: :private_key) end
            ],
            do: Task.async(fn -> for _ <- 1..1_500, uniq: true, do: outcome(call.()) end)

      for n <- 1..15 do
        FaultyModule.control(module, "token replug # #{n}")
        status(hsm, &(&1.state == :ready))
      end

      outcomes = callers |> Task.await_many(60_000) |> Enum.concat() |> Enum.uniq()
      assert outcomes -- [:nothing, :mechanism_invalid, :key_not_found] == outcomes
    end

    defp outcome({:ok, []}), do: :nothing
    defp outcome({:ok, [_key]}), do: :found
    defp outcome({:ok, _signature}), do: :ok
    defp outcome({:error, %Error{reason: reason}}), do: reason
  end

  defp digest(hsm, timeout), do: Cryptoki.digest(hsm, :sha256, "data", timeout: timeout)
  defp lines(log, text), do: length(String.split(log, text)) - 1

  # Asks until it holds; the test's own time limit ends it otherwise.
  defp status(hsm, holds?) do
    status = Cryptoki.status!(hsm)
    if holds?.(status), do: status, else: status(hsm, holds?)
  end
end
