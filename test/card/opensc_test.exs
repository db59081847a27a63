defmodule Cryptoki.Card.OpenSCTest do
  # OpenSC and pcscd as they are in the field, with a card that is pulled when it hurts. Run by
  # `bin/test --tokens opensc`; the environment makes it longer:
  #
  #     CRYPTOKI_CARD_CYCLES=100 CRYPTOKI_CARD_PULLS=1000 bin/test --tokens opensc test/card
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.{Card, Load, SoftHSM}

  unless System.get_env("CRYPTOKI_TEST_OPENSC"),
    do: @moduletag(skip: "bin/test --tokens opensc brings a card up")

  @moduletag :capture_log
  @moduletag timeout: :infinity

  # pcscd looks at its readers every 400 ms.
  @pace 500
  @cycles String.to_integer(System.get_env("CRYPTOKI_CARD_CYCLES", "10"))
  @pulls String.to_integer(System.get_env("CRYPTOKI_CARD_PULLS", "60"))
  @soon 30_000

  setup do
    card = start_supervised!(Card)
    :ok = Card.insert(card)

    options = [
      library: System.fetch_env!("CRYPTOKI_TEST_OPENSC"),
      token: [label: "piv"],
      pin: fn -> Card.pin() end,
      locking: :serialized,
      sessions: 2,
      reconnect: [min: 50, max: 500],
      timeout: 20_000
    ]

    hsm = start_supervised!({Cryptoki, options})
    {:ok, ref} = Cryptoki.subscribe(hsm)
    ready(hsm, ref)
    %{card: card, hsm: hsm, ref: ref, options: options}
  end

  test "signs, decrypts and asks for the PIN where the card wants it each time", %{hsm: hsm} do
    rsa = Cryptoki.find_one!(hsm, class: :private_key, id: <<1>>)
    public = Cryptoki.public_key!(hsm, rsa)
    signature = Cryptoki.sign!(hsm, rsa, :sha256_rsa_pkcs, "data")
    assert :public_key.verify("data", :sha256, signature, public)

    selector = [class: :private_key, id: <<2>>]
    public = Cryptoki.public_key!(hsm, selector)
    der = [format: :der]
    signature = Cryptoki.sign!(hsm, selector, :ecdsa_sha256, "data", [pin: Card.pin()] ++ der)
    assert :public_key.verify("data", :sha256, signature, public)
    # The instance has the PIN too.
    signature = Cryptoki.sign!(hsm, selector, :ecdsa_sha256, "more", der)
    assert :public_key.verify("more", :sha256, signature, public)

    ciphertext = :public_key.encrypt_public("secret", Cryptoki.public_key!(hsm, id: <<3>>))
    assert Cryptoki.decrypt!(hsm, [id: <<3>>], :rsa_pkcs, ciphertext) == "secret"
  end

  test "pulled in the middle of a signature, and put back", %{card: card, hsm: hsm, ref: ref} do
    key = Cryptoki.find_one!(hsm, class: :private_key, id: <<1>>)
    public = Cryptoki.public_key!(hsm, key)

    for _ <- 1..3 do
      :ok = Card.drop_on(card, 1)

      assert {:error, %Error{executed: executed}} = sign(hsm, key)

      assert executed in [true, false, :maybe]
      assert_receive {:cryptoki, ^ref, {:token_removed, %{label: "piv"}}}, @soon

      :ok = Card.insert(card)
      ready(hsm, ref)
      signature = Cryptoki.sign!(hsm, key, :sha256_rsa_pkcs, "data")
      assert :public_key.verify("data", :sha256, signature, public)
    end
  end

  test "every removal and insertion is told, #{@cycles} times", %{card: card, ref: ref} do
    flush(ref)

    for _ <- 1..@cycles, action <- [&Card.remove/1, &Card.insert/1] do
      :ok = action.(card)
      Process.send_after(self(), :next, @pace)
      assert_receive :next, @soon
    end

    expected = List.flatten(List.duplicate([:token_removed, :token_inserted], @cycles))

    for event <- expected do
      assert_receive {:cryptoki, ^ref, {told, %{label: "piv"}}}
                     when told in [:token_removed, :token_inserted],
                     @soon

      assert told == event
    end

    refute_received {:cryptoki, ^ref, {:token_removed, _token}}
    refute_received {:cryptoki, ^ref, {:token_inserted, _token}}
  end

  test "pulled as fast as can be while it signs, #{@pulls} times", context do
    %{card: card, hsm: hsm, ref: ref} = context
    key = Cryptoki.find_one!(hsm, class: :private_key, id: <<1>>)
    public = Cryptoki.public_key!(hsm, key)
    {:ok, _watching} = Cryptoki.subscribe(hsm)
    before = taken()

    signers = for _ <- 1..2, do: Load.signing(hsm, key, :sha256_rsa_pkcs, public)

    for n <- 1..@pulls do
      :ok = Card.insert(card)
      # Now and then it stays long enough to be used, and goes in the middle of that.
      if rem(n, 10) == 0, do: settled(hsm)
      if rem(n, 20) == 0, do: Card.drop_on(card, 1), else: Card.remove(card)
    end

    :ok = Card.remove(card)
    :ok = Card.insert(card)
    settled(hsm)
    outcomes = Load.stop(signers)
    assert Enum.any?(outcomes, &(&1[:signed] > 0))
    flush(ref)

    # That the last card is not the one that a session was opened with shows at the first call.
    {:ok, signature} =
      persist(hsm, fn -> Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "after it") end)

    assert :public_key.verify("after it", :sha256, signature, public)
    assert %{sessions: %{open: 2, overdue: 0}, queue: 0} = Cryptoki.status!(hsm)
    now = taken()
    assert now.threads <= before.threads + 1
    assert now.files <= before.files + 2
  end

  # OpenSC goes on showing what it has read at first, a card without a name.
  test "misread, with a bad contact: it is read anew", %{card: card, hsm: hsm, ref: ref} do
    key = Cryptoki.find_one!(hsm, class: :private_key, id: <<1>>)
    public = Cryptoki.public_key!(hsm, key)
    :ok = Card.remove(card)
    assert_receive {:cryptoki, ^ref, {:token_removed, _token}}, @soon
    :ok = Card.readable(card, false)
    :ok = Card.insert(card)
    seen_as_another(hsm)
    :ok = Card.readable(card, true)
    ready(hsm, ref)
    {:ok, signature} = persist(hsm, fn -> sign(hsm, key) end)
    assert :public_key.verify("data", :sha256, signature, public)
  end

  test "an operation of many parts ends with the card", %{card: card, hsm: hsm, ref: ref} do
    Cryptoki.with_session(hsm, fn session ->
      {:ok, op} =
        Cryptoki.start(session, :sign, [class: :private_key, id: <<1>>], :sha256_rsa_pkcs)

      :ok = Operation.update(op, "data")
      :ok = Card.remove(card)
      assert_receive {:cryptoki, ^ref, {:token_removed, _token}}, @soon
      assert {:error, %Error{}} = Operation.finish(op)
    end)

    :ok = Card.insert(card)
    ready(hsm, ref)

    assert {:ok, _signature} =
             Cryptoki.sign(hsm, [class: :private_key, id: <<1>>], :sha256_rsa_pkcs, "data")
  end

  test "pcscd is stopped, or killed, and started again: it heals", context do
    %{card: card, hsm: hsm, ref: ref} = context
    key = Cryptoki.find_one!(hsm, class: :private_key, id: <<1>>)
    public = Cryptoki.public_key!(hsm, key)

    for signal <- [:stop, :kill] do
      daemon(signal)
      assert {:error, %Error{}} = sign(hsm, key)
      daemon(:start)
      Card.remove(card)
      :ok = Card.insert(card)

      assert {:ok, signature} = persist(hsm, fn -> sign(hsm, key) end)

      assert :public_key.verify("data", :sha256, signature, public)
      flush(ref)
    end
  end

  # OpenSC 0.23 hangs for ever when it does its own locking and the card is pulled during a call; 0.26 does not.
  # A copy is a library of its own: what hangs in it keeps nobody else.
  test "locking: :os, the card is pulled in the middle of a call: answers in time", context do
    %{card: card, options: options} = context
    library = Path.join(SoftHSM.directory(), "opensc-os.so")
    File.cp!(options[:library], library)
    options = Keyword.merge(options, library: library, locking: :os, timeout: 1_000)
    hsm = start_supervised!({Cryptoki, options}, id: :os)
    settled(hsm)
    key = Cryptoki.find_one!(hsm, class: :private_key, id: <<1>>)

    :ok = Card.drop_on(card, 1)
    for _ <- 1..8, do: assert({:error, %Error{}} = sign(hsm, key))
    assert File.read!(__ENV__.file) =~ "locking: :os"
    :ok = Card.insert(card)

    case Cryptoki.library_info!(context.hsm).version do
      {0, minor} when minor < 26 ->
        assert Cryptoki.status!(hsm).sessions.overdue > 0
        assert {:error, %Error{}} = sign(hsm, key)

      _newer ->
        assert {:ok, _signature} = persist(hsm, fn -> sign(hsm, key) end)
    end

    assert Cryptoki.stop(hsm) == :ok
    ready(context.hsm, context.ref)
    assert {:ok, _signature} = persist(context.hsm, fn -> sign(context.hsm, key) end)
  end

  defp sign(hsm, key), do: Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "data")

  defp persist(hsm, fun, tries \\ 10) do
    with {:error, %Error{}} when tries > 1 <- fun.() do
      settled(hsm)
      persist(hsm, fun, tries - 1)
    end
  end

  defp settled(hsm) do
    {:ok, ref} = Cryptoki.subscribe(hsm)
    ready(hsm, ref)
  end

  defp ready(hsm, ref) do
    case Cryptoki.status!(hsm) do
      %{state: :ready, sessions: %{open: open, wanted: open}} ->
        :ok

      _not_yet ->
        receive do
          {:cryptoki, ^ref, _event} -> ready(hsm, ref)
        after
          50 -> ready(hsm, ref)
        end
    end
  end

  defp seen_as_another(hsm) do
    %{state: :absent, reason: reason} = Cryptoki.status!(hsm)
    unless Exception.message(reason) =~ "there are: ", do: seen_as_another(hsm)
  end

  defp flush(ref) do
    receive do
      {:cryptoki, ^ref, _event} -> flush(ref)
    after
      0 -> :ok
    end
  end

  @daemon Path.expand("../support/tokens/opensc", __DIR__)

  defp daemon(:kill) do
    pid = File.read!(Path.join(System.fetch_env!("CRYPTOKI_TEST_PCSCD"), "pcscd.pid"))
    {_, 0} = System.cmd("kill", ["-KILL", String.trim(pid)])
    daemon(:stop)
  end

  defp daemon(action) do
    arguments = [to_string(action), System.fetch_env!("CRYPTOKI_TEST_PCSCD")]
    # A sanitizer of this VM is none of the daemon's: pgrep hangs under it.
    opts = [stderr_to_stdout: true, env: [{"LD_PRELOAD", nil}]]
    {_, 0} = System.cmd(@daemon, arguments, opts)
  end

  defp taken do
    [_, threads] = Regex.run(~r/^Threads:\s+(\d+)$/m, File.read!("/proc/self/status"))
    %{threads: String.to_integer(threads), files: length(File.ls!("/proc/self/fd"))}
  end
end
