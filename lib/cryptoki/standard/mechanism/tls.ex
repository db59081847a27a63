# Parameters of the SSL, TLS and WTLS mechanisms (PKCS #11 v3.2, sections 6.39 to 6.41).
defmodule Cryptoki.Mechanism.TLS do
  @moduledoc false

  @random [client_random: :bytes, server_random: :bytes]

  @random_info {:nested,
                [
                  pClientRandom: :client_random,
                  ulClientRandomLen: {:size, :client_random},
                  pServerRandom: :server_random,
                  ulServerRandomLen: {:size, :server_random}
                ]}

  # The token writes the version of the pre-master key there. Diffie-Hellman has none and wants
  # NULL.
  @version [version: {:version, default: {0, 0}}]
  @no_version {:bytes, nil}

  # What the token makes of a master key: the keys come back in the parameter, and the IVs where it
  # points to.
  @key_sizes [
    mac_bits: {:ulong, default: 0},
    key_bits: :ulong,
    iv_bits: {:ulong, default: 0},
    export: {:boolean, default: false}
  ]
  @key_sizes_layout [
    ulMacSizeInBits: :mac_bits,
    ulKeySizeInBits: :key_bits,
    ulIVSizeInBits: :iv_bits
  ]
  @new {:new_handle, nil}
  @key_material {:pointer,
                 [
                   hClientMacSecret: @new,
                   hServerMacSecret: @new,
                   hClientKey: @new,
                   hServerKey: @new,
                   pIVClient: {:room_for_bits, :iv_bits},
                   pIVServer: {:room_for_bits, :iv_bits}
                 ]}
  @answer {:keys, [:client_mac, :server_mac, :client_key, :server_key], [:client_iv, :server_iv]}

  # In C a pointer to the room, and one to its length.
  @output [output_len: {:ulong, in: 1..65_536}]
  @output_layout [
    pOutput: {:room_for_bytes, :output_len},
    pulOutputLen: {:pointer, [value: :output_len]}
  ]

  @hash [hash: {:hash, as: [:prf_hash]}]
  @prf [prf: {:name, of: :mechanism}]
  @session [session_hash: :bytes]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        struct: :CK_VERSION,
        section: "6.39.3",
        mechanisms: [:ssl3_pre_master_key_gen, :tls_pre_master_key_gen],
        arguments: [major: :byte, minor: :byte],
        layout: [major: :major, minor: :minor]
      ],
      [
        struct: :CK_SSL3_MASTER_KEY_DERIVE_PARAMS,
        section: "6.39.2",
        mechanisms: [:ssl3_master_key_derive, :tls_master_key_derive],
        arguments: @random ++ @version,
        answer: {:read, :version},
        layout: [RandomInfo: @random_info, pVersion: :version]
      ],
      [
        struct: :CK_SSL3_MASTER_KEY_DERIVE_PARAMS,
        section: "6.39.2",
        mechanisms: [:ssl3_master_key_derive_dh, :tls_master_key_derive_dh],
        arguments: @random,
        layout: [RandomInfo: @random_info, pVersion: @no_version]
      ],
      [
        struct: :CK_TLS12_MASTER_KEY_DERIVE_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls12_master_key_derive],
        arguments: @hash ++ @random ++ @version,
        answer: {:read, :version},
        layout: [RandomInfo: @random_info, pVersion: :version, prfHashMechanism: :hash]
      ],
      [
        struct: :CK_TLS12_MASTER_KEY_DERIVE_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls12_master_key_derive_dh],
        arguments: @hash ++ @random,
        layout: [RandomInfo: @random_info, pVersion: @no_version, prfHashMechanism: :hash]
      ],
      [
        struct: :CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls12_extended_master_key_derive],
        arguments: @hash ++ @session ++ @version,
        answer: {:read, :version},
        layout: [
          prfHashMechanism: :hash,
          pSessionHash: :session_hash,
          ulSessionHashLen: {:size, :session_hash},
          pVersion: :version
        ]
      ],
      [
        struct: :CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls12_extended_master_key_derive_dh],
        arguments: @hash ++ @session,
        layout: [
          prfHashMechanism: :hash,
          pSessionHash: :session_hash,
          ulSessionHashLen: {:size, :session_hash},
          pVersion: @no_version
        ]
      ],
      [
        struct: :CK_SSL3_KEY_MAT_PARAMS,
        section: "6.39.2",
        mechanisms: [:ssl3_key_and_mac_derive, :tls_key_and_mac_derive],
        arguments: @key_sizes ++ @random,
        answer: @answer,
        layout:
          @key_sizes_layout ++
            [
              bIsExport: :export,
              RandomInfo: @random_info,
              pReturnedKeyMaterial: @key_material
            ]
      ],
      [
        struct: :CK_TLS12_KEY_MAT_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls12_key_and_mac_derive, :tls12_key_safe_derive],
        arguments: @key_sizes ++ @random ++ @hash,
        answer: @answer,
        layout:
          @key_sizes_layout ++
            [
              bIsExport: :export,
              RandomInfo: @random_info,
              pReturnedKeyMaterial: @key_material,
              prfHashMechanism: :hash
            ]
      ],
      [
        struct: :CK_TLS_PRF_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls_prf],
        arguments: [seed: :bytes, label: :bytes] ++ @output,
        answer: :bytes,
        layout:
          [
            pSeed: :seed,
            ulSeedLen: {:size, :seed},
            pLabel: :label,
            ulLabelLen: {:size, :label}
          ] ++ @output_layout
      ],
      [
        # prf: a hash for TLS 1.2, :tls_prf for TLS 1.0 and 1.1.
        struct: :CK_TLS_KDF_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls_kdf, :tls12_kdf],
        arguments: @prf ++ [label: :bytes] ++ @random ++ [context: {:bytes, default: ""}],
        layout: [
          prfMechanism: :prf,
          pLabel: :label,
          ulLabelLength: {:size, :label},
          RandomInfo: @random_info,
          pContextData: :context,
          ulContextDataLength: {:size, :context}
        ]
      ],
      [
        struct: :CK_TLS_MAC_PARAMS,
        section: "6.40.2",
        mechanisms: [:tls_mac, :tls12_mac],
        arguments:
          @prf ++ [mac_len: {:ulong, default: 12}, side: {:choice, of: [server: 1, client: 2]}],
        layout: [prfHashMechanism: :prf, ulMacLength: :mac_len, ulServerOrClient: :side]
      ],
      [
        struct: :CK_BYTE,
        section: "6.41.3",
        mechanisms: [:wtls_pre_master_key_gen],
        arguments: [version: :byte],
        layout: [value: :version]
      ],
      [
        struct: :CK_WTLS_MASTER_KEY_DERIVE_PARAMS,
        section: "6.41.2",
        mechanisms: [:wtls_master_key_derive],
        arguments: [hash: :hash] ++ @random,
        layout: [DigestMechanism: :hash, RandomInfo: @random_info, pVersion: {:bytes, <<0>>}]
      ],
      [
        struct: :CK_WTLS_MASTER_KEY_DERIVE_PARAMS,
        section: "6.41.2",
        mechanisms: [:wtls_master_key_derive_dh_ecc],
        arguments: [hash: :hash] ++ @random,
        layout: [DigestMechanism: :hash, RandomInfo: @random_info, pVersion: @no_version]
      ],
      [
        struct: :CK_WTLS_KEY_MAT_PARAMS,
        section: "6.41.2",
        mechanisms: [:wtls_client_key_and_mac_derive, :wtls_server_key_and_mac_derive],
        arguments: [hash: :hash, sequence_number: :ulong] ++ @key_sizes ++ @random,
        answer: {:keys, [:mac, :key], [:iv]},
        layout:
          [DigestMechanism: :hash] ++
            @key_sizes_layout ++
            [
              ulSequenceNumber: :sequence_number,
              bIsExport: :export,
              RandomInfo: @random_info,
              pReturnedKeyMaterial:
                {:pointer, [hMacSecret: @new, hKey: @new, pIV: {:room_for_bits, :iv_bits}]}
            ]
      ],
      [
        struct: :CK_WTLS_PRF_PARAMS,
        section: "6.41.2",
        mechanisms: [:wtls_prf],
        arguments: [hash: :hash, seed: :bytes, label: :bytes] ++ @output,
        answer: :bytes,
        layout:
          [
            DigestMechanism: :hash,
            pSeed: :seed,
            ulSeedLen: {:size, :seed},
            pLabel: :label,
            ulLabelLen: {:size, :label}
          ] ++ @output_layout
      ]
    ]
  end
end
