defmodule Cryptoki.OpenSSHPasswordTest do
  # Private keys that ssh-keygen has written with a password: bcrypt_pbkdf and each of its ciphers.
  use ExUnit.Case, async: true

  alias Cryptoki.{Error, PEM, PrivateKey}
  alias Cryptoki.PrivateKey.Bcrypt
  alias Cryptoki.Test.KeyFiles

  @moduletag skip: !System.find_executable("ssh-keygen") && "there is no ssh-keygen"
  @plain "cp $IN $OUT; chmod 600 $OUT; ssh-keygen -q -p -P 'ein Paßwort' -N '' -f $OUT"

  # One round, where the number of them is not what is tried: each is work.
  defp made(options, password \\ "ein Paßwort"),
    do: KeyFiles.changed("", "ssh-keygen -q -C '' -N '#{password}' #{options} -f $OUT")

  for {type, cipher} <- [
        {"ed25519", "aes256-ctr"},
        {"rsa -b 2048", "aes128-ctr"},
        {"ecdsa -b 256", "aes192-ctr"},
        {"ed25519", "aes128-cbc"},
        {"ed25519", "aes192-cbc"},
        {"ecdsa -b 521", "aes256-cbc"},
        {"ed25519", "3des-cbc"},
        {"rsa -b 3072", "aes128-gcm@openssh.com"},
        {"ed25519", "aes256-gcm@openssh.com"},
        {"ecdsa -b 384", "chacha20-poly1305@openssh.com"}
      ] do
    test "#{type} with #{cipher} is the key without its password" do
      file = made("-t #{unquote(type)} -Z #{unquote(cipher)} -a 1")
      {:ok, key} = PrivateKey.File.read(KeyFiles.changed(file, @plain))
      assert PrivateKey.File.read(file, "ein Paßwort") == {:ok, key}

      for wrong <- ["ein Passwort", "", "ein Paßwort "] do
        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(file, wrong)

        assert text =~ "does not open with this password"
        refute text =~ "Pa"
      end
    end
  end

  test "as many rounds as ssh-keygen has by itself, and seventeen" do
    for rounds <- ["", "-a 17"] do
      file = made("-t ed25519 #{rounds}")
      assert {:ok, key} = PrivateKey.File.read(file, "ein Paßwort")
      assert {:ok, ^key} = PrivateKey.File.read(KeyFiles.changed(file, @plain))
    end
  end

  test "bcrypt_pbkdf of OpenBSD" do
    for {rounds, size, expected} <- [
          {4, 32, "5BBF0CC293587F1C3635555C27796598D47E579071BF427E9D8FBE842ABA34D9"},
          {12, 8, "1AE42C05D487BC02"}
        ] do
      assert Base.encode16(Bcrypt.pbkdf("password", "salt", rounds, size)) == expected
    end
  end

  test "without its password: what to say, or to type, and that does it" do
    file = made("-t ed25519 -a 1")
    assert {:error, %Error{reason: :unsupported, detail: text}} = PrivateKey.File.read(file)
    assert text =~ "say password:, or `ssh-keygen -p -N '' -f COPY`"
    assert {:ok, %{type: :ed25519}} = PrivateKey.File.read(KeyFiles.changed(file, @plain))
  end

  test "what would be computed for minutes, and what is none" do
    {:ok, [{label, bytes}]} = PEM.decode(made("-t ed25519 -a 1"), :all)
    <<head::binary-63, 1::32, rest::binary>> = bytes
    file = fn bytes -> PEM.encode(bytes, label) end

    for {bytes, reason, says} <- [
          {<<head::binary, 129::32, rest::binary>>, :unsupported, "more than 128 rounds"},
          {<<head::binary, 0xFFFF_FFFF::32, rest::binary>>, :unsupported, "rounds"},
          {<<head::binary, 0::32, rest::binary>>, :invalid_argument, "key derivation are none"},
          {replaced(bytes, "bcrypt", "scrypt"), :unsupported, "`ssh-keygen -p -N ''"},
          {replaced(bytes, "aes256-ctr", "aes257-ctr"), :unsupported, "`ssh-keygen -p -N ''"},
          {replaced(
             bytes,
             <<6::32, "bcrypt", 24::32, 16::32>>,
             <<6::32, "bcrypt", 24::32, 17::32>>
           ), :invalid_argument, "key derivation are none"},
          {replaced(bytes, <<6::32, "bcrypt">>, <<4::32, "none">>), :invalid_argument,
           "a cipher and no key derivation"},
          {bytes <> <<0>>, :invalid_argument, "bytes behind its end"},
          {binary_part(bytes, 0, byte_size(bytes) - 1), :invalid_argument, "cut off"}
        ] do
      assert {:error, %Error{reason: ^reason, detail: text}} =
               PrivateKey.File.read(file.(bytes), "ein Paßwort")

      assert text =~ says
    end
  end

  test "a tag is looked at, and may not be missing" do
    for cipher <- ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"] do
      {:ok, [{label, bytes}]} = PEM.decode(made("-t ed25519 -a 1 -Z #{cipher}"), :all)
      size = byte_size(bytes)

      for at <- [size - 1, size - 16, size - 17, size - 100] do
        {before, <<byte, rest::binary>>} = :erlang.split_binary(bytes, at)
        changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>

        assert {:error, %Error{reason: :invalid_argument, detail: text}} =
                 PrivateKey.File.read(PEM.encode(changed, label), "ein Paßwort")

        assert text =~ "does not open with this password"
      end

      without = binary_part(bytes, 0, size - 16)

      assert {:error, %Error{reason: :invalid_argument, detail: text}} =
               PrivateKey.File.read(PEM.encode(without, label), "ein Paßwort")

      assert text =~ "cut off"
    end
  end

  defp replaced(bytes, from, to) do
    assert [before, rest] = :binary.split(bytes, from)
    <<before::binary, to::binary, rest::binary>>
  end
end
