# Parameters of the symmetric ciphers (PKCS #11 v3.2, sections 6.10 to 6.19, 6.45 to 6.51 and 6.58
# to 6.61).
defmodule Cryptoki.Mechanism.Cipher do
  @moduledoc false

  @counter [
    arguments: [
      counter_bits: {:ulong, in: 1..128, default: 128},
      iv: {:bytes, size: 16, inline: true, as: [:cb]}
    ],
    layout: [ulCounterBits: :counter_bits, cb: :iv]
  ]

  @gcm [
    iv: {:bytes, size: 1..0xFFFFFFFF, none: true, token: 12, inout: true},
    aad: {:bytes, default: ""},
    tag_bits: {:ulong, in: 0..128, default: 128}
  ]

  @ccm [
    nonce: {:bytes, size: 7..13, token: 12, inout: true, as: [:iv]},
    aad: {:bytes, default: ""},
    mac_len: {:ulong, in: [4, 6, 8, 10, 12, 14, 16], default: 16}
  ]

  # An IV that the token makes would come back in the parameter, where it cannot be read.
  @no_generator {:choice, of: [no_generate: 0]}

  @spec structures() :: [keyword]
  def structures do
    [
      iv(
        "6.10.5",
        16,
        ~w[aes_cbc aes_cbc_pad aes_cts aes_ofb aes_cfb1 aes_cfb8 aes_cfb64 aes_cfb128
           camellia_cbc camellia_cbc_pad aria_cbc aria_cbc_pad seed_cbc seed_cbc_pad twofish_cbc
           twofish_cbc_pad]a
      ),
      iv(
        "6.18.6",
        8,
        ~w[des_cbc des_cbc_pad des3_cbc des3_cbc_pad des_ofb64 des_ofb8 des_cfb64 des_cfb8
           blowfish_cbc blowfish_cbc_pad cast_cbc cast_cbc_pad cast3_cbc cast3_cbc_pad cast128_cbc
           cast128_cbc_pad idea_cbc idea_cbc_pad cdmf_cbc cdmf_cbc_pad]a
      ),
      [
        section: "6.15.4",
        mechanisms: [:aes_xts],
        arguments: [iv: {:bytes, size: 16, as: [:data_unit]}],
        layout: {:raw, :iv}
      ],
      [
        section: "6.16.2",
        optional: true,
        mechanisms: [:aes_key_wrap, :aes_key_wrap_pad, :aes_key_wrap_pkcs7],
        iv: :iv,
        arguments: [iv: {:bytes, size: 8}],
        layout: {:raw, :iv}
      ],
      [
        section: "6.16.2",
        optional: true,
        mechanisms: [:aes_key_wrap_kwp],
        iv: :iv,
        arguments: [iv: {:bytes, size: 4}],
        layout: {:raw, :iv}
      ],
      [struct: :CK_AES_CTR_PARAMS, section: "6.11.2", mechanisms: [:aes_ctr]] ++ @counter,
      [struct: :CK_CAMELLIA_CTR_PARAMS, section: "6.47.7", mechanisms: [:camellia_ctr]] ++
        @counter,
      [
        struct: :CK_GCM_PARAMS,
        section: "6.13.7",
        mechanisms: [:aes_gcm, :aes_gmac],
        iv: :iv,
        tag: {:bits, :tag_bits},
        arguments: @gcm,
        layout: [
          pIv: :iv,
          ulIvLen: {:size, :iv},
          ulIvBits: {:bits, :iv},
          pAAD: :aad,
          ulAADLen: {:size, :aad},
          ulTagBits: :tag_bits
        ]
      ],
      [
        # Section 6.13.3 wants this one for wrapping; the tokens seen take CK_GCM_PARAMS there
        # too.
        struct: :CK_GCM_WRAP_PARAMS,
        section: "6.13.7",
        mechanisms: [:aes_gcm],
        iv: :iv,
        tag: {:bits, :tag_bits},
        arguments: @gcm ++ [iv_generator: @no_generator, iv_fixed_bits: {:ulong, default: 0}],
        layout: [
          pIv: :iv,
          ulIvLen: {:size, :iv},
          ulIvFixedBits: :iv_fixed_bits,
          ivGenerator: :iv_generator,
          pAAD: :aad,
          ulAADLen: {:size, :aad},
          ulTagBits: :tag_bits
        ]
      ],
      [
        struct: :CK_CCM_PARAMS,
        section: "6.13.7",
        mechanisms: [:aes_ccm],
        iv: :nonce,
        tag: {:bytes, :mac_len},
        arguments: @ccm ++ [data_len: {:ulong, derive: {:plaintext_size, :mac_len}}],
        layout: [
          ulDataLen: :data_len,
          pNonce: :nonce,
          ulNonceLen: {:size, :nonce},
          pAAD: :aad,
          ulAADLen: {:size, :aad},
          ulMACLen: :mac_len
        ]
      ],
      [
        struct: :CK_CCM_WRAP_PARAMS,
        section: "6.13.7",
        mechanisms: [:aes_ccm],
        iv: :nonce,
        tag: {:bytes, :mac_len},
        arguments:
          @ccm ++
            [
              data_len: {:ulong, default: 0},
              nonce_generator: @no_generator,
              nonce_fixed_bits: {:ulong, default: 0}
            ],
        layout: [
          ulDataLen: :data_len,
          pNonce: :nonce,
          ulNonceLen: {:size, :nonce},
          ulNonceFixedBits: :nonce_fixed_bits,
          nonceGenerator: :nonce_generator,
          pAAD: :aad,
          ulAADLen: {:size, :aad},
          ulMACLen: :mac_len
        ]
      ],
      [
        struct: :CK_CHACHA20_PARAMS,
        section: "6.58.3",
        mechanisms: [:chacha20],
        arguments: [
          nonce: {:bytes, size: [8, 12, 24], as: [:iv]},
          block_counter: {:bytes, size: [4, 8], default: <<0::32>>}
        ],
        layout: [
          pBlockCounter: :block_counter,
          blockCounterBits: {:bits, :block_counter},
          pNonce: :nonce,
          ulNonceBits: {:bits, :nonce}
        ]
      ],
      [
        struct: :CK_SALSA20_PARAMS,
        section: "6.59.3",
        mechanisms: [:salsa20],
        arguments: [
          nonce: {:bytes, size: [8, 24], as: [:iv]},
          block_counter: {:bytes, size: 8, default: <<0::64>>}
        ],
        layout: [pBlockCounter: :block_counter, pNonce: :nonce, ulNonceBits: {:bits, :nonce}]
      ],
      [
        struct: :CK_SALSA20_CHACHA20_POLY1305_PARAMS,
        section: "6.61.3",
        mechanisms: [:chacha20_poly1305, :salsa20_poly1305],
        iv: :nonce,
        tag: 16,
        arguments: [
          nonce: {:bytes, size: [8, 12, 24], token: 12, inout: true, as: [:iv]},
          aad: {:bytes, default: ""}
        ],
        layout: [
          pNonce: :nonce,
          ulNonceLen: {:size, :nonce},
          pAAD: :aad,
          ulAADLen: {:size, :aad}
        ]
      ]
    ]
  end

  defp iv(section, size, mechanisms) do
    [
      section: section,
      mechanisms: mechanisms,
      iv: :iv,
      arguments: [iv: {:bytes, size: size, token: size}],
      layout: {:raw, :iv}
    ]
  end
end
