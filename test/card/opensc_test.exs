defmodule Cryptoki.Card.OpenSCTest do
  # OpenSC and pcscd as they are in the field, with a card that is pulled when it hurts. Run by
  # `bin/test --tokens opensc`; the environment makes it longer:
  #
  #     CRYPTOKI_CARD_CYCLES=100 CRYPTOKI_CARD_PULLS=1000 bin/test --tokens opensc test/card
  use ExUnit.Case, async: false

  alias Cryptoki.{Error, Operation}
  alias Cryptoki.Test.Card

  unless System.get_env("CRYPTOKI_TEST_OPENSC"),
    do: @moduletag(skip: "bin/test --tokens opensc brings a card up")

  @moduletag :capture_log
  @moduletag timeout: :infinity

  # pcscd looks at its readers every 400 ms.
  @pace 500
  @cycles String.to_integer(System.get_env("CRYPTOKI_CARD_CYCLES", "10"))
  @pulls String.to_integer(System.get_env("CRYPTOKI_CARD_PULLS", "60"))
  @soon 10_000

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
    %{card: card, hsm: hsm, ref: ref}
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

      assert {:error, %Error{executed: executed}} =
               Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, "data")

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

    signers = for n <- 1..2, do: Task.async(fn -> sign(hsm, key, public, n, %{}) end)

    for n <- 1..@pulls do
      :ok = Card.insert(card)
      # Now and then it stays long enough to be used, and goes in the middle of that.
      if rem(n, 10) == 0, do: settled(hsm)
      if rem(n, 20) == 0, do: Card.drop_on(card, 1), else: Card.remove(card)
    end

    :ok = Card.remove(card)
    :ok = Card.insert(card)
    settled(hsm)
    for signer <- signers, do: send(signer.pid, :enough)
    outcomes = Enum.map(signers, &Task.await(&1, 60_000))
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

  # What is signed is right; an error says why not, and nothing else happens.
  defp sign(hsm, key, public, n, counts) do
    receive do
      :enough -> counts
    after
      0 ->
        data = "data #{n}"

        outcome =
          case Cryptoki.sign(hsm, key, :sha256_rsa_pkcs, data) do
            {:ok, signature} ->
              if :public_key.verify(data, :sha256, signature, public), do: :signed, else: :wrong

            {:error, %Error{}} ->
              :refused
          end

        assert outcome != :wrong
        sign(hsm, key, public, n, Map.update(counts, outcome, 1, &(&1 + 1)))
    end
  end

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

  defp flush(ref) do
    receive do
      {:cryptoki, ^ref, _event} -> flush(ref)
    after
      0 -> :ok
    end
  end

  defp taken do
    [_, threads] = Regex.run(~r/^Threads:\s+(\d+)$/m, File.read!("/proc/self/status"))
    %{threads: String.to_integer(threads), files: length(File.ls!("/proc/self/fd"))}
  end
end
