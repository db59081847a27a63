defmodule Cryptoki.KeyTest do
  use ExUnit.Case, async: true

  alias Cryptoki.{Key, URI}

  doctest Cryptoki.Key

  describe "new/2" do
    test "takes what could be read" do
      read = %{
        class: :private_key,
        key_type: :ec,
        label: "invoice",
        id: <<1>>,
        token: true,
        unique_id: {:error, :attribute_type_invalid},
        sign: true
      }

      assert Key.new(read, handle: {7, 2}, token_info: %{label: "a"}, fingerprint: "f") ==
               %Key{
                 class: :private_key,
                 key_type: :ec,
                 label: "invoice",
                 id: <<1>>,
                 token: true,
                 unique_id: nil,
                 handle: {7, 2},
                 token_info: %{label: "a"},
                 fingerprint: "f"
               }
    end

    test "knows nothing of what it does not have" do
      assert Key.new(%{}) == %Key{token: nil}
      assert Key.new(%{token: false}) == %Key{token: false}
      assert Key.new(%{token: <<1, 1>>}) == %Key{token: nil}
      assert Key.new(%{token: {:error, :attribute_type_invalid}}) == %Key{token: nil}
      assert_raise KeyError, fn -> Key.new(%{}, handel: 1) end
    end

    test "attributes/0 is what it wants" do
      assert Enum.sort(Key.attributes()) ==
               [:class, :id, :key_type, :label, :token, :unique_id]
    end
  end

  describe "to_uri/1" do
    @token_info %{label: "My HSM", manufacturer: "Acme; Inc.", model: "2", serial: "0042"}

    test "names token and object, and finds them again" do
      key = %Key{class: :private_key, label: "a b", id: <<1, 255>>, token_info: @token_info}

      assert Key.to_uri(key) ==
               "pkcs11:token=My%20HSM;manufacturer=Acme%3B%20Inc.;model=2;serial=0042;" <>
                 "object=a%20b;id=%01%FF;type=private"

      uri = URI.parse!(Key.to_uri(key))
      assert URI.to_selector(uri) == [class: :private_key, label: "a b", id: <<1, 255>>]
      assert URI.matches_token?(uri, @token_info)
    end

    @token "pkcs11:token=My%20HSM;manufacturer=Acme%3B%20Inc.;model=2;serial=0042;"

    test "says what is empty" do
      named = %Key{token_info: @token_info, label: "", id: ""}

      for {class, type} <- [private_key: "private", public_key: "public", certificate: "cert"] do
        assert Key.to_uri(%{named | class: class}) == @token <> "object=;id=;type=#{type}"
      end

      assert Key.to_uri(%{named | class: :secret_key}) == @token <> "object=;id=;type=secret-key"
      data = %{named | class: :data, id: nil}
      assert Key.to_uri(data) == @token <> "object=;type=data"
      bare = %{label: "", manufacturer: "", model: "", serial: ""}

      assert Key.to_uri(%{data | token_info: bare}) ==
               "pkcs11:token=;manufacturer=;model=;serial=;object=;type=data"
    end

    test "leaves nothing out: then there is none" do
      named = %Key{token_info: @token_info, class: :private_key, label: "a", id: "1"}

      for {fields, why} <- [
            {[label: <<255>>], "object is not known, or no UTF-8"},
            {[label: nil], "object is not known"},
            {[id: nil], "id is not known"},
            {[class: :hw_feature], "no type for its class"},
            {[class: 0x80000001], "no type for its class"},
            {[class: nil], "no type for its class"},
            {[token_info: nil], "token is not known"},
            {[token_info: %{@token_info | label: <<255>>}], "token is not known, or no UTF-8"},
            {[token_info: %{@token_info | serial: <<255>>}], "serial is not known, or no UTF-8"}
          ] do
        assert_raise ArgumentError, ~r/#{why}/, fn -> Key.to_uri(struct!(named, fields)) end
      end
    end
  end

  test "inspect says what it is, in one line" do
    for {fields, shown} <- [
          {[class: :private_key, key_type: :ec, label: "invoice", id: <<1>>, token: true],
           ~s(private ec "invoice" id=01)},
          {[class: :public_key, key_type: :rsa, label: "a\nb", id: "", token: true],
           ~S(public rsa "a\nb" id=)},
          {[class: :secret_key, key_type: 0x80000001, token: false], "secret 0x80000001 session"},
          {[class: :certificate, label: "ca", id: <<0xAB, 0xCD>>, token: true],
           ~s(certificate "ca" id=abcd)},
          {[class: 0x80000002, label: <<255>>, token: true], "0x80000002 <<255>>"},
          {[], ""}
        ] do
      key = struct!(Key, [token_info: %{serial: "hidden"}, fingerprint: "hidden"] ++ fields)
      assert inspect(key) == "#Cryptoki.Key<#{shown}>"
    end
  end

  describe "fingerprint/1" do
    @rsa %{class: :private_key, key_type: :rsa, modulus: <<1, 2>>, public_exponent: <<1, 0, 1>>}

    test "is the same for the same key only" do
      fingerprint = Key.fingerprint(@rsa)
      assert byte_size(fingerprint) == 32
      assert fingerprint == Key.fingerprint(Map.put(@rsa, :label, "other"))
      assert fingerprint == Key.fingerprint(Map.put(@rsa, :ec_point, {:error, :unavailable}))
      refute fingerprint == Key.fingerprint(%{@rsa | modulus: <<1, 3>>})
      refute fingerprint == Key.fingerprint(%{@rsa | key_type: :dsa})
    end

    test "is of public values" do
      assert Key.fingerprint(%{class: :secret_key, key_type: :aes, value: "secret"}) == nil
      refute :value in Key.fingerprint_attributes(:private_key)
      assert :value in Key.fingerprint_attributes(:public_key)
      assert Key.fingerprint(%{class: :certificate, value: "der"})
      assert Key.fingerprint(%{class: :public_key, value: {:error, :unavailable}}) == nil
    end
  end
end
