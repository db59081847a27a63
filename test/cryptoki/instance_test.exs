defmodule Cryptoki.InstanceTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Instances, TokenServer}
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @manufacturer %{softhsm2: "SoftHSM", kryoptic: "Kryoptic"}[MainToken.name()]
  @project %{softhsm2: "SoftHSM project", kryoptic: "Kryoptic Project"}[MainToken.name()]

  describe "start_link/1" do
    test "connects, tells the state, and stops" do
      {:ok, hsm} = Cryptoki.start_link(MainToken.options(sessions: 3))
      {:ok, status} = Cryptoki.status(hsm)

      assert %{state: :ready, reason: nil, queue: 0} = status
      assert %{wanted: 3, open: 3, busy: 0, overdue: 0} = status.sessions
      assert status.token.label == SoftHSM.label()

      assert Cryptoki.stop(hsm) == :ok
      refute Process.alive?(hsm)
      assert {:error, %Error{reason: :shutdown}} = Cryptoki.status(hsm)
      assert Cryptoki.stop(hsm) == :ok
    end

    # Otherwise a start would not wait for the first attempt, now and then, and the first call find no token.
    test "knows its token server before the start is over" do
      {:ok, hsm} = Cryptoki.start_link(MainToken.options())
      server = Instances.get(hsm, :server)
      assert {:ok, _state, {:continue, :start}} = TokenServer.init(hsm)
      assert Instances.get(hsm, :server) == self()
      Instances.put(hsm, :server, server)
      Cryptoki.stop(hsm)
    end

    test "takes a URI that says everything" do
      {:ok, hsm} = Cryptoki.start_link([uri: MainToken.uri()] ++ MainToken.initialized())
      assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
      Cryptoki.stop(hsm)
    end

    test "is the child of a supervisor, which starts it again" do
      start_supervised!({Cryptoki, MainToken.options(name: __MODULE__.Child)})
      pid = Process.whereis(__MODULE__.Child)
      ref = Process.monitor(pid)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, ^pid, :killed}

      assert await(
               fn -> Cryptoki.status(__MODULE__.Child) end,
               &match?({:ok, %{state: :ready}}, &1)
             )
    end

    test "does not need the token to be there" do
      log =
        capture_log(fn ->
          {:ok, hsm} = Cryptoki.start_link(MainToken.options(token: [label: "elsewhere"]))
          assert {:ok, %{state: :absent, reason: reason}} = Cryptoki.status(hsm)
          assert reason.reason == :token_absent
          assert Exception.message(reason) =~ "pkcs11:token=elsewhere"
          assert Exception.message(reason) =~ inspect(SoftHSM.label())

          assert {:error, %Error{reason: :token_absent} = error} =
                   Cryptoki.digest(hsm, :sha256, "")

          assert Exception.message(error) =~ "pkcs11:token=elsewhere"
          assert {:error, %Error{reason: :token_absent}} = Cryptoki.token_info(hsm)
          assert {:ok, %{manufacturer: @manufacturer}} = Cryptoki.library_info(hsm)
          Cryptoki.stop(hsm)
        end)

      assert log =~ "no token"
    end

    test "refuses what two tokens could be" do
      # All of them are of one.
      token = [manufacturer: @project]
      {:ok, hsm} = Cryptoki.start_link(MainToken.options(token: token))
      assert {:ok, %{state: :absent, reason: reason}} = Cryptoki.status(hsm)
      assert Exception.message(reason) =~ "tokens are"
      Cryptoki.stop(hsm)
    end

    # SoftHSM shows one more slot, for the next token.
    test "takes the only token that is in use, beside one that is blank" do
      module = FaultyModule.new()
      options = FaultyModule.options(module, token: [manufacturer: @project])
      {:ok, hsm} = Cryptoki.start_link(options)
      assert {:ok, %{state: :ready, token: %{label: label}}} = Cryptoki.status(hsm)
      assert label == SoftHSM.label()
      Cryptoki.stop(hsm)
    end

    test "says at once that a library cannot be loaded, also to a supervisor" do
      missing = "/no/such/library.so"
      no_library = Path.join(SoftHSM.directory(), "text.so")
      File.write!(no_library, "this is text")

      for path <- [missing, no_library] do
        assert {:error, %Error{reason: :library_not_loaded} = error} =
                 Cryptoki.start_link(library: path, token: [slot: 0])

        assert Exception.message(error) =~ "cannot be loaded"

        assert {:error, {:shutdown, {:failed_to_start_child, Cryptoki, %Error{} = ^error}}} =
                 start_supervised(%{
                   id: path,
                   type: :supervisor,
                   start:
                     {Supervisor, :start_link,
                      [[{Cryptoki, library: path, token: [slot: 0]}], [strategy: :one_for_one]]}
                 })
                 |> inner_error()
      end
    end

    test "raises for a wrong option, and shows no PIN" do
      for {opts, text} <- [
            {[pni: "5318"], "pni"},
            {[sessions: 0], "sessions"},
            {[pin: 5318], "pin"},
            {[token: [lable: "x"]], "lable"}
          ] do
        error = catch_error(Cryptoki.start_link([library: SoftHSM.library()] ++ opts))
        assert %ArgumentError{} = error
        assert error.message =~ text
        refute error.message =~ "5318"
        assert %ArgumentError{} = catch_error(Cryptoki.child_spec([library: "/x"] ++ opts))
      end
    end

    test "the same name is started once" do
      {:ok, hsm} = Cryptoki.start_link(MainToken.options(name: __MODULE__.Once))

      assert {:error, {:already_started, ^hsm}} =
               Cryptoki.start_link(MainToken.options(name: __MODULE__.Once))

      assert {:ok, _} = Cryptoki.digest(__MODULE__.Once, :sha256, "")
      Cryptoki.stop(__MODULE__.Once)
    end

    test "two instances share a library, and each stops for itself" do
      link = Path.join(SoftHSM.directory(), "link-#{System.unique_integer([:positive])}.so")
      File.ln_s!(MainToken.options()[:library], link)
      {:ok, one} = Cryptoki.start_link(MainToken.options())
      {:ok, two} = Cryptoki.start_link(Keyword.put(MainToken.options(), :library, link))
      key = [label: "shared #{System.unique_integer()}", token: true, value_len: 16]
      Cryptoki.generate_key!(one, :aes_key_gen, key)

      Cryptoki.stop(one)
      assert {:ok, _found} = Cryptoki.find_one(two, label: key[:label])
      assert :ok = Cryptoki.destroy(two, label: key[:label])
      Cryptoki.stop(two)
    end
  end

  describe "a wrong PIN" do
    setup do
      %{module: FaultyModule.new(labels: ["pin-#{System.unique_integer([:positive])}"])}
    end

    test "is tried once, whatever is started again, until another one is given", context do
      test = self()

      pin = fn ->
        send(test, :fetched)
        "99999999"
      end

      opts = FaultyModule.options(context.module, pin: pin)

      log =
        capture_log(fn ->
          {:ok, hsm} = Cryptoki.start_link(opts)
          assert {:ok, %{state: :locked, reason: reason}} = Cryptoki.status(hsm)
          assert %Error{reason: :pin_incorrect, function: :C_Login, code: 0xA0} = reason
          assert {:error, %Error{reason: :locked}} = Cryptoki.digest(hsm, :sha256, "")
          Cryptoki.stop(hsm)

          {:ok, again} = Cryptoki.start_link(opts)
          assert {:ok, %{state: :locked, reason: reason}} = Cryptoki.status(again)
          assert %Error{reason: :pin_incorrect, function: nil} = reason

          # The processes of the instance start again with the same knowledge.
          for {_id, pid, _type, _modules} <- Supervisor.which_children(again), do: kill(pid)

          assert await(
                   fn -> Cryptoki.status(again) end,
                   &match?({:ok, %{state: :locked, reason: %Error{function: nil}}}, &1)
                 )

          assert {:error, %Error{reason: :pin_incorrect}} = Cryptoki.unlock(again, "99999999")
          assert :ok = Cryptoki.unlock(again, SoftHSM.pin())
          assert {:ok, %{state: :ready, reason: nil}} = Cryptoki.status(again)
          assert {:ok, _digest} = Cryptoki.digest(again, :sha256, "")
          assert :ok = Cryptoki.unlock(again, "not looked at")
          Cryptoki.stop(again)
        end)

      assert_received :fetched
      assert log =~ "locked until"
      refute log =~ "99999999"
    end

    test "that cannot be fetched leaves the instance absent, with the reason", context do
      opts = FaultyModule.options(context.module)

      {:ok, hsm} =
        Cryptoki.start_link([pin: {:env, "CRYPTOKI_NO_SUCH"}] ++ Keyword.delete(opts, :pin))

      assert {:ok, %{state: :absent, reason: reason}} = Cryptoki.status(hsm)
      assert Exception.message(reason) =~ "CRYPTOKI_NO_SUCH"
      assert :ok = Cryptoki.unlock(hsm, fn -> SoftHSM.pin() end)
      assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
      Cryptoki.stop(hsm)
    end

    test "no PIN is a public session, and unlock/3 logs in", context do
      opts = FaultyModule.options(context.module, pin: nil)
      {:ok, hsm} = Cryptoki.start_link(opts)
      assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
      template = [value_len: 16, token: true]

      assert {:error, %Error{reason: :user_not_logged_in}} =
               Cryptoki.generate_key(hsm, :aes_key_gen, template)

      assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin())
      assert {:ok, _key} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
      Cryptoki.stop(hsm)
    end
  end

  describe "subscribe/1" do
    test "tells changes of state, until unsubscribed" do
      label = "told-#{System.unique_integer([:positive])}"
      module = FaultyModule.new(labels: [label])
      {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, pin: "no"))
      {:ok, ref} = Cryptoki.subscribe(hsm)
      :ok = Cryptoki.unlock(hsm, SoftHSM.pin())
      assert_receive {:cryptoki, ^ref, {:token_inserted, %{label: ^label}}}
      assert_receive {:cryptoki, ^ref, {:state, :ready, nil}}
      :ok = Cryptoki.unsubscribe(hsm, ref)
      Cryptoki.stop(hsm)
      refute_received {:cryptoki, ^ref, _event}
    end
  end

  describe "information" do
    setup do
      %{hsm: start_supervised!({Cryptoki, MainToken.options()})}
    end

    test "of the library, its slots, the token and its mechanisms", %{hsm: hsm} do
      version = %{softhsm2: {2, 40}, kryoptic: {3, 2}}[MainToken.name()]
      assert %{cryptoki_version: ^version} = Cryptoki.library_info!(hsm)
      assert {:ok, slots} = Cryptoki.slots(hsm)

      assert {:ok, ^slots} =
               Cryptoki.slots(Keyword.take(MainToken.options(), [:library, :init_args]))

      assert SoftHSM.label() in for(%{token: %{label: label}} <- slots, do: label)
      assert :token_present in hd(slots).flags

      assert %{label: label, serial: serial} = token = Cryptoki.token_info!(hsm)
      assert label == SoftHSM.label()
      assert serial != ""
      assert :login_required in token.flags

      mechanisms = Cryptoki.mechanisms!(hsm)
      assert length(mechanisms) == %{softhsm2: 70, kryoptic: 174}[MainToken.name()]
      assert :aes_gcm in mechanisms
      assert :generate_key_pair in Cryptoki.mechanism_info!(hsm, :rsa_pkcs_key_pair_gen).flags

      assert {:error, %Error{reason: :mechanism_invalid}} =
               Cryptoki.mechanism_info(hsm, :idea_ecb)

      assert_raise ArgumentError, ~r/:aes_gcm/, fn -> Cryptoki.mechanism_info(hsm, :aes_gmc) end
    end
  end

  test "a session count above the token's limit gives fewer sessions" do
    # SoftHSM has no limit that can be set: see timeout_test.exs for the fault module.
    {:ok, hsm} = Cryptoki.start_link(MainToken.options(sessions: 16))
    assert %{sessions: %{open: 16}} = Cryptoki.status!(hsm)
    Cryptoki.stop(hsm)
  end

  test "an instance that does not run is an error that names it" do
    assert {:error, %Error{reason: :shutdown} = error} =
             Cryptoki.sign(:no_hsm, [label: "x"], :ecdsa, "")

    assert Exception.message(error) =~ ":no_hsm"
    assert_raise ArgumentError, ~r/expected an instance/, fn -> Cryptoki.status("hsm") end
  end

  defp kill(pid) do
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, _reason}
  end

  # Asks again until it holds; each question goes to another process and back.
  defp await(fun, holds?, attempts \\ 200_000) do
    cond do
      holds?.(fun.()) -> true
      attempts == 0 -> flunk("still #{inspect(fun.())}")
      true -> await(fun, holds?, attempts - 1)
    end
  end

  # What the supervisor of the test made of it, taken off again.
  defp inner_error({:error, {{:shutdown, _why} = inner, _child}}), do: {:error, inner}
end
