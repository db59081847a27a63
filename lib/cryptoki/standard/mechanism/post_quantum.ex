# Parameters of ML-DSA and SLH-DSA (PKCS #11 v3.2, sections 6.67 and 6.69). ML-KEM, HSS and XMSS
# have none.
defmodule Cryptoki.Mechanism.PostQuantum do
  @moduledoc false

  @context [
    hedge: {:name, of: :hedge, default: :hedge_preferred},
    context: {:bytes, size: 0..255, default: ""}
  ]

  @layout [hedgeVariant: :hedge, pContext: :context, ulContextLen: {:size, :context}]

  @spec structures() :: [keyword]
  def structures do
    [
      [
        struct: :CK_SIGN_ADDITIONAL_CONTEXT,
        section: "6.67.1",
        optional: true,
        mechanisms: ~w[ml_dsa hash_ml_dsa_sha224 hash_ml_dsa_sha256 hash_ml_dsa_sha384
             hash_ml_dsa_sha512 hash_ml_dsa_sha3_224 hash_ml_dsa_sha3_256 hash_ml_dsa_sha3_384
             hash_ml_dsa_sha3_512 hash_ml_dsa_shake128 hash_ml_dsa_shake256 slh_dsa
             hash_slh_dsa_sha224 hash_slh_dsa_sha256 hash_slh_dsa_sha384 hash_slh_dsa_sha512
             hash_slh_dsa_sha3_224 hash_slh_dsa_sha3_256 hash_slh_dsa_sha3_384
             hash_slh_dsa_sha3_512 hash_slh_dsa_shake128 hash_slh_dsa_shake256]a,
        arguments: @context,
        layout: @layout
      ],
      [
        struct: :CK_HASH_SIGN_ADDITIONAL_CONTEXT,
        section: "6.67.1",
        mechanisms: [:hash_ml_dsa, :hash_slh_dsa],
        arguments: @context ++ [hash: :hash],
        layout: @layout ++ [hash: :hash]
      ]
    ]
  end
end
