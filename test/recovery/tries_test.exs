defmodule Cryptoki.Recovery.TriesTest do
  # A PIN that the library has had goes to it again only when the answer says that no try was used up.
  # The journal counts what the library was given.
  use ExUnit.Case, async: false

  alias Cryptoki.{Answers, Error, Names}
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @moduletag :capture_log

  # Nobody gave these a meaning, or a vendor did.
  @nameless [0x7F, 0x1FF, 0x80000000, 0x80000123, 0xFFFFFFFF]

  setup do
    module = FaultyModule.new(labels: ["tries-#{System.unique_integer([:positive])}"])
    on_exit(fn -> FaultyModule.control(module, "") end)
    tries = fn -> FaultyModule.count(module, ~r/^C_Login(User)? (ran|faked)/) end
    %{module: module, tries: tries}
  end

  defp options(module, more),
    do: FaultyModule.options(module, [sessions: 1, reconnect: [min: 1, max: 2]] ++ more)

  defp pin, do: "pin-#{System.unique_integer([:positive])}"

  describe "a login that fails with" do
    test "any code but those of the table is one try, whatever starts again", context do
      told = for %{code: code, pin: pin} <- Answers.rows(), pin != :refused, do: code

      for {name, code} <- codes(), code not in told do
        pin = pin()
        before = context.tries.()
        FaultyModule.control(context.module, "C_Login rv=#{code}")
        {:ok, hsm} = Cryptoki.start_link(options(context.module, pin: pin))
        assert %{state: :locked, reason: reason} = Cryptoki.status!(hsm), "#{name}"
        assert %Error{code: ^code, function: :C_Login} = reason
        assert {:error, %Error{reason: :locked, executed: false}} = Cryptoki.random(hsm, 1)
        assert {:error, %Error{executed: false}} = Cryptoki.unlock(hsm, pin)
        Cryptoki.stop(hsm)
        {:ok, again} = Cryptoki.start_link(options(context.module, pin: pin))
        assert %{state: :locked} = Cryptoki.status!(again)
        assert context.tries.() == before + 1, "#{name}"

        FaultyModule.control(context.module, "")
        assert :ok = Cryptoki.unlock(again, SoftHSM.pin(), force: true)
        Cryptoki.stop(again)
      end
    end

    test "trouble of the device is tried once more", context do
      for %{code: code, pin: :doubtful} <- Answers.rows() do
        before = context.tries.()
        FaultyModule.control(context.module, "C_Login rv=#{code}")
        {:ok, hsm} = Cryptoki.start_link(options(context.module, pin: pin()))
        assert %Error{code: ^code} = locked(hsm)
        assert context.tries.() == before + 2
        Cryptoki.stop(hsm)

        # One that is over by then leaves nothing behind.
        for _time <- 1..2 do
          FaultyModule.control(context.module, "C_Login rv=#{code} count=1")
          {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
          ready(hsm)
          Cryptoki.stop(hsm)
        end
      end
    end

    test "what the standard says of no PIN is tried until it goes away", context do
      {:ok, already} = Names.code(:rv, :user_already_logged_in)

      for %{code: code, pin: :untried} <- Answers.rows(), code != already do
        before = context.tries.()
        FaultyModule.control(context.module, "C_Login rv=#{code}")
        {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
        FaultyModule.await(context.module, ~r/^C_Login faked/i, before + 3)
        FaultyModule.control(context.module, "")
        ready(hsm)
        Cryptoki.stop(hsm)
      end
    end

    test "anything, by another user, from the keypad, or when the login was lost", context do
      users = [
        so: [user: :so],
        keypad: [pin: :protected_path],
        lost: []
      ]

      for {kind, opts} <- users, code <- [0x50, 0x05, 0x07, 0xB0, 0x80000123] do
        module = context.module
        FaultyModule.control(module, "")
        opts = if kind == :keypad, do: opts, else: [pin: SoftHSM.pin()] ++ opts
        forgive(module)

        if kind == :lost do
          {:ok, hsm} = Cryptoki.start_link(options(module, opts))
          before = context.tries.()
          FaultyModule.control(module, "logout\nC_Login rv=#{code}")
          template = [value_len: 16, token: true]
          assert {:error, %Error{}} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
          assert %Error{code: ^code} = locked(hsm)
          assert context.tries.() == before + 1
          Cryptoki.stop(hsm)
        else
          before = context.tries.()
          flags = if kind == :keypad, do: "token flags=0x100\n", else: ""
          FaultyModule.control(module, flags <> "C_Login rv=#{code}")
          {:ok, hsm} = Cryptoki.start_link(options(module, opts))
          assert %Error{code: ^code} = locked(hsm)
          assert context.tries.() == before + 1, "#{kind} #{code}"
          # A person asks for the keypad anew: what is typed may be another PIN.
          if kind == :keypad do
            assert {:error, %Error{code: ^code}} = Cryptoki.unlock(hsm, :protected_path)
            assert context.tries.() == before + 2
          end

          Cryptoki.stop(hsm)
        end
      end
    end
  end

  describe "a context-specific login" do
    setup context do
      {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
      uses = [always_authenticate: true, sign: true, token: true, id: "use"]
      template = [modulus_bits: 2048] ++ uses
      {_public, key} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
      %{hsm: hsm, key: key}
    end

    test "that fails with a code nobody knows is one try", %{hsm: hsm, key: key} = context do
      sign = fn -> Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "text") end

      # After another function the last four are reasons to run the call again.
      for code <- [0x05, 0x50, 0xA0, 0x80000123, 0x60, 0x82, 0x90, 0x101] do
        {:ok, _signature} = sign.()
        before = context.tries.()
        FaultyModule.control(context.module, "C_Login rv=#{code}")
        assert {:error, %Error{code: ^code, function: :C_Login}} = sign.()
        for _ <- 1..3, do: assert({:error, %Error{function: nil, executed: false}} = sign.())
        assert context.tries.() == before + 1
        FaultyModule.control(context.module, "")
        assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
        ready(hsm)
      end

      Cryptoki.stop(hsm)
    end

    test "that device errors keep from its end is one try more",
         %{hsm: hsm, key: key} = context do
      sign = fn -> Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "text") end
      before = context.tries.()
      FaultyModule.control(context.module, "C_Login rv=0x30")
      for _ <- 1..5, do: assert({:error, %Error{executed: false}} = tried(sign.()))
      assert context.tries.() == before + 2
      FaultyModule.control(context.module, "")
      assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
      assert {:ok, _signature} = sign.()
      Cryptoki.stop(hsm)
    end

    for way <- [:times_out, :dies] do
      test "whose caller #{way} is not tried again when the token has refused it", context do
        %{hsm: hsm, key: key, module: module} = context
        sign = fn more -> Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "text", more) end
        {:ok, _signature} = sign.([])
        before = context.tries.()
        FaultyModule.control(module, "C_Login hang rv=0xA0")
        unheard(unquote(way), sign, module)
        FaultyModule.control(module, "")
        FaultyModule.await(module, ~r/^C_Login faked/)
        ready(hsm)
        assert {:error, %Error{reason: :pin_incorrect, function: :C_Login}} = sign.([])
        assert {:error, %Error{reason: :pin_incorrect, function: nil}} = sign.([])
        assert context.tries.() == before + 1
        assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
        assert {:ok, _signature} = sign.([])
        Cryptoki.stop(hsm)
      end
    end

    defp unheard(:times_out, sign, module) do
      assert {:error, %Error{reason: :timeout, executed: :maybe}} = sign.(timeout: 300)
      FaultyModule.await(module, ~r/^C_Login hangs/)
    end

    defp unheard(:dies, sign, module) do
      {pid, ref} = spawn_monitor(fn -> sign.([]) end)
      FaultyModule.await(module, ~r/^C_Login hangs/)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    end

    # Of the two that were tried the token may know.
    defp tried({:error, %Error{function: :C_Login, executed: :maybe} = error}),
      do: {:error, %{error | executed: false}}

    defp tried(answer), do: answer
  end

  describe "CKR_PIN_INCORRECT and its like from what is no login" do
    for function <- ~w(C_OpenSession C_GetTokenInfo C_GetSlotList C_GetMechanismList) do
      test "is a failure to connect: #{function}", context do
        for code <- [0xA0, 0xA4] do
          FaultyModule.control(context.module, "#{unquote(function)} rv=#{code}")

          case Cryptoki.start_link(options(context.module, [])) do
            {:ok, hsm} ->
              assert %{state: :absent} = Cryptoki.status!(hsm)
              FaultyModule.control(context.module, "")
              ready(hsm)
              Cryptoki.stop(hsm)

            {:error, %Error{}} ->
              :not_started
          end
        end

        FaultyModule.control(context.module, "")
      end
    end

    test "is the caller's error, and no lock", context do
      {:ok, hsm} = Cryptoki.start_link(options(context.module, []))
      {:ok, key} = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16)

      functions =
        ~w(C_EncryptInit C_Encrypt C_GetAttributeValue C_GenerateRandom C_GetSessionInfo)

      for function <- functions, code <- [0xA0, 0xA4] do
        FaultyModule.control(context.module, "#{function} rv=#{code}")
        _ = Cryptoki.encrypt(hsm, key, :aes_ecb, <<0::128>>)
        _ = Cryptoki.random(hsm, 1)
        FaultyModule.control(context.module, "logout\n#{function} rv=#{code}")
        _ = Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16, token: true)
        FaultyModule.control(context.module, "")
        ready(hsm)
        template = [value_len: 16, token: true]
        assert {:ok, _key} = Cryptoki.generate_key(hsm, :aes_key_gen, template)
      end

      Cryptoki.stop(hsm)
    end
  end

  defmodule UsersApplication do
    @moduledoc false
    use Application

    @impl true
    def start(_type, options) do
      options = options ++ [timeout: Application.get_env(:cryptoki_users_application, :timeout)]
      Supervisor.start_link([{Cryptoki, options}], strategy: :one_for_one)
    end
  end

  describe "an application that is stopped while the token thinks about its PIN" do
    setup context do
      # One that keeps the library open, so that the start below is soon at the login.
      {:ok, _keeper} = Cryptoki.start_link(options(context.module, pin: nil))
      on_exit(fn -> Application.stop(:cryptoki_users_application) end)
      before = context.tries.()
      FaultyModule.control(context.module, "C_Login hang")
      %{before: before}
    end

    test "does not try it again: it was wrong", context do
      begin(context, pin())
      for _ <- 1..3, do: again(context)
      assert %Error{reason: :pin_incorrect} = locked(instance())
      assert context.tries.() == context.before + 1
    end

    test "logs in when it was right", context do
      begin(context, SoftHSM.pin())
      again(context)
      ready(instance())
      # The other instance keeps what the first try has brought, where it has the same library.
      kept = if MainToken.apart("it has another"), do: :accepted, else: :shared
      assert Cryptoki.status!(instance()).login == kept
      assert context.tries.() == context.before + 2
    end

    test "does not try it again when our own application is stopped as well", context do
      begin(context, pin())
      again(context, [:cryptoki])
      assert %Error{reason: :pin_incorrect} = locked(instance())
      assert context.tries.() == context.before + 1
    end

    test "does not try it again when the process that logs in was killed", context do
      begin(context, pin())
      [login] = logins()
      Process.exit(login, :kill)
      again(context)
      assert %Error{reason: :locked} = locked(instance())
      assert {:error, %Error{reason: :pin_incorrect}} = Cryptoki.unlock(instance(), pin())
      assert :ok = Cryptoki.unlock(instance(), SoftHSM.pin())
      assert context.tries.() == context.before + 3
    end
  end

  # Until the library has the PIN, and the start has given up waiting for what it says.
  defp begin(context, pin) do
    app = :cryptoki_users_application
    opts = options(context.module, pin: pin, name: :users_instance) |> Keyword.delete(:timeout)

    properties = [
      description: ~c"",
      vsn: ~c"1",
      modules: [],
      registered: [],
      applications: [:kernel, :stdlib],
      mod: {UsersApplication, opts}
    ]

    unload = fn ->
      _ = Application.stop(app)
      _ = Application.unload(app)
    end

    unload.()
    # Its PIN is among what the application controller has: no other test is to find it there.
    on_exit(unload)
    :ok = :application.load({:application, app, properties})
    Application.put_env(app, :timeout, 500)
    :ok = Application.start(app)
    FaultyModule.await(context.module, ~r/^C_Login hangs/)
    Application.put_env(app, :timeout, 60_000)
  end

  # The next start waits for the library, which answers now.
  defp again(context, more \\ []) do
    applications = [:cryptoki_users_application | more]
    for app <- applications, do: :ok = Application.stop(app)
    for app <- Enum.reverse(more), do: :ok = Application.start(app)
    start = Task.async(fn -> Application.start(:cryptoki_users_application) end)
    FaultyModule.control(context.module, "")
    assert Task.await(start, 60_000) == :ok
  end

  # Those that wait for the library with a PIN in its hands.
  defp logins do
    for pid <- Process.list(),
        {:current_function, {Cryptoki.Native.Wait, _, _}} <- [
          Process.info(pid, :current_function)
        ],
        {:group_leader, leader} <- [Process.info(pid, :group_leader)],
        leader == Process.whereis(:init),
        do: pid
  end

  defp instance, do: Process.whereis(:users_instance)

  defp codes do
    named = for {name, code} <- Names.all(:rv), code != 0, do: {name, code}
    named ++ Enum.map(@nameless, &{&1, &1})
  end

  # What was refused before may be right now.
  defp forgive(module) do
    pins = [so_pin: SoftHSM.so_pin(), pin: SoftHSM.pin()]
    opts = [library: module.library, init_args: module.init_args] ++ pins
    :ok = Cryptoki.Token.init_pin([label: hd(module.labels)], opts)
  end

  defp locked(hsm) do
    case Cryptoki.status!(hsm) do
      %{state: :locked, reason: reason} -> reason
      _not_yet -> locked(hsm)
    end
  end

  defp ready(hsm) do
    case Cryptoki.status!(hsm) do
      %{state: :ready, sessions: %{open: 1}} -> :ok
      _not_yet -> ready(hsm)
    end
  end
end
