//! Signatures in other forms, another salt, limits of mechanisms that hash, and attributes that are not as they are.
#![allow(clippy::unwrap_used)]

mod support;

use cryptoki_sys::*;
use faulty_module::signature::{Form, reshape};
use support::*;

const P256: [u8; 10] = [6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];

fn attribute<T>(type_: CK_ATTRIBUTE_TYPE, value: &T) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_,
        pValue: std::ptr::from_ref(value).cast_mut().cast(),
        ulValueLen: size_of::<T>() as CK_ULONG,
    }
}

/// The private key of a new pair.
fn pair(
    list: &CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    public: CK_ATTRIBUTE,
) -> CK_OBJECT_HANDLE {
    let (mut one, mut other) = (0, 0);
    let mut mechanism = CK_MECHANISM {
        mechanism,
        ..Default::default()
    };
    let mut public = [public];
    let mut private = [attribute(CKA_SIGN, &CK_TRUE)];
    assert_eq!(
        ck!(list.C_GenerateKeyPair(
            session,
            &raw mut mechanism,
            public.as_mut_ptr(),
            1,
            private.as_mut_ptr(),
            1,
            &raw mut one,
            &raw mut other
        )),
        CKR_OK
    );
    other
}

fn sign(
    list: &CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    mechanism: &CK_MECHANISM,
    data: &[u8],
) -> Result<Vec<u8>, CK_RV> {
    let mut mechanism = *mechanism;
    let ready = ck!(list.C_SignInit(session, &raw mut mechanism, key));
    assert_eq!(ready, CKR_OK);
    let (mut out, mut len) = (vec![0; 600], 600);
    let data = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
    match ck!(list.C_Sign(session, data.0, data.1, out.as_mut_ptr(), &raw mut len)) {
        CKR_OK => {
            out.truncate(len as usize);
            Ok(out)
        }
        rv => Err(rv),
    }
}

fn plain(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism,
        ..Default::default()
    }
}

#[test]
fn numbers_in_other_forms() {
    let (mut r, mut s) = ([7; 32], [9; 32]);
    (r[0], r[1], s[0]) = (0, 0x80, 0x80);
    let raw = [r, s].concat();
    let der = [&[0x30, 69, 2, 32, 0][..], &r[1..], &[2, 33, 0], &s].concat();
    assert_eq!(
        reshape(Form::Der, CKM_ECDSA, &raw),
        [&der[..1], &[69], &der[2..]].concat()
    );
    assert_eq!(
        reshape(Form::Trimmed, CKM_ECDSA, &raw),
        [&r[1..], &s].concat()
    );
    assert_eq!(reshape(Form::Signed, CKM_ECDSA, &raw).len(), 66);
    assert_eq!(reshape(Form::Short, CKM_ECDSA, &raw), raw[..63]);
    assert_eq!(reshape(Form::Trimmed, CKM_RSA_PKCS, &raw), raw[1..]);
    assert_eq!(
        reshape(Form::Signed, CKM_RSA_PKCS, &raw),
        [&[0], &raw[..]].concat()
    );
    assert_eq!(reshape(Form::Der, CKM_RSA_PKCS, &raw), raw);
}

#[test]
fn signatures_of_a_token_in_other_forms() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    assert_eq!(login(list, session), CKR_OK);
    let key = pair(
        list,
        session,
        CKM_EC_KEY_PAIR_GEN,
        attribute(CKA_EC_PARAMS, &P256),
    );
    let signature = |control: &str| {
        module.control(control);
        sign(list, session, key, &plain(CKM_ECDSA), &[5; 32]).unwrap()
    };
    assert_eq!(signature("").len(), 64);
    assert_eq!(signature("signature short").len(), 63);
    assert_eq!(signature("signature signed").len(), 66);
    let der = signature("signature der");
    assert_eq!((der[0], der[1] as usize), (0x30, der.len() - 2));
    assert_eq!(signature("").len(), 64);
}

#[test]
fn a_salt_of_another_length_and_limits_of_what_hashes() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    assert_eq!(login(list, session), CKR_OK);
    let bits: CK_ULONG = 2048;
    let key = pair(
        list,
        session,
        CKM_RSA_PKCS_KEY_PAIR_GEN,
        attribute(CKA_MODULUS_BITS, &bits),
    );

    let parameters = CK_RSA_PKCS_PSS_PARAMS {
        hashAlg: CKM_SHA256,
        mgf: CKG_MGF1_SHA256,
        sLen: 32,
    };
    let pss = CK_MECHANISM {
        mechanism: CKM_SHA256_RSA_PKCS_PSS,
        pParameter: std::ptr::from_ref(&parameters).cast_mut().cast(),
        ulParameterLen: size_of::<CK_RSA_PKCS_PSS_PARAMS>() as CK_ULONG,
    };
    // Without a salt there is nothing by chance.
    module.control("salt length=0");
    let twice = [(); 2].map(|()| sign(list, session, key, &pss, b"text").unwrap());
    assert_eq!(twice[0], twice[1]);
    assert_eq!(parameters.sLen, 32, "the caller's own is left alone");
    module.control("");
    assert_ne!(sign(list, session, key, &pss, b"text").unwrap(), twice[0]);

    module.control("combined max=512");
    let hashed = plain(CKM_SHA256_RSA_PKCS);
    assert!(sign(list, session, key, &hashed, &[1; 512]).is_ok());
    assert_eq!(
        sign(list, session, key, &hashed, &[1; 513]),
        Err(CKR_DATA_LEN_RANGE)
    );
    assert!(
        sign(list, session, key, &hashed, &[1; 512]).is_ok(),
        "the operation is over"
    );
    let bytes = [1; 300];
    let mut mechanism = hashed;
    assert_eq!(
        ck!(list.C_SignInit(session, &raw mut mechanism, key)),
        CKR_OK
    );
    let update = || ck!(list.C_SignUpdate(session, bytes.as_ptr().cast_mut(), 300));
    assert_eq!([update(), update()], [CKR_OK, CKR_DATA_LEN_RANGE]);
}

#[test]
fn attributes_that_are_not_as_they_are() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    assert_eq!(login(list, session), CKR_OK);
    let key = pair(
        list,
        session,
        CKM_EC_KEY_PAIR_GEN,
        attribute(CKA_EC_PARAMS, &P256),
    );
    let read = || {
        let (kind, params) = ([0xFF_u8; 8], [0_u8; 16]);
        let mut wanted = [
            attribute(CKA_KEY_TYPE, &kind),
            attribute(CKA_EC_PARAMS, &params),
        ];
        let rv = ck!(list.C_GetAttributeValue(session, key, wanted.as_mut_ptr(), 2));
        (rv, kind[0], wanted[0].ulValueLen, wanted[1].ulValueLen)
    };
    assert_eq!(read(), (CKR_OK, CKK_EC as u8, 8, 10));
    module.control("attribute 0x100 value=0500000000000000 class=3");
    assert_eq!(read(), (CKR_OK, 5, 8, 10));
    module.control("attribute 0x100 value=0500000000000000 class=2");
    assert_eq!(read(), (CKR_OK, CKK_EC as u8, 8, 10));
    module.control("attribute 0x180");
    let none = CK_UNAVAILABLE_INFORMATION;
    assert_eq!(read(), (CKR_ATTRIBUTE_TYPE_INVALID, CKK_EC as u8, 8, none));
}
