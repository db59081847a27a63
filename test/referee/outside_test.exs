defmodule Cryptoki.Referee.OutsideTest do
  use ExUnit.Case, async: true

  # The referee's own arithmetic, where it is not :crypto's: published examples, and OpenSSL's command.

  import Cryptoki.Test.Referee, only: [bytes: 1, flip: 1, hex: 1]

  alias Cryptoki.Test.Outside

  test "AES key wrap: RFC 3394, and OpenSSL" do
    kek = hex("000102030405060708090A0B0C0D0E0F1011121314151617")
    wrapped = hex("96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D")
    assert Outside.key_wrap(kek, hex("00112233445566778899AABBCCDDEEFF")) == wrapped
    assert Outside.key_unwrap(kek, wrapped) == {:ok, hex("00112233445566778899AABBCCDDEEFF")}
    assert Outside.key_unwrap(kek, flip(wrapped)) == :error

    data = bytes(64)
    iv = :binary.copy(<<0xA6>>, 8)
    assert Outside.encrypt("id-aes192-wrap", kek, iv, data) == Outside.key_wrap(kek, data)
  end

  test "AES key wrap with padding: RFC 5649" do
    kek = hex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")

    for {data, wrapped} <- [
          {"c37b7e6492584340bed12207808941155068f738",
           "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
          {"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"}
        ] do
      assert Outside.key_wrap_pad(kek, hex(data)) == hex(wrapped)
      assert Outside.key_unwrap_pad(kek, hex(wrapped)) == {:ok, hex(data)}
      assert Outside.key_unwrap_pad(kek, flip(hex(wrapped))) == :error
    end
  end

  test "HKDF, X9.63 and SP 800-108 as OpenSSL has them" do
    {secret, salt, info} = {bytes(32), bytes(16), bytes(20)}
    key = "hexkey:" <> Base.encode16(secret)
    salted = "hexsalt:" <> Base.encode16(salt)
    information = "hexinfo:" <> Base.encode16(info)

    assert Outside.hkdf(:sha256, secret, salt, info, 100) ==
             kdf(100, "HKDF", ["digest:SHA256", key, salted, information])

    assert Outside.x963(:sha384, secret, info, 100) ==
             kdf(100, "X963KDF", ["digest:SHA384", key, information])

    assert Outside.concat_kdf(:sha256, secret, info, 100) ==
             kdf(100, "SSKDF", ["digest:SHA256", key, information])

    # A label, a zero byte, the context, and the length in bits.
    hmac = &Outside.hmac(:sha256, secret, &1)
    fixed = [salt, 0, info, <<800::32>>]
    common = ["mac:HMAC", "digest:SHA256", key, salted, information]

    assert Outside.counter_kdf(hmac, &[<<&1::32>>, fixed], 100) ==
             kdf(100, "KBKDF", ["mode:COUNTER" | common])

    iv = bytes(32)
    input = fn previous, counter -> [previous, <<counter::32>>, fixed] end

    assert Outside.feedback_kdf(hmac, iv, input, 100) ==
             kdf(100, "KBKDF", ["mode:FEEDBACK", "hexseed:" <> Base.encode16(iv) | common])
  end

  test "HMAC with hashes that :crypto does not have" do
    {key, data} = {bytes(200), bytes(300)}

    for {hash, digest} <- [sha512_224: "SHA512-224", sha512_256: "SHA512-256"],
        key = binary_part(key, 0, Enum.random([20, 128, 129, 200])) do
      options = ~w(-macopt digest:#{digest} -macopt hexkey:#{Base.encode16(key)})
      arguments = ["mac" | options] ++ ["-binary", "-in", :in, "-out", :out, "HMAC"]
      assert Outside.hmac(hash, key, data) == Outside.run(arguments, data)
    end
  end

  defp kdf(size, name, options) do
    options = Enum.flat_map(options, &["-kdfopt", &1])
    arguments = ["kdf", "-keylen", "#{size}", "-binary"] ++ options ++ ["-out", :out, name]
    Outside.run(arguments, "")
  end
end
