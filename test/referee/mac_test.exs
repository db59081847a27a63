defmodule Cryptoki.Referee.MacTest do
  use Cryptoki.Test.Referee, async: true

  # MACs of the token against :crypto and OpenSSL, and the examples of RFC 2202, 4231 and 4493.

  # Mechanism, hash, and HMAC of RFC 4231's test case 6 (RFC 2202's for MD5 and SHA-1) where there is one.
  @hmacs [
    {:md5_hmac, :md5, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"},
    {:sha_1_hmac, :sha_1, "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
    {:sha224_hmac, :sha224, "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e"},
    {:sha256_hmac, :sha256, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {:sha384_hmac, :sha384,
     "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952"},
    {:sha512_hmac, :sha512,
     "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352" <>
       "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
    {:sha512_224_hmac, :sha512_224, nil},
    {:sha512_256_hmac, :sha512_256, nil},
    {:sha3_224_hmac, :sha3_224, nil},
    {:sha3_256_hmac, :sha3_256, nil},
    {:sha3_384_hmac, :sha3_384, nil},
    {:sha3_512_hmac, :sha3_512, nil}
  ]

  @larger_than_block "Test Using Larger Than Block-Size Key - Hash Key First"

  on_each_token do
    for {mechanism, hash, _example} <- @hmacs do
      check "#{mechanism}", [{mechanism, [:sign, :verify]}], %{hsm: hsm} do
        mechanism = unquote(mechanism)

        if example = example(unquote(mechanism)) do
          size = if unquote(hash) in [:md5, :sha_1], do: 80, else: 131
          key = secret(hsm, :generic_secret, :binary.copy(<<0xAA>>, size), sign: true)
          assert Cryptoki.sign!(hsm, key, mechanism, @larger_than_block) == hex(example)
        end

        # SoftHSM wants a key at least as long as the digest.
        raw = bytes(63 + :rand.uniform(80))
        key = secret(hsm, :generic_secret, raw, sign: true, verify: true)

        for size <- sizes() do
          data = bytes(size)
          mac = Cryptoki.sign!(hsm, key, mechanism, data)
          assert mac == Outside.hmac(unquote(hash), raw, data)
          assert Cryptoki.sign!(hsm, key, mechanism, {:stream, chunks(data)}) == mac
          assert Cryptoki.verify(hsm, key, mechanism, data, mac) == :ok
          assert Cryptoki.verify(hsm, key, mechanism, {:stream, chunks(data)}, mac) == :ok

          assert_refused(Cryptoki.verify(hsm, key, mechanism, data, flip(mac)))
          refute Cryptoki.valid?(hsm, key, mechanism, [data, 0], mac)
          refute Cryptoki.valid?(hsm, key, mechanism, data, binary_part(mac, 0, 8))
        end
      end

      general = :"#{mechanism}_general"

      check "#{general}", [{general, [:sign, :verify]}], %{hsm: hsm} do
        raw = bytes(80)
        key = secret(hsm, :generic_secret, raw, sign: true, verify: true)
        data = bytes(100)
        whole = Outside.hmac(unquote(hash), raw, data)

        for mac_len <- [4, 10, div(byte_size(whole), 2), byte_size(whole)] do
          mechanism = {unquote(general), mac_len: mac_len}
          mac = Cryptoki.sign!(hsm, key, mechanism, data)
          assert mac == binary_part(whole, 0, mac_len)
          assert Cryptoki.verify(hsm, key, mechanism, data, mac) == :ok
          assert_refused(Cryptoki.verify(hsm, key, mechanism, data, flip(mac)))
        end
      end
    end

    check "AES-CMAC", [aes_cmac: [:sign, :verify]], %{hsm: hsm} do
      key = secret(hsm, :aes, hex("2b7e151628aed2a6abf7158809cf4f3c"), sign: true)

      message =
        hex("6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51") <>
          hex("30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710")

      # RFC 4493, section 4.
      for {size, mac} <- [
            {0, "bb1d6929e95937287fa37d129b756746"},
            {16, "070a16b46b4d4144f79bdd9dd04a287c"},
            {40, "dfa66747de9ae63030ca32611497c827"},
            {64, "51f0bebf7e3b9d92fc49741779363cfe"}
          ] do
        assert Cryptoki.sign!(hsm, key, :aes_cmac, binary_part(message, 0, size)) == hex(mac)
      end

      for key_size <- [16, 24, 32], size <- sizes() do
        raw = bytes(key_size)
        key = secret(hsm, :aes, raw, sign: true, verify: true)
        data = bytes(size)
        mac = Cryptoki.sign!(hsm, key, :aes_cmac, data)
        assert mac == Outside.aes_cmac(raw, data)
        assert Cryptoki.sign!(hsm, key, :aes_cmac, {:stream, chunks(data)}) == mac
        assert Cryptoki.verify(hsm, key, :aes_cmac, data, mac) == :ok
        assert_refused(Cryptoki.verify(hsm, key, :aes_cmac, data, flip(mac)))
      end
    end

    check "AES-CMAC, shortened", [aes_cmac_general: [:sign, :verify]], %{hsm: hsm} do
      {raw, data} = {bytes(16), bytes(50)}
      key = secret(hsm, :aes, raw, sign: true, verify: true)

      for mac_len <- [1, 4, 8, 16] do
        mechanism = {:aes_cmac_general, mac_len: mac_len}
        mac = Cryptoki.sign!(hsm, key, mechanism, data)
        assert mac == binary_part(Outside.aes_cmac(raw, data), 0, mac_len)
        assert Cryptoki.verify(hsm, key, mechanism, data, mac) == :ok
        assert_refused(Cryptoki.verify(hsm, key, mechanism, data, flip(mac)))
      end
    end

    # The last block of CBC with a zero IV, section 6.10.8: half of it, or what is asked for.
    check "AES-MAC", [:aes_mac_general, aes_mac: [:sign, :verify]], %{hsm: hsm} do
      raw = bytes(32)
      key = secret(hsm, :aes, raw, sign: true, verify: true)

      for size <- [16, 17, 31, 32, 4096, 5001] do
        data = bytes(size)
        padded = data <> :binary.copy(<<0>>, Integer.mod(-size, 16))
        ciphertext = :crypto.crypto_one_time(:aes_256_cbc, raw, <<0::128>>, padded, true)
        last = binary_part(ciphertext, byte_size(ciphertext), -16)

        mac = Cryptoki.sign!(hsm, key, :aes_mac, data)
        assert mac == binary_part(last, 0, 8)
        assert Cryptoki.verify(hsm, key, :aes_mac, data, mac) == :ok
        assert_refused(Cryptoki.verify(hsm, key, :aes_mac, data, flip(mac)))

        general = {:aes_mac_general, mac_len: 16}
        assert Cryptoki.sign!(hsm, key, general, data) == last
        assert Cryptoki.verify(hsm, key, general, data, last) == :ok
      end
    end

    check "DES3-CMAC", [des3_cmac: [:sign, :verify]], %{hsm: hsm} do
      raw = odd_parity(bytes(24))
      key = secret(hsm, :des3, raw, sign: true, verify: true)

      for size <- sizes() do
        data = bytes(size)
        mac = Cryptoki.sign!(hsm, key, :des3_cmac, data)
        assert mac == :crypto.mac(:cmac, :des_ede3_cbc, raw, data)
        assert Cryptoki.verify(hsm, key, :des3_cmac, data, mac) == :ok
        assert_refused(Cryptoki.verify(hsm, key, :des3_cmac, data, flip(mac)))
      end
    end
  end

  defp example(mechanism), do: @hmacs |> List.keyfind(mechanism, 0) |> elem(2)
end
