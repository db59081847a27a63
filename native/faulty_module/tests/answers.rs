//! Rules: what they match, and answers about one slot, object or attribute, IVs of the token, how text is padded.
#![allow(clippy::unwrap_used)]

mod support;

use cryptoki_sys::*;
use support::*;

#[test]
fn rules_about_one_slot_object_attribute_or_length() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let (all, slot) = (slots(list, CK_FALSE), slots(list, CK_TRUE)[0]);
    let other = *all.iter().find(|id| **id != slot).unwrap();
    let mut info = CK_TOKEN_INFO::default();
    let mut token_info = |slot| ck!(list.C_GetTokenInfo(slot, &raw mut info));
    module.control(&format!("C_GetTokenInfo rv=0x30 slot={other}"));
    assert_eq!((token_info(slot), token_info(other)), (CKR_OK, 0x30));

    let session = open(list, slot).unwrap();
    module.control(&format!("C_GenerateRandom rv=0x30 slot={slot}"));
    assert_eq!(random(list, session), 0x30);
    module.control(&format!("C_GenerateRandom rv=0x30 slot={other}"));
    assert_eq!(random(list, session), CKR_OK);
    for (rule, answer) in [
        ("longer=7", 0x21),
        ("longer=8", 0),
        ("shorter=8", 0),
        ("shorter=9", 0x21),
    ] {
        module.control(&format!("C_GenerateRandom rv=0x21 {rule}"));
        assert_eq!(random(list, session), answer, "{rule}");
    }

    let mut info = CK_MECHANISM_INFO::default();
    let mut mechanism_info = |kind| ck!(list.C_GetMechanismInfo(slot, kind, &raw mut info));
    module.control("C_GetMechanismInfo rv=0x06 mechanism=0x250");
    assert_eq!(
        (mechanism_info(CKM_SHA256), mechanism_info(CKM_SHA384)),
        (0x06, CKR_OK)
    );

    let (key, mut label) = (generated(list, session), [0_u8; 8]);
    let mut label = CK_ATTRIBUTE {
        type_: CKA_LABEL,
        pValue: label.as_mut_ptr().cast(),
        ulValueLen: 8,
    };
    let mut read = || ck!(list.C_GetAttributeValue(session, key, &raw mut label, 1));
    for (rule, answer) in [("attribute=0x3", 0x06), ("attribute=0x4", 0)] {
        module.control(&format!("C_GetAttributeValue rv=0x06 {rule}"));
        assert_eq!(read(), answer, "{rule}");
    }
    for (object, answer) in [(key, 0x06), (key + 1, 0)] {
        module.control(&format!("C_GetAttributeValue rv=0x06 object={object}"));
        assert_eq!(read(), answer);
    }
}

/// An AES key for everything.
fn generated(list: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE) -> CK_OBJECT_HANDLE {
    let (mut length, mut key): (CK_ULONG, CK_OBJECT_HANDLE) = (32, 0);
    let mut truth = CK_TRUE;
    let mut flag = |type_| CK_ATTRIBUTE {
        type_,
        pValue: (&raw mut truth).cast(),
        ulValueLen: 1,
    };
    let mut template = [
        flag(CKA_ENCRYPT),
        flag(CKA_DECRYPT),
        flag(CKA_WRAP),
        flag(CKA_EXTRACTABLE),
        CK_ATTRIBUTE {
            type_: CKA_VALUE_LEN,
            pValue: (&raw mut length).cast(),
            ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
        },
    ];
    let mut mechanism = CK_MECHANISM {
        mechanism: CKM_AES_KEY_GEN,
        ..Default::default()
    };
    assert_eq!(login(list, session), CKR_OK);
    assert_eq!(
        ck!(list.C_GenerateKey(
            session,
            &raw mut mechanism,
            template.as_mut_ptr(),
            5,
            &raw mut key
        )),
        CKR_OK
    );
    key
}

#[test]
fn a_token_that_chooses_the_iv() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    let key = generated(list, session);
    let mut iv = [0_u8; 12];
    let mut parameter = CK_GCM_PARAMS {
        pIv: iv.as_mut_ptr(),
        ulIvLen: 12,
        ulIvBits: 96,
        pAAD: std::ptr::null_mut(),
        ulAADLen: 0,
        ulTagBits: 128,
    };
    let run = |parameter: &mut CK_GCM_PARAMS, decrypt: bool, data: &[u8]| {
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_AES_GCM,
            pParameter: (&raw mut *parameter).cast(),
            ulParameterLen: size_of::<CK_GCM_PARAMS>() as CK_ULONG,
        };
        let (mut out, mut length) = (vec![0; 64], 64);
        let (input, n) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let rv = if decrypt {
            assert_eq!(
                ck!(list.C_DecryptInit(session, &raw mut mechanism, key)),
                CKR_OK
            );
            ck!(list.C_Decrypt(session, input, n, out.as_mut_ptr(), &raw mut length))
        } else {
            match ck!(list.C_EncryptInit(session, &raw mut mechanism, key)) {
                CKR_OK => {
                    let mut asked = 0;
                    assert_eq!(
                        ck!(list.C_Encrypt(
                            session,
                            input,
                            n,
                            std::ptr::null_mut(),
                            &raw mut asked
                        )),
                        CKR_OK
                    );
                    assert!(asked >= n + 16);
                    ck!(list.C_Encrypt(session, input, n, out.as_mut_ptr(), &raw mut length))
                }
                refused => refused,
            }
        };
        if rv == CKR_OK {
            out.truncate(length as usize);
            Ok(out)
        } else {
            Err(rv)
        }
    };
    for control in ["iv written", "iv written late"] {
        iv.fill(0);
        module.control(control);
        let ciphertext = run(&mut parameter, false, b"text").unwrap();
        assert_ne!(iv, [0; 12]);
        module.control("");
        assert_eq!(run(&mut parameter, true, &ciphertext).unwrap(), b"text");
    }
    module.control("iv behind");
    assert_eq!(
        run(&mut parameter, false, b"text"),
        Err(CKR_MECHANISM_PARAM_INVALID)
    );
    parameter.pIv = std::ptr::null_mut();
    parameter.ulIvLen = 0;
    let mut ciphertext = run(&mut parameter, false, b"text").unwrap();
    assert_eq!(ciphertext.len(), 4 + 16 + 16);
    let mut own = ciphertext.split_off(20);
    parameter.pIv = own.as_mut_ptr();
    parameter.ulIvLen = 16;
    parameter.ulIvBits = 128;
    assert_eq!(run(&mut parameter, true, &ciphertext).unwrap(), b"text");
}

#[test]
fn fields_that_are_not_padded_with_blanks() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let slot = slots(list, CK_TRUE)[0];
    for (control, byte) in [("", b' '), ("padding zeros", 0), ("padding mixed", b' ')] {
        module.control(control);
        let (mut token, mut reader, mut library) = (
            CK_TOKEN_INFO::default(),
            CK_SLOT_INFO::default(),
            CK_INFO::default(),
        );
        assert_eq!(ck!(list.C_GetTokenInfo(slot, &raw mut token)), CKR_OK);
        assert_eq!(ck!(list.C_GetSlotInfo(slot, &raw mut reader)), CKR_OK);
        assert_eq!(ck!(list.C_GetInfo(&raw mut library)), CKR_OK);
        assert!(token.label.starts_with(b"faulty"));
        assert_eq!(
            (token.label[6], token.label[31]),
            (if control.is_empty() { b' ' } else { 0 }, byte)
        );
        assert_eq!(
            (
                token.model[15],
                reader.manufacturerID[31],
                library.manufacturerID[31]
            ),
            (byte, byte, byte)
        );
    }
}

#[test]
fn a_star_stands_for_any_part_of_a_name() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    let struck = |pattern: &str| {
        module.control(&format!("{pattern} rv=0x30"));
        random(list, session) == CKR_DEVICE_ERROR
    };
    for pattern in ["*", "C_Gen*", "*Random", "C_*Random", "C_Generate*Random"] {
        assert!(struck(pattern), "{pattern}");
    }
    for pattern in ["C_Sign*", "C_*Init", "*Login"] {
        assert!(!struck(pattern), "{pattern}");
    }
}

#[test]
fn values_of_keys_are_refused_and_nothing_else() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    let session = open(list, slots(list, CK_TRUE)[0]).unwrap();
    let create = |class: CK_OBJECT_CLASS, kind: CK_KEY_TYPE| {
        let (mut class, mut kind, mut value) = (class, kind, [7_u8; 16]);
        let mut private = CK_FALSE;
        let number = size_of::<CK_ULONG>() as CK_ULONG;
        let attribute = |type_, value: *mut std::ffi::c_void, len| CK_ATTRIBUTE {
            type_,
            pValue: value,
            ulValueLen: len,
        };
        let mut template = [
            attribute(CKA_VALUE, value.as_mut_ptr().cast(), 16),
            attribute(CKA_CLASS, (&raw mut class).cast(), number),
            attribute(CKA_PRIVATE, (&raw mut private).cast(), 1),
            attribute(CKA_KEY_TYPE, (&raw mut kind).cast(), number),
        ];
        // Data has no type of key.
        let n = if class == CKO_DATA { 3 } else { 4 };
        let mut object = 0;
        ck!(list.C_CreateObject(session, template.as_mut_ptr(), n, &raw mut object))
    };
    assert_eq!(create(CKO_SECRET_KEY, CKK_GENERIC_SECRET), CKR_OK);
    for (line, answer) in [
        ("values refused", CKR_ATTRIBUTE_VALUE_INVALID),
        ("values refused rv=0x54", CKR_FUNCTION_NOT_SUPPORTED),
    ] {
        module.control(line);
        assert_eq!(create(CKO_SECRET_KEY, CKK_GENERIC_SECRET), answer);
        assert_eq!(create(CKO_PRIVATE_KEY, CKK_EC), answer);
        assert_eq!(create(CKO_DATA, 0), CKR_OK);
    }
    module.control("values refused");
    generated(list, session);
    module.control("values refused for=all");
    assert_eq!(create(CKO_DATA, 0), faulty_module::rules::CKR_BAD_CONTROL);
}
