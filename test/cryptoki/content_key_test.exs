defmodule Cryptoki.ContentKeyTest do
  use ExUnit.Case, async: true

  # What is computed here of content keys, beside published vectors, OpenSSL and what the tests compute by themselves.

  alias Cryptoki.CMS.Cipher
  alias Cryptoki.ContentKey.{Agreement, Derivation, OAEP}
  alias Cryptoki.KeyWrap
  alias Cryptoki.Test.Outside

  # RFC 3394, sections 4.1 to 4.6.
  @wrapped [
    {16, 16, "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"},
    {24, 16, "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D"},
    {32, 16, "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"},
    {24, 24, "031D33264E15D33268F24EC260743EDCE1C6C7DDEE725A936BA814915C6762D2"},
    {32, 24, "A8F9BC1612C68B3FF6E6F4FBE30E71E4769C8B80A32CB8958CD5D17D6B254DA1"},
    {32, 32, "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"}
  ]

  test "AES key wrap, the vectors of RFC 3394" do
    data = Base.decode16!("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")

    for {kek, key, wrapped} <- @wrapped do
      kek = :binary.list_to_bin(Enum.to_list(0..(kek - 1)))
      key = binary_part(data, 0, key)
      wrapped = Base.decode16!(wrapped)
      assert KeyWrap.wrap(kek, key) == wrapped
      assert KeyWrap.unwrap(kek, wrapped) == {:ok, key}

      # Each bit of it.
      for at <- 0..(bit_size(wrapped) - 1) do
        flipped = :crypto.exor(wrapped, <<Bitwise.bsl(1, at)::size(bit_size(wrapped))>>)
        assert KeyWrap.unwrap(kek, flipped) == :error
      end
    end

    for short <- ["", <<0::64>>, <<0::128>>, <<0::184>>, <<0::unit(8)-size(1024)>>],
        do: assert(KeyWrap.unwrap(<<0::128>>, short) == :error)
  end

  test "triple DES key wrap, the vector of RFC 3217" do
    read = &Base.decode16!/1
    kek = read.("255E0D1C07B646DFB3134CC843BA8AA71F025B7C0838251F")
    key = read.("2923BF85E06DD6AE529149F1F1BAE9EAB3A7DA3D860D3E98")

    wrapped =
      read.("690107618EF092B3B48CA1796B234AE9FA33EBB4159604037DB5D6A84EB3AAC2768C632775A467D4")

    assert KeyWrap.unwrap_des_ede3(kek, wrapped) == {:ok, key}

    # Each byte of it.
    for at <- 0..39 do
      changed = :crypto.exor(wrapped, <<0::unit(8)-size(at), 1, 0::unit(8)-size(39 - at)>>)
      assert KeyWrap.unwrap_des_ede3(kek, changed) == :error
    end

    for short <- ["", <<0::192>>, <<0::256>>, <<0::384>>],
        do: assert(KeyWrap.unwrap_des_ede3(kek, short) == :error)

    assert KeyWrap.unwrap_des_ede3(<<0::128>>, wrapped) == :error
  end

  test "keys from secrets" do
    for hash <- [:sha, :sha256, :sha512], size <- [16, 32, 33, 64, 100] do
      secret = :crypto.strong_rand_bytes(32)
      info = :crypto.strong_rand_bytes(20)

      for {kdf, value} <- [
            x963: Outside.x963(hash, secret, info, size),
            concat: Outside.concat_kdf(hash, secret, info, size),
            hkdf: Outside.hkdf(hash, secret, "", info, size)
          ],
          do: assert(Derivation.derive({kdf, hash}, secret, info, size) == value)
    end
  end

  describe "OAEP" do
    defp padded(hash, mgf, label, message, size, opts) do
      digest = opts[:digest] || :crypto.hash(hash, label)
      zeros = size - byte_size(message) - 2 * byte_size(digest) - 2
      block = <<digest::binary, 0::unit(8)-size(zeros), opts[:one] || 1, message::binary>>
      seed = :crypto.strong_rand_bytes(byte_size(digest))
      block = :crypto.exor(block, mgf1(mgf, seed, byte_size(block)))
      seed = :crypto.exor(seed, mgf1(mgf, block, byte_size(seed)))
      <<opts[:first] || 0, seed::binary, block::binary>>
    end

    # RFC 8017, section B.2.1, in another way than it is written in the library.
    defp mgf1(hash, seed, size) do
      0
      |> Stream.iterate(&(&1 + 1))
      |> Stream.map(&:crypto.hash(hash, seed <> <<&1::32>>))
      |> Enum.take(div(size, byte_size(:crypto.hash(hash, ""))) + 1)
      |> IO.iodata_to_binary()
      |> binary_part(0, size)
    end

    test "is taken off what OpenSSL has encrypted" do
      {public, private} = :crypto.generate_key(:rsa, {2048, 65_537})

      for {hash, mgf, label, size} <- [
            {:sha, :sha, "", 32},
            {:sha256, :sha256, "", 16},
            {:sha512, :sha, <<0, 1>>, 0},
            {:sha256, :sha384, "x", 190}
          ] do
        message = :crypto.strong_rand_bytes(size)

        options = [
          rsa_padding: :rsa_pkcs1_oaep_padding,
          rsa_oaep_md: hash,
          rsa_mgf1_md: mgf,
          rsa_oaep_label: label
        ]

        encrypted = :crypto.public_encrypt(:rsa, message, public, options)
        raw = :crypto.private_decrypt(:rsa, encrypted, private, rsa_padding: :rsa_no_padding)
        oaep = %{hash: hash, mgf: mgf, label: label}
        assert OAEP.decode(oaep, raw, 256) == message
        # A token may leave out the zeros before a number.
        assert OAEP.decode(oaep, String.trim_leading(raw, <<0>>), 256) == message
        assert OAEP.decode(%{oaep | label: label <> "."}, raw, 256) == ""
      end
    end

    test "each part of it that is wrong" do
      oaep = %{hash: :sha256, mgf: :sha256, label: "l"}
      encoded = &padded(:sha256, :sha256, "l", "a key", 256, &1)
      assert OAEP.decode(oaep, encoded.([]), 256) == "a key"

      for wrong <- [[first: 1], [first: 0x7F], [one: 2], [one: 0], [digest: <<1::256>>]],
          do: assert(OAEP.decode(oaep, encoded.(wrong), 256) == "")

      for raw <- [
            "",
            <<0::2048>>,
            <<1::2048>>,
            :binary.copy(<<0xFF>>, 256),
            :binary.copy("x", 257)
          ],
          do: assert(OAEP.decode(oaep, raw, 256) == "")

      # No room for it.
      assert OAEP.decode(oaep, <<0::512>>, 64) == ""
    end
  end

  test "points that nobody agrees with" do
    {x25519, _} = :crypto.generate_key(:ecdh, :x25519)
    assert Agreement.point?(x25519, :x25519)
    refute Agreement.point?(x25519 <> <<0>>, :x25519)
    # Of small order (RFC 7748, section 6.1): the secret is zeros for everybody.
    for small <- [<<0::256>>, <<1, 0::248>>], do: refute(Agreement.point?(small, :x25519))
    {p256, _} = :crypto.generate_key(:ecdh, :secp256r1)
    assert Agreement.point?(p256, :secp256r1)
    refute Agreement.point?(p256, :secp384r1)
    refute Agreement.point?(p256, nil)
    refute Agreement.point?(<<0>>, :secp256r1)
  end

  test "CBC: content with every end that it can have" do
    {cipher, key} = Cipher.new(:aes_128_cbc)

    open = fn text ->
      sealed =
        :crypto.crypto_one_time(:aes_128_cbc, key, cipher.iv, text, encrypt: true, padding: :none)

      Cipher.open(cipher, key, {sealed, nil, ""})
    end

    for last <- 1..16 do
      padding = :binary.copy(<<last>>, last)
      content = :binary.copy("x", 32 - last)
      assert open.(content <> padding) == {:ok, content}

      # Each byte of it but the last.
      for at <- 0..(last - 2)//1 do
        {before, <<byte, rest::binary>>} = :erlang.split_binary(padding, at)
        assert open.(<<content::binary, before::binary, byte + 1, rest::binary>>) == :error
      end
    end

    for last <- [0 | Enum.to_list(17..255)],
        do: assert(open.(:binary.copy(<<last>>, 32)) == :error)

    for size <- [0, 1, 15, 17],
        do: assert(Cipher.open(cipher, key, {<<0::unit(8)-size(size)>>, nil, ""}) == :error)
  end

  test "GCM: a tag is as long as it is said to be" do
    {cipher, key} = Cipher.new(:aes_256_gcm)
    {text, tag} = Cipher.seal(cipher, key, "text")
    assert Cipher.open(cipher, key, {text, tag, ""}) == {:ok, "text"}
    assert Cipher.open(cipher, key, {text, tag, "more"}) == :error

    for size <- [0, 4, 12, 15],
        do: assert(Cipher.open(cipher, key, {text, binary_part(tag, 0, size), ""}) == :error)
  end
end
