defmodule Cryptoki.AttributeTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Attribute
  alias Cryptoki.Attribute.Curve

  doctest Cryptoki.Attribute

  @word :erlang.system_info(:wordsize)

  defp ulong(n), do: <<n::native-unit(8)-size(@word)>>

  defp message(template) do
    Exception.message(assert_raise ArgumentError, fn -> Attribute.encode!(template) end)
  end

  describe "templates" do
    test "stand in each other at most 16 deep" do
      nested = fn levels ->
        Enum.reduce(2..levels, [token: true], fn _, inner -> [wrap_template: inner] end)
      end

      assert [{_, {:template, _}}] = Attribute.encode!(nested.(16))

      assert message(nested.(17)) ==
               "attribute :wrap_template: templates stand in each other at most 16 deep"

      assert message(nested.(100_000)) =~ "at most 16 deep"
      assert message(%{derive_template: %{unwrap_template: nested.(15)}}) =~ "at most 16 deep"
    end

    test "each type of value goes out as the border takes it" do
      template = [
        class: :private_key,
        key_type: :ec,
        token: true,
        sensitive: false,
        label: "ключ",
        id: <<1, 2>>,
        value_len: 32,
        start_date: ~D[2024-02-29],
        end_date: nil,
        public_exponent: 65_537,
        modulus: <<0, 200>>,
        allowed_mechanisms: [:ecdsa, 0x80000001],
        hss_lms_types: [5, 6],
        curve: :secp256r1,
        parameter_set: :ml_kem_768,
        name_hash_algorithm: :sha256,
        certificate_category: :authority,
        otp_format: :hexadecimal,
        hw_feature_type: :clock,
        profile_id: :baseline_provider,
        trust_server_auth: :trust_anchor,
        validation_version: {1, 2},
        wrap_template: [class: :secret_key, extractable: false],
        object_validation_flags: 0
      ]

      assert Attribute.encode!(template) == [
               {0x0, 3},
               {0x100, 3},
               {0x1, true},
               {0x103, false},
               {0x3, "ключ"},
               {0x102, <<1, 2>>},
               {0x161, 32},
               {0x110, "20240229"},
               {0x111, ""},
               {0x122, <<1, 0, 1>>},
               {0x120, <<0, 200>>},
               {0x40000600, {:ulongs, [0x1041, 0x80000001]}},
               {0x61A, {:ulongs, [5, 6]}},
               {0x180, <<6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7>>},
               {0x61D, 2},
               {0x8C, 0x250},
               {0x87, 2},
               {0x220, 1},
               {0x300, 2},
               {0x601, 1},
               {0x62C, 2},
               {0x620, <<1, 2>>},
               {0x40000211, {:template, [{0x0, 4}, {0x162, false}]}},
               {0x61E, 0}
             ]
    end

    test "numbers without a name and raw bytes pass" do
      assert Attribute.encode!([{0x80000001, <<1>>}, {0x80000002, 7}, {0x80000003, true}]) ==
               [{0x80000001, <<1>>}, {0x80000002, 7}, {0x80000003, true}]

      assert Attribute.encode!([{0x80000001, [1, 2]}]) == [{0x80000001, {:ulongs, [1, 2]}}]
      assert Attribute.encode!(class: 0x80000001) == [{0x0, 0x80000001}]
      assert Attribute.encode!(class: <<4>>, token: <<1>>) == [{0x0, <<4>>}, {0x1, <<1>>}]
      # A known attribute by its number has its type.
      assert Attribute.encode!([{0x0, :data}]) == [{0x0, 0}]
    end

    test "maps and old spellings are taken" do
      assert Attribute.encode!(%{label: "a"}) == [{0x3, "a"}]

      assert Attribute.encode!(key_type: :ecdsa, ecdsa_params: <<5, 0>>) == [
               {0x100, 3},
               {0x180, <<5, 0>>}
             ]
    end

    test "CK_UNAVAILABLE_INFORMATION is all ones" do
      assert Attribute.encode!(key_gen_mechanism: :unavailable) ==
               [{0x166, Bitwise.bsl(1, 8 * @word) - 1}]
    end

    test "mistakes say which attribute and what was expected" do
      for {template, sentence} <- [
            {[lable: "x"], "there is no attribute :lable; did you mean :label?"},
            {[label: ~c"x"], "attribute :label: expected a UTF-8 string, got a list"},
            {[token: 1], "attribute :token: expected a boolean, got an integer"},
            {[value_len: -1],
             "attribute :value_len: expected an integer of at least 0 that fits CK_ULONG, got a negative integer"},
            {[class: :privat_key],
             "attribute :class: expected the name of a class or its number, got :privat_key; did you mean :private_key?"},
            {[class: nil],
             "attribute :class: expected the name of a class or its number, got nil"},
            {[start_date: "x", start_date: "y"], "attribute :start_date is given twice"},
            {[curve: :ed25519, ec_params: <<1>>], "attribute :ec_params is given twice"},
            {[curve: :secp256r2],
             "attribute :curve: expected the name of a curve or its DER, got :secp256r2; did you mean "},
            {[start_date: 20_240_229],
             "attribute :start_date: expected a Date or nil, got an integer"},
            {[allowed_mechanisms: [:aes_gcn]],
             "attribute :allowed_mechanisms: expected the name of a mechanism or its number, got :aes_gcn"},
            {[allowed_mechanisms: :aes_gcm],
             "attribute :allowed_mechanisms: expected a list of mechanisms by name or number, got an atom"},
            {[allowed_mechanisms: ["x"]],
             "attribute :allowed_mechanisms: expected the name of a mechanism or its number in the list, got a binary"},
            {[wrap_template: [lable: "x"]], "there is no attribute :lable"},
            {[wrap_template: 5], "attribute :wrap_template: expected a template"},
            {[wrap_template: [label: 5]], "attribute :label: expected a UTF-8 string"},
            {[{0x80000001, :x}],
             "attribute 0x80000001: expected a binary, a boolean, an integer"},
            {[{"label", "x"}],
             "an attribute is an atom or a number of at most 64 bits, got a binary"},
            {[:label], "a template is made of {attribute, value}, got an atom"},
            {"label", "a template is a keyword list or a map, got a binary"},
            {~D[2024-01-01], "a template is a keyword list or a map, got a %Date{}"}
          ] do
        assert String.starts_with?(message(template), sentence),
               "#{message(template)} does not start with #{sentence}"
      end
    end

    test "no message shows a value that may be secret" do
      for name <-
            ~w[value private_exponent prime_1 prime_2 exponent_1 exponent_2 coefficient prime
                     seed x2ratchet_rk label id otp_counter]a,
          value <- [{"hunter2"}, ["hunter2"], -271_828, 2.71828, %{a: "hunter2"}] do
        message = message([{name, value}])
        refute message =~ "hunter2"
        refute message =~ "271828"
        assert message =~ inspect(name)
      end
    end
  end

  describe "what a token answers" do
    test "each type of value" do
      answer = [
        {0x0, ulong(2)},
        {0x100, ulong(0x80000001)},
        {0x1, <<1>>},
        {0x2, <<0>>},
        {0x3, "a"},
        {0x102, ""},
        {0x161, ulong(32)},
        {0x110, "20240229"},
        {0x111, ""},
        {0x120, <<0, 200>>},
        {0x40000600, ulong(0x1041) <> ulong(0x80000001)},
        {0x166, <<-1::size(@word)-unit(8)>>},
        {0x620, <<3, 2>>},
        {0x40000211, {:template, [{0x0, ulong(4)}, {0x3, "w"}]}},
        {0x11, {:error, :attribute_sensitive}},
        {0x80000001, <<9>>}
      ]

      assert Attribute.decode(answer) == %{
               0x80000001 => <<9>>,
               class: :public_key,
               key_type: 0x80000001,
               token: true,
               private: false,
               label: "a",
               id: "",
               value_len: 32,
               start_date: ~D[2024-02-29],
               end_date: nil,
               modulus: <<0, 200>>,
               allowed_mechanisms: [:ecdsa, 0x80000001],
               key_gen_mechanism: :unavailable,
               validation_version: {3, 2},
               wrap_template: %{class: :secret_key, label: "w"},
               value: {:error, :attribute_sensitive}
             }
    end

    test "numbers are as wide as their bytes" do
      assert Attribute.decode([{0x161, <<32::native-32>>}]) == %{value_len: 32}
      assert Attribute.decode([{0x161, <<32::native-64>>}]) == %{value_len: 32}
      assert Attribute.decode([{0x161, <<0xFFFFFFFF::native-32>>}]) == %{value_len: :unavailable}
      assert Attribute.decode([{0x0, <<1::native-32>>}]) == %{class: :certificate}
    end

    test "bytes that do not fit stay bytes" do
      assert Attribute.decode([
               {0x0, <<1, 2, 3>>},
               {0x1, <<1, 0>>},
               {0x110, "2024xxxx"},
               {0x161, ""}
             ]) ==
               %{class: <<1, 2, 3>>, token: <<1, 0>>, start_date: "2024xxxx", value_len: ""}

      assert Attribute.decode([{0x40000600, <<1, 2, 3>>}]) == %{allowed_mechanisms: <<1, 2, 3>>}
      assert Attribute.decode([{0x3, <<255>>}]) == %{label: <<255>>}
    end

    test "the names asked for are the names of the answer" do
      der = <<6, 5, 43, 129, 4, 0, 34>>
      answer = [{0x180, der}, {0x3, "a"}]

      assert Attribute.decode(answer, [:curve, :ec_params, 0x3]) ==
               %{:curve => :secp384r1, :ec_params => der, 0x3 => "a"}

      assert Attribute.decode(answer, [:ecdsa_params]) == %{ecdsa_params: der}
      assert Attribute.decode(answer, [:curve, :id]) == %{curve: :secp384r1}
      assert Attribute.types!([:curve, :ec_params, :label]) == [0x180, 0x3]
    end

    test "a parameter set has a name next to its key type" do
      set = {0x61D, ulong(2)}
      assert Attribute.types!([:parameter_set]) == [0x61D, 0x100]
      assert Attribute.decode([set], [:parameter_set]) == %{parameter_set: 2}

      for {key_type, name} <- [
            {0x49, :ml_kem_768},
            {0x4A, :ml_dsa_65},
            {0x4B, :slh_dsa_shake_128s},
            {0x47, 2}
          ] do
        answer = [set, {0x100, ulong(key_type)}]
        assert Attribute.decode(answer, [:parameter_set]) == %{parameter_set: name}
      end
    end

    test "what goes out comes back" do
      for {name, value} <- [
            class: :secret_key,
            allowed_mechanisms: [:aes_gcm, :aes_cbc],
            start_date: ~D[1999-12-31],
            end_date: nil,
            validation_version: {0, 255},
            curve: :brainpoolP384t1,
            label: ""
          ] do
        [{type, wire}] = Attribute.encode!([{name, value}])

        bytes =
          case wire do
            {:ulongs, codes} -> Enum.map_join(codes, &ulong/1)
            code when is_integer(code) -> ulong(code)
            bytes -> bytes
          end

        assert Attribute.decode([{type, bytes}], [name]) == %{name => value}
      end
    end
  end

  describe "curves" do
    # From RFC 8410 and SEC 2, as DER.
    @der %{
      ed25519: "06032b6570",
      ed448: "06032b6571",
      x25519: "06032b656e",
      x448: "06032b656f",
      secp256r1: "06082a8648ce3d030107",
      secp384r1: "06052b81040022",
      secp521r1: "06052b81040023",
      secp256k1: "06052b8104000a",
      brainpoolP256r1: "06092b2403030208010107",
      # PKCS #11 v3.2, section 6.3.5
      edwards25519: "130c656477617264733235353139"
    }

    test "have the DER of their specifications" do
      for {name, hex} <- @der do
        assert {name, Curve.encode(name)} == {name, {:ok, Base.decode16!(hex, case: :lower)}}
      end
    end

    test "are OTP's, with OTP's object identifiers" do
      for name <- Curve.names(),
          name not in [:edwards25519, :edwards448, :curve25519, :curve448] do
        {:ok, oid} = Curve.oid(name)
        assert {name, :pubkey_cert_records.namedCurves(name)} == {name, oid}

        {:ok, der} = Curve.encode(name)
        assert :public_key.der_decode(:EcpkParameters, der) == {:namedCurve, oid}
        assert Curve.decode(der) == {:ok, name}
      end
    end

    test "are read in every spelling seen" do
      for {text, name} <- [
            {"edwards25519", :ed25519},
            {"edwards448", :ed448},
            {"curve25519", :x25519},
            {"curve448", :x448},
            {"secp384r1", :secp384r1},
            {"prime256v1", :secp256r1}
          ] do
        assert Curve.decode(<<0x13, byte_size(text), text::binary>>) == {:ok, name}
      end

      assert Curve.decode(Base.decode16!("06092B06010401DA470F01")) == {:ok, :ed25519}
      assert Curve.decode(Base.decode16!("060A2B060104019755010501")) == {:ok, :x25519}
      assert Curve.decode(<<6, 1, 1>>) == :error
      assert Attribute.decode([{0x180, <<6, 1, 1>>}], [:curve]) == %{curve: <<6, 1, 1>>}
      assert Curve.oid(:edwards25519) == {:ok, {1, 3, 101, 112}}
      assert Curve.oid(:secp256r2) == :error
    end
  end

  describe "points" do
    test "bare or wrapped, by the length the curve has" do
      for {curve, size} <- [
            secp256r1: 65,
            secp384r1: 97,
            secp521r1: 133,
            sect571r1: 145,
            ed448: 57
          ] do
        point = <<4>> <> :binary.copy(<<7>>, size - 1)
        assert Attribute.ec_point(point, curve) == {:ok, point}
        assert Attribute.ec_point(Curve.wrap_point(point), curve) == {:ok, point}
        assert Attribute.ec_point(point <> <<0>>, curve) == :error
      end

      compressed = <<2, 7::256>>
      assert Attribute.ec_point(compressed, :secp256r1) == {:ok, compressed}
      assert Attribute.ec_point(<<4, 33>> <> compressed, :secp256r1) == {:ok, compressed}
    end

    test "of P-521 is wrapped with a long length" do
      point = <<4>> <> :binary.copy(<<1>>, 132)
      assert <<4, 0x81, 133, ^point::binary>> = Curve.wrap_point(point)
    end

    test "of X25519 that looks like DER is not unwrapped" do
      raw = <<4, 30>> <> :binary.copy(<<9>>, 30)
      assert Attribute.ec_point(raw, :x25519) == {:ok, raw}
      assert Attribute.ec_point(<<4, 32>> <> raw, :x25519) == {:ok, raw}
    end

    test "in a BIT STRING, by the names of section 6.3.5, and of unknown curves" do
      point = <<7::256>>
      assert Attribute.ec_point(<<3, 33, 0>> <> point, :ed25519) == {:ok, point}
      assert Attribute.ec_point(point, :edwards25519) == {:ok, point}

      uncompressed = <<4, 1::256, 2::256>>
      assert Attribute.ec_point(Curve.wrap_point(uncompressed), nil) == {:ok, uncompressed}
      assert Attribute.ec_point(uncompressed, nil) == {:ok, uncompressed}
      assert Attribute.ec_point("", nil) == :error
      assert Attribute.ec_point(uncompressed, :no_such_curve) == :error
    end
  end
end
