# Parameters of IKE, one-time passwords, CT-KIP and CMS (PKCS #11 v3.2, sections 6.44, 6.53, 6.54
# and 6.64).
defmodule Cryptoki.Mechanism.Protocol do
  @moduledoc false

  @prf [prf: {:name, of: :mechanism}]

  @otp [
    pin: :bytes,
    challenge: :bytes,
    time: :bytes,
    counter: :bytes,
    flags: {:flags, of: :otp},
    output_length: :ulong,
    output_format: {:name, of: :otp_format}
  ]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        struct: :CK_IKE_PRF_DERIVE_PARAMS,
        section: "6.64.2",
        mechanisms: [:ike_prf_derive],
        arguments:
          @prf ++
            [
              ni: :bytes,
              nr: :bytes,
              data_as_key: {:boolean, default: false},
              new_key: {:key, optional: true}
            ],
        layout: [
          prfMechanism: :prf,
          bDataAsKey: :data_as_key,
          bRekey: {:given, :new_key},
          pNi: :ni,
          ulNiLen: {:size, :ni},
          pNr: :nr,
          ulNrLen: {:size, :nr},
          hNewKey: :new_key
        ]
      ],
      [
        struct: :CK_IKE1_PRF_DERIVE_PARAMS,
        section: "6.64.2",
        mechanisms: [:ike1_prf_derive],
        arguments:
          @prf ++
            [
              gxy_key: :key,
              previous_key: {:key, optional: true},
              cky_i: :bytes,
              cky_r: :bytes,
              key_number: :byte
            ],
        layout: [
          prfMechanism: :prf,
          bHasPrevKey: {:given, :previous_key},
          hKeygxy: :gxy_key,
          hPrevKey: :previous_key,
          pCKYi: :cky_i,
          ulCKYiLen: {:size, :cky_i},
          pCKYr: :cky_r,
          ulCKYrLen: {:size, :cky_r},
          keyNumber: :key_number
        ]
      ],
      [
        struct: :CK_IKE1_EXTENDED_DERIVE_PARAMS,
        section: "6.64.2",
        mechanisms: [:ike1_extended_derive],
        arguments: @prf ++ [gxy_key: {:key, optional: true}, extra_data: {:bytes, default: ""}],
        layout: [
          prfMechanism: :prf,
          bHasKeygxy: {:given, :gxy_key},
          hKeygxy: :gxy_key,
          pExtraData: :extra_data,
          ulExtraDataLen: {:size, :extra_data}
        ]
      ],
      [
        struct: :CK_IKE2_PRF_PLUS_DERIVE_PARAMS,
        section: "6.64.2",
        mechanisms: [:ike2_prf_plus_derive],
        arguments: @prf ++ [seed_key: {:key, optional: true}, seed: {:bytes, default: ""}],
        layout: [
          prfMechanism: :prf,
          bHasSeedKey: {:given, :seed_key},
          hSeedKey: :seed_key,
          pSeedData: :seed,
          ulSeedDataLen: {:size, :seed}
        ]
      ],
      [
        struct: :CK_OTP_PARAMS,
        section: "6.53.7",
        optional: true,
        mechanisms: [:hotp, :securid, :acti],
        arguments: for({name, type} <- @otp, do: {name, optional(type)}),
        layout: [
          pParams: {:each_given, :otp_parameter, Keyword.keys(@otp)},
          ulCount: {:count_given, Keyword.keys(@otp)}
        ]
      ],
      [
        struct: :CK_KIP_PARAMS,
        section: "6.54.4",
        mechanisms: [:kip_derive, :kip_wrap, :kip_mac],
        arguments: [
          mechanism: :mechanism,
          key: {:key, optional: true},
          seed: {:bytes, default: ""}
        ],
        layout: [pMechanism: :mechanism, hKey: :key, pSeed: :seed, ulSeedLen: {:size, :seed}]
      ],
      [
        struct: :CK_CMS_SIG_PARAMS,
        section: "6.44.3",
        mechanisms: [:cms_sig],
        arguments: [
          certificate: {:key, optional: true},
          signing_mechanism: :mechanism,
          digest_mechanism: {:mechanism, optional: true},
          content_type: {:c_string, optional: true},
          requested_attributes: {:bytes, default: ""},
          required_attributes: {:bytes, default: ""}
        ],
        layout: [
          certificateHandle: :certificate,
          pSigningMechanism: :signing_mechanism,
          pDigestMechanism: :digest_mechanism,
          pContentType: :content_type,
          pRequestedAttributes: :requested_attributes,
          ulRequestedAttributesLen: {:size, :requested_attributes},
          pRequiredAttributes: :required_attributes,
          ulRequiredAttributesLen: {:size, :required_attributes}
        ]
      ]
    ]
  end

  defp optional({type, options}), do: {type, [optional: true] ++ options}
  defp optional(type), do: {type, optional: true}
end
