defmodule Cryptoki.URITest do
  use ExUnit.Case, async: true

  import Cryptoki.URI

  alias Cryptoki.URI

  doctest Cryptoki.URI

  # RFC 7512, section 3: {example, what it says, canonical form if another}.
  @examples [
    {"pkcs11:", [], nil},
    {"pkcs11:object=my-pubkey;type=public", [object: "my-pubkey", type: :public], nil},
    {"pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
     [object: "my-key", type: :private, pin_source: "file:/etc/token"], nil},
    {"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;" <>
       "model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=" <>
       "?pin-source=file:/etc/token_pin",
     [
       token: "The Software PKCS#11 Softtoken",
       manufacturer: "Snake Oil, Inc.",
       model: "1.0",
       serial: "",
       object: "my-certificate",
       id: <<0x69, 0x95, 0x3E, 0x5C, 0xF4, 0xBD, 0xEC, 0x91>>,
       type: :cert,
       pin_source: "file:/etc/token_pin"
     ],
     "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;" <>
       "model=1.0;serial=;object=my-certificate;id=%69%95%3E%5C%F4%BD%EC%91;type=cert" <>
       "?pin-source=file:/etc/token_pin"},
    {"pkcs11:object=my-sign-key;type=private?module-name=mypkcs11",
     [object: "my-sign-key", type: :private, module_name: "mypkcs11"], nil},
    {"pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1",
     [object: "my-sign-key", type: :private, module_path: "/mnt/libmypkcs11.so.1"], nil},
    {"pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc." <>
       "?pin-value=the-pin",
     [
       token: "Software PKCS#11 softtoken",
       manufacturer: "Snake Oil, Inc.",
       pin_value: "the-pin"
     ], nil},
    {"pkcs11:slot-description=Sun%20Metaslot", [slot_description: "Sun Metaslot"], nil},
    {"pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;" <>
       "library-description=Soft%20Token%20Library;library-version=1.23",
     [
       library_manufacturer: "Snake Oil, Inc.",
       library_description: "Soft Token Library",
       library_version: {1, 23}
     ], nil},
    {"pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;" <>
       "id=%01%02%03%Ba%dd%Ca%fe%04%05%06",
     [
       token: "My token% created by Joe",
       library_version: {3, 0},
       id: <<1, 2, 3, 0xBA, 0xDD, 0xCA, 0xFE, 4, 5, 6>>
     ],
     "pkcs11:library-version=3.0;token=My%20token%25%20created%20by%20Joe;" <>
       "id=%01%02%03%BA%DD%CA%FE%04%05%06"},
    {"pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert",
     [token: "A name with a substring %;", object: "my-certificate", type: :cert], nil},
    {"pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;" <>
       "object=my-certificate;type=cert",
     [token: "Name with a small A with acute: á", object: "my-certificate", type: :cert], nil},
    {"pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a" <>
       "?pin-source=file:/etc/token_pin&vendor-bbb=value-b",
     [
       token: "my-token",
       object: "my-certificate",
       type: :cert,
       pin_source: "file:/etc/token_pin",
       vendor: [{"vendor-aaa", "value-a"}],
       vendor_query: [{"vendor-bbb", "value-b"}]
     ], nil}
  ]

  describe "the examples of RFC 7512" do
    for {{text, fields, canonical}, n} <- Enum.with_index(@examples) do
      test "number #{n}: #{text}" do
        assert parse!(unquote(text)) == new(unquote(fields))
        assert to_string(parse!(unquote(text))) == unquote(canonical || text)
      end
    end
  end

  describe "reading" do
    test "every attribute goes to its field" do
      path =
        ~w(token manufacturer serial model library-manufacturer library-description object) ++
          ~w(slot-description slot-manufacturer)

      for name <- path ++ ["id"] do
        field = name |> String.replace("-", "_") |> String.to_existing_atom()
        assert parse!("pkcs11:#{name}=x%20y") == new([{field, "x y"}])
        assert parse!("pkcs11:#{name}=") == new([{field, ""}])
      end

      for name <- ~w(pin-source pin-value module-name module-path) do
        field = name |> String.replace("-", "_") |> String.to_existing_atom()
        assert parse!("pkcs11:?#{name}=/x?y%26") == new([{field, "/x?y&"}])
      end

      assert parse!("pkcs11:slot-id=0018").slot_id == 18
    end

    test "the types" do
      for {text, type} <-
            [{"public", :public}, {"private", :private}, {"cert", :cert}] ++
              [{"secret-key", :secret_key}, {"data", :data}] do
        uri = parse!("pkcs11:type=#{text}")
        assert uri.type == type
        assert to_string(uri) == "pkcs11:type=#{text}"
      end
    end

    test "in any case, where the grammar has words" do
      assert parse!("PKCS11:Token=a;TYPE=Secret-Key?PIN-Value=B") ==
               new(token: "a", type: :secret_key, pin_value: "B")

      assert parse!("pkcs11:X-a=1;x-a=2").vendor == [{"X-a", "1"}, {"x-a", "2"}]
    end

    test "an empty query is none" do
      assert parse!("pkcs11:token=a?") == new(token: "a")
      assert to_string(parse!("pkcs11:?")) == "pkcs11:"
    end

    test "a vendor attribute comes twice in the query only" do
      assert parse!("pkcs11:?x-a=1&x-b=2&x-a=3").vendor_query ==
               [{"x-a", "1"}, {"x-b", "2"}, {"x-a", "3"}]

      assert sentence("pkcs11:x-a=1;x-a=2") ==
               "x-a, at character 14 of the PKCS #11 URI, is given twice"
    end

    @wrong [
      {"", "a PKCS #11 URI begins with pkcs11:"},
      {"pkcs11", "a PKCS #11 URI begins with pkcs11:"},
      {"http://a.test", "a PKCS #11 URI begins with pkcs11:"},
      {"pkcs11:token", "no name=value begins at character 8 of the PKCS #11 URI"},
      {"pkcs11:token=a;", "no name=value begins at character 16 of the PKCS #11 URI"},
      {"pkcs11:=a", "no name=value begins at character 8 of the PKCS #11 URI"},
      {"pkcs11:to ken=a", "no name=value begins at character 8 of the PKCS #11 URI"},
      {"pkcs11:token=a?&", "no name=value begins at character 16 of the PKCS #11 URI"},
      {"pkcs11:token=a;Token=a", "Token, at character 16 of the PKCS #11 URI, is given twice"},
      {"pkcs11:token=a b",
       "token, at character 8 of the PKCS #11 URI, must have character 15 percent-encoded"},
      {"pkcs11:token=é",
       "token, at character 8 of the PKCS #11 URI, must have character 14 percent-encoded"},
      {"pkcs11:token=a%2",
       "token, at character 8 of the PKCS #11 URI, must have character 15 percent-encoded"},
      {"pkcs11:token=%zz",
       "token, at character 8 of the PKCS #11 URI, must have character 14 percent-encoded"},
      {"pkcs11:id=%01;object=a/b",
       "object, at character 15 of the PKCS #11 URI, must have character 23 percent-encoded"},
      {"pkcs11:token=a#b",
       "token, at character 8 of the PKCS #11 URI, must have character 15 percent-encoded"},
      {"pkcs11:token=%FF", "token, at character 8 of the PKCS #11 URI, must be UTF-8 text"},
      {"pkcs11:type=key",
       "type, at character 8 of the PKCS #11 URI, " <>
         "must be one of public, private, cert, secret-key, data"},
      {"pkcs11:type=",
       "type, at character 8 of the PKCS #11 URI, " <>
         "must be one of public, private, cert, secret-key, data"},
      {"pkcs11:slot-id=0x1",
       "slot-id, at character 8 of the PKCS #11 URI, " <>
         "must be a number from 0 to 18446744073709551615"},
      {"pkcs11:slot-id=18446744073709551616",
       "slot-id, at character 8 of the PKCS #11 URI, " <>
         "must be a number from 0 to 18446744073709551615"},
      {"pkcs11:pin-value=1",
       "pin-value, at character 8 of the PKCS #11 URI, belongs behind the ?"},
      {"pkcs11:?token=a", "token, at character 9 of the PKCS #11 URI, belongs before the ?"},
      {"pkcs11:?module-path=a%00",
       "module-path, at character 9 of the PKCS #11 URI, must be a name or path without NUL bytes"},
      {"pkcs11:?pin-value=1&pin-source=/a",
       "a PKCS #11 URI may have pin-source or pin-value, not both"}
    ]

    for {text, sentence} <- @wrong do
      test "refuses #{inspect(text)}" do
        assert sentence(unquote(text)) == unquote(sentence)
      end
    end

    test "versions are two bytes" do
      for version <- ["", "1.", ".1", "1.2.3", "256", "1.256", "-1", "1,2", "%001"] do
        assert sentence("pkcs11:library-version=#{version}") =~ "must be M or M.N"
      end

      assert parse!("pkcs11:library-version=255.007").library_version == {255, 7}
    end

    test "no message shows a PIN" do
      for text <-
            ["pkcs11:?pin-value=secret%", "pkcs11:?pin-value=secret%FF"] ++
              ["pkcs11:pin-value=secret", "pkcs11:?pin-value=a&pin-value=secret"] ++
              ["pkcs11:?pin-value=secret&", "secret", "pkcs11:;pin value=secret"] do
        refute sentence(text) =~ "secret"
      end
    end

    test "parse!/1 raises the error" do
      assert_raise Cryptoki.Error, ~r/given twice/, fn -> parse!("pkcs11:id=;id=") end
    end
  end

  describe "building" do
    test "nil is not given" do
      assert new(token: nil, object: "a") == parse!("pkcs11:object=a")
      assert new(%{slot_id: 3}) == parse!("pkcs11:slot-id=3")
    end

    test "refuses what cannot be" do
      for {fields, message} <-
            [
              [[lable: "a"], ~r/has no :lable, only .*:token,/],
              [[token: <<255>>], "token: must be UTF-8 text"],
              [[slot_id: -1], ~r/slot_id: must be a number/],
              [[type: :cart], ~r/type: must be one of/],
              [[library_version: {1, 256}], ~r/library_version: must be M or M.N/],
              [[library_version: "1"], ~r/library_version: must be M or M.N/],
              [[module_path: <<0>>], ~r/without NUL/],
              [[vendor: [{"token", "a"}]], ~r/names that the RFC does not define/],
              [[vendor: [{"a b", "a"}]], ~r/names that the RFC does not define/],
              [[vendor: [x: "a"]], ~r/names that the RFC does not define/],
              [[vendor_query: %{}], ~r/names that the RFC does not define/],
              [[pin_source: "a", pin_value: "b"], ~r/not both/]
            ]
            |> Enum.map(&List.to_tuple/1) do
        assert_raise ArgumentError, message, fn -> new(fields) end
      end
    end
  end

  describe "writing" do
    test "leaves standing what may stand, encodes the rest" do
      raw = "AZaz09-._~:[]@!$'()*+,="
      assert to_string(new(token: raw <> "&")) == "pkcs11:token=" <> raw <> "&"
      assert to_string(new(token: "/?|;#% é")) == "pkcs11:token=%2F%3F%7C%3B%23%25%20%C3%A9"
      assert to_string(new(pin_source: raw <> "/?|")) == "pkcs11:?pin-source=" <> raw <> "/?|"
      assert to_string(new(pin_value: "&;#% é")) == "pkcs11:?pin-value=%26%3B%23%25%20%C3%A9"
      assert to_string(new(id: "a~\n")) == "pkcs11:id=%61%7E%0A"
    end

    test "inspect hides PINs, to_string does not" do
      uri = parse!("pkcs11:token=a?pin-value=secret&x-pin-value=secret&x-b=shown")

      assert inspect(uri) ==
               "#Cryptoki.URI<pkcs11:token=a?pin-value=[hidden]&x-pin-value=[hidden]&x-b=shown>"

      assert inspect(%{in: [uri]}) =~ "[hidden]"
      assert to_string(uri) =~ "pin-value=secret"
      assert inspect(new(pin_source: "/run/pin")) == "#Cryptoki.URI<pkcs11:?pin-source=/run/pin>"
    end

    test "what was written is read again, whatever it was" do
      :rand.seed(:exsss, {7512, 11, 2015})

      for _round <- 1..2_000 do
        uri = new(random_fields())
        text = to_string(uri)

        assert parse!(text) == uri
        assert to_string(parse!(text)) == text
        assert text =~ ~r/\A[A-Za-z0-9._~:\[\]@!$'()*+,=&;%\/?|-]*\z/
        assert equivalent?(parse!(respelt(text)), uri)
      end
    end

    test "any bytes are a URI or a sentence" do
      :rand.seed(:exsss, {7512, 11, 2016})

      for _round <- 1..2_000 do
        case parse("pkcs11:" <> random_text()) do
          {:ok, uri} -> assert parse!(to_string(uri)) == uri
          {:error, error} -> assert error.reason == :invalid_argument and error.detail != ""
        end
      end
    end
  end

  describe "comparing" do
    test "ignores order and spelling" do
      assert same?("pkcs11:token=a;object=b", "pkcs11:object=%62;token=%61")
      assert same?("pkcs11:x-a=1;x-b=2", "pkcs11:x-b=2;x-a=1")
      assert same?("pkcs11:id=%0a", "pkcs11:id=%0A")
      assert same?("pkcs11:slot-id=03", "pkcs11:slot-id=3")
      assert same?("pkcs11:?pin-source=file:///run/pin", "pkcs11:?pin-source=file:/run/pin")
    end

    test "an empty attribute is not a missing one" do
      refute same?("pkcs11:token=", "pkcs11:")
      refute same?("pkcs11:token=a", "pkcs11:token=A")
      refute same?("pkcs11:?pin-value=a", "pkcs11:?pin-value=b")
      refute same?("pkcs11:?pin-source=|a", "pkcs11:?pin-source=|b")
    end
  end

  describe "matching" do
    @library_info %{manufacturer: "SoftHSM", description: "PKCS#11", version: {2, 6}}
    @slot_info %{id: 5, description: "A reader", manufacturer: "Acme  "}
    @token_info %{label: "payments", manufacturer: "Acme", model: "", serial: "0042"}

    test "what a URI does not have matches everything" do
      empty = parse!("pkcs11:")
      assert matches_library?(empty, @library_info)
      assert matches_slot?(empty, @slot_info)
      assert matches_token?(empty, @token_info)
      assert matches_token?(parse!("pkcs11:object=x;slot-id=9"), @token_info)
    end

    test "each attribute counts" do
      for {function, info, good, bad} <- [
            {&matches_library?/2, @library_info, "library-manufacturer=SoftHSM", "other"},
            {&matches_library?/2, @library_info, "library-description=PKCS%2311", ""},
            {&matches_library?/2, @library_info, "library-version=2.6", "2"},
            {&matches_slot?/2, @slot_info, "slot-id=5", "6"},
            {&matches_slot?/2, @slot_info, "slot-description=A%20reader", "A"},
            {&matches_slot?/2, @slot_info, "slot-manufacturer=Acme", "acme"},
            {&matches_token?/2, @token_info, "token=payments", "payment"},
            {&matches_token?/2, @token_info, "manufacturer=Acme", ""},
            {&matches_token?/2, @token_info, "model=", "x"},
            {&matches_token?/2, @token_info, "serial=0042", "42"}
          ] do
        [name, _value] = String.split(good, "=")
        assert function.(parse!("pkcs11:" <> good), info)
        refute function.(parse!("pkcs11:" <> name <> "=" <> bad), info)
      end
    end

    test "padding does not count" do
      assert matches_token?(parse!("pkcs11:token=payments%20%20"), @token_info)
      assert matches_token?(parse!("pkcs11:model="), %{@token_info | model: "    "})
      refute matches_token?(parse!("pkcs11:token=%20payments"), @token_info)
    end

    test "an unknown path attribute matches nothing, an unknown query attribute is ignored" do
      refute matches_token?(parse!("pkcs11:token=payments;x-zone=3"), @token_info)
      refute matches_slot?(parse!("pkcs11:x-zone=3"), @slot_info)
      refute matches_library?(parse!("pkcs11:x-zone=3"), @library_info)
      assert matches_token?(parse!("pkcs11:token=payments?x-zone=3"), @token_info)

      assert_raise ArgumentError, ~r/found by x-zone/, fn ->
        to_selector(parse!("pkcs11:object=a;x-zone=3"))
      end
    end

    test "selectors" do
      for {type, class} <- [
            {"public", :public_key},
            {"private", :private_key},
            {"cert", :certificate},
            {"secret-key", :secret_key},
            {"data", :data}
          ] do
        assert to_selector(parse!("pkcs11:type=" <> type)) == [class: class]
        assert URI.type(class) == parse!("pkcs11:type=" <> type).type
      end

      assert to_selector(parse!("pkcs11:token=a?pin-value=1")) == []
      assert to_selector(parse!("pkcs11:object=;id=%00")) == [label: "", id: <<0>>]
      assert URI.type(:domain_parameters) == nil
    end

    test "the place is what is left without object and query" do
      uri = parse!("pkcs11:slot-id=1;token=a;object=b;id=c;type=data;x-d=e?pin-value=f&x-g=h")
      assert place(uri) == parse!("pkcs11:slot-id=1;token=a;x-d=e")
    end
  end

  describe "pin/1" do
    test "a value, a file: URI or a path" do
      for {query, pin} <- [
            {"", nil},
            {"pin-value=12%2034", "12 34"},
            {"pin-source=/run/pin", {:file, "/run/pin"}},
            {"pin-source=secrets/pin", {:file, "secrets/pin"}},
            {"pin-source=file:/run/pin", {:file, "/run/pin"}},
            {"pin-source=file:///run/my%2520pin", {:file, "/run/my pin"}},
            {"pin-source=file://localhost/run/pin", {:file, "/run/pin"}}
          ] do
        assert pin(parse!("pkcs11:?" <> query)) == {:ok, pin}
      end
    end

    test "no commands, no network" do
      for source <-
            ["", "|/usr/bin/pin", "https://a.test/pin", "file://a.test/pin", "file:"] ++
              ["pkcs11:object=pin", "file:/run/%25zz"] do
        assert {:error, %{detail: "pin-source must be a file: URI or a path"}} =
                 pin(parse!("pkcs11:?pin-source=" <> source))
      end
    end
  end

  defp sentence(text) do
    assert {:error, %Cryptoki.Error{reason: :invalid_argument, detail: detail}} = parse(text)
    detail
  end

  defp same?(a, b), do: equivalent?(parse!(a), parse!(b))

  # Random URIs

  defp random_fields do
    texts =
      ~w(library_manufacturer library_description slot_description slot_manufacturer token)a ++
        ~w(manufacturer model serial object module_name module_path)a

    pin = Enum.random([[], [{:pin_value, random_string()}], [{:pin_source, random_string()}]])

    others = [
      library_version: {Enum.random(0..255), Enum.random(0..255)},
      slot_id: Enum.random([0, 1, Enum.random(0..0xFFFFFFFFFFFFFFFF)]),
      id: :rand.bytes(Enum.random(0..20)),
      type: Enum.random([:public, :private, :cert, :secret_key, :data]),
      vendor: random_vendor() |> Enum.uniq_by(&elem(&1, 0)),
      vendor_query: random_vendor()
    ]

    given = Enum.map(texts, &{&1, random_string()}) ++ others
    Enum.take_random(given, Enum.random(0..length(given))) ++ pin
  end

  defp random_vendor do
    for _n <- 1..Enum.random(1..4) do
      {Enum.random(["x-a", "X-A", "x_b", "vendor-c", "9"]), :rand.bytes(Enum.random(0..5))}
    end
  end

  # What a piece costs does not grow with how many there are.
  test "attributes of vendors may be any number" do
    for {before, separator} <- [{"pkcs11:", ";"}, {"pkcs11:object=a?", "&"}] do
      [some, twice] =
        for count <- [8_000, 16_000] do
          text = before <> Enum.map_join(1..count, separator, &"x-#{&1}=a")
          {:reductions, at} = Process.info(self(), :reductions)
          assert {:ok, uri} = URI.parse(text)
          {:reductions, now} = Process.info(self(), :reductions)
          assert length(uri.vendor ++ uri.vendor_query) == count
          assert hd(uri.vendor ++ uri.vendor_query) == {"x-1", "a"}
          now - at
        end

      assert twice < 3 * some
    end
  end

  # No NUL: paths have none.
  defp random_string do
    List.to_string(
      for _n <- 1..Enum.random(1..12) do
        Enum.random([Enum.random(1..127), Enum.random(1..127), 0xE9, 0x20AC, 0x1F511])
      end
    )
  end

  # The same URI in other characters: everything encoded that can be, hex digits in lower case.
  defp respelt(text) do
    Regex.replace(~r/(?<==)[^;&?]*/, text, fn value ->
      Regex.replace(~r/%[0-9A-F]{2}|\d/, value, fn
        "%" <> hex -> "%" <> String.downcase(hex)
        <<digit>> -> "%" <> Base.encode16(<<digit>>, case: :lower)
      end)
    end)
  end

  defp random_text do
    pieces =
      ~w(token = ; & ? % %4 %41 %FF a é # type public id x-a pin-value slot-id 7) ++
        [" ", <<255>>]

    Enum.map_join(1..Enum.random(1..12), fn _n -> Enum.random(pieces) end)
  end
end
