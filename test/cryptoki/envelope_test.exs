defmodule Cryptoki.EnvelopeTest do
  # Boxes: what is in them comes out, and nothing comes out of one that was changed, cut, swapped or repeated.
  use ExUnit.Case, async: false

  alias Cryptoki.{Envelope, Error}
  alias Cryptoki.Test.{FaultyModule, KeyFiles, MainToken}

  @kek :crypto.strong_rand_bytes(32)
  @chunk 65_536
  # With the tag behind it.
  @sealed @chunk + 16
  @header 4 + 1 + 12 + 48

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.own(sessions: 2)})

    for {label, value} <- [{"kek", @kek}, {"old", <<1::256>>}, {"older", <<2::256>>}],
        do: Cryptoki.import_key!(hsm, {:aes, value}, label: label, token: true)

    # A pair of the same name is in nobody's way.
    Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen,
      label: "kek",
      curve: :secp256r1,
      token: true
    )

    %{hsm: hsm}
  end

  @sizes [0, 1, 16, @chunk - 1, @chunk, @chunk + 1, 2 * @chunk, 3 * @chunk + 77]

  describe "a text comes back," do
    for size <- @sizes do
      test "of #{size} bytes, whole and in pieces", %{hsm: hsm} do
        text = :crypto.strong_rand_bytes(unquote(size))
        assert {:ok, box} = Envelope.seal(hsm, [label: "kek"], text, aad: "row 7")
        chunks = max(1, div(unquote(size) + @chunk - 1, @chunk))
        assert byte_size(box) == @header + unquote(size) + 16 * chunks
        assert Envelope.open(hsm, [label: "kek"], box, aad: ["row", " 7"]) == {:ok, text}
        assert {:ok, other} = Envelope.seal(hsm, [label: "kek"], text, aad: "row 7")
        assert other != box

        for pieces <- [1, 1000, 70_000], unquote(size) < 100_000 or pieces > 1 do
          assert {:ok, stream} =
                   Envelope.seal(hsm, [label: "kek"], {:stream, cut(text, pieces)}, aad: "row 7")

          sealed = Enum.join(stream)
          assert Envelope.open(hsm, [label: "kek"], sealed, aad: "row 7") == {:ok, text}

          assert {:ok, stream} =
                   Envelope.open(hsm, [label: "kek"], {:stream, cut(box, pieces)}, aad: "row 7")

          assert Enum.join(stream) == text
        end
      end
    end

    test "of iodata, and with every way to name a KEK", %{hsm: hsm} do
      key = Cryptoki.find_one!(hsm, class: :secret_key, label: "kek")

      for kek <- [
            key,
            [label: "kek"],
            %{label: "kek"},
            "pkcs11:object=kek;type=secret-key",
            ~c"pkcs11:object=kek;type=secret-key"
          ] do
        box = Envelope.seal!(hsm, kek, ["some ", ["text"]])
        assert Envelope.open(hsm, kek, [box]) == {:ok, "some text"}
        assert Envelope.open!(hsm, [[label: "old"], kek], box) == "some text"
      end
    end
  end

  test "the bytes are what the documentation says: OpenSSL and :crypto open them", %{hsm: hsm} do
    text = :crypto.strong_rand_bytes(@chunk + 5)
    box = Envelope.seal!(hsm, [label: "kek"], text, aad: "row 7")
    <<"CKE", 1, 12, iv::binary-12, sealed::binary-32, tag::binary-16, chunks::binary>> = box
    key = :crypto.crypto_one_time_aead(:aes_256_gcm, @kek, iv, sealed, <<"CKE", 1>>, tag, false)
    assert byte_size(key) == 32

    <<first::binary-size(@chunk), first_tag::binary-16, last::binary-5, last_tag::binary-16>> =
      chunks

    one =
      :crypto.crypto_one_time_aead(
        :aes_256_gcm,
        key,
        <<0::88, 0>>,
        first,
        "row 7",
        first_tag,
        false
      )

    two =
      :crypto.crypto_one_time_aead(
        :aes_256_gcm,
        key,
        <<1::88, 1>>,
        last,
        "row 7",
        last_tag,
        false
      )

    assert one <> two == text

    # AES-GCM is CTR from the second block on, which OpenSSL's command has.
    ctr =
      &"openssl enc -d -aes-256-ctr -K #{Base.encode16(&1)} -iv #{Base.encode16(&2 <> <<2::32>>)} -in $IN -out $OUT"

    assert KeyFiles.changed(sealed, ctr.(@kek, iv)) == key
    assert KeyFiles.changed(last, ctr.(key, <<1::88, 1>>)) == two
  end

  describe "nothing comes out of a box" do
    setup %{hsm: hsm} do
      text = :crypto.strong_rand_bytes(3 * @chunk + 9)
      %{text: text, box: Envelope.seal!(hsm, [label: "kek"], text, aad: "a")}
    end

    test "that was changed, in any byte", %{hsm: hsm} do
      box = Envelope.seal!(hsm, [label: "kek"], "a short text", aad: "a")

      for at <- 0..(byte_size(box) - 1) do
        {head, <<byte, tail::binary>>} = :erlang.split_binary(box, at)
        refused(hsm, <<head::binary, Bitwise.bxor(byte, 1), tail::binary>>)
        refused(hsm, head)
      end

      refused(hsm, box <> <<0>>)
      refused(hsm, box <> box)

      assert {:error, %Error{reason: :encrypted_data_invalid}} =
               Envelope.open(hsm, [label: "kek"], box)
    end

    test "whose chunks were cut, swapped, repeated or left out", %{hsm: hsm, box: box} do
      <<header::binary-size(@header), a::binary-size(@sealed), b::binary-size(@sealed),
        c::binary-size(@sealed), d::binary>> = box

      other =
        Envelope.seal!(hsm, [label: "kek"], :crypto.strong_rand_bytes(3 * @chunk + 9), aad: "a")

      <<_::binary-size(@header), x::binary-size(@sealed), _::binary>> = other
      short = binary_part(a, 0, @sealed - 1)

      for chunks <- [
            [a, b, c],
            [a, b],
            [a],
            [],
            [d],
            [b, a, c, d],
            [a, c, b, d],
            [a, a, b, c, d],
            [a, b, c, c, d],
            [a, b, c, d, d],
            [a, b, d],
            [b, c, d],
            [x, b, c, d],
            [a, b, c, binary_part(d, 0, 8)],
            [a, b, c, binary_part(d, 0, 16)],
            [short, b, c, d],
            [a, b, c, d, <<0>>]
          ] do
        refused(hsm, IO.iodata_to_binary([header | chunks]))
      end

      refused(
        hsm,
        binary_part(other, 0, @header) <> binary_part(box, @header, byte_size(box) - @header)
      )

      assert {:ok, _text} =
               Envelope.open(hsm, [label: "kek"], Enum.join([header, a, b, c, d]), aad: "a")
    end

    # Whole and in pieces; of a stream the beginning is authentic, and there is no end.
    defp refused(hsm, box) do
      assert {:error, %Error{reason: reason} = error} =
               Envelope.open(hsm, [label: "kek"], box, aad: "a")

      assert reason in [:encrypted_data_invalid, :invalid_argument]
      assert Exception.message(error) =~ "envelope: "
      {:ok, stream} = Envelope.open(hsm, [label: "kek"], {:stream, cut(box, 50_000)}, aad: "a")
      assert_raise Error, fn -> Stream.run(stream) end
    end

    test "but its beginning, of a stream that is cut", %{hsm: hsm, box: box, text: text} do
      for kept <- [
            @header + @chunk + 16 + 1,
            @header + 2 * (@chunk + 16),
            @header + 3 * (@chunk + 16) + 20
          ] do
        {:ok, stream} =
          Envelope.open(hsm, [label: "kek"], {:stream, [binary_part(box, 0, kept)]}, aad: "a")

        seen = :ets.new(:seen, [:ordered_set])

        assert_raise Error, fn ->
          Enum.each(stream, &:ets.insert(seen, {:ets.info(seen, :size), &1}))
        end

        got = for {_n, chunk} <- :ets.tab2list(seen), into: <<>>, do: chunk
        assert String.starts_with?(text, got)
        assert byte_size(got) < byte_size(text)
      end
    end
  end

  describe "several KEKs" do
    test "are tried in their order, and a box moves to the first", %{hsm: hsm} do
      box = Envelope.seal!(hsm, [label: "older"], "a text", aad: "row")
      keks = [[label: "kek"], [label: "old"], [label: "older"]]
      assert Envelope.open(hsm, keks, box, aad: "row") == {:ok, "a text"}

      assert {:error, %Error{reason: :encrypted_data_invalid}} =
               Envelope.open(hsm, Enum.take(keks, 2), box, aad: "row")

      assert {:ok, moved} = Envelope.rewrap(hsm, keks, box)
      assert Envelope.open(hsm, [label: "kek"], moved, aad: "row") == {:ok, "a text"}

      assert binary_part(moved, @header, byte_size(moved) - @header) ==
               binary_part(box, @header, byte_size(box) - @header)

      assert {:error, %Error{}} = Envelope.rewrap(hsm, [[label: "kek"]], box)
      assert {:error, %Error{reason: :invalid_argument}} = Envelope.rewrap(hsm, keks, "x")
      # One that is gone is none of those that are there.
      assert Envelope.open(hsm, [[label: "gone"], [label: "older"]], box, aad: "row") ==
               {:ok, "a text"}

      assert {:error, %Error{reason: :key_not_found}} = Envelope.open(hsm, [[label: "gone"]], box)
    end

    test "mistakes are told before the token is asked", %{hsm: hsm} do
      for call <- [
            fn -> Envelope.seal(hsm, [], "x") end,
            fn -> Envelope.seal(hsm, [label: "kek"], :x) end,
            fn -> Envelope.seal(hsm, [label: "kek"], "x", ad: "y") end,
            fn -> Envelope.seal(hsm, [label: "kek"], "x", aad: :y) end,
            fn -> Envelope.open(hsm, [], "x") end,
            fn -> Envelope.open(hsm, [label: "kek"], {:stream, 5}) end,
            fn -> Envelope.rewrap(hsm, [[lable: "kek"]], "x") end
          ] do
        assert_raise ArgumentError, call
      end
    end
  end

  test "a stream that is consumed twice has two data keys", %{hsm: hsm} do
    {:ok, stream} = Envelope.seal(hsm, [label: "kek"], {:stream, ["text"]})
    [one, two] = for _ <- 1..2, do: Enum.join(stream)
    assert one != two
    for box <- [one, two], do: assert(Envelope.open(hsm, [label: "kek"], box) == {:ok, "text"})
    {:ok, stream} = Envelope.seal(hsm, [label: "nobody"], {:stream, ["text"]})
    assert_raise Error, fn -> Enum.join(stream) end
  end

  test "memory is bounded: of a long stream a chunk or two are held", %{hsm: hsm} do
    piece = :crypto.strong_rand_bytes(@chunk)
    source = Stream.repeatedly(fn -> piece end) |> Stream.take(400)
    {:ok, sealed} = Envelope.seal(hsm, [label: "kek"], {:stream, source})
    {:ok, text} = Envelope.open(hsm, [label: "kek"], {:stream, sealed})

    {size, most} =
      Enum.reduce(text, {0, 0}, fn chunk, {size, most} ->
        {:binary, held} = Process.info(self(), :binary)

        {size + byte_size(chunk),
         max(most, held |> Enum.uniq_by(&elem(&1, 0)) |> Enum.map(&elem(&1, 1)) |> Enum.sum())}
      end)

    assert size == 400 * @chunk
    # 25 MB went by. What is held is garbage of some chunks, too.
    assert most < 8 * 1024 * 1024
  end

  describe "a token" do
    setup do
      module = FaultyModule.new()
      hsm = start_supervised!({Cryptoki, FaultyModule.options(module, sessions: 2)}, id: :faulty)
      on_exit(fn -> FaultyModule.control(module, "") end)
      Cryptoki.import_key!(hsm, {:aes, @kek}, label: "kek")
      %{module: module, faulty: hsm}
    end

    test "that makes its IVs itself does so", %{module: module, faulty: hsm} do
      for rules <- ["iv written", "iv behind"] do
        FaultyModule.control(module, rules)
        answer = Envelope.seal(hsm, [label: "kek"], "a text")
        FaultyModule.control(module, "")

        case answer do
          {:ok, box} -> assert Envelope.open(hsm, [label: "kek"], box) == {:ok, "a text"}
          {:error, error} -> flunk(rules <> ": " <> Exception.message(error))
        end
      end
    end

    test "is asked once for a box, and what is wrong with it is told", %{
      module: module,
      faulty: hsm
    } do
      box = Envelope.seal!(hsm, [label: "kek"], String.duplicate("text", 100_000))
      {_, calls} = FaultyModule.calls(module, fn -> Envelope.open!(hsm, [label: "kek"], box) end)
      assert Enum.count(calls, &match?({"C_Decrypt", "ran", "0x0"}, &1)) <= 2

      for rv <- ["0x30", "0x32"] do
        FaultyModule.control(module, "C_Decrypt rv=#{rv}\nC_Encrypt rv=#{rv}")
        assert {:error, %Error{code: code}} = Envelope.open(hsm, [label: "kek"], box)
        assert code in [0x30, 0x32]
        FaultyModule.control(module, "")
        {:ok, _} = Cryptoki.status(hsm)
      end
    end

    test "that seals a key to another is told by nobody but the box", %{
      module: module,
      faulty: hsm
    } do
      FaultyModule.control(module, "lie C_Encrypt garbage")
      box = Envelope.seal!(hsm, [label: "kek"], "a text")
      FaultyModule.control(module, "lie C_Decrypt garbage")
      good = Cryptoki.encrypt(hsm, [label: "kek"], :aes_ecb, <<0::128>>)
      assert {:ok, _} = good
      FaultyModule.control(module, "")

      assert {:error, %Error{reason: :encrypted_data_invalid}} =
               Envelope.open(hsm, [label: "kek"], box)
    end
  end

  test "no byte of a key or a text is in what is shown", %{hsm: hsm} do
    {:ok, stream} =
      Envelope.seal(hsm, [label: "kek"], {:stream, ["a secret text"]}, aad: "a secret aad")

    refute inspect(stream, structs: false) =~ "a secret"

    error =
      assert_raise ArgumentError, fn ->
        Envelope.seal(hsm, [label: "kek"], "a secret text", aad: {"a secret aad"})
      end

    refute error.message =~ "a secret"
  end

  defp cut(bytes, size) when byte_size(bytes) <= size, do: [bytes]

  defp cut(bytes, size),
    do: [
      binary_part(bytes, 0, size) | cut(binary_part(bytes, size, byte_size(bytes) - size), size)
    ]
end
