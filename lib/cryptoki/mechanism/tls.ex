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
      ]
    ]
  end
end
