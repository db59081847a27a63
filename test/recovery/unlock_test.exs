defmodule Cryptoki.Recovery.UnlockTest do
  # PINs that people give with unlock/3, and tokens that want none.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Instances}
  alias Cryptoki.Test.{FaultyModule, MainToken, SoftHSM}

  @moduletag :capture_log

  # CKF_LOGIN_REQUIRED
  @no_login "token without=0x4"

  setup do
    module = FaultyModule.new(labels: ["unlock-#{System.unique_integer([:positive])}"])
    on_exit(fn -> FaultyModule.control(module, "") end)
    %{module: module, tries: fn -> FaultyModule.count(module, ~r/^C_Login (ran|faked)/) end}
  end

  defp start(context, more) do
    opts = [sessions: 1, reconnect: [min: 1, max: 5]] ++ more
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(context.module, opts))
    hsm
  end

  defp wrong, do: "wrong-#{System.unique_integer([:positive])}"

  describe "a PIN that is given while the token is away" do
    setup context do
      FaultyModule.control(context.module, "token remove")
      :ok
    end

    test "is tried when it comes, and then is the instance's", context do
      hsm = start(context, pin: {:env, "CRYPTOKI_NOT_SET"})
      assert {:error, %Error{reason: :token_absent}} = Cryptoki.unlock(hsm, SoftHSM.pin())
      assert context.tries.() == 0
      FaultyModule.control(context.module, "")
      ready(hsm)
      assert context.tries.() == 1
      # Another one is not asked for.
      FaultyModule.control(context.module, "logout\nsessions forget")
      ready_and_logged_in(hsm)
      Cryptoki.stop(hsm)
    end

    test "and is wrong leaves the instance's own as good as it was", context do
      hsm = start(context, [])
      assert {:error, %Error{reason: :token_absent}} = Cryptoki.unlock(hsm, wrong())
      FaultyModule.control(context.module, "")
      ready_and_logged_in(hsm)
      assert context.tries.() == 2
      Cryptoki.stop(hsm)
    end

    test "and cannot be had is forgotten", context do
      hsm = start(context, [])
      pin = fn -> "" end
      assert {:error, %Error{reason: :token_absent}} = Cryptoki.unlock(hsm, pin)
      FaultyModule.control(context.module, "")
      ready_and_logged_in(hsm)
      assert context.tries.() == 1
      Cryptoki.stop(hsm)
    end

    test "is the last that was given, and no other", context do
      hsm = start(context, pin: {:env, "CRYPTOKI_NOT_SET"})
      for _ <- 1..3, do: {:error, %Error{}} = Cryptoki.unlock(hsm, wrong())
      {:error, %Error{}} = Cryptoki.unlock(hsm, SoftHSM.pin())
      FaultyModule.control(context.module, "")
      ready_and_logged_in(hsm)
      assert context.tries.() == 1
      assert rows(hsm) == []
      Cryptoki.stop(hsm)
    end
  end

  test "two at once have a PIN and an answer each", context do
    hsm = start(context, pin: wrong())
    assert %{state: :locked} = Cryptoki.status!(hsm)
    FaultyModule.control(context.module, "C_Login hang")
    first = Task.async(fn -> Cryptoki.unlock(hsm, wrong()) end)
    FaultyModule.await(context.module, ~r/^C_Login hangs/)
    others = for pin <- [wrong(), SoftHSM.pin(), wrong()], do: unlocking(hsm, pin)
    # They stand in the queue of the token server now.
    queued(hsm, 3)
    FaultyModule.control(context.module, "")
    assert {:error, %Error{reason: :pin_incorrect}} = Task.await(first, 60_000)

    answers = Enum.map(others, &Task.await(&1, 60_000))
    assert [{:error, %Error{reason: :pin_incorrect}}, :ok, :ok] = answers
    ready_and_logged_in(hsm)
    assert rows(hsm) == []
    Cryptoki.stop(hsm)
  end

  test "a wrong PIN for an instance that works without one takes nothing away", context do
    hsm = start(context, pin: nil)
    assert {:error, %Error{reason: :pin_incorrect}} = Cryptoki.unlock(hsm, wrong())
    assert %{state: :ready, login: :none} = Cryptoki.status!(hsm)
    assert {:ok, _bytes} = Cryptoki.random(hsm, 1)
    assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin())
    assert %{state: :ready, login: :accepted} = Cryptoki.status!(hsm)
    Cryptoki.stop(hsm)
  end

  test "a PIN that cannot be had is said to be so, and costs no try", context do
    hsm = start(context, pin: wrong())
    before = context.tries.()
    not_text = [fn -> :pin end, fn -> nil end, fn -> 1234 end, fn -> raise "no" end]
    empty = [fn -> "" end, fn -> {:ok, ""} end, fn -> ~c"" end, {Kernel, :to_string, [[]]}]

    for pin <- not_text ++ empty ++ [{:env, "CRYPTOKI_NOT_SET"}] do
      assert {:error, %Error{reason: :pin_unavailable}} = Cryptoki.unlock(hsm, pin)
      assert %{state: :locked} = Cryptoki.status!(hsm)
    end

    Cryptoki.stop(hsm)
    absent = start(context, pin: fn -> "" end)
    assert %{state: :absent, reason: %Error{reason: :pin_unavailable}} = Cryptoki.status!(absent)
    assert context.tries.() == before
    Cryptoki.stop(absent)
  end

  test "options are checked before anything is done", context do
    hsm = start(context, pin: wrong())
    before = context.tries.()

    for {opts, sentence} <- [
          {[force: "yes"], ~r/force: must be true or false, got: "yes"/},
          {%{force: 1}, ~r/force: must be true or false/},
          {[forse: true], ~r/unknown option :forse, did you mean :force\?/},
          {[timeout: "soon"], ~r/timeout: must be milliseconds/},
          {:force, ~r/expected a keyword list or a map/}
        ] do
      assert_raise ArgumentError, sentence, fn -> Cryptoki.unlock(hsm, SoftHSM.pin(), opts) end
    end

    assert_raise ArgumentError, ~r/3rd argument: force: must be true or false/, fn ->
      :cryptoki.unlock(hsm, SoftHSM.pin(), %{force: "yes"})
    end

    assert context.tries.() == before
    assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), %{force: true, timeout: 5_000})
    Cryptoki.stop(hsm)
  end

  test "what another function says of being logged in is no login", context do
    FaultyModule.control(context.module, "C_Login rv=0xA0 count=1")
    hsm = start(context, [])
    FaultyModule.control(context.module, "C_OpenSession rv=0x100 count=1")

    assert {:error, %Error{reason: :user_already_logged_in, function: :C_OpenSession}} =
             Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)

    assert context.tries.() == 1
    assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
    ready_and_logged_in(hsm)
    Cryptoki.stop(hsm)
  end

  test "a PIN refused at the use of a key, and then at the login, is allowed for both", context do
    hsm = start(context, [])
    template = [label: "always", modulus_bits: 2048, always_authenticate: true, token: true]
    {_public, key} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template)
    sign = fn -> Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "data") end
    FaultyModule.control(context.module, "C_Login rv=0xA0 count=1")
    assert {:error, %Error{reason: :pin_incorrect}} = sign.()
    FaultyModule.control(context.module, "logout")
    assert {:error, %Error{}} = private(hsm)
    assert %{state: :locked} = Cryptoki.status!(hsm)
    assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin(), force: true)
    assert {:ok, _signature} = sign.()
    Cryptoki.stop(hsm)
  end

  test "arguments in the wrong order show no PIN", context do
    hsm = start(context, pin: nil)
    secret = "98761234"

    for call <- [
          fn -> Cryptoki.unlock(secret, hsm) end,
          fn -> Cryptoki.unlock(secret, {:env, "HSM"}) end,
          fn -> Cryptoki.unlock(secret, secret) end,
          fn -> Cryptoki.unlock(String.to_charlist(secret), "1") end,
          fn -> Cryptoki.unlock({secret, 1}, "1") end,
          fn -> Cryptoki.unlock(98_761_234, "1") end,
          fn -> Cryptoki.unlock(hsm, 98_761_234) end,
          fn -> Cryptoki.unlock(hsm, %{pin: secret}) end,
          fn -> Cryptoki.unlock(hsm, secret, secret) end,
          fn -> Cryptoki.unlock(hsm, [force: true], secret) end,
          fn -> :cryptoki.unlock(secret, hsm) end,
          fn -> :cryptoki.unlock(hsm, %{secret => 1}) end
        ] do
      {error, trace} =
        try do
          flunk("it answered #{inspect(call.())}")
        rescue
          error in [ArgumentError, ErlangError] -> {error, __STACKTRACE__}
        end

      shown = Exception.format(:error, error, trace) <> inspect([error, trace], limit: :infinity)
      refute shown =~ "98761234" or shown =~ "98_761_234" or shown =~ "57, 56, 55, 54"
    end

    Cryptoki.stop(hsm)
  end

  describe "a token that wants no login" do
    test "is used without the PIN, which a line says", context do
      FaultyModule.control(context.module, @no_login)

      for code <- ["", "\nC_Login rv=0xA0", "\nC_Login rv=0x54"] do
        FaultyModule.control(context.module, @no_login <> code)

        log =
          capture_log(fn ->
            hsm = start(context, pin: wrong())
            assert %{state: :ready, login: :not_wanted} = Cryptoki.status!(hsm)
            assert {:ok, _bytes} = Cryptoki.random(hsm, 1)
            Cryptoki.stop(hsm)
          end)

        assert log =~ "wants no login"
      end

      assert context.tries.() == 0
    end

    test "and yet refuses a call for want of one gets the PIN", context do
      FaultyModule.control(context.module, @no_login)
      hsm = start(context, [])
      assert context.tries.() == 0
      assert {:ok, _key} = private(hsm)
      assert context.tries.() == 1
      assert %{state: :ready, login: :accepted} = Cryptoki.status!(hsm)
      Cryptoki.stop(hsm)
    end

    test "gets the PIN that a person gives, and its security officer", context do
      FaultyModule.control(context.module, @no_login)
      hsm = start(context, pin: nil)
      assert {:error, %Error{reason: :pin_incorrect}} = Cryptoki.unlock(hsm, wrong())
      assert :ok = Cryptoki.unlock(hsm, SoftHSM.pin())
      assert %{login: :accepted} = Cryptoki.status!(hsm)
      Cryptoki.stop(hsm)
      hsm = start(context, pin: SoftHSM.so_pin(), user: :so)
      assert %{state: :ready, login: :accepted} = Cryptoki.status!(hsm)
      Cryptoki.stop(hsm)
    end
  end

  @tag skip: MainToken.apart("two instances of a library do not share its login")
  test "status tells whether the token has seen the PIN", context do
    one = start(context, [])
    assert %{login: :accepted} = Cryptoki.status!(one)
    # Somebody is logged in: nobody looks at this one.
    two = start(context, pin: wrong())
    assert %{state: :ready, login: :shared} = Cryptoki.status!(two)
    Cryptoki.stop(one)
    Cryptoki.stop(two)
    none = start(context, pin: nil)
    assert %{state: :ready, login: :none} = Cryptoki.status!(none)
    FaultyModule.control(context.module, "token remove")
    assert {:error, %Error{}} = Cryptoki.random(none, 1)
    absent(none)
    assert %{login: nil} = Cryptoki.status!(none)
    Cryptoki.stop(none)
  end

  defp private(hsm), do: Cryptoki.generate_key(hsm, :aes_key_gen, value_len: 16, token: true)

  defp rows(hsm), do: :ets.match(Instances, {{{:unlock, :_}, hsm}, :"$1"})

  defp unlocking(hsm, pin) do
    before = length(rows(hsm))
    task = Task.async(fn -> Cryptoki.unlock(hsm, pin) end)
    noted(hsm, before + 1)
    task
  end

  defp noted(hsm, count), do: if(length(rows(hsm)) < count, do: noted(hsm, count))

  defp queued(hsm, count) do
    state = hsm |> Instances.get(:server) |> :sys.get_state()
    if length(state.unlocks.waiting) < count, do: queued(hsm, count)
  end

  defp ready(hsm), do: unless(match?(%{state: :ready}, Cryptoki.status!(hsm)), do: ready(hsm))
  defp absent(hsm), do: unless(match?(%{state: :absent}, Cryptoki.status!(hsm)), do: absent(hsm))

  # A private key is made by nobody else.
  defp ready_and_logged_in(hsm) do
    ready(hsm)

    case private(hsm) do
      # The loss was noticed between the key and a look at it.
      {:error, %Error{reason: :stale_handle, executed: :maybe}} -> ready_and_logged_in(hsm)
      made -> assert {:ok, _key} = made
    end
  end
end
