# Parameters of the RSA mechanisms (PKCS #11 v3.2, section 6.1). PKCS #1 v1.5 and raw RSA have
# none.
defmodule Cryptoki.Mechanism.RSA do
  @moduledoc false

  @oaep [
    struct: :CK_RSA_PKCS_OAEP_PARAMS,
    arguments: [
      hash: :hash,
      mgf: {:name, of: :mgf, derive: {:mgf_of, :hash}},
      label: {:bytes, default: "", as: [:source_data]}
    ],
    # CKZ_DATA_SPECIFIED is the only source there is.
    layout: [
      hashAlg: :hash,
      mgf: :mgf,
      source: {:ulong, 1},
      pSourceData: :label,
      ulSourceDataLen: {:size, :label}
    ]
  ]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        struct: :CK_RSA_PKCS_PSS_PARAMS,
        section: "6.1.9",
        mechanisms: ~w[rsa_pkcs_pss sha1_rsa_pkcs_pss sha224_rsa_pkcs_pss sha256_rsa_pkcs_pss
             sha384_rsa_pkcs_pss sha512_rsa_pkcs_pss sha3_224_rsa_pkcs_pss sha3_256_rsa_pkcs_pss
             sha3_384_rsa_pkcs_pss sha3_512_rsa_pkcs_pss]a,
        arguments: [
          hash: {:hash, derive: :hash_of_mechanism},
          mgf: {:name, of: :mgf, derive: {:mgf_of, :hash}},
          salt_len: {:ulong, derive: {:digest_size_of, :hash}}
        ],
        layout: [hashAlg: :hash, mgf: :mgf, sLen: :salt_len]
      ],
      [section: "6.1.7", mechanisms: [:rsa_pkcs_oaep]] ++ @oaep,
      [
        struct: :CK_RSA_AES_KEY_WRAP_PARAMS,
        section: "6.1.20",
        mechanisms: [:rsa_aes_key_wrap],
        arguments: [
          aes_key_bits: {:ulong, in: [128, 192, 256], default: 256},
          oaep: {:struct, of: @oaep}
        ],
        layout: [ulAESKeyBits: :aes_key_bits, pOAEPParams: :oaep]
      ]
    ]
  end
end
