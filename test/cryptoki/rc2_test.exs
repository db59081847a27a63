defmodule Cryptoki.RC2Test do
  # RC2 by the example of RFC 2268, section 5, that has keys as long as they are strong, and by OpenSSL.
  use ExUnit.Case, async: true

  alias Cryptoki.PKCS12.RC2
  alias Cryptoki.Test.KeyFiles

  @legacy "-provider legacy -provider default"

  test "RFC 2268, section 5" do
    for {key, text, sealed} <- [
          {"FFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF", "278B27E42E2F0D49"},
          {"3000000000000000", "1000000000000001", "30649EDF9BE7D2C2"},
          {"88BCA90E90875A7F0F79C384627BAFB2", "0000000000000000", "2269552AB0F85CA6"}
        ] do
      [key, text, sealed] = Enum.map([key, text, sealed], &Base.decode16!/1)
      assert RC2.decrypt(key, <<0::64>>, sealed) == text
    end
  end

  @tag skip:
         !match?({_, 0}, System.cmd("sh", ["-c", "echo | openssl rc2 #{@legacy} -k x 2>&1"])) &&
           "this OpenSSL has no RC2"
  test "what OpenSSL encrypts" do
    for {name, size} <- ["rc2-40-cbc": 5, "rc2-64-cbc": 8, "rc2-cbc": 16],
        blocks <- [0, 1, 2, 99] do
      [key, iv] = for size <- [size, 8], do: :crypto.strong_rand_bytes(size)
      text = :crypto.strong_rand_bytes(8 * blocks)
      options = "-#{name} -K #{Base.encode16(key)} -iv #{Base.encode16(iv)} -nopad"
      sealed = KeyFiles.changed(text, "openssl enc #{@legacy} #{options} -in $IN -out $OUT")
      assert byte_size(sealed) == 8 * blocks
      assert RC2.decrypt(key, iv, sealed) == text
    end
  end
end
