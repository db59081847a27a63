defmodule Cryptoki.SelectorTest do
  use ExUnit.Case, async: true

  import Cryptoki.Selector

  alias Cryptoki.{Key, URI}

  test "attributes, as keyword list or map" do
    assert normalize!([label: "a", id: <<1>>], :any) == {:search, [label: "a", id: <<1>>], nil}
    assert normalize!(%{label: "a"}, :any) == {:search, [label: "a"], nil}
    assert normalize!([{0x80000001, <<2>>}], :any) == {:search, [{0x80000001, <<2>>}], nil}
  end

  test "a URI, as text or struct" do
    text = "pkcs11:token=x;object=a;id=%01?module-name=y"
    assert normalize!(text, :any) == {:search, [label: "a", id: <<1>>], nil}
    assert normalize!(URI.parse!(text), :any) == {:search, [label: "a", id: <<1>>], nil}
  end

  test "a key is itself" do
    key = %Key{class: :private_key, label: "a"}
    assert normalize!(key, :sign) == {:key, key}
  end

  test "each verb looks for its classes" do
    for {verb, classes} <- [
          sign: [:private_key, :secret_key],
          verify: [:public_key, :secret_key],
          encrypt: [:public_key, :secret_key],
          decrypt: [:private_key, :secret_key],
          digest: [:secret_key],
          sign_recover: [:private_key],
          verify_recover: [:public_key],
          wrap: [:public_key, :secret_key],
          unwrap: [:private_key, :secret_key],
          derive: [:private_key, :secret_key],
          encapsulate: [:public_key],
          decapsulate: [:private_key],
          public_key: [:public_key],
          private_key: [:private_key],
          certificate: [:certificate],
          any: nil,
          find: nil
        ] do
      assert normalize!([label: "a"], verb) == {:search, [label: "a"], classes}
    end
  end

  test "a class in the selector wins" do
    assert normalize!([class: :secret_key, label: "a"], :sign) ==
             {:search, [label: "a"], [:secret_key]}

    assert normalize!("pkcs11:object=a;type=private", :verify) ==
             {:search, [label: "a"], [:private_key]}

    assert normalize!([class: 0x80000001], :any) == {:search, [], [0x80000001]}
  end

  test "an empty selector finds everything, and names no key" do
    for empty <- [[], %{}, "pkcs11:", "pkcs11:token=a"] do
      assert normalize!(empty, :find) == {:search, [], nil}

      assert_raise ArgumentError, ~r/an empty selector names no key: give .*label:/, fn ->
        normalize!(empty, :sign)
      end
    end
  end

  test "what is no selector is refused with an example" do
    for {wrong, message} <- [
          {:invoice, ~r/^an atom names no key: give attributes such as \[label: "invoice"\]/},
          {nil, ~r/^nil names no key/},
          {3, ~r/^an integer names no key/},
          {{:label, "a"}, ~r/^a tuple of 2 names no key/},
          {[:label], ~r/^a list names no key/},
          {[{"label", "a"}], ~r/^a list names no key/},
          {[{-1, "a"}], ~r/^a list names no key/},
          {%{"label" => "a"}, ~r/^a map names no key/},
          {~D[2024-01-01], ~r/^a %Date{} names no key/},
          {"invoice", ~r/^a PKCS #11 URI begins with pkcs11:; give/},
          {"pkcs11:object=a b", ~r/must have character 16 percent-encoded; give/},
          {"pkcs11:object=a;x-zone=1", ~r/found by x-zone/}
        ] do
      assert_raise ArgumentError, message, fn -> normalize!(wrong, :sign) end
    end
  end

  test "the place a URI asks for" do
    assert place("pkcs11:token=a;slot-id=1;object=b;id=%01;type=data?pin-value=1") ==
             URI.parse!("pkcs11:token=a;slot-id=1")

    assert place(URI.parse!("pkcs11:serial=1")) == URI.parse!("pkcs11:serial=1")
    for none <- ["pkcs11:object=a", [label: "a"], %{}, %Key{}], do: assert(place(none) == nil)
  end
end
