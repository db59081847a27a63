defmodule Cryptoki.Referee.DigestTest do
  use Cryptoki.Test.Referee, async: true

  # Digests of the token against :crypto and OpenSSL, and the examples of FIPS 180-4 and FIPS 202.

  @abc %{
    md5: "900150983cd24fb0d6963f7d28e17f72",
    sha_1: "a9993e364706816aba3e25717850c26c9cd0d89d",
    sha224: "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
    sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    sha384:
      "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed" <>
        "8086072ba1e7cc2358baeca134c825a7",
    sha512:
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" <>
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    sha512_224: "4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa",
    sha512_256: "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
    sha3_224: "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
    sha3_256: "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
    sha3_384:
      "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b2" <>
        "98d88cea927ac7f539f1edf228376d25",
    sha3_512:
      "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e" <>
        "10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0"
  }

  on_each_token do
    for {mechanism, abc} <- @abc do
      check "#{mechanism}", [{mechanism, :digest}], %{hsm: hsm} do
        mechanism = unquote(mechanism)
        assert Cryptoki.digest!(hsm, mechanism, ["a", [?b], "c"]) == hex(unquote(abc))

        for size <- sizes() do
          data = bytes(size)
          expected = Outside.hash(mechanism, data)
          assert Cryptoki.digest!(hsm, mechanism, data) == expected
          assert Cryptoki.digest!(hsm, mechanism, {:stream, chunks(data)}) == expected
        end
      end
    end

    test "random bytes are as many as asked for, and others each time", %{hsm: hsm} do
      for size <- sizes(), do: assert(byte_size(Cryptoki.random!(hsm, size)) == size)
      assert Cryptoki.random!(hsm, 16) != Cryptoki.random!(hsm, 16)

      # Of 80 000 fair bits ten standard deviations from the middle are no accident.
      ones = for <<bit::1 <- Cryptoki.random!(hsm, 10_000)>>, reduce: 0, do: (n -> n + bit)
      assert_in_delta ones, 40_000, 1_414

      assert Cryptoki.seed_random(hsm, bytes(32)) == :ok
    end
  end
end
