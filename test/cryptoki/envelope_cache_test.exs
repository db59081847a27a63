defmodule Cryptoki.EnvelopeCacheTest do
  # Data keys that are known for a while: how often the token is asked, and that nothing else changes.
  use ExUnit.Case, async: false

  alias Cryptoki.{Envelope, Error}
  alias Cryptoki.Envelope.Cache
  alias Cryptoki.Test.FaultyModule

  @kek <<7::256>>
  @keks [label: "kek"]

  setup_all do
    module = FaultyModule.new()
    hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)})
    Cryptoki.import_key!(hsm, {:aes, @kek}, label: "kek", token: true)
    Cryptoki.import_key!(hsm, {:aes, <<8::256>>}, label: "other", token: true)
    %{faulty: module, hsm: hsm}
  end

  setup %{hsm: hsm} do
    %{name: :"keys#{System.unique_integer([:positive])}", box: sealed(hsm, "a text")}
  end

  defp sealed(hsm, text), do: Envelope.seal!(hsm, @keks, text, aad: "row 7")

  defp cache(name, options \\ []),
    do: start_supervised!({Envelope, [name: name] ++ options}, id: name)

  # How often the token has decrypted meanwhile.
  defp asked(module, fun) do
    {_answer, calls} = FaultyModule.calls(module, fun)
    Enum.count(calls, &match?({"C_Decrypt", _event, _rv}, &1))
  end

  defp open(hsm, box, name), do: Envelope.open(hsm, @keks, box, aad: "row 7", cache: name)

  test "the token is asked once, whole and in pieces", context do
    %{faulty: module, hsm: hsm, name: name, box: box} = context
    cache(name)
    assert asked(module, fn -> assert open(hsm, box, name) == {:ok, "a text"} end) == 1

    assert asked(module, fn ->
             for _ <- 1..5, do: assert(open(hsm, box, name) == {:ok, "a text"})
             {:ok, stream} = open(hsm, {:stream, [box]}, name)
             assert Enum.join(stream) == "a text"
           end) == 0

    # Another box, other KEKs, no cache.
    assert asked(module, fn -> open(hsm, sealed(hsm, "a text"), name) end) == 1
    keks = [@keks, [label: "other"]]
    opened = fn -> Envelope.open(hsm, keks, box, aad: "row 7", cache: name) end
    assert asked(module, fn -> assert opened.() == {:ok, "a text"} end) == 1
    assert asked(module, fn -> Envelope.open(hsm, @keks, box, aad: "row 7") end) == 1
  end

  test "what does not open without it does not open with it", context do
    %{faulty: module, hsm: hsm, name: name, box: box} = context
    cache(name)
    {:ok, "a text"} = open(hsm, box, name)
    {before, <<byte, rest::binary>>} = :erlang.split_binary(box, byte_size(box) - 3)
    changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>

    for {box, aad} <- [{changed, "row 7"}, {before, "row 7"}, {box, "row 8"}, {box, ""}] do
      assert {:error, %Error{reason: :encrypted_data_invalid}} =
               Envelope.open(hsm, @keks, box, aad: aad, cache: name)
    end

    # Nor is a failure known: each asks the token.
    for _ <- 1..2 do
      opened = fn -> Envelope.open(hsm, [label: "other"], box, aad: "row 7", cache: name) end

      assert asked(module, fn -> assert {:error, %Error{}} = opened.() end) == 1
    end
  end

  test "as often as was said, then the token is asked again", context do
    %{faulty: module, hsm: hsm, name: name, box: box} = context
    cache(name, uses: 3)

    counts = for _ <- 1..7, do: asked(module, fn -> {:ok, "a text"} = open(hsm, box, name) end)
    assert counts == [1, 0, 0, 1, 0, 0, 1]

    start_supervised!({Envelope, name: :used_once, uses: 1}, id: :once)

    assert for(_ <- 1..3, do: asked(module, fn -> open(hsm, box, :used_once) end)) == [1, 1, 1]
  end

  test "many at once do not use it more often", %{hsm: hsm, name: name, box: box, faulty: module} do
    cache(name, uses: 10)
    {:ok, "a text"} = open(hsm, box, name)
    together = fn -> Task.async_stream(1..9, fn _ -> open(hsm, box, name) end) end

    assert asked(module, fn -> assert Enum.all?(together.(), &(&1 == {:ok, {:ok, "a text"}})) end) ==
             0

    assert asked(module, fn -> open(hsm, box, name) end) == 1
  end

  test "as long as was said, to the millisecond", %{name: name} do
    cache(name, ttl: 1_000_000)
    Cache.put(name, "asked", @kek, 5_000, Cache.generation(name))
    assert Cache.fetch(name, "asked", 5_000) == {:ok, @kek}
    assert Cache.fetch(name, "asked", 1_004_999) == {:ok, @kek}
    assert Cache.fetch(name, "asked", 1_005_000) == :error
    # And it is gone then.
    assert Cache.fetch(name, "asked", 5_000) == :error
    Cache.put(name, "asked", @kek, 5_000, Cache.generation(name))
    assert Cache.fetch(name, "asked", 9_000_000) == :error
    assert :ets.info(name, :size) == 1
  end

  test "what nobody asks for goes with its time", %{hsm: hsm, name: name, box: box} do
    cache(name, ttl: 20)
    {:ok, "a text"} = open(hsm, box, name)
    await(fn -> :ets.info(name, :size) == 1 end)
    assert open(hsm, box, name) == {:ok, "a text"}
  end

  test "of too many one makes room; and all are forgotten", context do
    %{faulty: module, hsm: hsm, name: name} = context
    cache(name, size: 2)
    boxes = for n <- 1..5, do: sealed(hsm, "text #{n}")

    for {box, n} <- Enum.with_index(boxes, 1) do
      assert open(hsm, box, name) == {:ok, "text #{n}"}
      assert :ets.info(name, :size) <= 3
    end

    last = List.last(boxes)
    assert asked(module, fn -> open(hsm, last, name) end) == 0
    assert Envelope.forget(name) == :ok
    assert :ets.info(name, :size) == 1
    assert asked(module, fn -> assert open(hsm, last, name) == {:ok, "text 5"} end) == 1
  end

  test "what was asked of the token before is forgotten, too", context do
    %{faulty: module, hsm: hsm, name: name, box: box} = context
    cache(name)
    before = FaultyModule.count(module, ~r/^C_Decrypt hang/)
    FaultyModule.control(module, "C_Decrypt hang count=1")
    opening = Task.async(fn -> open(hsm, box, name) end)
    FaultyModule.await(module, ~r/^C_Decrypt hang/, before + 1)
    assert Envelope.forget(name) == :ok
    FaultyModule.control(module, "")
    assert Task.await(opening, 60_000) == {:ok, "a text"}
    assert asked(module, fn -> assert open(hsm, box, name) == {:ok, "a text"} end) == 1
    assert asked(module, fn -> assert open(hsm, box, name) == {:ok, "a text"} end) == 0
  end

  test "nothing of a key is in what can be read of it", %{hsm: hsm, name: name, box: box} do
    pid = cache(name)
    {:ok, "a text"} = open(hsm, box, name)
    <<"CKE", 1, 12, iv::binary-12, sealed::binary-32, tag::binary-16, _chunks::binary>> = box
    key = :crypto.crypto_one_time_aead(:aes_256_gcm, @kek, iv, sealed, <<"CKE", 1>>, tag, false)
    assert byte_size(key) == 32

    for shown <- [:ets.tab2list(name), :sys.get_state(pid), :sys.get_status(pid)] do
      assert :binary.match(:erlang.term_to_binary(shown), binary_part(key, 0, 8)) == :nomatch
      refute inspect(shown, limit: :infinity) =~ inspect(key) |> String.slice(2..20)
    end

    # The names of KEKs, which may be URIs with a PIN, are not there either.
    uri = "pkcs11:object=kek?pin-value=geheim"
    _ = Envelope.open(hsm, uri, box, aad: "row 7", cache: name)
    assert :binary.match(:erlang.term_to_binary(:ets.tab2list(name)), "geheim") == :nomatch
  end

  test "a name that is none, and options that are none, are mistakes", %{hsm: hsm, box: box} do
    for name <- [:misspelt, :ac_tab] do
      assert_raise ArgumentError, ~r/cache: there is none with the name/, fn ->
        open(hsm, box, name)
      end
    end

    assert_raise ArgumentError, ~r/cache: must be/, fn -> open(hsm, box, "keys") end
    assert_raise ArgumentError, ~r/there is none/, fn -> Envelope.forget(:misspelt) end
    assert_raise ArgumentError, ~r/name: must be/, fn -> Envelope.start_link([]) end

    for {options, says} <- [
          {[ttl: 0], "ttl: must be milliseconds"},
          {[ttl: :infinity], "ttl: must be milliseconds"},
          {[uses: 0], "uses: must be"},
          {[size: 0], "size: must be"},
          {[tll: 5], "did you mean :ttl?"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(says)}/, fn ->
        Envelope.start_link([name: :none] ++ options)
      end
    end

    assert_raise ArgumentError, ~r/unknown option :cache/, fn ->
      Envelope.seal(hsm, @keks, "text", cache: :keys)
    end
  end

  # The state itself, however long that takes.
  defp await(holds?) do
    unless holds?.() do
      receive do
      after
        5 -> await(holds?)
      end
    end
  end
end
