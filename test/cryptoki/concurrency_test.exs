defmodule Cryptoki.ConcurrencyTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Error
  alias Cryptoki.Test.MainToken

  for sessions <- [2, 4, 16] do
    test "32 processes on #{sessions} sessions, without one error" do
      hsm = start_supervised!({Cryptoki, MainToken.options(sessions: unquote(sessions))})
      label = "crowd #{unquote(sessions)}"
      template = [label: label, curve: :secp256r1]
      {public, private} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
      aes = Cryptoki.generate_key!(hsm, :aes_key_gen, label: label, value_len: 32)

      1..32
      |> Task.async_stream(
        fn n ->
          for round <- 1..20 do
            data = :crypto.hash(:sha256, "#{n} #{round}")
            key = if rem(round, 2) == 0, do: private, else: [label: label, class: :private_key]
            signature = Cryptoki.sign!(hsm, key, :ecdsa, data)
            assert Cryptoki.valid?(hsm, public, :ecdsa, data, signature)

            gcm = {:aes_gcm, iv: binary_part(data, 0, 12), tag_bits: 128}
            ciphertext = Cryptoki.encrypt!(hsm, aes, gcm, data)
            assert Cryptoki.decrypt!(hsm, aes, gcm, ciphertext) == data

            if rem(round, 10) == 0 do
              assert Cryptoki.digest!(hsm, :sha256, {:stream, [data, data]}) ==
                       :crypto.hash(:sha256, data <> data)
            end
          end

          Process.info(self(), :message_queue_len)
        end,
        max_concurrency: 32,
        timeout: 60_000
      )
      |> Enum.each(&assert &1 == {:ok, {:message_queue_len, 0}})

      assert %{queue: 0, sessions: %{open: unquote(sessions), overdue: 0}} = Cryptoki.status!(hsm)
    end
  end

  test "more callers than the queue takes are told so at once" do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 1, queue_limit: 2)})

    Cryptoki.with_session(hsm, fn _session ->
      tasks =
        for _ <- 1..2,
            do: Task.async(fn -> Cryptoki.digest(hsm, :sha256, "", timeout: 10_000) end)

      queued(hsm, 2)
      assert {:error, %Error{reason: :busy, executed: false}} = Cryptoki.digest(hsm, :sha256, "")
      # One that dies takes its request with it.
      Task.shutdown(hd(tasks), :brutal_kill)
      queued(hsm, 1)
      send(self(), {:last, List.last(tasks)})
    end)

    assert_received {:last, task}
    assert {:ok, _digest} = Task.await(task, 60_000)
  end

  test "calls that are running when the instance stops are answered" do
    {:ok, hsm} = Cryptoki.start_link(MainToken.options(sessions: 2))

    tasks =
      for _ <- 1..8 do
        Task.async(fn ->
          Stream.repeatedly(fn -> Cryptoki.random(hsm, 100) end)
          |> Enum.find(&match?({:error, _}, &1))
        end)
      end

    {:ok, _} = Cryptoki.random(hsm, 1)
    :ok = Cryptoki.stop(hsm)
    for task <- tasks, do: assert({:error, %Error{reason: :shutdown}} = Task.await(task, 60_000))
  end

  defp queued(hsm, count) do
    if Cryptoki.status!(hsm).queue == count, do: :ok, else: queued(hsm, count)
  end
end
