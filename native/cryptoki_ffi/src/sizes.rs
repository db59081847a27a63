//! How long the answers of a library can be, by the standards that fix it: a signature is one call, not
//! one that asks for its size and another.

use cryptoki_sys as ck;
use cryptoki_sys::CK_MECHANISM_TYPE;

/// The longest of all other signatures and MACs: RSA has 2048 bytes with 16 384 bits, ML-DSA-87 has
/// 4627 (FIPS 204, table 2).
const SIGNATURE: usize = 8 << 10;
/// ECDSA on the curve of the longest order that has a name, sect571r1, and MACs made of hashes. Most of all
/// signatures are these: to clear and to overwrite more takes its time, and others' place in the caches.
const SHORT: usize = 256;
/// SLH-DSA-SHA2-256f and SLH-DSA-SHAKE-256f (FIPS 205, table 2).
const SLH_DSA: usize = 49_856;
/// Eight levels of LMS_SHA256_M32_H25 with LMOTS_SHA256_N32_W1 (RFC 8554, sections 4.5, 5.4 and 6.2).
const HSS: usize = 74_988;
/// XMSS-SHA2_20_512 (RFC 8391, section 5.3).
const XMSS: usize = 9_732;
/// XMSSMT-SHA2_60/12_512 (RFC 8391, section 5.4).
const XMSS_MT: usize = 104_520;

/// What a block, a tag or padding adds to the input; or an RSA modulus of 16 384 bits.
const SLACK: usize = 2 << 10;
/// What the signatures and MACs of a mechanism fit in.
pub fn signature(mechanism: CK_MECHANISM_TYPE) -> usize {
    match mechanism {
        ck::CKM_ECDSA..=ck::CKM_ECDSA_SHA3_512
        | ck::CKM_EDDSA
        | ck::CKM_MD2_HMAC..=ck::CKM_SHA3_512_HMAC_GENERAL => SHORT,
        ck::CKM_SLH_DSA
        | ck::CKM_HASH_SLH_DSA
        | ck::CKM_HASH_SLH_DSA_SHA224..=ck::CKM_HASH_SLH_DSA_SHAKE256 => SLH_DSA,
        ck::CKM_HSS => HSS,
        ck::CKM_XMSS => XMSS,
        ck::CKM_XMSSMT => XMSS_MT,
        _ => SIGNATURE,
    }
}

/// What digests fit in: the longest has 64 bytes.
pub const DIGEST: usize = 1 << 10;

/// What wrapped keys and ciphertexts of encapsulated ones fit in as a rule.
pub const WRAPPED: usize = 8 << 10;

/// What the state of an operation fits in as a rule.
pub const STATE: usize = 8 << 10;

/// What comes out of a cipher that is given `input` bytes.
pub fn cipher(input: usize) -> usize {
    input.saturating_add(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the RFCs compute them.
    #[test]
    fn the_sizes_of_hash_based_signatures_are_those_of_their_parameters() {
        let lms = 4 + (4 + 32 + 32 * 265) + 4 + 32 * 25;
        assert_eq!(HSS, 4 + 7 * (lms + 56) + lms);
        assert_eq!(XMSS, 4 + 64 + (20 + 131) * 64);
        assert_eq!(XMSS_MT, 8 + 64 + (60 + 12 * 131) * 64);
    }

    /// Ed448 (RFC 8032, section 5.2), ML-DSA-87 (FIPS 204, table 2), RSA with 16 384 bits, SLH-DSA-256f (FIPS 205, table 2).
    #[test]
    fn each_signature_has_room_for_the_longest_of_its_kind() {
        for (mechanism, longest) in [
            (ck::CKM_ECDSA, 2 * 72),
            (ck::CKM_ECDSA_SHA512, 2 * 72),
            (ck::CKM_EDDSA, 114),
            (ck::CKM_SHA512_HMAC, 64),
            (ck::CKM_ML_DSA, 4_627),
            (ck::CKM_RSA_PKCS, 2_048),
            (ck::CKM_SLH_DSA, 49_856),
            (ck::CKM_HASH_SLH_DSA, 49_856),
            (ck::CKM_HASH_SLH_DSA_SHAKE256, 49_856),
            (ck::CKM_HSS, 74_988),
            (ck::CKM_XMSS, 9_732),
            (ck::CKM_XMSSMT, 104_520),
        ] {
            let room = signature(mechanism);
            assert!(room >= longest, "{mechanism:#x}");
            // One call, and no more memory than it may need.
            assert!(room <= longest.max(8_192), "{mechanism:#x}");
        }
    }

    /// RSA-OAEP and RSA with 16 384 bits; ML-KEM-1024 has 1568 bytes (FIPS 203, table 3); SHA-512 has 64.
    #[test]
    fn what_comes_out_has_room_for_the_longest() {
        assert!((64..=1_024).contains(&DIGEST));
        assert!((2_048..=8_192).contains(&WRAPPED));
        assert!((1_024..=8_192).contains(&STATE));
        assert!((2_048..=4_096).contains(&cipher(0)));
        assert_eq!(cipher(10_000) - cipher(0), 10_000);
        assert_eq!(cipher(usize::MAX), usize::MAX);
    }
}
