defmodule Cryptoki.DERReaderTest do
  use ExUnit.Case, async: true

  # X.690, sections 8, 10 and 11: what is DER, what is none, and where the error is said to be.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.PEM
  alias Cryptoki.Test.{OpenSSL, Scratch}

  test "one value in DER, with all that is in it" do
    for der <- [
          DER.null(),
          DER.integer(0),
          DER.integer(-129),
          DER.integer(Integer.pow(2, 4000)),
          DER.boolean(true),
          DER.oid({2, 999, 3}),
          DER.oid({2, 25, Integer.pow(2, 128) - 1}),
          DER.bit_string("x"),
          DER.named_bits([0, 8]),
          DER.octet_string(String.duplicate("x", 70_000)),
          DER.value(12, "東京"),
          DER.value(30, <<0x67, 0x71>>),
          DER.value(24, "20260102030405.5Z"),
          DER.value(0xA7, DER.sequence([DER.value(0x80, "anything")])),
          # A tag of two bytes.
          <<0x9F, 0x1F, 1, 0>>
        ] do
      assert Reader.one?(der), inspect(der)
    end

    refute Reader.one?("")
    refute Reader.one?(DER.null() <> DER.null())

    for bytes <- [
          <<5>>,
          <<5, 1>>,
          <<5, 0, 0>>,
          <<5, 1, 0>>,
          # Lengths that are longer than they need to be, or not there.
          <<4, 0x81, 1, 0>>,
          <<4, 0x82, 0, 0x80>> <> String.duplicate("x", 128),
          <<0x30, 0x80, 5, 0, 0, 0>>,
          <<4, 0x85, 0, 0, 0, 0, 1, 0>>,
          <<4, 0xFF>> <> <<0::1016>>,
          <<1, 1, 1>>,
          <<1, 2, 255, 255>>,
          <<1, 0>>,
          <<2, 0>>,
          <<2, 2, 0, 127>>,
          <<2, 2, 255, 128>>,
          <<10, 2, 0, 1>>,
          <<3, 0>>,
          <<3, 1, 1>>,
          <<3, 2, 8, 0>>,
          <<3, 2, 1, 1>>,
          <<6, 0>>,
          <<6, 2, 0x2A, 0x80>>,
          <<6, 3, 0x2A, 0x80, 1>>,
          DER.value(6, [0x2A, :binary.copy(<<0xFF>>, 19), 1]),
          DER.value(6, :binary.copy(<<1>>, 129)),
          DER.value(12, <<0xC3>>),
          DER.value(12, <<0xED, 0xA0, 0x80>>),
          DER.value(18, "1a"),
          DER.value(19, "a@b"),
          DER.value(22, <<200>>),
          DER.value(26, "\n"),
          DER.value(28, <<0, 0, 0xD8, 0>>),
          DER.value(30, <<0xD8, 0, 0xDC, 0>>),
          DER.value(30, "abc"),
          DER.value(23, "2601020304Z"),
          DER.value(24, "20260102030405+0100"),
          # Strings in parts, a SEQUENCE without them, an end that only BER has.
          <<0x24, 4, 4, 2, 1, 2>>,
          <<0x10, 0>>,
          <<0x30, 2, 0, 0>>,
          <<0x9F, 0x1E, 0>>,
          <<0x9F, 0x80, 0x1F, 0>>
        ] do
      refute Reader.one?(bytes), inspect(bytes)
      refute Reader.one?(DER.sequence([bytes])), inspect(bytes)
    end
  end

  test "an error says which part it is of, and where" do
    read = fn value ->
      [_first, second] = Reader.sequence(value)
      second |> Reader.name("subject") |> Reader.sequence() |> hd() |> Reader.name("part 1")
    end

    der = DER.sequence([DER.integer(1), DER.sequence([DER.value(19, "a@b")])])
    sentence = &elem(Reader.read(der, "this is none: ", &1), 1).detail

    assert sentence.(&Reader.string(read.(&1))) ==
             "this is none: subject, part 1, byte 7: it is a PrintableString with what is none"

    assert sentence.(&Reader.integer(read.(&1))) ==
             "this is none: subject, part 1, byte 7: an INTEGER should stand here, not a PrintableString"

    assert {:error, %{reason: :unsupported, detail: "byte 0: no"}} =
             Reader.read(der, "this is none: ", &Reader.wrong!(&1, "no", :unsupported))

    for {bytes, place} <- [{<<0x30, 3, 2, 1, 1, 0>>, "byte 5"}, {<<0x30, 3, 2, 2, 1>>, "byte 2"}] do
      assert {:error, %{reason: :invalid_argument, detail: text}} =
               Reader.read(bytes, "", &Reader.check/1)

      assert text =~ place
    end
  end

  test "an error says what it is about, whatever its reason is" do
    unsupported = &Reader.wrong!(&1, "it is another one", :unsupported)

    for {what, one, other} <- [
          {"this is no certificate: ", "this is no certificate: ", "certificate: "},
          {"it is no name: ", "it is no name: ", "name: "},
          {"public_key: this is none: ", "public_key: this is none: ", "public_key: "},
          {"private key: ", "private key: ", "private key: "},
          {"", "", ""}
        ] do
      assert {:error, %{reason: :unsupported, detail: detail}} =
               Reader.read(DER.null(), what, unsupported)

      assert detail == other <> "byte 0: it is another one"

      assert {:error, %{reason: :invalid_argument, detail: detail}} =
               Reader.read(DER.null(), what, &Reader.integer/1)

      assert detail == one <> "byte 0: an INTEGER should stand here, not a NULL"
      assert {:error, %{detail: detail}} = Reader.read(DER.null(), what, & &1, 1)
      assert detail == one <> "it is longer than 1 bytes"
    end

    # Of the functions that read, DER in PEM too.
    large = DER.value(4, :binary.copy("x", 1_100_000))

    for bytes <- [DER.sequence([large]), PEM.encode(large, "CERTIFICATE")] do
      assert {:error, %{detail: detail}} = Cryptoki.X509.certificate(bytes)
      assert detail =~ "this is no certificate: it is longer than 1048576 bytes"
    end
  end

  test "there are limits, and what is large costs no more than its size" do
    nested = fn depth -> Enum.reduce(1..depth, "", fn _, der -> DER.sequence([der]) end) end
    assert Reader.one?(nested.(31))
    refute Reader.one?(nested.(33))
    refute Reader.one?(nested.(5000))
    refute Reader.one?(DER.sequence(List.duplicate(DER.null(), 16_385)))
    assert Reader.one?(DER.sequence(List.duplicate(DER.null(), 16_384)))
    refute Reader.one?(DER.octet_string(String.duplicate("x", 1_048_576)))
    # Numbers and identifiers with as many bytes as there may be.
    assert Reader.one?(DER.value(2, "1" <> String.duplicate("x", 1_000_000)))
    refute Reader.one?(DER.value(6, :binary.copy(<<0xFF>>, 1_000_000)))
    assert {:error, _} = Reader.read(DER.integer(Integer.pow(2, 200)), "", &Reader.integer/1)
  end

  test "who writes a list of many is not bound by what strangers may send" do
    revoked =
      for serial <- 1..60_000,
          do: DER.sequence([DER.integer(serial), DER.time(~U[2030-01-01 00:00:00Z])])

    nothing = DER.sequence([])

    signed = [
      DER.integer(1),
      nothing,
      nothing,
      DER.time(~U[2030-01-01 00:00:00Z]),
      DER.sequence(revoked)
    ]

    list = DER.sequence([DER.sequence(signed), nothing, DER.bit_string("none")])

    assert {:error, %{detail: text}} = Reader.read(list, "", & &1)
    assert text =~ "it is longer than"
    assert "-----BEGIN X509 CRL-----" <> _ = Cryptoki.X509.to_pem(list)
  end

  test "private keys and lists that OpenSSL writes are read, and none that is cut off" do
    directory = Scratch.directory("reader")
    key = Path.join(directory, "key.pem")

    {_said, 0} =
      OpenSSL.openssl(~w(genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out #{key}))

    File.write!(Path.join(directory, "index"), "")

    config =
      Scratch.write(
        directory,
        "cnf",
        "[ca]\ndefault_ca=c\n[c]\ndatabase=#{directory}/index\ndefault_md=sha256\n"
      )

    root = Path.join(directory, "root.pem")
    {_said, 0} = OpenSSL.openssl(~w(req -x509 -new -key #{key} -subj /CN=root -out #{root}))
    crl = Path.join(directory, "crl.pem")

    {_said, 0} =
      OpenSSL.openssl(
        ~w(ca -gencrl -config #{config} -keyfile #{key} -cert #{root} -crldays 7 -out #{crl})
      )

    for file <- [key, crl] do
      {:ok, [{_label, der}]} = PEM.decode(File.read!(file), :all)
      assert Reader.read(der, "", &Reader.check/1) == {:ok, :ok}

      for size <- 0..(byte_size(der) - 1),
          do: assert({:error, _} = Reader.read(binary_part(der, 0, size), "", &Reader.check/1))
    end
  end
end
