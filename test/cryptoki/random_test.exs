defmodule Cryptoki.RandomTest do
  # Alone: two copies of SoftHSM in one VM undo each other's file locks.
  use ExUnit.Case, async: false

  # Libraries that give less random at once than they are asked for, or nothing when asked for nothing.

  alias Cryptoki.Error
  alias Cryptoki.Test.FaultyModule

  setup do
    module = FaultyModule.new()
    {:ok, hsm} = Cryptoki.start_link(FaultyModule.options(module, sessions: 1))
    _ready = Cryptoki.random!(hsm, 1)
    %{module: module, hsm: hsm}
  end

  # Codes that libraries answer, and the limits of NSS, of HSMs, of a command of 256 bytes, of a TPM.
  for code <- ["0x21", "0x7", "0x20", "0x5", "0x6", "0x30"],
      limit <- [65_536, 1024, 2021, 256, 255, 64, 48],
      code not in ["0x5", "0x6", "0x30"] or limit >= 1024 do
    @code code
    @limit limit

    test "#{code} for more than #{limit} bytes", %{module: module, hsm: hsm} do
      FaultyModule.control(module, """
      C_GenerateRandom rv=#{@code} longer=#{@limit}
      C_SeedRandom rv=#{@code} longer=#{@limit}
      """)

      for count <- [1, @limit, @limit + 1, 3 * @limit + 7, 200_000] do
        assert {:ok, bytes} = Cryptoki.random(hsm, count)
        assert byte_size(bytes) == count
        # No piece was left as it was, and none came twice.
        pieces = for <<piece::binary-16 <- bytes>>, do: piece
        assert pieces == Enum.uniq(pieces)
        refute <<0::128>> in pieces

        # Kryoptic takes no shorter seed; what is left of one is never shorter than the others.
        if count >= 32, do: assert(:ok = Cryptoki.seed_random(hsm, bytes))
      end

      assert {:ok, <<_::binary-5000>>} = :cryptoki.random(hsm, 5000)

      assert {:ok, <<_::binary-5000>>} = Cryptoki.with_session(hsm, &Cryptoki.random(&1, 5000))
    end
  end

  test "what a library takes is asked of it once", %{module: module, hsm: hsm} do
    FaultyModule.control(module, "C_GenerateRandom rv=0x21 longer=1024")
    assert Cryptoki.random!(hsm, 4096) |> byte_size() == 4096
    {_bytes, calls} = FaultyModule.calls(module, fn -> Cryptoki.random!(hsm, 4096) end)
    assert calls == List.duplicate({"C_GenerateRandom", "ran", "0x0"}, 4)
    {_bytes, calls} = FaultyModule.calls(module, fn -> Cryptoki.random!(hsm, 32) end)
    assert calls == [{"C_GenerateRandom", "ran", "0x0"}]
  end

  test "of nothing nothing is asked", %{module: module, hsm: hsm} do
    FaultyModule.control(
      module,
      "C_GenerateRandom rv=0x7 shorter=1\nC_SeedRandom rv=0x7 shorter=1"
    )

    {results, calls} =
      FaultyModule.calls(module, fn ->
        {Cryptoki.random(hsm, 0), Cryptoki.seed_random(hsm, "")}
      end)

    assert results == {{:ok, ""}, :ok}
    assert calls == []
    assert_raise ArgumentError, fn -> Cryptoki.random(hsm, -1) end
    assert_raise ArgumentError, fn -> Cryptoki.random(hsm, 16 * 1024 * 1024 + 1) end
  end

  test "an error that has nothing to do with the length is told as it came", context do
    %{module: module, hsm: hsm} = context

    for {code, reason, tries} <- [
          {"0x121", :random_no_rng, 1},
          {"0x30", :device_error, 2},
          {"0x21", :data_len_range, 7}
        ] do
      FaultyModule.control(module, "C_GenerateRandom rv=#{code}")

      {result, calls} = FaultyModule.calls(module, fn -> Cryptoki.random(hsm, 100_000) end)
      assert {:error, %Error{reason: ^reason, function: :C_GenerateRandom}} = result
      assert Enum.count(calls, &(elem(&1, 0) == "C_GenerateRandom")) == tries
    end

    # A failure in between gives nothing of what there was.
    FaultyModule.control(
      module,
      "C_GenerateRandom rv=0x21 longer=1024\nC_GenerateRandom rv=0x31 after=6"
    )

    assert {:error, %Error{reason: :device_memory}} = Cryptoki.random(hsm, 100_000)
  end
end
