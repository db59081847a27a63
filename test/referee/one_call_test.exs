defmodule Cryptoki.Referee.OneCallTest do
  # A result is one call of the library: room for it is there from the start, no call asks for its
  # size. Counted by the journal of the fault module, in front of each token.
  use ExUnit.Case, async: true

  alias Cryptoki.Test.{FaultyModule, Token}

  @moduletag :capture_log

  @rsa for hash <- [nil, :sha256, :sha512],
           padding <- [:rsa_pkcs, :rsa_pkcs_pss],
           do: if(hash, do: :"#{hash}_#{padding}", else: padding)
  # The small sets of SLH-DSA need seconds.
  @slh_dsa for hash <- ~w[sha2 shake], size <- [128, 192, 256], do: :"slh_dsa_#{hash}_#{size}f"
  @macs [:sha256_hmac]

  setup_all do
    soft_hsm = FaultyModule.new()
    %{soft_hsm: soft_hsm, hsm: start_supervised!({Cryptoki, FaultyModule.options(soft_hsm)})}
  end

  describe "SoftHSM2" do
    test "signs with one call", %{soft_hsm: module, hsm: hsm} do
      template = [label: "rsa", modulus_bits: 4096]
      options = [timeout: :infinity]

      {_public, rsa} = Cryptoki.generate_key_pair!(hsm, :rsa_pkcs_key_pair_gen, template, options)

      {_public, ec} = Cryptoki.generate_key_pair!(hsm, :ec_key_pair_gen, curve: :secp256r1)
      {_public, ed} = Cryptoki.generate_key_pair!(hsm, :ec_edwards_key_pair_gen, curve: :ed25519)
      key = [sign: true, verify: true, value_len: 32]
      generic = Cryptoki.generate_key!(hsm, :generic_secret_key_gen, key)
      aes = Cryptoki.generate_key!(hsm, :aes_key_gen, key)

      for {key, mechanisms} <- [
            {rsa, @rsa},
            {ec, [:ecdsa]},
            {ed, [:eddsa]},
            {generic, @macs},
            {aes, [:aes_cmac]}
          ],
          mechanism <- mechanisms,
          do: assert_one_call(module, hsm, key, mechanism)
    end

    test "encrypts, decrypts, digests and wraps with one call", %{soft_hsm: module, hsm: hsm} do
      key = [value_len: 32, wrap: true, extractable: true]
      aes = Cryptoki.generate_key!(hsm, :aes_key_gen, key)
      data = :binary.copy("data", 100_000)
      gcm = {:aes_gcm, iv: <<0::96>>}

      ciphertext = once(module, "C_Encrypt", fn -> Cryptoki.encrypt!(hsm, aes, gcm, data) end)

      assert once(module, "C_Decrypt", fn -> Cryptoki.decrypt!(hsm, aes, gcm, ciphertext) end) ==
               data

      once(module, "C_Digest", fn -> Cryptoki.digest!(hsm, :sha512, data) end)
      once(module, "C_WrapKey", fn -> Cryptoki.wrap_key!(hsm, aes, :aes_key_wrap_pad, aes) end)

      chunks = {:stream, ["data", "data"]}
      once(module, "C_DigestFinal", fn -> Cryptoki.digest!(hsm, :sha512, chunks) end)
      once(module, "C_EncryptFinal", fn -> Cryptoki.encrypt!(hsm, aes, gcm, chunks) end)
    end
  end

  describe "Kryoptic" do
    @describetag skip: Token.named(:kryoptic).skip

    setup do
      module = FaultyModule.in_front_of(Token.library(:kryoptic))
      token = Token.kryoptic(module.library, "kryoptic-one-call")
      %{module: module, hsm: start_supervised!({Cryptoki, Token.options(token)}, id: :kryoptic)}
    end

    test "signs post-quantum with one call", %{module: module, hsm: hsm} do
      for set <- [:ml_dsa_44, :ml_dsa_87] do
        {_public, key} =
          Cryptoki.generate_key_pair!(hsm, :ml_dsa_key_pair_gen, parameter_set: set)

        assert_one_call(module, hsm, key, :ml_dsa)
      end

      for set <- @slh_dsa do
        {_public, key} =
          Cryptoki.generate_key_pair!(hsm, :slh_dsa_key_pair_gen, parameter_set: set)

        assert_one_call(module, hsm, key, :slh_dsa)
        assert_one_call(module, hsm, key, :hash_slh_dsa_sha256)
      end
    end
  end

  defp assert_one_call(module, hsm, key, mechanism) do
    mechanism = if mechanism == :rsa_pkcs_pss, do: {mechanism, hash: :sha256}, else: mechanism
    once(module, "C_Sign", fn -> Cryptoki.sign!(hsm, key, mechanism, <<1::256>>) end)
  end

  # The journal has a line for what each call answered.
  defp once(module, function, fun) do
    {result, calls} = FaultyModule.calls(module, fun)
    assert Enum.filter(calls, &(elem(&1, 0) == function)) == [{function, "ran", "0x0"}]
    result
  end
end
