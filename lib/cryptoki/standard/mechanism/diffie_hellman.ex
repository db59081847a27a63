# Parameters of the finite-field and ratchet mechanisms (PKCS #11 v3.2, sections 6.2, 6.4, 6.5 and
# 6.6).
defmodule Cryptoki.Mechanism.DiffieHellman do
  @moduledoc false

  @x9_42 [
    kdf: {:name, of: :kdf, default: :null},
    other_info: {:bytes, default: ""},
    public: {:bytes, as: [:public_data]}
  ]

  @x9_42_two_keys @x9_42 ++
                    [
                      private_len: :ulong,
                      private_key: :key,
                      public_2: {:bytes, as: [:public_data_2]}
                    ]

  @ratchet [
    encrypted_header: {:boolean, default: false},
    curve: {:ulong, in: [255, 448]},
    aead: {:name, of: :mechanism},
    kdf: {:name, of: :kdf, default: :null}
  ]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        section: "6.4.10",
        mechanisms: [:dh_pkcs_derive],
        arguments: [public: {:bytes, as: [:public_data]}],
        layout: {:raw, :public}
      ],
      [
        struct: :CK_X9_42_DH1_DERIVE_PARAMS,
        section: "6.4.11",
        mechanisms: [:x9_42_dh_derive],
        arguments: @x9_42,
        layout: [
          kdf: :kdf,
          ulOtherInfoLen: {:size, :other_info},
          pOtherInfo: :other_info,
          ulPublicDataLen: {:size, :public},
          pPublicData: :public
        ]
      ],
      [
        struct: :CK_X9_42_DH2_DERIVE_PARAMS,
        section: "6.4.11",
        mechanisms: [:x9_42_dh_hybrid_derive],
        arguments: @x9_42_two_keys,
        layout: [
          kdf: :kdf,
          ulOtherInfoLen: {:size, :other_info},
          pOtherInfo: :other_info,
          ulPublicDataLen: {:size, :public},
          pPublicData: :public,
          ulPrivateDataLen: :private_len,
          hPrivateData: :private_key,
          ulPublicDataLen2: {:size, :public_2},
          pPublicData2: :public_2
        ]
      ],
      [
        struct: :CK_X9_42_MQV_DERIVE_PARAMS,
        section: "6.4.11",
        mechanisms: [:x9_42_mqv_derive],
        arguments: @x9_42_two_keys ++ [public_key: :key],
        layout: [
          kdf: :kdf,
          ulOtherInfoLen: {:size, :other_info},
          OtherInfo: :other_info,
          ulPublicDataLen: {:size, :public},
          PublicData: :public,
          ulPrivateDataLen: :private_len,
          hPrivateData: :private_key,
          ulPublicDataLen2: {:size, :public_2},
          PublicData2: :public_2,
          publicKey: :public_key
        ]
      ],
      [
        struct: :CK_X3DH_INITIATE_PARAMS,
        section: "6.5.3",
        mechanisms: [:x3dh_initialize],
        arguments: [
          kdf: {:name, of: :kdf, default: :null},
          peer_identity: :key,
          peer_prekey: :key,
          prekey_signature: :bytes,
          onetime_key: {:bytes, optional: true},
          own_identity: :key,
          own_ephemeral: :key
        ],
        layout: [
          kdf: :kdf,
          pPeer_identity: :peer_identity,
          pPeer_prekey: :peer_prekey,
          pPrekey_signature: :prekey_signature,
          pOnetime_key: :onetime_key,
          pOwn_identity: :own_identity,
          pOwn_ephemeral: :own_ephemeral
        ]
      ],
      [
        struct: :CK_X3DH_RESPOND_PARAMS,
        section: "6.5.4",
        mechanisms: [:x3dh_respond],
        arguments: [
          kdf: {:name, of: :kdf, default: :null},
          identity_id: :bytes,
          prekey_id: :bytes,
          onetime_id: {:bytes, optional: true},
          initiator_identity: :key,
          initiator_ephemeral: :bytes
        ],
        layout: [
          kdf: :kdf,
          pIdentity_id: :identity_id,
          pPrekey_id: :prekey_id,
          pOnetime_id: :onetime_id,
          pInitiator_identity: :initiator_identity,
          pInitiator_ephemeral: :initiator_ephemeral
        ]
      ],
      [
        struct: :CK_X2RATCHET_INITIALIZE_PARAMS,
        section: "6.6.3",
        mechanisms: [:x2ratchet_initialize],
        arguments:
          [
            shared_secret: :bytes,
            peer_public_prekey: :key,
            peer_public_identity: :key,
            own_public_identity: :key
          ] ++ @ratchet,
        layout: [
          sk: :shared_secret,
          peer_public_prekey: :peer_public_prekey,
          peer_public_identity: :peer_public_identity,
          own_public_identity: :own_public_identity,
          bEncryptedHeader: :encrypted_header,
          eCurve: :curve,
          aeadMechanism: :aead,
          kdfMechanism: :kdf
        ]
      ],
      [
        struct: :CK_X2RATCHET_RESPOND_PARAMS,
        section: "6.6.3",
        mechanisms: [:x2ratchet_respond],
        arguments:
          [
            shared_secret: :bytes,
            own_prekey: :key,
            initiator_identity: :key,
            own_public_identity: :key
          ] ++ @ratchet,
        layout: [
          sk: :shared_secret,
          own_prekey: :own_prekey,
          initiator_identity: :initiator_identity,
          own_public_identity: :own_public_identity,
          bEncryptedHeader: :encrypted_header,
          eCurve: :curve,
          aeadMechanism: :aead,
          kdfMechanism: :kdf
        ]
      ],
      [
        # The token writes the seed of the first two back, where it cannot be read.
        struct: :CK_DSA_PARAMETER_GEN_PARAM,
        section: "6.2.1",
        mechanisms: ~w[dsa_probabilistic_parameter_gen dsa_shawe_taylor_parameter_gen
             dsa_fips_g_gen]a,
        arguments: [hash: :hash, seed: :bytes, index: {:ulong, default: 0}],
        layout: [hash: :hash, pSeed: :seed, ulSeedLen: {:size, :seed}, ulIndex: :index]
      ]
    ]
  end
end
