# Parameters of the elliptic curve mechanisms (PKCS #11 v3.2, section 6.3). ECDSA has none.
defmodule Cryptoki.Mechanism.EllipticCurve do
  @moduledoc false

  @kdf [
    kdf: {:name, of: :kdf, default: :null},
    shared_data: {:bytes, default: "", as: [:shared]}
  ]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        struct: :CK_EDDSA_PARAMS,
        section: "6.3.16",
        optional: true,
        mechanisms: [:eddsa],
        arguments: [
          prehash: {:boolean, default: false},
          context: {:bytes, size: 0..255, default: ""}
        ],
        layout: [
          phFlag: :prehash,
          ulContextDataLen: {:size, :context},
          pContextData: :context
        ]
      ],
      [
        struct: :CK_XEDDSA_PARAMS,
        section: "6.3.16",
        mechanisms: [:xeddsa],
        arguments: [hash: :hash],
        layout: [hash: :hash]
      ],
      [
        struct: :CK_ECDH1_DERIVE_PARAMS,
        section: "6.3.16",
        mechanisms: [:ecdh1_derive, :ecdh1_cofactor_derive],
        arguments: @kdf ++ [public: {:bytes, as: [:public_data]}],
        layout: [
          kdf: :kdf,
          ulSharedDataLen: {:size, :shared_data},
          pSharedData: :shared_data,
          ulPublicDataLen: {:size, :public},
          pPublicData: :public
        ]
      ],
      [
        struct: :CK_ECMQV_DERIVE_PARAMS,
        section: "6.3.16",
        mechanisms: [:ecmqv_derive],
        arguments:
          @kdf ++
            [
              public: {:bytes, as: [:public_data]},
              private_len: :ulong,
              private_key: :key,
              public_2: {:bytes, as: [:public_data_2]},
              public_key: :key
            ],
        layout: [
          kdf: :kdf,
          ulSharedDataLen: {:size, :shared_data},
          pSharedData: :shared_data,
          ulPublicDataLen: {:size, :public},
          pPublicData: :public,
          ulPrivateDataLen: :private_len,
          hPrivateData: :private_key,
          ulPublicDataLen2: {:size, :public_2},
          pPublicData2: :public_2,
          publicKey: :public_key
        ]
      ],
      [
        struct: :CK_ECDH_AES_KEY_WRAP_PARAMS,
        section: "6.3.23",
        mechanisms: [:ecdh_aes_key_wrap, :ecdh_cof_aes_key_wrap, :ecdh_x_aes_key_wrap],
        arguments: [aes_key_bits: {:ulong, in: [128, 192, 256], default: 256}] ++ @kdf,
        layout: [
          ulAESKeyBits: :aes_key_bits,
          kdf: :kdf,
          ulSharedDataLen: {:size, :shared_data},
          pSharedData: :shared_data
        ]
      ]
    ]
  end
end
