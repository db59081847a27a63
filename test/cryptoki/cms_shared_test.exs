defmodule Cryptoki.CMSSharedTest do
  # Messages for who has the same secret key, or a password, as `openssl cms` encrypts them.
  use ExUnit.Case, async: true

  alias Cryptoki.{CMS, Error}
  alias Cryptoki.Test.{KeyFiles, MainToken}

  @text "a letter to who shares a secret"
  @ciphers ~w(aes-128-cbc aes-192-cbc aes-256-cbc des3 aes-128-gcm aes-256-gcm)

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.own(sessions: 2)})

    keys =
      for size <- [16, 24, 32], into: %{} do
        value = :crypto.strong_rand_bytes(size)
        template = [label: "kek #{size}", token: true, unwrap: true, encrypt: true, decrypt: true]
        {size, {Cryptoki.import_key!(hsm, {:aes, value}, template), Base.encode16(value)}}
      end

    %{hsm: hsm, keys: keys}
  end

  defp by_openssl(arguments) do
    command = "openssl cms -encrypt -binary -in $IN -outform DER -out $OUT #{arguments}"
    KeyFiles.changed(@text, command)
  end

  for cipher <- @ciphers, size <- [16, 24, 32] do
    test "a secret key of #{size} bytes, #{cipher}", %{hsm: hsm, keys: keys} do
      {key, hex} = keys[unquote(size)]
      der = by_openssl("-#{unquote(cipher)} -secretkey #{hex} -secretkeyid 0123")
      assert CMS.decrypt(hsm, key, der) == {:ok, @text}

      assert CMS.decrypt(hsm, [label: "kek #{unquote(size)}", class: :secret_key], der) ==
               {:ok, @text}

      for other <- [16, 24, 32], other != unquote(size) do
        assert {:error, %Error{reason: :unsupported}} =
                 CMS.decrypt(hsm, elem(keys[other], 0), der)
      end
    end
  end

  # OpenSSL encrypts with a password in CBC mode only.
  for cipher <- @ciphers, not (cipher =~ "gcm") do
    test "a password, #{cipher}" do
      der = by_openssl("-#{unquote(cipher)} -pwri_password geheim")
      assert CMS.decrypt_with_password(der, "geheim") == {:ok, @text}
      assert CMS.decrypt_with_password(CMS.to_pem(der), fn -> "geheim" end) == {:ok, @text}

      for wrong <- ["geheim1", "", "Geheim"],
          do: nothing(CMS.decrypt_with_password(der, wrong))
    end
  end

  # CBC gives, once in 256 times, bytes that nobody wrote.
  defp nothing({:error, %Error{reason: :encrypted_data_invalid} = error}), do: error
  defp nothing({:ok, other}), do: assert(other != @text)

  test "one message for several: a key, a password", %{hsm: hsm, keys: keys} do
    {key, hex} = keys[32]
    der = by_openssl("-aes-256-cbc -secretkey #{hex} -secretkeyid 01 -pwri_password geheim")
    assert CMS.decrypt(hsm, key, der) == {:ok, @text}
    assert CMS.decrypt_with_password(der, "geheim") == {:ok, @text}
  end

  test "another key of its length, and a message that was changed, are one error", context do
    %{hsm: hsm, keys: keys} = context
    {key, hex} = keys[32]
    other = Cryptoki.import_key!(hsm, {:aes, :crypto.strong_rand_bytes(32)}, unwrap: true)
    der = by_openssl("-aes-256-gcm -secretkey #{hex} -secretkeyid 0123")
    {:error, error} = CMS.decrypt(hsm, other, der)
    assert error.reason == :encrypted_data_invalid

    {at, _size} = :binary.match(der, <<4, 40>>)

    for at <- [at + 2, at + 41, byte_size(der) - 1, byte_size(der) - 20] do
      {before, <<byte, rest::binary>>} = :erlang.split_binary(der, at)
      changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
      assert CMS.decrypt(hsm, key, changed) == {:error, error}
    end

    password = by_openssl("-aes-256-cbc -pwri_password geheim")

    for at <- [byte_size(password) - 1, byte_size(password) - 20] do
      {before, <<byte, rest::binary>>} = :erlang.split_binary(password, at)
      changed = <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
      assert nothing(CMS.decrypt_with_password(changed, "geheim")) in [error, true]
    end
  end

  test "a key that may not unwrap says so, and what is for others too", %{hsm: hsm, keys: keys} do
    {key, hex} = keys[32]
    der = by_openssl("-aes-256-gcm -secretkey #{hex} -secretkeyid 0123")
    value = Base.decode16!(hex)
    idle = Cryptoki.import_key!(hsm, {:aes, value}, unwrap: false)
    assert {:error, error} = CMS.decrypt(hsm, idle, der)

    # Kryoptic answers for the key what it answers for what is wrapped.
    unless MainToken.lacks(:kryoptic, "a reason of its own"),
      do: assert(error.function == :C_UnwrapKey)

    assert {:error, %Error{reason: :invalid_argument, detail: text}} =
             CMS.decrypt_with_password(der, "geheim")

    assert text =~ "none of its 1 recipients is a password"
    password = by_openssl("-aes-256-cbc -pwri_password geheim")
    assert {:error, %Error{reason: :invalid_argument}} = CMS.decrypt(hsm, key, password)

    assert {:error, %Error{reason: :unsupported, detail: text}} =
             CMS.decrypt_with_password(password, "geheim", authenticated: true)

    assert text =~ "authenticated:"

    for wrong <- [nil, :protected_path, 5, :password] do
      assert_raise ArgumentError, fn -> CMS.decrypt_with_password(password, wrong) end
    end

    assert_raise ArgumentError, ~r/did you mean/, fn ->
      CMS.decrypt_with_password(password, "geheim", authenticatd: true)
    end
  end

  test "rounds without end, and derivations that are none, are refused" do
    der = by_openssl("-aes-256-cbc -pwri_password geheim")
    assert [before, rest] = :binary.split(der, <<2, 2, 2048::16>>)

    # As long as it was: a number of two bytes more would change each length around it.
    for {count, reason} <- [
          {<<2, 2, 0, 0>>, :invalid_argument},
          {<<2, 2, 0x8000::16>>, :unsupported}
        ] do
      assert {:error, %Error{reason: ^reason}} =
               CMS.decrypt_with_password(before <> count <> rest, "geheim")
    end

    {:ok, message} = CMS.Enveloped.read(der)
    [recipient] = message.recipients

    for {recipients, says} <- [
          {[%{recipient | count: 2_000_001}], "more than 2000000 rounds"},
          {List.duplicate(%{recipient | count: 200_000}, 11), "more than 2000000 rounds"},
          {List.duplicate(%{recipient | count: 1}, 17), "no more than 16 are tried"},
          {[%{recipient | cipher: :unknown}], "is not known here"}
        ] do
      assert {:error, %Error{reason: :unsupported, detail: text}} =
               CMS.Opener.by_password(%{message | recipients: recipients}, "geheim")

      assert text =~ says
    end
  end
end
