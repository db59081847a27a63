defmodule Cryptoki.MechanismTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Mechanism

  doctest Cryptoki.Mechanism

  defp message(spec) do
    Exception.message(assert_raise ArgumentError, fn -> Mechanism.encode!(spec) end)
  end

  describe "forms" do
    test "structures, arrays, templates and mechanisms stand in each other at most 16 deep" do
      nested = fn wrap, levels ->
        Enum.reduce(2..levels, [ulong: 1], fn _, in_it -> wrap.(in_it) end)
      end

      template = fn in_it -> [template: [{0x40000211, {:template, in_it}}]] end

      for wrap <- [&[struct: &1], &[nested: &1], &[array: [[], &1]]] do
        assert {0x80000001, [_]} = Mechanism.encode!({0x80000001, {:struct, nested.(wrap, 16)}})

        for levels <- [17, 100_000],
            do:
              assert(
                message({0x80000001, {:struct, nested.(wrap, levels)}}) =~
                  "mechanism 0x80000001: structures stand in each other at most 16 deep"
              )
      end

      assert message({0x80000001, {:struct, nested.(&template.([{3, &1}]), 100)}}) =~
               "at most 16 deep"

      templates =
        Enum.reduce(1..15, [{1, true}], fn _, in_it -> [{0x40000211, {:template, in_it}}] end)

      assert message({0x80000001, {:struct, [template: templates]}}) =~ "at most 16 deep"

      mechanism = fn levels ->
        Enum.reduce(
          2..levels,
          :sha256,
          &{:kip_derive, mechanism: &2, key: {:handle, {&1, 1}}, seed: "s"}
        )
      end

      assert {_, [_ | _]} = Mechanism.encode!(mechanism.(3))
      for levels <- [30, 100_000], do: assert(message(mechanism.(levels)) =~ "at most 16 deep")
    end

    test "atoms and numbers have no parameter" do
      for {name, code} <- [
            rsa_pkcs: 0x1,
            sha256_rsa_pkcs: 0x40,
            sha3_512_rsa_pkcs: 0x62,
            ecdsa: 0x1041,
            ecdsa_sha3_512: 0x104A,
            eddsa: 0x1057,
            aes_ecb: 0x1081,
            aes_cmac: 0x108A,
            sha_1: 0x220,
            sha3_256_hmac: 0x2B1,
            aes_key_gen: 0x1080,
            ec_key_pair_gen: 0x1040,
            rsa_pkcs_key_pair_gen: 0x0,
            ml_kem: 0x17,
            ml_dsa: 0x1D,
            aes_key_wrap_kwp: 0x210B
          ] do
        assert {name, Mechanism.encode!(name)} == {name, {code, nil}}
        assert Mechanism.encode!(code) == {code, nil}
        assert Mechanism.encode!({name, <<1, 2>>}) == {code, <<1, 2>>}
      end

      assert Mechanism.encode!(:ecdsa_key_pair_gen) == {0x1040, nil}
      assert Mechanism.encode!({:sha256, []}) == {0x250, nil}
      assert Mechanism.encode!(0x80000001) == {0x80000001, nil}
    end

    test "raw bytes and a vendor's structure pass" do
      assert Mechanism.encode!({0x80000001, <<1, 2, 3>>}) == {0x80000001, <<1, 2, 3>>}
      assert Mechanism.encode!({:aes_gcm, ""}) == {0x1087, ""}
      fields = [ulong: 1, bytes: "x", inline: <<0>>]
      assert Mechanism.encode!({0x80000001, {:struct, fields}}) == {0x80000001, fields}
    end

    test "maps, other names of arguments and a known number are taken" do
      iv = <<1::128>>
      expected = {0x1086, [ulong: 32, inline: iv]}
      assert Mechanism.encode!({:aes_ctr, %{iv: iv, counter_bits: 32}}) == expected
      assert Mechanism.encode!({:aes_ctr, cb: iv, counter_bits: 32}) == expected
      assert Mechanism.encode!({0x1086, iv: iv, counter_bits: 32}) == expected
    end
  end

  describe "mistakes" do
    test "name the mechanism" do
      for {spec, sentence} <- [
            {:aes_gmc, "there is no mechanism :aes_gmc; did you mean :aes_gmac or :aes_gcm"},
            {:CKM_AES_GCM, "there is no mechanism :CKM_AES_GCM; did you mean :aes_gcm"},
            {nil, "there is no mechanism nil"},
            {"aes_gcm", "a mechanism is an atom, a number, or one of these"},
            {{"aes_gcm", ""},
             "a mechanism is an atom or a number of at most 64 bits, got a binary"},
            {{:aes_gcm, 5},
             "mechanism :aes_gcm: expected a keyword list or a map, got an integer"},
            {{:aes_gcm, [5]}, "mechanism :aes_gcm: arguments are a keyword list or a map"},
            {{:aes_gcm, iv: "a", iv: "b"}, "mechanism :aes_gcm: argument :iv is given twice"},
            {{:sha256, iv: "x"}, "mechanism :sha256 has no arguments with names"},
            {{0x80000001, iv: "x"}, "mechanism 0x80000001 has no arguments with names"},
            {:tls12_key_and_mac_derive,
             "mechanism :tls12_key_and_mac_derive: arguments :key_bits and :client_random and"},
            {{:sp800_108_counter_kdf, prf: 1, data: [], additional_keys: [[lable: "x"]]},
             "mechanism :sp800_108_counter_kdf: argument :additional_keys: template 1: there is no attribute :lable"},
            {-1, "a mechanism is an atom, a number, or one of these"}
          ] do
        assert String.starts_with?(message(spec), sentence), message(spec)
      end
    end

    test "never show bytes" do
      secret = "correct horse battery staple"

      for spec <- [
            {:pkcs5_pbkd2, password: [secret], salt: "s", iterations: 1, prf: 1},
            {:pkcs5_pbkd2, password: secret, slat: secret},
            {:aes_cbc, iv: secret},
            {:aes_ecb_encrypt_data, data: secret},
            {:hotp, pin: {secret}},
            {:hotp, flags: secret},
            {:aes_gcm, %{iv: %{iv: secret}}},
            {:kip_mac, mechanism: {:aes_cbc, iv: secret}}
          ] do
        refute message(spec) =~ "horse"
      end
    end
  end

  describe "keys among the arguments" do
    test "are resolved wherever they are, and nothing else" do
      fun = fn
        [label: label] -> {:ok, {label, 1}}
        _ -> {:error, :key_not_found}
      end

      for {spec, resolved} <- [
            {:aes_ecb, :aes_ecb},
            {0x80000001, 0x80000001},
            {{:aes_cbc, "raw"}, {:aes_cbc, "raw"}},
            {{:hkdf_derive, hash: :sha256, salt_key: [label: 4]},
             {:hkdf_derive, hash: :sha256, salt_key: {:handle, {4, 1}}}},
            {{:hkdf_derive, hash: :sha256, salt_key: {:handle, {9, 9}}},
             {:hkdf_derive, hash: :sha256, salt_key: {:handle, {9, 9}}}},
            {{:hkdf_derive, %{hash: :sha256}}, {:hkdf_derive, hash: :sha256}},
            {{:sp800_108_counter_kdf,
              prf: 1, data: [:iteration_variable, {:key_handle, [label: 2]}, {:byte_array, "x"}]},
             {:sp800_108_counter_kdf,
              prf: 1,
              data: [:iteration_variable, {:key_handle, {:handle, {2, 1}}}, {:byte_array, "x"}]}},
            {{:kip_derive, mechanism: {:concatenate_base_and_key, key: [label: 3]}, key: nil},
             {:kip_derive,
              mechanism: {:concatenate_base_and_key, key: {:handle, {3, 1}}}, key: nil}}
          ] do
        assert Mechanism.resolve_keys(spec, fun) == {:ok, resolved}
      end

      assert Mechanism.resolve_keys({:concatenate_base_and_key, key: :x}, fun) ==
               {:error, :key_not_found}

      assert Mechanism.resolve_keys({:sp800_108_counter_kdf, data: [{:key_handle, :x}]}, fun) ==
               {:error, :key_not_found}
    end
  end

  describe "facts" do
    test "the hash of a mechanism" do
      for {spec, hash} <- [
            sha1_rsa_pkcs: :sha_1,
            ecdsa_sha1: :sha_1,
            sha256: :sha256,
            sha256_hmac: :sha256,
            sha512_256_hmac_general: :sha512_256,
            sha3_384_rsa_pkcs_pss: :sha3_384,
            hash_ml_dsa_sha3_512: :sha3_512,
            rsa_pkcs: nil,
            eddsa: nil,
            aes_gcm: nil
          ] do
        assert {spec, Mechanism.hash(spec)} == {spec, hash}
      end

      assert Mechanism.hash({:rsa_pkcs_pss, %{hash: 0x260}}) == :sha384
      assert Mechanism.hash({:sha256_rsa_pkcs_pss, salt_len: 20}) == :sha256
      assert Mechanism.hash({:aes_gcm, iv: "x"}) == nil
      assert Mechanism.hash(0x40) == :sha256
      assert Mechanism.hash(0x80000001) == nil
    end

    test "which signatures are r and s" do
      assert Enum.all?(
               [:ecdsa, :ecdsa_sha256, 0x1041, {:ecdsa_sha3_512, ""}],
               &Mechanism.ecdsa?/1
             )

      refute Enum.any?(
               [:eddsa, :ecdh1_derive, :ecdsa_key_pair_gen, :dsa, 0x80000001],
               &Mechanism.ecdsa?/1
             )
    end

    test "names for people" do
      assert Mechanism.name_or_code(:ecdsa_key_pair_gen) == :ec_key_pair_gen
      assert Mechanism.name_or_code({0x80000001, "x"}) == 0x80000001
      assert Mechanism.name_or_code({0x1087, "x"}) == :aes_gcm
    end

    test "arguments by name" do
      assert Mechanism.arguments(:aes_gcm) == [
               :iv,
               :aad,
               :tag_bits,
               :iv_generator,
               :iv_fixed_bits
             ]

      assert Mechanism.arguments(:aes_ecb) == []
    end
  end
end
