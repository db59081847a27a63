defmodule Cryptoki.Recovery.LoginTest do
  # A token counts wrong PINs and locks: the journal counts the tries.
  use ExUnit.Case, async: false

  alias Cryptoki.{Environment, Error, HSM, Native, Options}
  alias Cryptoki.Native.Wait
  alias Cryptoki.Test.EveryCall.World
  alias Cryptoki.Test.{FaultyModule, Load, MainToken, SoftHSM}

  @moduletag :capture_log

  # CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED
  @final_try 0x20000
  @pin_locked 0x40000

  setup do
    module = FaultyModule.new(labels: ["login-#{System.unique_integer([:positive])}"])
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module, tries: fn -> FaultyModule.count(module, ~r/^C_Login (ran|faked)/) end}
  end

  defp options(module, more),
    do: FaultyModule.options(module, [sessions: 2, reconnect: [min: 1, max: 10]] ++ more)

  # On a busy machine the library is not initialised in so short a time, and a start says so.
  defp in_haste(options) do
    case Cryptoki.start_link(options) do
      {:ok, hsm} -> hsm
      {:error, %Error{reason: :timeout}} -> in_haste(options)
    end
  end

  test "a login that the library has no time for costs its caller an error only", context do
    hsm = in_haste(options(context.module, timeout: 200))
    ready(hsm)
    {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16)
    FaultyModule.control(context.module, "C_GetTokenInfo hang\nC_EncryptInit rv=0x101")

    assert {:error, %Error{reason: :timeout}} = Cryptoki.encrypt(hsm, key, :aes_ecb, <<0::128>>)
    assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
    assert {:ok, _} = Cryptoki.random(hsm, 1)

    FaultyModule.control(context.module, "")
    assert {:ok, _} = Cryptoki.encrypt(hsm, key, :aes_ecb, <<0::128>>, timeout: 5_000)
    Cryptoki.stop(hsm)
  end

  # Nothing else says so: as long as somebody holds on to the instance, no destructor closes it.
  test "the session of a login whose instance has ended meanwhile is closed", context do
    opts = options(context.module, timeout: 300)

    {:ok, library} =
      opts |> Options.start!() |> Environment.opened() |> Wait.open(Wait.deadline(60_000))

    FaultyModule.control(context.module, "C_OpenSession hang")
    hsm = in_haste(opts)
    FaultyModule.await(context.module, ~r/^C_OpenSession hangs/)
    {:ok, target} = HSM.target(hsm)
    Process.unlink(hsm)
    kill(hsm)
    assert World.until(fn -> HSM.target(hsm) |> elem(0) == :error end)
    FaultyModule.control(context.module, "")

    assert World.until(fn ->
             Wait.control(library, {:reinitialize}, Wait.deadline(5_000)) == :ok
           end)

    assert is_reference(target.native)
    :ok = Wait.close(library, Wait.deadline(5_000))
  end

  test "a wrong PIN is tried once in a VM, whatever is started again", context do
    opts = options(context.module, pin: fn -> "99999999" end)
    {:ok, supervisor} = Supervisor.start_link([{Cryptoki, opts}], strategy: :one_for_one)
    locked(child(supervisor))
    assert context.tries.() == 1

    # The processes of the instance, the instance, and another instance.
    for {_id, pid, _type, _modules} <- Supervisor.which_children(child(supervisor)), do: kill(pid)
    locked(child(supervisor))

    for _ <- 1..3 do
      kill(child(supervisor))
      locked(child(supervisor))
    end

    {:ok, other} = Cryptoki.start_link(opts)
    locked(other)
    assert {:error, %Error{reason: :pin_incorrect}} = Cryptoki.unlock(other, "99999999")
    Cryptoki.stop(other)
    Supervisor.stop(supervisor)

    # The library is finalised by now; and the application itself starts again.
    Application.stop(:cryptoki)
    :ok = Application.start(:cryptoki)
    {:ok, again} = Cryptoki.start_link(opts)
    locked(again)
    assert context.tries.() == 1

    assert :ok = Cryptoki.unlock(again, SoftHSM.pin())
    assert context.tries.() == 2
    assert {:ok, _} = Cryptoki.random(again, 1)
    Cryptoki.stop(again)
  end

  test "at a keypad nobody hands a PIN over", context do
    # CKF_PROTECTED_AUTHENTICATION_PATH
    FaultyModule.control(context.module, "token flags=0x100\nkeypad pin=#{SoftHSM.pin()}")
    {:ok, hsm} = Cryptoki.start_link(options(context.module, pin: :protected_path))
    template = [value_len: 16, token: true, private: true]
    assert {:ok, _key} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
    assert context.tries.() == 1
    Cryptoki.stop(hsm)
  end

  describe "a user with a name" do
    @describetag skip: MainToken.lacks(:softhsm2, "C_LoginUser came with 3.0")

    test "logs in by C_LoginUser", context do
      FaultyModule.control(context.module, "user name=alice")
      {:ok, hsm} = Cryptoki.start_link(options(context.module, user: {:named, "alice"}))
      # Nobody who is not logged in makes a private key on a token.
      template = [value_len: 16, token: true, private: true]
      assert {:ok, _key} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
      assert FaultyModule.count(context.module, ~r/^C_LoginUser ran 0x0/) == 1
      assert context.tries.() == 0
      Cryptoki.stop(hsm)
    end

    test "whom the token does not know is tried once", context do
      FaultyModule.control(context.module, "user name=alice")
      opts = options(context.module, user: {:named, "bob"})
      {:ok, hsm} = Cryptoki.start_link(opts)
      locked(hsm)
      {:ok, other} = Cryptoki.start_link(opts)
      locked(other)
      assert FaultyModule.count(context.module, ~r/^C_LoginUser faked 0xa0/i) == 1
      for instance <- [hsm, other], do: Cryptoki.stop(instance)
    end
  end

  @tag skip: MainToken.lacks(:kryoptic, "it has the interface of 3.2")
  test "a library of 2.40 has no users with names, and says so", context do
    {:ok, hsm} = Cryptoki.start_link(options(context.module, user: {:named, "alice"}))
    assert {:ok, %{reason: %Error{reason: :function_not_supported}}} = Cryptoki.status(hsm)
    assert context.tries.() == 0
    Cryptoki.stop(hsm)
  end

  test "instances that start at the same moment are one try", context do
    # A second name is a second instance, and a symbolic link the same library.
    link = context.module.library <> ".link.so"
    File.ln_s!(context.module.library, link)
    FaultyModule.control(context.module, "C_Login delay=50")

    hsms =
      1..8
      |> Task.async_stream(
        fn n ->
          library = if rem(n, 2) == 0, do: link, else: context.module.library
          opts = options(context.module, library: library, pin: "99999999", timeout: 30_000)
          {:ok, hsm} = start_unlinked(opts)
          hsm
        end,
        max_concurrency: 8,
        timeout: 60_000
      )
      |> Enum.map(&elem(&1, 1))

    Enum.each(hsms, &locked/1)
    assert context.tries.() == 1
    Enum.each(hsms, &Cryptoki.stop/1)
  end

  test "a token that takes its time to refuse a PIN is asked once", context do
    FaultyModule.control(context.module, "C_Login hang")
    hsm = in_haste(options(context.module, pin: "99999999", timeout: 50))
    assert %{state: :absent} = Cryptoki.status!(hsm)
    {:ok, ref} = Cryptoki.subscribe(hsm)
    # On a busy machine the first attempts end before that.
    FaultyModule.await(context.module, ~r/^C_Login hangs/)
    # Attempts to connect go on, attempts to log in do not.
    refute_receive {:cryptoki, ^ref, {:state, :ready, _}}, 500
    assert FaultyModule.count(context.module, ~r/^C_Login hangs/) == 1
    FaultyModule.control(context.module, "")
    assert_receive {:cryptoki, ^ref, {:state, :locked, %Error{reason: :pin_incorrect}}}
    assert context.tries.() == 1
    Cryptoki.stop(hsm)
  end

  describe "a library that hangs before it has the PIN keeps no other from logging in" do
    setup context do
      other = FaultyModule.beside(context.module)
      on_exit(fn -> FaultyModule.control(other, "") end)
      hsm = in_haste(options(context.module, timeout: 300))
      # On a busy machine that time may be over before.
      ready(hsm)
      %{hsm: hsm, other: other}
    end

    test "when the login waits its turn behind another call", context do
      # The second one is the last thing before the login.
      FaultyModule.control(context.module, "logout\nC_GetTokenInfo hang after=1")
      caller = Task.async(fn -> needs_login(context.hsm) end)
      FaultyModule.await(context.module, ~r/^C_GetTokenInfo hangs/)
      {:ok, target} = HSM.target(context.hsm)
      # In the lane of the login, before it.
      {:ok, request} = Native.job(make_ref(), target.library, {:slots})
      FaultyModule.control(context.module, "C_GetSlotList hang")
      FaultyModule.await(context.module, ~r/^C_GetSlotList hangs/)
      assert {:error, %Error{reason: :timeout, executed: false}} = Task.await(caller, 60_000)
      starts(context)
      # It lives until here, or it would be cancelled.
      assert is_reference(request)
    end

    test "when the library is asked who made it", context do
      FaultyModule.control(context.module, "logout\nC_GetInfo hang")
      caller = Task.async(fn -> needs_login(context.hsm) end)
      FaultyModule.await(context.module, ~r/^C_GetInfo hangs/)
      starts(context)
      assert {:error, %Error{reason: :timeout, executed: false}} = Task.await(caller, 60_000)
    end

    test "when its session is being opened", context do
      Cryptoki.stop(context.hsm)
      FaultyModule.control(context.module, "C_OpenSession hang")
      in_haste(options(context.module, timeout: 300))
      FaultyModule.await(context.module, ~r/^C_OpenSession hangs/)
      starts(context)
    end
  end

  defp starts(context) do
    before = context.tries.()
    {:ok, hsm} = Cryptoki.start_link(options(context.other, timeout: 5_000))
    assert %{state: :ready} = Cryptoki.status!(hsm)
    assert {:ok, _key} = needs_login(hsm)
    assert context.tries.() == before
    Cryptoki.stop(hsm)
  end

  defp needs_login(hsm), do: Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16, token: true)

  test "the last try is left to a person", context do
    for {flags, reason} <- [{@final_try, :locked}, {@pin_locked, :pin_locked}] do
      FaultyModule.control(context.module, "token flags=#{flags}")
      {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
      assert %{state: :locked, reason: %Error{reason: ^reason}} = Cryptoki.status!(hsm)
      assert {:error, %Error{reason: ^reason}} = Cryptoki.unlock(hsm, SoftHSM.pin())
      for {_id, pid, _type, _modules} <- Supervisor.which_children(hsm), do: kill(pid)
      locked(hsm)
      assert context.tries.() == 0
      Cryptoki.stop(hsm)
    end

    FaultyModule.control(context.module, "token flags=#{@final_try}")
    {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
    assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
    assert context.tries.() == 1
    Cryptoki.stop(hsm)
  end

  test "the last try is left to a person also when the login is lost", context do
    {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
    {:ok, ref} = Cryptoki.subscribe(hsm)
    assert context.tries.() == 1
    FaultyModule.control(context.module, "token flags=#{@final_try}\nlogout")
    template = [value_len: 16, token: true]
    assert {:error, %Error{}} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
    assert_receive {:cryptoki, ^ref, {:state, :locked, _why}}
    assert context.tries.() == 1
    Cryptoki.stop(hsm)
  end

  test "two instances on one token: one stops, the other stays logged in", context do
    {:ok, one} = Cryptoki.start_link(options(context.module, []))
    {:ok, two} = Cryptoki.start_link(options(context.module, []))
    template = [label: "shared", token: true, value_len: 16]
    key = Cryptoki.generate_key!(one, :aes_key_gen, template)
    assert {:ok, blob} = Cryptoki.encrypt(two, [label: "shared"], :aes_ecb, <<0::128>>)
    before = context.tries.()

    for _ <- 1..3 do
      assert :ok = Cryptoki.stop(one)
      assert {:ok, ^blob} = Cryptoki.encrypt(two, [label: "shared"], :aes_ecb, <<0::128>>)
    end

    # Nor does one that loses its token, or its processes, log the other out.
    {:ok, one} = Cryptoki.start_link(options(context.module, []))
    for {_id, pid, _type, _modules} <- Supervisor.which_children(one), do: kill(pid)
    assert {:ok, ^blob} = Cryptoki.encrypt(two, key, :aes_ecb, <<0::128>>)
    kill_unlinked(one)
    assert {:ok, ^blob} = Cryptoki.encrypt(two, key, :aes_ecb, <<0::128>>)
    assert FaultyModule.count(context.module, ~r/^C_Logout/) == 0
    assert before >= 2
    Cryptoki.stop(two)
  end

  test "two instances find the login gone and log in again, once each at most", context do
    {:ok, one} = Cryptoki.start_link(options(context.module, []))
    {:ok, two} = Cryptoki.start_link(options(context.module, []))
    FaultyModule.control(context.module, "logout")

    for hsm <- [one, two] do
      assert {:ok, _} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16, token: true)
    end

    assert context.tries.() <= 4
    Enum.each([one, two], &Cryptoki.stop/1)
  end

  test "a token that restarts at the moment of the login costs nobody anything", context do
    {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
    template = [label: "restarted", token: true, value_len: 16]
    Cryptoki.generate_key!(hsm, :aes_key_gen, template)
    FaultyModule.control(context.module, "logout\nC_Login forget rv=0xB3 count=1")
    {:ok, ref} = Cryptoki.subscribe(hsm)
    assert {:ok, _} = Cryptoki.encrypt(hsm, [label: "restarted"], :aes_ecb, <<0::128>>)
    refute_received {:cryptoki, ^ref, {:state, _state, _why}}
    Cryptoki.stop(hsm)
  end

  test "logging in again and again under load", context do
    {:ok, hsm} = Cryptoki.start_link(options(context.module, sessions: 4))
    template = [label: "busy", token: true, value_len: 16]
    Cryptoki.generate_key!(hsm, :aes_key_gen, template)
    encrypt = fn -> Cryptoki.encrypt(hsm, [label: "busy"], :aes_ecb, <<0::128>>) end
    {:ok, blob} = encrypt.()

    # Who meets two logouts in a row is told.
    call = fn ->
      case encrypt.() do
        {:ok, ^blob} -> :encrypted
        {:error, %Error{executed: false}} -> :told
      end
    end

    callers = for _ <- 1..4, do: Load.start(call)

    for _ <- 1..100 do
      FaultyModule.control(context.module, "logout")
      call.()
    end

    Load.stop(callers)
    assert {:ok, ^blob} = encrypt.()
    assert context.tries.() > 50
    Cryptoki.stop(hsm)
  end

  @tag skip: MainToken.lacks(:softhsm2, "it logs in while others call")
  test "where nobody can log in under a call, a call that hangs delays it", context do
    {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
    template = [label: "late", token: true, value_len: 16]
    Cryptoki.generate_key!(hsm, :aes_key_gen, template)
    encrypt = fn -> Cryptoki.encrypt(hsm, [label: "late"], :aes_ecb, <<0::128>>) end
    {:ok, blob} = encrypt.()
    FaultyModule.control(context.module, "C_GenerateRandom hang\nlogout")
    hanging = Task.async(fn -> Cryptoki.random(hsm, 1) end)
    FaultyModule.await(context.module, ~r/^C_GenerateRandom hangs/)
    before = context.tries.()
    assert {:error, %Error{reason: :busy, executed: false}} = encrypt.()
    assert context.tries.() == before
    FaultyModule.control(context.module, "")
    assert {:ok, _} = Task.await(hanging, 60_000)
    assert {:ok, ^blob} = encrypt.()
    Cryptoki.stop(hsm)
  end

  defp ready(hsm) do
    unless match?({:ok, %{state: :ready, sessions: %{open: 2}}}, Cryptoki.status(hsm)),
      do: ready(hsm)
  end

  defp locked(hsm) do
    case Cryptoki.status(hsm) do
      {:ok, %{state: :locked}} -> true
      _not_yet -> locked(hsm)
    end
  end

  defp child(supervisor) do
    case Supervisor.which_children(supervisor) do
      [{Cryptoki, pid, _type, _modules}] when is_pid(pid) -> pid
      _restarting -> child(supervisor)
    end
  end

  defp start_unlinked(opts) do
    {:ok, hsm} = Cryptoki.start_link(opts)
    Process.unlink(hsm)
    {:ok, hsm}
  end

  defp kill_unlinked(pid) do
    Process.unlink(pid)
    kill(pid)
  end

  defp kill(pid) do
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, _reason}
  end
end
