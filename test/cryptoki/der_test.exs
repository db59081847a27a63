defmodule Cryptoki.DERTest do
  use ExUnit.Case, async: true

  alias Cryptoki.DER
  alias Cryptoki.DER.Reader
  alias Cryptoki.X509.Extensions

  test "what is cut off anywhere is none" do
    for inner <- ["abc", String.duplicate("x", 200), String.duplicate("x", 70_000)] do
      der = DER.sequence([DER.integer(1), DER.octet_string(inner)])
      assert {:ok, %{tag: 0x30, der: ^der}} = Reader.read(der, "", & &1)

      for size <- [1, 2, 3, byte_size(der) - 1],
          do: assert({:error, _error} = Reader.read(binary_part(der, 0, size), "", & &1))
    end
  end

  test "an extension that stands twice is an error, whatever its values" do
    extension = fn value ->
      DER.sequence([DER.oid({2, 5, 29, 15}), DER.octet_string(DER.named_bits([value]))])
    end

    read = &Extensions.Read.read/1
    assert {:ok, %{{2, 5, 29, 15} => {false, _bits}}} = read.(extension.(0))

    for value <- [0, 5] do
      assert {:error, %{detail: text}} = read.(extension.(0) <> extension.(value))
      assert text =~ "the extension 2.5.29.15 is there twice"
    end
  end
end
