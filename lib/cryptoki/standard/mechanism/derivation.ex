# Parameters of the key derivations (PKCS #11 v3.2, sections 6.17, 6.37, 6.38, 6.42, 6.43 and
# 6.62).
defmodule Cryptoki.Mechanism.Derivation do
  @moduledoc false

  @data [data: :bytes]
  @string_data [pData: :data, ulLen: {:size, :data}]

  @counter_format [
    struct: :CK_SP800_108_COUNTER_FORMAT,
    arguments: [little_endian: {:boolean, default: false}, width_in_bits: {:ulong, in: 1..64}],
    layout: [bLittleEndian: :little_endian, ulWidthInBits: :width_in_bits]
  ]

  @dkm_length_format [
    struct: :CK_SP800_108_DKM_LENGTH_FORMAT,
    arguments: [
      method: {:name, of: :dkm_length_method, default: :sum_of_keys},
      little_endian: {:boolean, default: false},
      width_in_bits: {:ulong, in: 1..64}
    ],
    layout: [
      dkmLengthMethod: :method,
      bLittleEndian: :little_endian,
      ulWidthInBits: :width_in_bits
    ]
  ]

  # Only the counter mode gives its iteration variable a format.
  @prf_data [
    iteration_variable: {:struct, of: @counter_format, optional: true},
    counter: {:struct, of: @counter_format},
    dkm_length: {:struct, of: @dkm_length_format},
    byte_array: :bytes,
    key_handle: :key
  ]

  @kdf [prf: {:name, of: :mechanism}, data: {:tagged, kind: :prf_data, of: @prf_data}]

  # One more key for each template.
  @additional [additional_keys: {:templates, default: []}]
  @additional_layout [
    ulAdditionalDerivedKeys: {:count, :additional_keys},
    pAdditionalDerivedKeys: :additional_keys
  ]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        struct: :CK_HKDF_PARAMS,
        section: "6.62.2",
        mechanisms: [:hkdf_derive, :hkdf_data],
        arguments: [
          hash: {:hash, as: [:prf_hash]},
          extract: {:boolean, default: true},
          expand: {:boolean, default: true},
          salt: {:bytes, optional: true, not_with: :salt_key},
          salt_key: {:key, optional: true},
          info: {:bytes, default: ""}
        ],
        # The salt types are CKF_HKDF_SALT_KEY, _DATA and _NULL.
        layout: [
          bExtract: :extract,
          bExpand: :expand,
          prfHashMechanism: :hash,
          ulSaltType: {:which, [salt_key: 4, salt: 2], 1},
          pSalt: :salt,
          ulSaltLen: {:size, :salt},
          hSaltKey: :salt_key,
          pInfo: :info,
          ulInfoLen: {:size, :info}
        ]
      ],
      [
        struct: :CK_SP800_108_KDF_PARAMS,
        section: "6.42.2",
        mechanisms: [:sp800_108_counter_kdf, :sp800_108_double_pipeline_kdf],
        arguments: @kdf ++ @additional,
        answer: {:more_keys, :additional_keys},
        layout:
          [prfType: :prf, ulNumberOfDataParams: {:count, :data}, pDataParams: :data] ++
            @additional_layout
      ],
      [
        struct: :CK_SP800_108_FEEDBACK_KDF_PARAMS,
        section: "6.42.2",
        mechanisms: [:sp800_108_feedback_kdf],
        arguments: @kdf ++ [iv: {:bytes, default: ""}] ++ @additional,
        answer: {:more_keys, :additional_keys},
        layout:
          [
            prfType: :prf,
            ulNumberOfDataParams: {:count, :data},
            pDataParams: :data,
            ulIVLen: {:size, :iv},
            pIV: :iv
          ] ++ @additional_layout
      ],
      [
        struct: :CK_KEY_DERIVATION_STRING_DATA,
        section: "6.43.2",
        mechanisms: [:concatenate_base_and_data, :concatenate_data_and_base, :xor_base_and_data],
        arguments: @data,
        layout: @string_data
      ],
      [
        struct: :CK_EXTRACT_PARAMS,
        section: "6.43.2",
        mechanisms: [:extract_key_from_key],
        arguments: [bit: :ulong],
        layout: [value: :bit]
      ],
      [
        struct: :CK_OBJECT_HANDLE,
        section: "6.43.3",
        mechanisms: [:concatenate_base_and_key],
        arguments: [key: :key],
        layout: [value: :key]
      ],
      ecb(8, ~w[des_ecb_encrypt_data des3_ecb_encrypt_data]a),
      ecb(16, ~w[aes_ecb_encrypt_data camellia_ecb_encrypt_data aria_ecb_encrypt_data
           seed_ecb_encrypt_data]a),
      cbc(:CK_DES_CBC_ENCRYPT_DATA_PARAMS, 8, ~w[des_cbc_encrypt_data des3_cbc_encrypt_data]a),
      cbc(:CK_AES_CBC_ENCRYPT_DATA_PARAMS, 16, [:aes_cbc_encrypt_data]),
      cbc(:CK_CAMELLIA_CBC_ENCRYPT_DATA_PARAMS, 16, [:camellia_cbc_encrypt_data]),
      cbc(:CK_ARIA_CBC_ENCRYPT_DATA_PARAMS, 16, [:aria_cbc_encrypt_data]),
      cbc(:CK_SEED_CBC_ENCRYPT_DATA_PARAMS, 16, [:seed_cbc_encrypt_data]),
      [
        # CKZ_SALT_SPECIFIED is the only source there is.
        struct: :CK_PKCS5_PBKD2_PARAMS2,
        section: "6.37.3",
        mechanisms: [:pkcs5_pbkd2],
        arguments: [
          password: :bytes,
          salt: :bytes,
          iterations: {:ulong, in: 1..0xFFFFFFFF},
          prf: {:name, of: :prf},
          prf_data: {:bytes, default: ""}
        ],
        layout: [
          saltSource: {:ulong, 1},
          pSaltSourceData: :salt,
          ulSaltSourceDataLen: {:size, :salt},
          iterations: :iterations,
          prf: :prf,
          pPrfData: :prf_data,
          ulPrfDataLen: {:size, :prf_data},
          pPassword: :password,
          ulPasswordLen: {:size, :password}
        ]
      ],
      [
        # The token writes the IV that it derived where pInitVector points.
        struct: :CK_PBE_PARAMS,
        section: "6.37.2",
        mechanisms: ~w[pbe_md2_des_cbc pbe_md5_des_cbc pbe_md5_cast_cbc pbe_md5_cast3_cbc
             pbe_md5_cast128_cbc pbe_sha1_cast128_cbc pbe_sha1_rc4_128 pbe_sha1_rc4_40
             pbe_sha1_des3_ede_cbc pbe_sha1_des2_ede_cbc pbe_sha1_rc2_128_cbc pbe_sha1_rc2_40_cbc
             pba_sha1_with_sha1_hmac]a,
        arguments: [
          password: :bytes,
          salt: :bytes,
          iterations: {:ulong, in: 1..0xFFFFFFFF},
          iv: {:room, size: 8, default: :read}
        ],
        answer: {:read, :iv},
        layout: [
          pInitVector: :iv,
          pPassword: :password,
          ulPasswordLen: {:size, :password},
          pSalt: :salt,
          ulSaltLen: {:size, :salt},
          ulIteration: :iterations
        ]
      ]
    ]
  end

  defp ecb(block, mechanisms) do
    [
      struct: :CK_KEY_DERIVATION_STRING_DATA,
      section: "6.17.2",
      mechanisms: mechanisms,
      arguments: [data: {:bytes, multiple_of: block}],
      layout: @string_data
    ]
  end

  defp cbc(struct, block, mechanisms) do
    [
      struct: struct,
      section: "6.17.2",
      mechanisms: mechanisms,
      arguments: [
        iv: {:bytes, size: block, inline: true},
        data: {:bytes, multiple_of: block}
      ],
      layout: [iv: :iv, pData: :data, length: {:size, :data}]
    ]
  end
end
