defmodule Cryptoki.OneBadTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # One slot, token, mechanism, object or attribute that does not answer spoils no other.

  import ExUnit.CaptureLog

  alias Cryptoki.{Error, Listing}
  alias Cryptoki.Test.FaultyModule

  setup do
    %{module: FaultyModule.new(labels: ["good", "bad"])}
  end

  defp started(module, more \\ []),
    do: Cryptoki.start_link(FaultyModule.options(module, [sessions: 1] ++ more))

  defp slot_of(hsm, label) do
    [id] = for %{id: id, token: %{label: ^label}} <- Cryptoki.slots!(hsm), do: id
    id
  end

  for {function, codes} <- [
        {"C_GetTokenInfo", ["0x30", "0x5", "0x80000001"]},
        {"C_GetSlotInfo", ["0x30", "0x6"]}
      ],
      code <- codes do
    @rule "#{function} rv=#{code}"
    @function String.to_atom(function)

    test "#{@rule} of another slot: the instance is ready, and the slot stands in the list",
         context do
      %{module: module} = context
      {:ok, hsm} = started(module)
      bad = slot_of(hsm, "bad")
      :ok = Cryptoki.stop(hsm)

      FaultyModule.control(module, "#{@rule} slot=#{bad}")
      {:ok, hsm} = started(module)
      assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
      assert {:ok, slots} = Cryptoki.slots(hsm)

      assert [%{token: {:error, %Error{function: @function}}}] =
               for(%{id: ^bad} = s <- slots, do: s)

      assert "good" in for(%{token: %{label: label}} <- slots, do: label)
      assert Listing.tokens(slots, 120) =~ ~r/^#{bad} .*cannot be read/m
      assert {:ok, slots} = :cryptoki.slots(hsm)

      assert [%{token: {:error, {_reason, %{function: @function}}}}] =
               for(%{id: ^bad} = s <- slots, do: s)

      # Whoever watches sees no token go or come for it.
      {:ok, ref} = Cryptoki.subscribe(hsm)
      before = FaultyModule.count(module, ~r/C_GetSlotList/)
      FaultyModule.await(module, ~r/C_GetSlotList/, before + 6)
      refute_received {:cryptoki, ^ref, _event}
      :ok = Cryptoki.stop(hsm)
    end
  end

  test "a slot of its own that does not answer for a while is no removal", %{module: module} do
    {:ok, hsm} = started(module)
    good = slot_of(hsm, "good")
    {:ok, ref} = Cryptoki.subscribe(hsm)
    looked = FaultyModule.count(module, ~r/C_GetTokenInfo faked/)
    FaultyModule.control(module, "C_GetTokenInfo rv=0x30 slot=#{good}")
    FaultyModule.await(module, ~r/C_GetTokenInfo faked/, looked + 4)
    refute_received {:cryptoki, ^ref, _event}
    assert {:ok, %{state: :ready}} = Cryptoki.status(hsm)
    :ok = Cryptoki.stop(hsm)
  end

  test "the library is not finalised for the slot of somebody else", %{module: module} do
    {:ok, hsm} = started(module)
    bad = slot_of(hsm, "bad")
    :ok = Cryptoki.stop(hsm)
    FaultyModule.control(module, "C_GetTokenInfo rv=0x30 slot=#{bad}")

    {:ok, hsm} =
      Cryptoki.start_link(
        FaultyModule.options(module, sessions: 1, reconnect: [min: 1, max: 1])
        |> Keyword.put(:token, label: "not there yet")
      )

    before = FaultyModule.count(module, ~r/C_GetTokenInfo faked/)
    FaultyModule.await(module, ~r/C_GetTokenInfo faked/, before + 4)
    assert {:ok, %{state: :absent, reason: reason}} = Cryptoki.status(hsm)
    assert reason.reason == :token_absent
    assert Exception.message(reason) =~ "one in slot #{bad} that the library cannot read"
    :ok = Cryptoki.stop(hsm)
  end

  test "a token that is named by a slot that does not answer", %{module: module} do
    {:ok, hsm} = started(module)
    bad = slot_of(hsm, "bad")
    :ok = Cryptoki.stop(hsm)
    FaultyModule.control(module, "C_GetTokenInfo rv=0x30 slot=#{bad}")
    options = Keyword.put(FaultyModule.options(module, sessions: 1), :token, slot: bad)
    {:ok, hsm} = Cryptoki.start_link(options)

    assert {:ok, %{state: :absent, reason: %Error{reason: :device_error}}} = Cryptoki.status(hsm)
    :ok = Cryptoki.stop(hsm)

    place = Keyword.take(options, [:library, :init_args])

    assert {:error, %Error{reason: :device_error}} =
             Cryptoki.Token.set_pin(bad, [old: "1", new: "2"] ++ place)
  end

  test "what the library says of itself is an error of the whole", %{module: module} do
    {:ok, hsm} = started(module)
    FaultyModule.control(module, "C_GetSlotInfo rv=0x190")
    assert {:error, %Error{reason: :cryptoki_not_initialized}} = Cryptoki.slots(hsm)
    FaultyModule.control(module, "C_GetSlotList rv=0x30")
    assert {:error, %Error{reason: :device_error}} = Cryptoki.slots(hsm)
    FaultyModule.control(module, "")
    :ok = Cryptoki.stop(hsm)
  end

  for code <- ["0x30", "0x6", "0x5", "0x80000001", "0x7"] do
    @code code

    test "one attribute that answers #{code}", %{module: module} do
      {:ok, hsm} = started(module)
      key = data!(hsm, "first")
      FaultyModule.control(module, "C_GetAttributeValue rv=#{@code} attribute=0x10")

      assert {:ok, %{label: "first", application: {:error, why}, value: "v"}} =
               Cryptoki.attributes(hsm, key, [:label, :application, :value])

      assert why in [:device_error, :function_failed, :general_error, 0x80000001, :arguments_bad]
      assert {:ok, [%{label: "first"}]} = Cryptoki.find(hsm, class: :data, label: "first")

      # An attribute of those that every look at an object reads.
      FaultyModule.control(module, "C_GetAttributeValue rv=#{@code} attribute=0x3")
      assert {:ok, [%{label: nil, class: :data}]} = Cryptoki.find(hsm, class: :data)
      assert {:ok, %{class: :data}} = Cryptoki.find_one(hsm, class: :data)
      :ok = Cryptoki.stop(hsm)
    end

    test "one object that answers #{code}", %{module: module} do
      {:ok, hsm} = started(module)
      keys = for label <- ["first", "second", "third"], do: data!(hsm, label)
      bad = Enum.at(keys, 1)

      FaultyModule.control(
        module,
        "C_GetAttributeValue rv=#{@code} object=#{elem(bad.handle, 0)}"
      )

      log =
        capture_log(fn ->
          assert {:ok, found} = Cryptoki.find(hsm, class: :data)
          assert found |> Enum.map(& &1.label) |> Enum.sort() == ["first", "third"]
          assert hsm |> Cryptoki.stream(class: :data) |> Enum.count() == 2
          assert hsm |> Cryptoki.stream(class: :data) |> Enum.take(1) |> length() == 1
        end)

      # A call is no news.
      assert length(String.split(log, "1 of the objects cannot be read and are left out")) == 2
      assert Listing.objects(hsm, keys, 120) =~ ~r/second.*cannot be read/

      # Nothing is not what there is.
      assert {:error, %Error{}} = Cryptoki.find(hsm, class: :data, label: "second")

      assert_raise Error, fn ->
        hsm |> Cryptoki.stream(class: :data, label: "second") |> Enum.to_list()
      end

      FaultyModule.control(module, "C_GetAttributeValue rv=#{@code}")
      assert {:error, %Error{}} = Cryptoki.find(hsm, class: :data)
      FaultyModule.control(module, "")
      :ok = Cryptoki.stop(hsm)
    end
  end

  test "a certificate and a public key that cannot be read stand in nobody's way", context do
    %{module: module} = context
    {:ok, hsm} = started(module)
    pair = [label: "mine", id: "1", curve: :secp256r1, token: true]
    {:ok, {_public, private}} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, pair)
    {:ok, der} = Cryptoki.X509.self_signed(hsm, private, subject: "/CN=mine", days: 1)
    for label <- ["mine", "another"], do: Cryptoki.X509.store(hsm, der, label: label, id: "1")
    {:ok, key} = Cryptoki.public_key(hsm, private)
    :ok = Cryptoki.stop(hsm)

    # Each time anew: what was proven once is known.
    for bad <- [
          [class: :public_key],
          [class: :certificate, label: "mine"],
          [class: :certificate, label: "another"]
        ],
        code <- ["0x30", "0x5"] do
      FaultyModule.control(module, "")
      {:ok, hsm} = started(module)
      %{handle: handle} = Cryptoki.find_one!(hsm, bad)
      private = Cryptoki.find_one!(hsm, class: :private_key)
      FaultyModule.control(module, "C_GetAttributeValue rv=#{code} object=#{elem(handle, 0)}")
      assert {:ok, ^key} = Cryptoki.public_key(hsm, private)
      assert {:ok, ^der} = Cryptoki.certificate(hsm, private)
      :ok = Cryptoki.stop(hsm)
    end
  end

  test "a mechanism without information", %{module: module} do
    {:ok, hsm} = started(module)
    FaultyModule.control(module, "C_GetMechanismInfo rv=0x6 mechanism=0x250")
    assert :sha256 in Cryptoki.mechanisms!(hsm)
    assert {:error, %Error{reason: :function_failed}} = Cryptoki.mechanism_info(hsm, :sha256)
    assert {:ok, _info} = Cryptoki.mechanism_info(hsm, :sha384)
    :ok = Cryptoki.stop(hsm)
  end

  defp data!(hsm, label),
    do:
      Cryptoki.create!(hsm,
        class: :data,
        label: label,
        application: "app",
        value: "v",
        token: false,
        private: false
      )
end
