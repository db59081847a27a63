defmodule Cryptoki.PEMTest do
  use ExUnit.Case, async: true

  # What is read as RFC 7468 lets parsers read, and what is said of the rest; OpenSSL as the writer.

  alias Cryptoki.PEM
  alias Cryptoki.Test.{OpenSSL, Scratch}

  @der "0" <> <<130, 1, 0>> <> String.duplicate("DER", 86)
  @pem PEM.encode(@der, "CERTIFICATE REQUEST")

  test "text, blanks, marks and other entries around it are passed over" do
    key = PEM.encode("a secret", "PRIVATE KEY")
    old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"
    old = old <> "AAAA\n-----END RSA PRIVATE KEY-----\n"

    for {text, name} <- [
          {@pem, "as it is"},
          {"\uFEFF" <> @pem, "a mark of UTF-8"},
          {"\r\n \t\n" <> @pem, "blanks"},
          {"Certificate Request:\n    Version: 1 (0x0)\n" <> @pem, "text"},
          {"0 s:CN=www\n" <> @pem, "a zero, which is also how DER begins"},
          {"see -----BEGIN CERTIFICATE REQUEST----- below\n" <> @pem,
           "a line that looks like it"},
          {<<"von M", 252, "ller\n">> <> @pem, "Latin-1"},
          {String.replace(@pem, "\n", "\r\n"), "CRLF"},
          {String.replace(@pem, "\n", "\r"), "CR"},
          {String.replace(@pem, "\n", ""), "one line"},
          {String.replace(@pem, "\n", " \n\n\t"), "blanks in it"},
          {"  " <> String.replace(@pem, "-----END", "   -----END"), "indented"},
          {key <> old <> @pem, "keys before it"},
          {@pem <> key <> "-----BEGIN LONG " <> String.duplicate("x", 100), "a key behind"},
          {:unicode.characters_to_binary("\uFEFF" <> @pem, :utf8, {:utf16, :little}), "UTF-16"},
          {:unicode.characters_to_binary("\uFEFF" <> @pem, :utf8, {:utf16, :big}), "UTF-16, big"}
        ] do
      assert {name, PEM.ders(text, :request)} == {name, {:ok, [@der]}}
    end

    assert {:ok, [@der, "another"]} =
             PEM.ders(@pem <> PEM.encode("another", "NEW CERTIFICATE REQUEST"), :request)

    assert {:ok, [{"PRIVATE KEY", nil}, {"CERTIFICATE REQUEST", @der}]} =
             PEM.decode(key <> @pem, ["CERTIFICATE REQUEST"])
  end

  test "DER is DER, whatever stands in it" do
    text = "-----BEGIN CERTIFICATE REQUEST-----\n"
    long = <<0x30, 0x81, 200>> <> String.pad_trailing(text, 200, "x")
    assert PEM.ders(long, :request) == {:ok, [long]}
    short = <<0x30, byte_size(text)>> <> text
    assert PEM.ders(short, :request) == {:ok, [short]}
  end

  test "each label of a certificate is one, without what OpenSSL writes behind it" do
    directory = Scratch.directory("pem")
    file = Path.join(directory, "certificate")

    {_, 0} =
      OpenSSL.openssl(
        ~w(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a -out #{file}) ++
          ~w(-keyout #{file}.key)
      )

    trusted = "#{file}.trusted"
    {_, 0} = OpenSSL.openssl(~w(x509 -in #{file} -trustout -addtrust serverAuth -out #{trusted}))
    assert {:ok, [der]} = PEM.ders(File.read!(file), :certificate)
    assert File.read!(trusted) =~ "BEGIN TRUSTED CERTIFICATE"
    assert PEM.ders(File.read!(trusted), :certificate) == {:ok, [der]}
    assert PEM.ders(PEM.encode(der, "X509 CERTIFICATE"), :certificate) == {:ok, [der]}
    assert [{:Certificate, ^der, _}] = :public_key.pem_decode(PEM.encode(der, "CERTIFICATE"))
  end

  test "what is wrong is said with its line" do
    lines = String.split(@pem, "\n")

    for {text, wanted} <- [
          {"", "it is neither DER nor PEM"},
          {"no request", "it is neither DER nor PEM"},
          {PEM.encode("x", "CERTIFICATE") <> PEM.encode("y", "PRIVATE KEY"),
           ~s(it has no certification request, but "CERTIFICATE", "PRIVATE KEY")},
          {"a\nb\n" <> binary_part(@pem, 0, 100), ~s(line 3: "CERTIFICATE REQUEST" begins and)},
          {"\r\n\r" <> binary_part(@pem, 0, 100), "line 3: "},
          {@pem |> String.replace("END CERTIFICATE REQUEST", "END CERTIFICATE"),
           ~s(line 8: "CERTIFICATE REQUEST" should end here)},
          {(@pem <> @pem) |> String.replace("-----END CERTIFICATE REQUEST-----\n", ""),
           "line 8: \"CERTIFICATE REQUEST\" should end here"},
          {List.replace_at(lines, 2, "AAA!") |> Enum.join("\n"), "line 3: this is not base64"},
          {List.replace_at(lines, 2, "AAA") |> Enum.join("\n"), "cut off"},
          {List.replace_at(lines, 2, "AA==") |> Enum.join("\n"), "cut off"},
          {PEM.encode("", "CERTIFICATE REQUEST"), "nothing stands here"},
          {String.replace(@pem, "REQUEST-----\nM", "REQUEST-----\nProc-Type: 4,ENCRYPTED\n\nM"),
           "it has no certification request"},
          {String.duplicate("-----BEGIN CERTIFICATE REQUEST-----\n", 10_000), "should end here"},
          {String.duplicate("x", 17_000_000), "it is longer than 16777216 bytes"}
        ] do
      assert {:error, said} = PEM.ders(text, :request)
      assert said =~ wanted
    end
  end

  # The judge is the timeout: each byte of a header was looked at as often as there are bytes in it.
  test "headers cost what their bytes do, whatever is in them" do
    for {filler, behind} <- [
          {" ", "\r"},
          {"\t ", "\r"},
          {" ", "\n \r"},
          {"x", "\r"},
          {"x:", "\n:"},
          {" \n ", "\r"},
          {"A:\n", "\r"}
        ] do
      block =
        "-----BEGIN X509 CRL-----\nA:\n " <>
          String.duplicate(filler, 6_000) <> behind <> "QUJD\n-----END X509 CRL-----\n"

      answer = PEM.decode(String.duplicate(block, 500), :all)

      # It is read as what it is, or there is base64 that is none.
      if filler in [" ", "\t ", " \n ", "A:\n"] and behind == "\r",
        do: assert({:ok, [{"X509 CRL", "ABC"} | _]} = answer),
        else: assert(elem(answer, 0) in [:ok, :error])
    end

    # As long as there may be.
    long = String.duplicate(" ", 16_000_000)

    for {headers, wanted} <- [
          {"A:\n#{long}\n", {:ok, [{"X509 CRL", "ABC"}]}},
          {"A:#{long}\n", {:ok, [{"X509 CRL", "ABC"}]}},
          {"Proc-Type: 4,#{long}ENCRYPTED\n", {:ok, [{"X509 CRL", nil}]}},
          {String.duplicate("A:\n", 5_000_000), {:ok, [{"X509 CRL", "ABC"}]}},
          {"A:\n#{long}", {:error, "line 4: nothing stands here"}}
        ] do
      text = "-----BEGIN X509 CRL-----\n#{headers}QUJD\n-----END X509 CRL-----\n"
      answer = PEM.decode(text, ["X509 CRL"])
      assert answer == wanted, inspect({answer, String.slice(headers, 0, 20)})
    end
  end

  test "lines with a colon, and those that go on from them, are headers" do
    for {content, wanted} <- [
          {"A: b\n\nQUJD", "ABC"},
          {"A: b\r\n\r\nQUJD", "ABC"},
          {"A: b\n c\n\td: e\nB:\nQUJD", "ABC"},
          {"\n \n A: b\n\nQUJD", "ABC"},
          {"A-1: b\n   \n\nQUJD", "ABC"},
          {"A: b\n QUJD", "line 4: nothing stands here"},
          {"Proc-Type: 4,ENCRYPTED\n\nQUJD", nil},
          {"A: b\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nQUJD", nil},
          {"A: b\n Proc-Type: 4,ENCRYPTED\n\nQUJD", "ABC"},
          {"A: Proc-Type: 4,ENCRYPTED\n\nQUJD", "ABC"},
          {"Proc-Type: 4,\n ENCRYPTED\n\nQUJD", "ABC"},
          {"A: b\rQUJD", "line 2: this is not base64"},
          {"A b\nQUJD: x\n", "line 3: this is not base64"},
          {": b\nQUJD", "line 2: this is not base64"},
          {"A_B: b\nQUJD", "line 2: this is not base64"},
          {"A: b\n", "line 3: nothing stands here"},
          {"\n", "line 1: nothing stands here"},
          {"A:", "line 3: nothing stands here"}
        ] do
      text = "-----BEGIN X-----\n#{content}\n-----END X-----\n"

      case PEM.decode(text, :all) do
        {:ok, [{"X", der}]} -> assert {content, der} == {content, wanted}
        {:error, said} -> assert {content, said} == {content, wanted}
      end
    end
  end

  test "where one may be there, what stands behind the second is not looked at" do
    behind = "-----BEGIN CERTIFICATE REQUEST-----\n!"
    key = PEM.encode("a key", "PRIVATE KEY")
    several = @pem <> key <> @pem
    assert PEM.ders(several <> behind, :request, 2) == {:ok, [@der, @der]}
    assert {:error, _} = PEM.ders(several <> behind, :request)
    assert {:error, _} = PEM.ders(@pem <> behind, :request, 2)
    assert PEM.ders(several, :request, 3) == {:ok, [@der, @der]}

    for {read, pem} <- [
          {&Cryptoki.X509.revocation_list/1, PEM.encode("x", "X509 CRL")},
          {&Cryptoki.X509.request/1, @pem}
        ] do
      assert {:error, %{reason: :invalid_argument, detail: "there is more than one" <> _}} =
               read.(pem <> pem <> behind)
    end
  end

  test "a text by chance is read or is an error" do
    :rand.seed(:exsss, ExUnit.configuration()[:seed])
    parts = ["-----BEGIN ", "-----END ", "-----", "CERTIFICATE REQUEST", "\n", "AAAA", "=", "0"]
    parts = parts ++ ["A: b\n", " ", <<255>>, "\uFEFF", <<0xFF, 0xFE>>, "ENCRYPTED"]

    for _ <- 1..3000 do
      text = for _ <- 1..:rand.uniform(12), into: "", do: Enum.random(parts)
      assert {answer, _} = PEM.ders(text, Enum.random([:request, :certificate, :crl]))
      assert answer in [:ok, :error]
      assert {answer, _} = PEM.decode(text, :all)
      assert answer in [:ok, :error]
    end
  end
end
