# Parameters member by member, with the numbers of the standard written out.
defmodule Cryptoki.Mechanism.ParametersTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Mechanism

  @word :erlang.system_info(:wordsize)

  defp message(spec) do
    Exception.message(assert_raise ArgumentError, fn -> Mechanism.encode!(spec) end)
  end

  describe "RSA" do
    test "PSS takes everything from its name, or from the hash" do
      for {name, code, hash, mgf, salt} <- [
            {:sha1_rsa_pkcs_pss, 0xE, 0x220, 1, 20},
            {:sha224_rsa_pkcs_pss, 0x47, 0x255, 5, 28},
            {:sha256_rsa_pkcs_pss, 0x43, 0x250, 2, 32},
            {:sha384_rsa_pkcs_pss, 0x44, 0x260, 3, 48},
            {:sha512_rsa_pkcs_pss, 0x45, 0x270, 4, 64},
            {:sha3_224_rsa_pkcs_pss, 0x67, 0x2B5, 6, 28},
            {:sha3_256_rsa_pkcs_pss, 0x63, 0x2B0, 7, 32},
            {:sha3_384_rsa_pkcs_pss, 0x64, 0x2C0, 8, 48},
            {:sha3_512_rsa_pkcs_pss, 0x65, 0x2D0, 9, 64}
          ] do
        assert Mechanism.encode!(name) == {code, [ulong: hash, ulong: mgf, ulong: salt]}
      end

      assert Mechanism.encode!({:rsa_pkcs_pss, hash: :sha256}) ==
               {0xD, [ulong: 0x250, ulong: 2, ulong: 32]}

      assert Mechanism.encode!({:rsa_pkcs_pss, hash: 0x250, mgf: :mgf1_sha1, salt_len: 0}) ==
               {0xD, [ulong: 0x250, ulong: 1, ulong: 0]}

      assert Mechanism.encode!({:rsa_pkcs_pss, hash: 0x80000001, mgf: 0x80000002, salt_len: 8}) ==
               {0xD, [ulong: 0x80000001, ulong: 0x80000002, ulong: 8]}

      assert message(:rsa_pkcs_pss) ==
               "mechanism :rsa_pkcs_pss: argument :hash is missing; it takes hash:, mgf:, salt_len:"

      assert message({:rsa_pkcs_pss, hash: 0x80000001}) =~
               "arguments :mgf and :salt_len are missing"

      assert message({:rsa_pkcs_pss, hash: :sha1}) =~ "got :sha1; did you mean :sha_1"
      assert message({:rsa_pkcs_pss, hash: :aes_gcm}) =~ "expected the name of a hash"
    end

    test "OAEP" do
      assert Mechanism.encode!({:rsa_pkcs_oaep, hash: :sha_1}) ==
               {0x9, [ulong: 0x220, ulong: 1, ulong: 1, bytes: "", ulong: 0]}

      labelled = {0x9, [ulong: 0x250, ulong: 1, ulong: 1, bytes: "abc", ulong: 3]}
      arguments = [hash: :sha256, mgf: :mgf1_sha1]
      assert Mechanism.encode!({:rsa_pkcs_oaep, arguments ++ [label: "abc"]}) == labelled
      assert Mechanism.encode!({:rsa_pkcs_oaep, arguments ++ [source_data: "abc"]}) == labelled

      assert message({:rsa_pkcs_oaep, hash: :sha_1, label: "a", source_data: "b"}) ==
               "mechanism :rsa_pkcs_oaep: argument :label is given twice"
    end

    test "AES key wrap points to the parameter of OAEP" do
      assert Mechanism.encode!({:rsa_aes_key_wrap, aes_key_bits: 128, oaep: [hash: :sha256]}) ==
               {0x1054,
                [
                  ulong: 128,
                  struct: [ulong: 0x250, ulong: 2, ulong: 1, bytes: "", ulong: 0]
                ]}

      assert message({:rsa_aes_key_wrap, oaep: [hsh: :sha256]}) ==
               "mechanism :rsa_aes_key_wrap: argument :oaep: there is no argument :hsh; did you mean :hash?"

      assert message({:rsa_aes_key_wrap, oaep: 5}) =~
               "argument :oaep: expected a keyword list or a map"
    end
  end

  describe "elliptic curves" do
    test "EdDSA has no parameter, an empty one or one with a context" do
      assert Mechanism.encode!(:eddsa) == {0x1057, nil}
      assert Mechanism.encode!({:eddsa, []}) == {0x1057, [bool: false, ulong: 0, bytes: ""]}

      assert Mechanism.encode!({:eddsa, context: "ctx", prehash: true}) ==
               {0x1057, [bool: true, ulong: 3, bytes: "ctx"]}

      long = :binary.copy("x", 256)

      assert message({:eddsa, context: long}) =~
               "argument :context: expected 0 to 255 bytes, got 256"
    end

    test "ECDH with and without a derivation function" do
      assert Mechanism.encode!({:ecdh1_derive, public: "point", kdf: :null}) ==
               {0x1050, [ulong: 1, ulong: 0, bytes: "", ulong: 5, bytes: "point"]}

      for {kdf, code} <- [
            sha1_kdf: 2,
            sha256_kdf: 6,
            sha512_kdf: 8,
            sha3_256_kdf: 0xB,
            sha256_kdf_sp800: 0x10
          ] do
        assert Mechanism.encode!(
                 {:ecdh1_cofactor_derive, public: "p", kdf: kdf, shared_data: "si"}
               ) ==
                 {0x1051, [ulong: code, ulong: 2, bytes: "si", ulong: 1, bytes: "p"]}
      end

      assert Mechanism.encode!({:ecdh_cof_aes_key_wrap, kdf: :sha256_kdf}) ==
               {0x4039, [ulong: 256, ulong: 6, ulong: 0, bytes: ""]}
    end

    test "key handles pass through" do
      handle = {17, 3}

      assert {0x1052, fields} =
               Mechanism.encode!(
                 {:ecmqv_derive,
                  public: "1",
                  private_len: 32,
                  private_key: {:handle, handle},
                  public_2: "22",
                  public_key: {:handle, {18, 3}}}
               )

      assert fields == [
               ulong: 1,
               ulong: 0,
               bytes: "",
               ulong: 1,
               bytes: "1",
               ulong: 32,
               handle: handle,
               ulong: 2,
               bytes: "22",
               handle: {18, 3}
             ]

      assert Mechanism.encode!({:concatenate_base_and_key, key: {:handle, handle}}) ==
               {0x360, [handle: handle]}

      assert message({:concatenate_base_and_key, key: 5}) =~
               "argument :key: expected a key, got an integer"
    end
  end

  describe "ciphers" do
    test "an IV is the parameter itself, of the length of a block" do
      iv = <<7::128>>
      assert Mechanism.encode!({:aes_cbc, iv: iv}) == {0x1082, iv}
      assert Mechanism.encode!({:aes_cbc_pad, iv: iv}) == {0x1085, iv}
      assert Mechanism.encode!({:aes_xts, iv: iv}) == {0x1071, iv}
      assert Mechanism.encode!({:des3_cbc_pad, iv: <<7::64>>}) == {0x136, <<7::64>>}
      assert Mechanism.encode!({:aes_key_wrap, iv: <<7::64>>}) == {0x2109, <<7::64>>}
      assert Mechanism.encode!({:aes_key_wrap_kwp, iv: <<7::32>>}) == {0x210B, <<7::32>>}

      assert message({:aes_cbc, iv: <<0::96>>}) ==
               "mechanism :aes_cbc: argument :iv: expected 16 bytes, got 12"

      assert message({:des3_cbc, iv: iv}) =~ "expected 8 bytes, got 16"
      assert message(:aes_cbc) == "mechanism :aes_cbc: argument :iv is missing; it takes iv:"
    end

    test "GCM" do
      iv = <<1::96>>

      assert Mechanism.encode!({:aes_gcm, iv: iv}) ==
               {0x1087, [inout: iv, ulong: 12, ulong: 96, bytes: "", ulong: 0, ulong: 128]}

      assert Mechanism.encode!({:aes_gcm, iv: iv, aad: "head", tag_bits: 96}) ==
               {0x1087, [inout: iv, ulong: 12, ulong: 96, bytes: "head", ulong: 4, ulong: 96]}

      assert Mechanism.encode!({:aes_gcm, iv: iv, iv_generator: :no_generate}) ==
               {0x1087,
                [inout: iv, ulong: 12, ulong: 0, ulong: 0, bytes: "", ulong: 0, ulong: 128]}

      assert message(:aes_gcm) ==
               "mechanism :aes_gcm: argument :iv is missing; it takes iv:, aad:, tag_bits:"

      assert message({:aes_gcm, iv: [1]}) ==
               "mechanism :aes_gcm: argument :iv: expected a binary, got a list"

      assert message({:aes_gcm, iv: ""}) =~ "expected 1 to 4294967295 bytes, got 0"

      assert message({:aes_gcm, iv: iv, tag_bits: 129}) =~
               "argument :tag_bits: expected an integer, 0 to 128, got 129"

      assert message({:aes_gcm, iv: iv, tag_bit: 96}) =~
               "there is no argument :tag_bit; did you mean :tag_bits?"

      # The token's choice: zeros to write over, or none.
      assert {0x1087, [{:inout, <<0::96>>} | _]} =
               Mechanism.encode!({:aes_gcm, iv: :token}, direction: :out, iv: :over)

      assert {0x1087, [{:inout, ""}, {:ulong, 0}, {:ulong, 0} | _]} =
               Mechanism.encode!({:aes_gcm, iv: :token}, direction: :out, iv: :behind)

      assert message({:aes_gcm, iv: :token}) =~ "expected a binary, got an atom"

      # A generated IV could not be read back, and nothing encrypted with it could be decrypted.
      assert message({:aes_gcm, iv: iv, iv_generator: :generate}) =~
               "expected one of :no_generate"
    end

    test "CCM knows the length of the data, or is told" do
      arguments = [nonce: <<1::96>>, mac_len: 8]
      parameter = &[ulong: &1, inout: <<1::96>>, ulong: 12, bytes: "", ulong: 0, ulong: 8]

      assert Mechanism.encode!({:aes_ccm, arguments ++ [data_len: 5]}) == {0x1088, parameter.(5)}

      assert Mechanism.encode!({:aes_ccm, arguments}, plaintext_size: 0) ==
               {0x1088, parameter.(0)}

      assert Mechanism.encode!({:aes_ccm, arguments}, ciphertext_size: 20) ==
               {0x1088, parameter.(12)}

      assert Mechanism.encode!({:aes_ccm, arguments}, ciphertext_size: 3) ==
               {0x1088, parameter.(0)}

      assert message({:aes_ccm, arguments}) =~ "argument :data_len is missing"

      assert message({:aes_ccm, nonce: <<0::112>>, data_len: 1}) =~
               "expected 7 to 13 bytes, got 14"

      assert message({:aes_ccm, nonce: <<0::96>>, mac_len: 5}) =~
               "expected an integer, 4 or 6 or 8"
    end

    test "ChaCha20 and Salsa20" do
      assert Mechanism.encode!({:chacha20, nonce: <<1::96>>}) ==
               {0x1226, [bytes: <<0::32>>, ulong: 32, bytes: <<1::96>>, ulong: 96]}

      assert Mechanism.encode!({:salsa20, nonce: <<1::64>>}) ==
               {0x4020, [bytes: <<0::64>>, bytes: <<1::64>>, ulong: 64]}

      assert Mechanism.encode!({:chacha20_poly1305, nonce: <<1::96>>, aad: "a"}) ==
               {0x4021, [inout: <<1::96>>, ulong: 12, bytes: "a", ulong: 1]}

      assert message({:chacha20, nonce: <<1::80>>}) =~ "expected 8 or 12 or 24 bytes, got 10"
    end
  end

  describe "MACs" do
    test "of a given length" do
      assert Mechanism.encode!({:sha256_hmac_general, mac_len: 16}) == {0x252, [ulong: 16]}
      assert Mechanism.encode!({:aes_cmac_general, mac_len: 8}) == {0x108B, [ulong: 8]}
      assert Mechanism.encode!({:sha512_t, t: 224}) == {0x50, [ulong: 224]}
      assert message(:aes_mac_general) =~ "argument :mac_len is missing"
      assert message({:aes_cmac_general, mac_len: 17}) =~ "expected an integer, 0 to 16, got 17"
    end
  end

  describe "derivations" do
    test "HKDF says where the salt is" do
      assert Mechanism.encode!({:hkdf_derive, hash: :sha256, info: "i"}) ==
               {0x402A,
                [
                  bool: true,
                  bool: true,
                  ulong: 0x250,
                  ulong: 1,
                  bytes: nil,
                  ulong: 0,
                  ulong: 0,
                  bytes: "i",
                  ulong: 1
                ]}

      assert {_, [_, _, _, {:ulong, 2}, {:bytes, "salt"}, {:ulong, 4}, {:ulong, 0} | _]} =
               Mechanism.encode!({:hkdf_derive, hash: :sha256, salt: "salt"})

      assert {_,
              [
                _,
                {:bool, false},
                _,
                {:ulong, 4},
                {:bytes, nil},
                {:ulong, 0},
                {:handle, {5, 1}} | _
              ]} =
               Mechanism.encode!(
                 {:hkdf_data, hash: :sha256, salt_key: {:handle, {5, 1}}, expand: false}
               )

      assert message({:hkdf_derive, hash: :sha256, salt: "s", salt_key: {:handle, {5, 1}}}) =~
               "give :salt or :salt_key, not both"
    end

    test "SP 800-108 with the data of the standard's own sample (section 6.42.9)" do
      data = [
        {:iteration_variable, width_in_bits: 16},
        {:byte_array, <<0xDEADBEEF::32>>},
        {:byte_array, <<0>>},
        {:byte_array, <<0xFEEDBEEF::32>>},
        {:key_handle, {:handle, {9, 1}}},
        {:dkm_length, width_in_bits: 16}
      ]

      assert Mechanism.encode!({:sp800_108_counter_kdf, prf: :aes_cmac, data: data}) ==
               {0x3AC,
                [
                  ulong: 0x108A,
                  ulong: 6,
                  array: [
                    [ulong: 1, struct: [bool: false, ulong: 16], ulong: 2 * @word],
                    [ulong: 4, bytes: <<0xDEADBEEF::32>>, ulong: 4],
                    [ulong: 4, bytes: <<0>>, ulong: 1],
                    [ulong: 4, bytes: <<0xFEEDBEEF::32>>, ulong: 4],
                    [ulong: 5, struct: [handle: {9, 1}], ulong: @word],
                    [ulong: 3, struct: [ulong: 1, bool: false, ulong: 16], ulong: 3 * @word]
                  ],
                  ulong: 0,
                  array: []
                ]}

      assert Mechanism.encode!(
               {:sp800_108_feedback_kdf,
                prf: :sha256_hmac,
                data: [:iteration_variable, {:counter, width_in_bits: 8}],
                iv: "iv"}
             ) ==
               {0x3AD,
                [
                  ulong: 0x251,
                  ulong: 2,
                  array: [
                    [ulong: 1, bytes: nil, ulong: 0],
                    [ulong: 2, struct: [bool: false, ulong: 8], ulong: 2 * @word]
                  ],
                  ulong: 2,
                  bytes: "iv",
                  ulong: 0,
                  array: []
                ]}

      for {data, sentence} <- [
            {[:counter], "argument :data: :counter: expected a keyword list or a map, got nil"},
            {[{:counter, []}], "argument :data: :counter: argument :width_in_bits is missing"},
            {[:label], "argument :data: expected one of :iteration_variable, :counter"},
            {["label"], "argument :data: expected a list of {tag, value}, got a binary"},
            {[{:key_handle, 5}], "argument :data: :key_handle: expected a key, got an integer"},
            {:counter, "argument :data: expected a list, got an atom"}
          ] do
        assert message({:sp800_108_counter_kdf, prf: :aes_cmac, data: data}) =~ sentence
      end
    end

    test "by encryption and by concatenation" do
      data = <<1::128>>

      assert Mechanism.encode!({:aes_cbc_encrypt_data, iv: <<2::128>>, data: data}) ==
               {0x1105, [inline: <<2::128>>, bytes: data, ulong: 16]}

      assert Mechanism.encode!({:aes_ecb_encrypt_data, data: data}) ==
               {0x1104, [bytes: data, ulong: 16]}

      assert Mechanism.encode!({:xor_base_and_data, data: "x"}) == {0x364, [bytes: "x", ulong: 1]}
      assert Mechanism.encode!({:extract_key_from_key, bit: 21}) == {0x365, [ulong: 21]}
      assert Mechanism.encode!({:dh_pkcs_derive, public: "y"}) == {0x21, "y"}

      assert message({:aes_ecb_encrypt_data, data: "x"}) =~
               "expected a multiple of 16 bytes, got 1"
    end

    test "PBKDF2" do
      assert Mechanism.encode!(
               {:pkcs5_pbkd2,
                password: "pw", salt: "salt", iterations: 1000, prf: :pkcs5_pbkd2_hmac_sha256}
             ) ==
               {0x3B0,
                [
                  ulong: 1,
                  bytes: "salt",
                  ulong: 4,
                  ulong: 1000,
                  ulong: 4,
                  bytes: "",
                  ulong: 0,
                  bytes: "pw",
                  ulong: 2
                ]}

      assert message({:pkcs5_pbkd2, password: "pw", salt: "s", iterations: 1, prf: :hmac_sha256}) =~
               "did you mean :pkcs5_pbkd2_hmac_sha256?"
    end
  end

  describe "protocols" do
    test "TLS 1.2" do
      random = [client_random: "cr", server_random: "srv"]
      info = [bytes: "cr", ulong: 2, bytes: "srv", ulong: 3]

      assert Mechanism.encode!({:tls12_master_key_derive, [hash: :sha256] ++ random}) ==
               {0x3E0, [nested: info, struct: [byte: 0, byte: 0], ulong: 0x250]}

      assert Mechanism.encode!({:tls12_master_key_derive_dh, [hash: :sha384] ++ random}) ==
               {0x3E2, [nested: info, bytes: nil, ulong: 0x260]}

      assert Mechanism.encode!({:tls_kdf, [prf: :tls_prf, label: "key expansion"] ++ random}) ==
               {0x3E5,
                [
                  ulong: 0x378,
                  bytes: "key expansion",
                  ulong: 13,
                  nested: info,
                  bytes: "",
                  ulong: 0
                ]}

      assert Mechanism.encode!({:tls_mac, prf: :sha256, side: :client}) ==
               {0x3E4, [ulong: 0x250, ulong: 12, ulong: 2]}

      assert Mechanism.encode!({:tls_pre_master_key_gen, major: 3, minor: 3}) ==
               {0x374, [byte: 3, byte: 3]}
    end

    test "IKE says which keys are there" do
      assert Mechanism.encode!(
               {:ike_prf_derive, prf: :sha256_hmac, ni: "i", nr: "rr", new_key: {:handle, {4, 1}}}
             ) ==
               {0x402F,
                [
                  ulong: 0x251,
                  bool: false,
                  bool: true,
                  bytes: "i",
                  ulong: 1,
                  bytes: "rr",
                  ulong: 2,
                  handle: {4, 1}
                ]}

      assert Mechanism.encode!({:ike2_prf_plus_derive, prf: :sha256_hmac, seed: "s"}) ==
               {0x402E, [ulong: 0x251, bool: false, ulong: 0, bytes: "s", ulong: 1]}
    end

    test "one-time passwords" do
      assert Mechanism.encode!(:hotp) == {0x291, nil}

      assert Mechanism.encode!(
               {:hotp,
                counter: <<7::64>>,
                flags: [:next_otp, :user_friendly_otp],
                output_format: :decimal}
             ) ==
               {0x291,
                [
                  array: [
                    [ulong: 4, bytes: <<7::64>>, ulong: 8],
                    [ulong: 5, struct: [ulong: 0x21], ulong: @word],
                    [ulong: 7, struct: [ulong: 0], ulong: @word]
                  ],
                  ulong: 3
                ]}

      assert message({:hotp, flags: [:next]}) =~
               "expected the name of a flag, got :next; did you mean :next_otp?"

      assert message({:hotp, flags: ["x"]}) =~ "expected names of flags, got a binary"
    end

    test "a mechanism within a mechanism" do
      iv = <<3::128>>

      assert Mechanism.encode!({:kip_wrap, mechanism: {:aes_cbc_pad, iv: iv}}) ==
               {0x511,
                [struct: [ulong: 0x1085, bytes: iv, ulong: 16], ulong: 0, bytes: "", ulong: 0]}

      assert {0x500,
              [{:ulong, 0}, {:struct, inner}, {:bytes, nil}, {:bytes, <<"text/plain", 0>>} | _]} =
               Mechanism.encode!(
                 {:cms_sig,
                  signing_mechanism: {:rsa_pkcs_pss, hash: :sha256}, content_type: "text/plain"}
               )

      assert inner == [
               ulong: 0xD,
               struct: [ulong: 0x250, ulong: 2, ulong: 32],
               ulong: 3 * @word
             ]

      assert message({:kip_mac, mechanism: :aes_gcm}) =~
               "mechanism :aes_gcm: argument :iv is missing"
    end

    test "post-quantum signatures" do
      assert Mechanism.encode!({:ml_dsa, context: "c", hedge: :deterministic_required}) ==
               {0x1D, [ulong: 2, bytes: "c", ulong: 1]}

      assert Mechanism.encode!({:hash_slh_dsa, hash: :sha512}) ==
               {0x34, [ulong: 0, bytes: "", ulong: 0, ulong: 0x270]}

      assert message(:hash_ml_dsa) =~ "argument :hash is missing"
    end
  end
end
