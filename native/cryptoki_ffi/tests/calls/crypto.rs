use super::library::*;
use super::*;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::dual::Dual;
use cryptoki_ffi::failure::{Failure, Reason};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::output::Output;
use cryptoki_sys::*;

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn refused<T>(outcome: Result<T, Failure>) -> bool {
    matches!(outcome, Err(Failure::Own { reason: Reason::InvalidArgument, detail }) if detail.contains("has no step"))
}

#[test]
fn inits() {
    for (kind, name) in [
        (Kind::Sign, "C_SignInit"),
        (Kind::Verify, "C_VerifyInit"),
        (Kind::Encrypt, "C_EncryptInit"),
        (Kind::Decrypt, "C_DecryptInit"),
        (Kind::SignRecover, "C_SignRecoverInit"),
        (Kind::VerifyRecover, "C_VerifyRecoverInit"),
    ] {
        asks(&format!("{name} 7 99 iv 21"), (), |f| {
            f.init(kind, S, &mechanism(), K).map(drop)
        });
    }
    asks("C_DigestInit 7 99 iv", (), |f| {
        f.init(Kind::Digest, S, &mechanism(), K).map(drop)
    });
    let init = |kind| opened(list()).init(kind, S, &mechanism(), K);
    assert!(refused(init(Kind::Find)) && refused(init(Kind::VerifySignature)));
}

#[test]
fn single_parts() {
    for (kind, name) in [
        (Kind::Sign, "C_Sign"),
        (Kind::Encrypt, "C_Encrypt"),
        (Kind::Decrypt, "C_Decrypt"),
        (Kind::Digest, "C_Digest"),
        (Kind::SignRecover, "C_SignRecover"),
        (Kind::VerifyRecover, "C_VerifyRecover"),
    ] {
        asks(&format!("{name} 7 data room"), bytes(name), |f| {
            f.single(kind, CKM_RSA_PKCS, S, b"data").map(Output::own)
        });
    }
    asks("C_Verify 7 data mark", (), |f| {
        f.verify(S, b"data", b"mark")
    });
    assert!(refused(opened(list()).single(Kind::Verify, 0, S, b"")));
}

#[test]
fn pieces() {
    for (kind, name) in [
        (Kind::Sign, "C_SignUpdate"),
        (Kind::Verify, "C_VerifyUpdate"),
        (Kind::VerifySignature, "C_VerifySignatureUpdate"),
        (Kind::Digest, "C_DigestUpdate"),
    ] {
        asks(&format!("{name} 7 data"), None, |f| {
            f.update(kind, S, b"data")
        });
    }
    for (kind, name) in [
        (Kind::Encrypt, "C_EncryptUpdate"),
        (Kind::Decrypt, "C_DecryptUpdate"),
    ] {
        asks(&format!("{name} 7 data room"), Some(bytes(name)), |f| {
            Ok(f.update(kind, S, b"data")?.map(Output::own))
        });
    }
    for (kind, name) in [
        (Kind::Sign, "C_SignFinal"),
        (Kind::Digest, "C_DigestFinal"),
        (Kind::Encrypt, "C_EncryptFinal"),
        (Kind::Decrypt, "C_DecryptFinal"),
    ] {
        asks(&format!("{name} 7 room"), bytes(name), |f| {
            f.finish(kind, CKM_RSA_PKCS, S, 0).map(Output::own)
        });
    }
    asks("C_VerifyFinal 7 mark", (), |f| f.verify_final(S, b"mark"));
    asks("C_DigestKey 7 21", (), |f| f.digest_key(S, K));
    assert!(refused(opened(list()).update(Kind::Find, S, b"")));
    assert!(refused(opened(list()).finish(Kind::Verify, 0, S, 0)));
}

#[test]
fn two_operations_at_once() {
    for (dual, name, kinds) in [
        (
            Dual::DigestEncrypt,
            "C_DigestEncryptUpdate",
            [Kind::Encrypt, Kind::Digest],
        ),
        (
            Dual::DecryptDigest,
            "C_DecryptDigestUpdate",
            [Kind::Decrypt, Kind::Digest],
        ),
        (
            Dual::SignEncrypt,
            "C_SignEncryptUpdate",
            [Kind::Encrypt, Kind::Sign],
        ),
        (
            Dual::DecryptVerify,
            "C_DecryptVerifyUpdate",
            [Kind::Decrypt, Kind::Verify],
        ),
    ] {
        asks(&format!("{name} 7 data room"), bytes(name), |f| {
            f.dual_update(dual, S, b"data").map(Output::own)
        });
        assert_eq!(dual.kinds(), kinds);
    }
}

#[test]
fn random_numbers_and_the_state_of_an_operation() {
    asks("C_GenerateRandom 7 3", vec![9; 3], |f| f.random(S, 3));
    // More than there is memory for, though an allocator that promises may promise it.
    let refused = opened(list()).random(S, 1 << 40);
    assert!(refused.is_err_and(|failure| failure.to_string().contains("more than one call gives")));
    asks("C_SeedRandom 7 seed", (), |f| f.seed_random(S, b"seed"));
    asks(
        "C_GetOperationState 7 room",
        bytes("C_GetOperationState"),
        |f| f.operation_state(S),
    );
    asks("C_SetOperationState 7 state 21 22", (), |f| {
        f.set_operation_state(S, b"state", Some(K), Some(L))
    });
    asks("C_SetOperationState 7 state 0 0", (), |f| {
        f.set_operation_state(S, b"state", None, None)
    });
}

#[test]
fn signatures_known_beforehand() {
    asks("C_VerifySignatureInit 7 99 iv 21 mark", (), |f| {
        f.verify_signature_init(S, &mechanism(), K, b"mark")
            .map(drop)
    });
    asks("C_VerifySignature 7 data", (), |f| {
        f.verify_signature(S, b"data")
    });
    asks("C_VerifySignatureFinal 7", (), |f| {
        f.verify_signature_final(S)
    });
}

/// An operation that nobody will finish: what the library was asked, and whether it is over.
fn finished_off(functions: &Functions, kind: Kind, code: CK_RV) -> (Vec<String>, bool) {
    notes();
    answer(code);
    let over = functions.finish_off(kind, S);
    answer(CKR_OK);
    (notes(), over)
}

#[test]
fn an_operation_is_finished_off_where_that_costs_nothing() {
    let with_cancel = opened(list());
    let mut list = list();
    list.C_SessionCancel = None;
    let without = opened(list);
    for (kind, asked) in [
        (Kind::Digest, "C_DigestFinal 7 room"),
        (Kind::Encrypt, "C_EncryptFinal 7 room"),
        (Kind::Decrypt, "C_DecryptFinal 7 room"),
        (Kind::Verify, "C_VerifyFinal 7 \\x00"),
    ] {
        let nothing = (vec![], false);
        assert_eq!(finished_off(&with_cancel, kind, CKR_OK), nothing);
        let done = (vec![asked.to_string()], true);
        assert_eq!(finished_off(&without, kind, CKR_OK), done);
        assert_eq!(finished_off(&without, kind, CKR_SIGNATURE_INVALID), done);
    }
    for (kind, asked) in [
        (Kind::Find, "C_FindObjectsFinal 7"),
        (Kind::VerifySignature, "C_VerifySignatureFinal 7"),
    ] {
        let done = (vec![asked.to_string()], true);
        assert_eq!(finished_off(&with_cancel, kind, CKR_OK), done);
        assert_eq!(finished_off(&without, kind, CKR_DATA_LEN_RANGE), done);
    }
    // A signature is not made for nobody.
    for kind in [Kind::Sign, Kind::SignRecover, Kind::MessageEncrypt] {
        assert_eq!(finished_off(&without, kind, CKR_OK), (vec![], false));
    }
}

/// Section 5.2: C_VerifyFinal with these leaves the operation as it was, or there was no session.
#[test]
fn what_does_not_end_an_operation() {
    for code in [
        CKR_FUNCTION_NOT_SUPPORTED,
        CKR_SESSION_HANDLE_INVALID,
        CKR_CRYPTOKI_NOT_INITIALIZED,
    ] {
        assert!(
            !finished_off(&opened(list()), Kind::Find, code).1,
            "{code:#x}"
        );
    }
    assert!(!finished_off(&opened(list()), Kind::Find, CKR_BUFFER_TOO_SMALL).1);
    let shut = opened(list());
    shut.gate.close();
    assert_eq!(finished_off(&shut, Kind::Find, CKR_OK), (vec![], false));
}

/// The flags of pkcs11t.h.
#[test]
fn each_kind_has_its_flag() {
    let flags = Kind::ALL.map(|kind| (kind, kind.cancel_flag()));
    assert_eq!(
        flags,
        [
            (Kind::Sign, 0x800),
            (Kind::Verify, 0x2000),
            (Kind::Encrypt, 0x100),
            (Kind::Decrypt, 0x200),
            (Kind::Digest, 0x400),
            (Kind::SignRecover, 0x1000),
            (Kind::VerifyRecover, 0x4000),
            (Kind::Find, 0x40),
            (Kind::MessageEncrypt, 0x2),
            (Kind::MessageDecrypt, 0x4),
            (Kind::MessageSign, 0x8),
            (Kind::MessageVerify, 0x10),
            (Kind::VerifySignature, 0x2000),
        ]
    );
}
