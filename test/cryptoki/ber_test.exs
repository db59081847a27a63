defmodule Cryptoki.BERTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{BER, DER}

  test "DER stays what it is" do
    for der <- [
          DER.sequence([]),
          DER.sequence([DER.integer(5), DER.explicit(0, DER.octet_string(:binary.copy("x", 300)))]),
          DER.octet_string(<<0, 0>>),
          <<0x7F, 0x21, 2, 5, 0>>
        ],
        do: assert(BER.to_der(der) == {:ok, der})
  end

  test "lengths that only the end tells, and strings in parts" do
    for {ber, der} <- [
          {<<0x30, 0x80, 0, 0>>, <<0x30, 0>>},
          {<<0x30, 0x80, 0x30, 0x80, 5, 0, 0, 0, 2, 1, 7, 0, 0>>,
           <<0x30, 7, 0x30, 2, 5, 0, 2, 1, 7>>},
          {<<0x30, 0x83, 0, 0, 2, 5, 0>>, <<0x30, 2, 5, 0>>},
          {<<0x24, 0x80, 4, 1, ?a, 0x24, 4, 4, 2, ?b, ?c, 0, 0>>, <<4, 3, "abc">>},
          {<<0x24, 0>>, <<4, 0>>},
          # What it stands for is known to who reads it.
          {<<0xA0, 0x80, 4, 1, ?a, 0, 0>>, <<0xA0, 3, 4, 1, ?a>>}
        ],
        do: assert(BER.to_der(ber) == {:ok, der})

    parts = for _ <- 1..10_000, do: <<4, 0x82, 0x10, 0, 1::unit(8)-size(4096)>>

    assert {:ok, <<4, 0x84, 40_960_000::32, _::binary>>} =
             BER.to_der(IO.iodata_to_binary([<<0x24, 0x80>>, parts, 0, 0]))
  end

  test "more values than there is anything to say are refused, and long strings in parts are not" do
    many = IO.iodata_to_binary([0x30, 0x80, :binary.copy(<<5, 0>>, 100_000), 0, 0])
    assert {:error, "byte " <> text} = BER.to_der(many)
    assert text =~ "too many values"

    few = IO.iodata_to_binary([0x30, 0x80, :binary.copy(<<5, 0>>, 60_000), 0, 0])
    assert {:ok, <<0x30, 0x83, 120_000::24, _::binary>>} = BER.to_der(few)

    parts = :binary.copy(<<4, 62, 1::unit(8)-size(62)>>, 150_000)

    assert {:ok, <<4, 0x83, 9_300_000::24, _::binary>>} =
             BER.to_der(<<0x24, 0x80, parts::binary, 0, 0>>)
  end

  test "what is none" do
    for {bytes, text} <- [
          {<<0x30>>, "byte 1: it is cut off"},
          {<<0x30, 0x80>>, "byte 2: it has no end"},
          {<<0x30, 0x80, 5, 0>>, "byte 4: it has no end"},
          {<<0x30, 0x80, 5, 0, 0>>, "cut off"},
          {<<0x30, 0, ?\n>>, "byte 2: there are bytes behind its end"},
          {<<0x30, 0x80, 5, 0, 0, 0, 0>>, "byte 6: there are bytes behind its end"},
          {<<0x30, 0, 5, 0>>, "byte 2: there are bytes behind its end"},
          {<<4, 0x80, 0, 0>>, "byte 1: a value without parts has no length"},
          {<<4, 5, 1>>, "byte 1: it is cut off"},
          {<<4, 0xFF, 1>>, "byte 1: it is cut off"},
          {<<4, 0x85, 0, 0, 0, 0, 1, 1>>, "byte 1: it is cut off"},
          {<<0x24, 3, 5, 1, 0>>, "a part of this OCTET STRING is none"},
          {<<0x3F, 0x81, 1, 0>>, "its tag is a number"},
          {:binary.copy(<<0x30, 0x80>>, 100_000), "more than 32 levels deep"}
        ] do
      assert {:error, error} = BER.to_der(bytes)
      assert error =~ text
    end
  end

  test "zeros behind its end, where they may be" do
    for one <- [<<0x30, 0>>, <<0x30, 0x80, 0, 0>>] do
      for size <- [0, 1, 2, 3, 300],
          do: assert(BER.padded_to_der(one <> <<0::unit(8)-size(size)>>) == {:ok, <<0x30, 0>>})

      assert {:error, _bytes_behind} = BER.to_der(one <> <<0>>)
    end

    assert {:error, "byte 2: there are bytes behind its end"} =
             BER.padded_to_der(<<0x30, 0, 0, 0, 1>>)
  end
end
