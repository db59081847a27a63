defmodule Cryptoki.Recovery.BoundsTest do
  # What callers pile up behind a library that does not return has a limit.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, Load, SoftHSM}

  @moduletag :capture_log
  @source Path.expand("../../native/faulty_module/c/hangs_at_load.c", __DIR__)

  setup do: FaultyModule.own()

  defp start(module, opts),
    do: start_supervised!({Cryptoki, FaultyModule.options(module, opts)})

  test "calls on a session of one's own wait in a queue with a limit", %{module: module} do
    hsm = start(module, sessions: 1, queue_limit: 3)

    Cryptoki.with_session(hsm, fn session ->
      FaultyModule.control(module, "C_Digest hang")
      digest = fn timeout -> Cryptoki.digest(session, :sha256, "data", timeout: timeout) end
      assert {:error, %Error{reason: :timeout, executed: :maybe}} = digest.(200)
      # Behind it three may wait, and what was given up there waits too.
      for _ <- 1..3, do: assert({:error, %Error{reason: :timeout, executed: false}} = digest.(1))
      for _ <- 1..3, do: assert({:error, %Error{reason: :busy}} = digest.(:infinity))
      FaultyModule.control(module, "")
    end)

    await(fn -> match?(%{sessions: %{open: 1, busy: 0, overdue: 0}}, Cryptoki.status!(hsm)) end)
    assert {:ok, _digest} = Cryptoki.digest(hsm, :sha256, "data")
  end

  test "those who open a library that does not return from being loaded have a limit" do
    name = Path.join(SoftHSM.directory(), "hangs_at_load-#{System.unique_integer([:positive])}")
    arguments = [~s(-DRELEASE="#{name}.release"), "-o", name <> ".so", @source]
    {"", 0} = System.cmd("cc", ["-shared", "-fPIC" | arguments])
    before = openers()

    open = fn -> Cryptoki.slots(library: name <> ".so", timeout: 1_000) end
    answers = Enum.map(for(_ <- 1..40, do: Task.async(open)), &Task.await(&1, 60_000))
    reasons = Enum.frequencies_by(answers, fn {:error, %Error{reason: reason}} -> reason end)
    assert reasons == %{timeout: 16, busy: 24}
    assert openers() - before == 16

    File.touch!(name <> ".release")
    await(fn -> openers() == before end)
    assert {:error, %Error{reason: :library_not_loaded} = error} = open.()
    assert Exception.message(error) =~ "no PKCS #11 module"
  end

  defp openers, do: Load.threads(~r/^cryptoki-open/)

  test "requests that were given up make room, and disturb none that wait", %{module: module} do
    limit = 50
    hsm = start(module, sessions: 1, queue_limit: limit)
    FaultyModule.control(module, "C_Digest hang")
    digest = fn timeout -> Cryptoki.digest(hsm, :sha256, "data", timeout: timeout) end
    waiting = for _ <- 1..10, do: Task.async(fn -> digest.(:infinity) end)
    FaultyModule.await(module, ~r/^C_Digest hangs/)
    await(fn -> Cryptoki.status!(hsm).queue == 9 end)

    for _ <- 1..(10 * limit), do: assert({:error, %Error{reason: :timeout}} = patient(digest))

    FaultyModule.control(module, "")
    for task <- waiting, do: assert({:ok, _digest} = Task.await(task, 60_000))
    await(fn -> match?(%{queue: 0, sessions: %{busy: 0}}, Cryptoki.status!(hsm)) end)
  end

  # While they are being taken out there may be too many for a moment.
  defp patient(digest) do
    with {:error, %Error{reason: :busy}} <- digest.(1), do: patient(digest)
  end

  test "long values are whole, wherever they stand", %{module: module} do
    hsm = start(module, sessions: 1)
    long = :crypto.strong_rand_bytes(1_000_000)
    object = Cryptoki.create!(hsm, class: :data, label: "long", value: long)
    assert Cryptoki.attributes!(hsm, object, [:value]) == %{value: long}
    assert {:ok, [^object]} = Cryptoki.find(hsm, class: :data, value: long)
    assert {:ok, []} = Cryptoki.find(hsm, class: :data, value: long <> "x")
    label = String.duplicate("l", 100_000)
    assert :ok = Cryptoki.update(hsm, object, label: label)
    assert Cryptoki.attributes!(hsm, object, [:label]) == %{label: label}

    key = Cryptoki.generate_key!(hsm, :aes_key_gen, value_len: 32)
    gcm = {:aes_gcm, iv: <<1::96>>, aad: long}
    {:ok, ciphertext} = Cryptoki.encrypt(hsm, key, gcm, long)
    assert Cryptoki.decrypt(hsm, key, gcm, ciphertext) == {:ok, long}
    other = {:aes_gcm, iv: <<1::96>>, aad: long <> "x"}
    assert {:error, %Error{}} = Cryptoki.decrypt(hsm, key, other, ciphertext)
    assert {:error, %Error{}} = Cryptoki.unwrap_key(hsm, key, :aes_key_wrap, long, label: long)
    assert {:ok, _bytes} = Cryptoki.random(hsm, 8)
  end
end
