defmodule Cryptoki.Recovery.SelectorCacheTest do
  # What a selector has found is remembered: for a few seconds, and for what was asked.
  use ExUnit.Case, async: false

  import Cryptoki.Test.Await

  alias Cryptoki.{Cache, Error, HSM, URI}
  alias Cryptoki.Test.{FaultyModule, MainToken}

  @moduletag :capture_log

  setup do
    module = FaultyModule.new()
    hsm = start(module, :one)
    {:ok, target} = HSM.target(hsm)
    %{module: module, hsm: hsm, target: target}
  end

  # Kryoptic locks itself out when one thread logs in while others search.
  @locking %{softhsm2: :os, kryoptic: :serialized}

  defp start(module, id) do
    options = FaultyModule.options(module, sessions: 2, locking: @locking[MainToken.name()])
    start_supervised!({Cryptoki, options}, id: id)
  end

  defp mac_key!(hsm, value, template) do
    template = [class: :secret_key, key_type: :generic_secret, value: bytes(value)] ++ template
    Cryptoki.create!(hsm, [sign: true, verify: true] ++ template)
  end

  # Long enough for any token.
  defp bytes(text), do: :crypto.hash(:sha256, text)
  defp mac(key), do: {:ok, :crypto.mac(:hmac, :sha256, bytes(key), "text")}
  defp sign(hsm, key), do: Cryptoki.sign(hsm, key, :sha256_hmac, "text")
  defp not_found?(answer), do: match?({:error, %Error{reason: :key_not_found}}, answer)

  describe "a URI that names another place (RFC 7512, section 2.5)" do
    for {what, other} <- [
          token: "other",
          serial: "4711",
          manufacturer: "nobody",
          model: "none",
          slot_id: 1_000_003,
          slot_description: "none",
          slot_manufacturer: "nobody",
          library_manufacturer: "nobody",
          library_description: "none",
          library_version: {99, 99}
        ] do
      test "by #{what} finds nothing, whatever was found before", %{hsm: hsm} do
        key = mac_key!(hsm, "k", label: "k", token: true)
        assert sign(hsm, "pkcs11:object=k") == mac("k")
        assert sign(hsm, label: "k") == mac("k")
        uri = URI.new([{unquote(what), unquote(Macro.escape(other))}, object: "k"])
        text = to_string(uri)

        for selector <- [text, uri, URI.new(Map.put(Map.from_struct(uri), :type, :secret_key))],
            _twice <- 1..2 do
          assert not_found?(sign(hsm, selector))
          assert not_found?(Cryptoki.verify(hsm, selector, :sha256_hmac, "text", "mac"))
          assert not_found?(Cryptoki.attributes(hsm, selector, [:label]))
          assert not_found?(Cryptoki.find_one(hsm, selector))
          assert not_found?(Cryptoki.public_key(hsm, selector))
          assert not_found?(Cryptoki.destroy(hsm, selector))
          assert not_found?(Cryptoki.with_session(hsm, &sign(&1, selector)))
        end

        assert not_found?(Cryptoki.find(hsm, text))
        assert not_found?(Cryptoki.certificate(hsm, text))
        assert {:error, {:key_not_found, _}} = :cryptoki.sign(hsm, text, :sha256_hmac, "text")
        assert sign(hsm, key) == mac("k")
      end
    end

    test "finds what it names in this one", %{hsm: hsm} do
      mac_key!(hsm, "k", label: "k", token: true)
      library = Cryptoki.library_info!(hsm)
      token = Cryptoki.token_info!(hsm)
      slot = hsm |> Cryptoki.slots!() |> Enum.find(&(&1.id == Cryptoki.status!(hsm).token.slot))

      names = [
        library_manufacturer: library.manufacturer,
        library_description: library.description,
        library_version: library.version,
        slot_manufacturer: slot.manufacturer,
        slot_description: slot.description,
        slot_id: slot.id,
        token: token.label,
        manufacturer: token.manufacturer,
        model: token.model,
        serial: token.serial
      ]

      for name <- names, do: assert(sign(hsm, URI.new([name, object: "k"])) == mac("k"))
      assert sign(hsm, URI.new([object: "k"] ++ names)) == mac("k")
    end
  end

  describe "what a selector has found" do
    test "is found anew within seconds, when another program has given the name away", context do
      %{hsm: hsm, module: module} = context
      other = start(FaultyModule.beside(module), :other)
      mac_key!(other, "old", label: "k", token: true)
      mac_key!(other, "new", label: "next", token: true)
      assert sign(hsm, label: "k") == mac("old")
      :ok = Cryptoki.update(other, [label: "k"], label: "former")
      :ok = Cryptoki.update(other, [label: "next"], label: "k")
      # Asks until it is so; the test's own time limit ends it otherwise.
      await(fn -> sign(hsm, label: "k") == mac("new") end)
    end

    test "is remembered when objects with other names are made and destroyed", context do
      %{hsm: hsm, module: module} = context
      mac_key!(hsm, "k", label: "k", id: "1", token: true)

      for template <- [
            [label: "other"],
            [id: "2"],
            [label: "k", id: "2"],
            [label: "l", id: "1"],
            []
          ] do
        for selector <- selectors(), do: assert(sign(hsm, selector) == mac("k"))
        made = mac_key!(hsm, "made", template)
        selector = Enum.find(selectors(), &(not fits?(&1, template)))
        {answer, calls} = FaultyModule.calls(module, fn -> sign(hsm, selector) end)
        assert answer == mac("k")
        assert length(calls) == 2
        Cryptoki.destroy!(hsm, made)
        assert {_mac, [_init, _sign]} = FaultyModule.calls(module, fn -> sign(hsm, selector) end)
      end
    end

    test "is forgotten when another object has the names as well", %{hsm: hsm} do
      mac_key!(hsm, "k", label: "k", id: "1", token: true)

      for selector <- selectors() do
        assert sign(hsm, selector) == mac("k")
        made = mac_key!(hsm, "made", label: "k", id: "1")
        assert {:error, %Error{reason: :key_ambiguous}} = sign(hsm, selector)
        Cryptoki.destroy!(hsm, made)
        assert sign(hsm, selector) == mac("k")
      end
    end

    test "is forgotten when its object gets other names", %{hsm: hsm} do
      key = mac_key!(hsm, "k", label: "k", token: true)
      assert sign(hsm, label: "k") == mac("k")
      :ok = Cryptoki.update(hsm, key, label: "l")
      assert not_found?(sign(hsm, label: "k"))
      assert sign(hsm, label: "l") == mac("k")
    end
  end

  defp selectors, do: [[label: "k"], [id: "1"], [label: "k", id: "1"]]

  defp fits?(selector, template),
    do: Enum.all?(selector, fn {name, value} -> template[name] == value end)

  describe "when the instance ends" do
    test "callers are told so", %{hsm: hsm} do
      mac_key!(hsm, "k", label: "k", token: true)
      test = self()

      callers =
        for n <- 1..16 do
          Task.async(fn ->
            send(test, :runs)
            Stream.repeatedly(fn -> use_key(hsm, n) end) |> Enum.find(&match?({:error, _}, &1))
          end)
        end

      for _ <- callers, do: assert_receive(:runs)
      Cryptoki.stop(hsm)

      for answer <- Task.await_many(callers, 30_000) do
        assert {:error, %Error{reason: reason}} = answer
        assert reason in [:shutdown, :session_lost, :token_absent]
      end
    end

    test "so are those who have a session", %{hsm: hsm} do
      key = mac_key!(hsm, "k", label: "k", token: true)

      Cryptoki.with_session(hsm, fn session ->
        assert sign(session, label: "k") == mac("k")
        Cryptoki.stop(hsm)

        for selector <- [[label: "k"], [label: "other"], "pkcs11:object=k", key] do
          assert {:error, %Error{reason: reason}} = sign(session, selector)
          assert reason in [:shutdown, :session_lost]
          assert {:error, %Error{}} = Cryptoki.find_one(session, selector)
          assert {:error, %Error{}} = Cryptoki.update(session, selector, label: "l")
          assert {:error, %Error{}} = Cryptoki.destroy(session, selector)
        end
      end)
    end
  end

  defp use_key(hsm, n) do
    # Selectors that were not asked before among them.
    for selector <- [[label: "k"], [label: "k", class: :secret_key], [label: "#{n}"]] do
      case sign(hsm, selector) do
        {:error, %Error{reason: :key_not_found}} -> :ok
        answer -> answer
      end
    end
    |> Enum.find(&match?({:error, _}, &1))
  end

  test "it has a limit, for whatever is in it", %{target: target} do
    for n <- 1..10_001, do: Cache.put(target.cache, {:always_authenticate, {n, n, n}}, true)
    asked = %{class: nil, label: "l", id: nil}
    for n <- 1..10_001, do: Cache.put_found(target.cache, {n, nil}, {n, n, n}, asked)
    assert :ets.info(target.cache, :size) <= 10_000
  end
end
