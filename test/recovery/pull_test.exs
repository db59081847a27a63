defmodule Cryptoki.Recovery.PullTest do
  # A token that is pulled and put back as fast as can be, under callers and watchers, with slot events of the library
  # and without. With AddressSanitizer, and as often as a card in a reader (test/card):
  #
  #     CRYPTOKI_CARD_PULLS=1000 bin/support/asan test/recovery/pull_test.exs
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.Error
  alias Cryptoki.Test.{FaultyModule, Load}

  @moduletag :capture_log
  @pulls String.to_integer(System.get_env("CRYPTOKI_CARD_PULLS", "60"))
  @moduletag timeout: 60_000 + @pulls * 1_000

  for events <- ["on", "off"] do
    test "#{@pulls} times, slot events #{events}: all is as before" do
      module = FaultyModule.new()
      control = &FaultyModule.control(module, "slot_events #{unquote(events)}\n" <> &1)
      control.("")
      opts = [sessions: 4, timeout: 20_000, reconnect: [min: 1, max: 20]]
      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, opts)})
      template = [label: "pulled", id: "pulled", token: true, curve: :secp256r1]
      {public, key} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, template)
      public = Cryptoki.public_key!(hsm, public)

      before = taken(hsm)
      signers = for _ <- 1..4, do: Load.signing(hsm, key, :ecdsa_sha256, public, format: :der)
      watchers = for _ <- 1..2, do: Task.async(fn -> watch(hsm) end)

      for n <- 1..@pulls do
        control.("token remove # #{n}")

        # Now and then it is noticed, and now and then it works again; else it is back before anybody looks.
        if rem(n, 5) == 0, do: status(hsm, &(&1.state == :absent))
        control.("# #{n}")
        if rem(n, 7) == 0, do: status(hsm, &(&1.state == :ready))
      end

      outcomes = Load.stop(signers)
      told = Load.stop(watchers)
      assert Enum.any?(outcomes, &(&1[:signed] > 0)) and Enum.any?(outcomes, &(&1[:refused] > 0))
      # Each removal before the insertion that ends it.
      for events <- told, do: assert(Enum.dedup(events) == events)

      status(hsm, &(&1.state == :ready))
      sign = fn -> Cryptoki.sign(hsm, key, :ecdsa_sha256, "after", format: :der) end
      assert {:ok, signature} = persist(sign)
      assert :public_key.verify("after", :sha256, signature, public)
      await(fn -> taken(hsm) == before end)
      # Nor has the token more of them: four, that of the login, and two of another instance.
      control.("sessions max=7")
      opts = FaultyModule.options(module, sessions: 1)
      other = start_supervised!(Supervisor.child_spec({Cryptoki, opts}, id: :other))
      assert %{state: :ready, sessions: %{open: 1}} = Cryptoki.status!(other)
    end
  end

  defp watch(hsm) do
    {:ok, ref} = Cryptoki.subscribe(hsm)
    watch(ref, [])
  end

  defp watch(ref, seen) do
    receive do
      {:cryptoki, ^ref, {told, _token}} when told in [:token_removed, :token_inserted] ->
        watch(ref, [told | seen])

      :enough ->
        Enum.reverse(seen)
    end
  end

  # That the token was changed shows at the first call of a session.
  defp persist(call, tries \\ 10) do
    with {:error, %Error{}} when tries > 1 <- call.(), do: persist(call, tries - 1)
  end

  defp taken(hsm) do
    files = length(File.ls!("/proc/self/fd"))
    %{threads: Load.session_threads(), files: files, sessions: Cryptoki.status!(hsm).sessions}
  end

  defp status(hsm, holds?), do: await(fn -> holds?.(Cryptoki.status!(hsm)) end)
end
