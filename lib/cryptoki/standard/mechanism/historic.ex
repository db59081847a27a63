# Parameters of GOST (PKCS #11 v3.2, sections 6.55 to 6.57) and of the mechanisms that only the
# Historical Mechanisms Specification still describes.
defmodule Cryptoki.Mechanism.Historic do
  @moduledoc false

  @rc2 [effective_bits: {:ulong, in: 1..1024}]
  @rc5 [word_size: {:ulong, in: [1, 2, 4, 8, 16]}, rounds: {:ulong, in: 0..255}]
  @rc5_layout [ulWordsize: :word_size, ulRounds: :rounds]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        section: "6.55",
        optional: true,
        mechanisms: [:gost28147, :gost28147_mac, :gost28147_key_wrap],
        arguments: [iv: {:bytes, size: 8}],
        layout: {:raw, :iv}
      ],
      [
        section: "6.56",
        optional: true,
        mechanisms: [:gostr3411, :gostr3411_hmac, :gostr3410_with_gostr3411],
        arguments: [oid: :bytes],
        layout: {:raw, :oid}
      ],
      [
        struct: :CK_GOSTR3410_KEY_WRAP_PARAMS,
        section: "6.57.5",
        mechanisms: [:gostr3410_key_wrap],
        arguments: [
          wrap_oid: {:bytes, default: ""},
          ukm: {:bytes, size: 8, optional: true},
          key: {:key, optional: true}
        ],
        layout: [
          pWrapOID: :wrap_oid,
          ulWrapOIDLen: {:size, :wrap_oid},
          pUKM: :ukm,
          ulUKMLen: {:size, :ukm},
          hKey: :key
        ]
      ],
      [
        struct: :CK_GOSTR3410_DERIVE_PARAMS,
        section: "6.57.5",
        mechanisms: [:gostr3410_derive],
        arguments: [
          kdf: {:name, of: :kdf, default: :null},
          public: {:bytes, as: [:public_data]},
          ukm: {:bytes, size: 8}
        ],
        layout: [
          kdf: :kdf,
          pPublicData: :public,
          ulPublicDataLen: {:size, :public},
          pUKM: :ukm,
          ulUKMLen: {:size, :ukm}
        ]
      ],
      [
        section: "historical",
        mechanisms: ~w[skipjack_ecb64 skipjack_cbc64 skipjack_ofb64 skipjack_cfb64 skipjack_cfb32
             skipjack_cfb16 skipjack_cfb8 baton_ecb128 baton_ecb96 baton_cbc128 baton_counter
             baton_shuffle juniper_ecb128 juniper_cbc128 juniper_counter juniper_shuffle]a,
        arguments: [iv: {:bytes, size: 24}],
        layout: {:raw, :iv}
      ],
      [
        struct: :CK_RC2_PARAMS,
        section: "historical",
        mechanisms: [:rc2_ecb, :rc2_mac],
        arguments: @rc2,
        layout: [value: :effective_bits]
      ],
      [
        struct: :CK_RC2_CBC_PARAMS,
        section: "historical",
        mechanisms: [:rc2_cbc, :rc2_cbc_pad],
        arguments: @rc2 ++ [iv: {:bytes, size: 8, inline: true}],
        layout: [ulEffectiveBits: :effective_bits, iv: :iv]
      ],
      [
        struct: :CK_RC2_MAC_GENERAL_PARAMS,
        section: "historical",
        mechanisms: [:rc2_mac_general],
        arguments: @rc2 ++ [mac_len: {:ulong, in: 0..8}],
        layout: [ulEffectiveBits: :effective_bits, ulMacLength: :mac_len]
      ],
      [
        struct: :CK_RC5_PARAMS,
        section: "historical",
        mechanisms: [:rc5_ecb, :rc5_mac],
        arguments: @rc5,
        layout: @rc5_layout
      ],
      [
        struct: :CK_RC5_CBC_PARAMS,
        section: "historical",
        mechanisms: [:rc5_cbc, :rc5_cbc_pad],
        arguments: @rc5 ++ [iv: :bytes],
        layout: @rc5_layout ++ [pIv: :iv, ulIvLen: {:size, :iv}]
      ],
      [
        struct: :CK_RC5_MAC_GENERAL_PARAMS,
        section: "historical",
        mechanisms: [:rc5_mac_general],
        arguments: @rc5 ++ [mac_len: :ulong],
        layout: @rc5_layout ++ [ulMacLength: :mac_len]
      ],
      [
        struct: :CK_KEY_WRAP_SET_OAEP_PARAMS,
        section: "historical",
        mechanisms: [:key_wrap_set_oaep],
        arguments: [block_contents: :byte, x: {:bytes, default: ""}],
        layout: [bBC: :block_contents, pX: :x, ulXLen: {:size, :x}]
      ],
      [
        # The sender's token makes RandomA, the recipient's is given it.
        struct: :CK_KEA_DERIVE_PARAMS,
        section: "historical",
        mechanisms: [:kea_derive, :kea_key_derive],
        arguments: [
          sender: :boolean,
          random_a: {:room, size: 128, default: :read},
          random_b: {:bytes, size: 128},
          public: :bytes
        ],
        answer: {:read, :random_a},
        layout: [
          isSender: :sender,
          ulRandomLen: {:size, :random_a},
          RandomA: :random_a,
          RandomB: :random_b,
          ulPublicDataLen: {:size, :public},
          PublicData: :public
        ]
      ],
      [
        struct: :CK_SKIPJACK_PRIVATE_WRAP_PARAMS,
        section: "historical",
        mechanisms: [:skipjack_private_wrap],
        arguments: [
          password: :bytes,
          public: :bytes,
          random_a: :bytes,
          prime: :bytes,
          base: :bytes,
          subprime: :bytes
        ],
        layout: [
          ulPasswordLen: {:size, :password},
          pPassword: :password,
          ulPublicDataLen: {:size, :public},
          pPublicData: :public,
          ulPAndGLen: {:size, :prime},
          ulQLen: {:size, :subprime},
          ulRandomLen: {:size, :random_a},
          pRandomA: :random_a,
          pPrimeP: :prime,
          pBaseG: :base,
          pSubprimeQ: :subprime
        ]
      ],
      [
        struct: :CK_SKIPJACK_RELAYX_PARAMS,
        section: "historical",
        mechanisms: [:skipjack_relayx],
        arguments: [
          old_wrapped_x: :bytes,
          old_password: :bytes,
          old_public: :bytes,
          old_random_a: :bytes,
          new_password: :bytes,
          new_public: :bytes,
          new_random_a: :bytes
        ],
        layout: [
          ulOldWrappedXLen: {:size, :old_wrapped_x},
          pOldWrappedX: :old_wrapped_x,
          ulOldPasswordLen: {:size, :old_password},
          pOldPassword: :old_password,
          ulOldPublicDataLen: {:size, :old_public},
          pOldPublicData: :old_public,
          ulOldRandomLen: {:size, :old_random_a},
          pOldRandomA: :old_random_a,
          ulNewPasswordLen: {:size, :new_password},
          pNewPassword: :new_password,
          ulNewPublicDataLen: {:size, :new_public},
          pNewPublicData: :new_public,
          ulNewRandomLen: {:size, :new_random_a},
          pNewRandomA: :new_random_a
        ]
      ]
    ]
  end
end
