defmodule Cryptoki.X509NamesTest do
  use ExUnit.Case, async: true

  # What is read of a name can be written, and is the same then: subjects and alternative names by chance.
  # Two subjects look the same only when they say the same.

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.Test.{CertificationRequest, OpenSSL, Scratch}
  alias Cryptoki.X509.{AltName, Name}

  @runs 1000

  setup do
    :rand.seed(:exsss, ExUnit.configuration()[:seed])
    :ok
  end

  describe "subjects" do
    test "by chance are the same when they are read and written again" do
      for _ <- 1..@runs do
        der = Name.encode!(list(), "subject")
        {:ok, text} = Name.shown(der)
        assert String.valid?(text) and not (text =~ ~r/[\p{Cc}\p{Cf}]/u)
        assert Name.encode!(text, "subject") == der
        assert Reader.read(der, "", &Name.check(Name.read(&1))) == {:ok, :ok}
      end
    end

    test "of strangers look the same only when they say the same" do
      shown =
        for _ <- 1..@runs do
          der = CertificationRequest.name(strange())
          {:ok, text} = Name.shown(der)
          assert String.valid?(text) and not (text =~ ~r/[\x00-\x1f\x7f]/)
          {text, Enum.map(strings(der), &Enum.sort/1)}
        end

      for {_text, names} <- Enum.group_by(shown, &elem(&1, 0), &elem(&1, 1)),
          do: assert(length(Enum.uniq(names)) == 1)
    end

    test "in pairs that once looked the same" do
      for {one, other} <- [
            {[O: "a", CN: "b"], [O: "a/CN=b"]},
            {[[O: "a", CN: "b"]], [O: "a+CN=b"]},
            {[CN: "a"], [CN: "a "]},
            {[CN: "a"], [CN: " a"]},
            {[CN: "a b"], [CN: "a\u00A0b"]},
            {[CN: "ab"], [CN: "a\u200Bb"]},
            {[CN: "abc"], [CN: "a\u202Ebc"]},
            {[CN: "\\00"], [CN: "\\\\00"]},
            {[CN: "#0C0161"], [CN: "a"]},
            {[CN: "a"], [{"2.5.4.41", "a"}]}
          ] do
        [one, other] =
          for name <- [one, other] do
            {:ok, text} = name |> Name.encode!("subject") |> Name.shown()
            assert Name.encode!(text, "subject") == Name.encode!(name, "subject")
            text
          end

        assert one != other
      end
    end

    test "by number, by tuple and by name are one" do
      for {number, tuple, name} <- [
            {"2.5.4.15", {2, 5, 4, 15}, "businessCategory"},
            {"1.3.6.1.4.1.311.60.2.1.3", {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3}, "jurisdictionC"},
            {"2.5.4.17", {2, 5, 4, 17}, "postalcode"}
          ] do
        der = Name.encode!([{name, "DE"}], "subject")
        assert Name.encode!([{number, "DE"}], "subject") == der
        assert Name.encode!([{tuple, "DE"}], "subject") == der
        assert Name.encode!("/#{number}=DE", "subject") == der
      end

      der = Name.encode!([{"1.2.3.4", "x"}, [CN: "a", OU: "b"]], "subject")
      assert Name.shown(der) == {:ok, "/1.2.3.4=x/CN=a+OU=b"}
      # The types that the writer would not choose, as the DER of their values.
      der = Name.encode!([{{1, 2, 3}, {:der, DER.value(19, "x")}}], "subject")
      assert Name.shown(der) == {:ok, "/1.2.3=x"}
      assert Name.encode!("/1.2.3=#130178", "subject") == der
    end

    test "of OpenSSL are read, and written as OpenSSL reads them" do
      subject =
        "/businessCategory=Private Organization/jurisdictionC=DE/postalCode=1/OU=d+CN=a\\+b\\/c"

      file = Path.join(Scratch.directory("names"), "request")

      {_, 0} =
        OpenSSL.openssl(
          ~w(req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -outform DER) ++
            ["-keyout", file <> ".key", "-out", file, "-subj", subject]
        )

      {:ok, request} = Cryptoki.X509.request(File.read!(file))
      assert request.subject == subject

      assert {:ok, ^subject} = subject |> Name.encode!("subject") |> Name.shown()
    end

    test "that are no names of anybody are refused with the one that is to blame" do
      for {name, text} <- [
            {"/CN=a+b", "is not NAME=VALUE; / and + in a value are"},
            {"/CN=a//O=b", "is not NAME=VALUE"},
            {"/CN=a+CN=b", "CN is there twice"},
            {"/1.2=x/3.4=y", ~s(there is no attribute "3.4")},
            {"/CN=\\00", "CN is text of UTF-8 without control characters"},
            {"/CN=\\FF", "CN is text"},
            {"/CN=#0500", "CN is an UTF8String" |> String.replace("an U", "a U")},
            {"/CN=#05", "the value of CN is not DER"},
            {"/C=#0C024445", "C is a PrintableString, not a UTF8String"},
            {"/emailAddress=ä@b.test", "emailAddress is text of ASCII"},
            {"/jurisdictionC=de", "jurisdictionC is a country's two letters"},
            {[{:CN, 1}], "CN is text"},
            {[{:CN, {:der, 1}}], "CN is text"},
            {[[]], "is \"/C=DE"},
            {[{{1}, "x"}], "there is no attribute {1}"},
            {[{[], "x"}], "there is no attribute []"},
            {[{"CN", <<255>>}], "CN is text"},
            {:CN, "is \"/C=DE"}
          ] do
        error = assert_raise ArgumentError, fn -> Name.encode!(name, "subject") end
        assert Exception.message(error) =~ "subject: "
        assert Exception.message(error) =~ text
      end
    end
  end

  describe "alternative names" do
    test "by chance are the same when they are read and written again" do
      for _ <- 1..@runs do
        name = alt_name()
        der = AltName.encode!(name)
        assert {:ok, [read]} = AltName.read(DER.sequence([der]))
        assert AltName.encode!(read) == der
        # As it was given, but for addresses, which have a form of their own.
        if elem(read, 0) not in [:ip, :dir_name], do: assert(read == name)
      end
    end

    test "as plain text are what they can only be" do
      for {text, read} <- [
            {"www.acme.test", {:dns, "www.acme.test"}},
            {"*.acme.test", {:dns, "*.acme.test"}},
            {"localhost", {:dns, "localhost"}},
            {"192.0.2.1", {:ip, "192.0.2.1"}},
            {"::1", {:ip, "::1"}},
            {"2001:DB8::0:1", {:ip, "2001:db8::1"}},
            {"a@acme.test", {:email, "a@acme.test"}},
            {"https://acme.test:8443/x", {:uri, "https://acme.test:8443/x"}},
            {"https://[2001:db8::1]/x", {:uri, "https://[2001:db8::1]/x"}},
            {"urn:uuid:0", {:uri, "urn:uuid:0"}},
            {"spiffe://acme.test/x", {:uri, "spiffe://acme.test/x"}}
          ] do
        assert {:ok, [^read]} = AltName.read(DER.sequence([AltName.encode!(text)]))
      end

      for {text, wanted} <- [
            {"host:443", "has a port"},
            {"www.acme.test:", "has a port"},
            {"192.0.2.1:80", "has a port"},
            {"[::1]:443", "is no IP address"},
            {"[::1]", "is no IP address"},
            {"1.2.3", "is no IP address"},
            {"1.2.3.4.5", "is no IP address"},
            {"010.0.0.1", "is no IP address"},
            {"256.0.0.1", "is no IP address"},
            {"192.0.2.1/24", "is no name of a host"},
            {"fe80::1%eth0", "has a zone"},
            {"fe80:::1", "is no IP address"},
            {"host:name", "may be several things"},
            {"http://[::1", "is no URI"},
            {"http://", "is no URI"},
            {"http://a b/", "is no name of a host"},
            {"http://a..b/", "is no URI"},
            {"http://host:port/", "is no URI"},
            {"http://acme.test/%zz", "is no URI"},
            {"@acme.test", "is no e-mail address"},
            {"a@b@acme.test", "is no e-mail address"},
            {"a@1.2.3.4:25", "has a port"},
            {"www.acme.test.", "is no name of a host"},
            {"-a.test", "is no name of a host"},
            {"", "is no name of a host"}
          ] do
        error = assert_raise ArgumentError, fn -> AltName.encode!(text) end
        assert Exception.message(error) =~ "subject_alt_name: "
        assert Exception.message(error) =~ wanted
      end
    end

    test "of each kind that are none are refused" do
      for name <- [
            dns: "a\0b.test",
            dns: "1.2.3.4",
            dns: "a.10",
            dns: String.duplicate("a", 64),
            ip: "0x7f.0.0.1",
            ip: "127.1",
            ip: {1, 2, 3, 256},
            ip: "::ffff:1.2.3",
            email: "a b@c.test",
            email: "a@-b.test",
            email: String.duplicate("a", 65) <> "@b.test",
            uri: "//acme.test/",
            uri: "x:",
            uri: "urn:[x]",
            upn: "nobody",
            upn: "a\0@b.test",
            rid: {3, 1},
            rid: "1.2.3",
            dir_name: [],
            dir_name: {:der, DER.null()},
            other: DER.null(),
            mail: "a@b.test"
          ] do
        assert_raise ArgumentError, ~r/subject_alt_name: /, fn -> AltName.encode!(name) end
      end

      upn = {1, 3, 6, 1, 4, 1, 311, 20, 2, 3}

      for {oid, der} <- [{upn, DER.integer(1)}, {{9}, DER.null()}, {{1, 2}, "x"}, {{1, 2}, 1}],
          do: assert_raise(ArgumentError, fn -> AltName.encode!({:other_name, oid, der}) end)
    end
  end

  ## By chance

  @letters ["a", "B", "1", " ", "-", "/", "\\", "+", "=", "#", ",", "ä", "東", "\u200B", "\u00A0"]

  defp text(most), do: for(_ <- 1..:rand.uniform(most), into: "", do: Enum.random(@letters))

  defp printable, do: for(_ <- 1..:rand.uniform(9), into: "", do: Enum.random(~w[a B 1 / + = ,]))

  defp list do
    for _ <- 1..:rand.uniform(4) do
      names = Enum.take_random(~w[O OU CN title 1.2.3.4 2.5.4.41 L serialNumber C DC], 3)
      part = for name <- Enum.take(names, :rand.uniform(3)), do: {name, value(name)}
      if length(part) == 1 and :rand.uniform(2) == 1, do: hd(part), else: part
    end
  end

  defp value("C"), do: Enum.random(["DE", "FR"])
  defp value("serialNumber"), do: printable()
  defp value("DC"), do: Enum.random(["acme", "a+b", "/", "#00"])
  defp value(_name), do: text(9)

  # Of few, so that some are alike.
  defp strange do
    for _ <- 1..:rand.uniform(3) do
      for _ <- 1..:rand.uniform(2) do
        oid = Enum.random([{2, 5, 4, 3}, {2, 5, 4, 10}, {1, 2, 3}])
        {tag, values} = Enum.random(strange_values())
        {oid, tag, Enum.random(values)}
      end
    end
  end

  defp strange_values do
    texts = [
      "a",
      "a/CN=a",
      "a+CN=a",
      "",
      " ",
      "a\0",
      "\\00",
      "a\n",
      "#0C0161",
      "\\",
      "=",
      "+",
      "/"
    ]

    [{12, [<<255>>, "é", "\\C3\\A9" | texts]}, {19, texts}, {22, texts}, {20, [<<233>> | texts]}] ++
      [{2, [<<1>>, "a"]}, {30, [<<0, 97>>, "a", <<0xD8, 0>>]}, {4, ["a"]}]
  end

  # What a name says: strings by their characters, others by their bytes.
  defp strings(der) do
    {:ok, parts} = Reader.read(der, "", &Name.read/1)

    for part <- parts, do: for({oid, tag, bytes} <- part, do: {oid, said(tag, bytes)})
  end

  defp said(tag, bytes) do
    with :error <- Reader.text(tag, bytes), do: {tag, bytes}
  end

  defp label, do: for(_ <- 1..:rand.uniform(9), into: "", do: Enum.random(~w[a B 1 x y z]))
  defp host, do: Enum.map_join(1..:rand.uniform(3), ".", fn _ -> label() <> "x" end)

  defp alt_name do
    number = fn most -> :rand.uniform(most + 1) - 1 end

    Enum.random([
      fn -> {:dns, Enum.random(["", "*."]) <> host()} end,
      fn -> {:email, "a.b+c@" <> host()} end,
      fn -> {:uri, "https://#{host()}:#{number.(65_535)}/a%20b?c#d"} end,
      fn -> {:uri, "urn:" <> label()} end,
      fn -> {:ip, {number.(255), number.(255), number.(255), number.(255)}} end,
      fn -> {:ip, List.to_tuple(for _ <- 1..8, do: Enum.random([0, 0, number.(65_535)]))} end,
      fn -> {:upn, label() <> "@" <> Enum.random(["東京.test", host()])} end,
      fn -> {:rid, {Enum.random([0, 1]), number.(39), number.(Integer.pow(2, 100))}} end,
      fn -> {:dir_name, list()} end,
      fn -> {:other_name, {1, 2, 3}, DER.value(12, text(9))} end,
      fn -> {:other, DER.value(0xA5, [DER.value(0xA1, DER.value(12, text(9)))])} end
    ]).()
  end
end
