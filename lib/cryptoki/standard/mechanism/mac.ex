# Parameters of the MACs and digests: the length of what they give (PKCS #11 v3.2, section 6.9.1).
defmodule Cryptoki.Mechanism.MAC do
  @moduledoc false

  @spec structures() :: [keyword]
  def structures do
    [
      general(
        0..64,
        ~w[sha_1_hmac_general sha224_hmac_general sha256_hmac_general sha384_hmac_general
           sha512_hmac_general sha512_224_hmac_general sha512_256_hmac_general
           sha512_t_hmac_general sha3_224_hmac_general sha3_256_hmac_general sha3_384_hmac_general
           sha3_512_hmac_general blake2b_160_hmac_general blake2b_256_hmac_general
           blake2b_384_hmac_general blake2b_512_hmac_general md2_hmac_general md5_hmac_general
           ripemd128_hmac_general ripemd160_hmac_general]a
      ),
      general(0..16, ~w[aes_mac_general aes_cmac_general camellia_mac_general aria_mac_general
           seed_mac_general]a),
      general(0..8, ~w[des_mac_general des3_mac_general des3_cmac_general cast_mac_general
           cast3_mac_general cast128_mac_general idea_mac_general cdmf_mac_general]a),
      general(4..8, ~w[ssl3_md5_mac ssl3_sha1_mac]a),
      [
        struct: :CK_MAC_GENERAL_PARAMS,
        section: "6.27",
        mechanisms: [:sha512_t, :sha512_t_hmac],
        arguments: [t: {:ulong, in: 1..511}],
        layout: [value: :t]
      ]
    ]
  end

  defp general(range, mechanisms) do
    [
      struct: :CK_MAC_GENERAL_PARAMS,
      section: "6.9.1",
      mechanisms: mechanisms,
      arguments: [mac_len: {:ulong, in: range}],
      layout: [value: :mac_len]
    ]
  end
end
