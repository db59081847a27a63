use super::*;
use crate::values::{Data, Secret};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism as Typed, MechanismType};
use cryptoki_sys as ck;

fn secret(bytes: &[u8]) -> Data {
    Data::copied(bytes)
}

fn written(all: Vec<Secret>) -> Vec<Vec<u8>> {
    all.iter().map(|one| one.to_vec()).collect()
}

fn laid_out(kind: CK_ULONG, fields: Vec<Field>) -> MechanismMemory {
    match MechanismMemory::new(&Mechanism {
        kind,
        parameter: Parameter::Fields(fields),
    }) {
        Ok(memory) => memory,
        Err(failure) => panic!("{failure}"),
    }
}

/// The typed crate as referee: same type, length and bytes.
#[test]
fn pss_parameters_are_those_of_the_typed_crate() {
    let typed = Typed::RsaPkcsPss(PkcsPssParams {
        hash_alg: MechanismType::SHA256,
        mgf: PkcsMgfType::MGF1_SHA256,
        s_len: 32.into(),
    });
    let theirs = CK_MECHANISM::from(&typed);
    let fields = [ck::CKM_SHA256, ck::CKG_MGF1_SHA256, 32]
        .map(Field::Ulong)
        .to_vec();
    let mut memory = laid_out(ck::CKM_RSA_PKCS_PSS, fields);
    // SAFETY: both point to structures of the length beside them that live until the end.
    let (a, b) = unsafe {
        let ours = &*memory.pointer();
        assert_eq!(ours.mechanism, theirs.mechanism);
        (
            std::slice::from_raw_parts(ours.pParameter.cast::<u8>(), ours.ulParameterLen as usize),
            std::slice::from_raw_parts(
                theirs.pParameter.cast::<u8>(),
                theirs.ulParameterLen as usize,
            ),
        )
    };
    assert_eq!(a, b);
}

#[test]
fn gcm_parameters_are_those_of_the_typed_crate() {
    let mut iv = [7; 12];
    let Ok(params) = GcmParams::new(&mut iv, b"header", 128.into()) else {
        panic!("params")
    };
    let typed = Typed::AesGcm(params);
    let theirs = CK_MECHANISM::from(&typed);
    let mut memory = laid_out(
        ck::CKM_AES_GCM,
        vec![
            Field::Bytes(secret(&[7; 12])),
            Field::Ulong(12),
            Field::Ulong(96),
            Field::Bytes(secret(b"header")),
            Field::Ulong(6),
            Field::Ulong(128),
        ],
    );
    // SAFETY: both point to a CK_GCM_PARAMS that lives until the end.
    unsafe {
        let ours = &*memory.pointer();
        assert_eq!(ours.ulParameterLen, theirs.ulParameterLen);
        let ours = &*ours.pParameter.cast::<ck::CK_GCM_PARAMS>();
        let theirs = &*theirs.pParameter.cast::<ck::CK_GCM_PARAMS>();
        assert_eq!(ours.ulIvLen, theirs.ulIvLen);
        assert_eq!(ours.ulTagBits, theirs.ulTagBits);
        assert_eq!(ours.ulAADLen, theirs.ulAADLen);
        assert_eq!(std::slice::from_raw_parts(ours.pIv, 12), [7; 12]);
        assert_eq!(std::slice::from_raw_parts(ours.pAAD, 6), b"header");
    }
}

#[test]
fn members_are_aligned_as_c_aligns_them() {
    // CK_HKDF_PARAMS: two CK_BBOOLs, then words.
    let mut memory = laid_out(
        ck::CKM_HKDF_DERIVE,
        vec![
            Field::Byte(1),
            Field::Byte(1),
            Field::Ulong(ck::CKM_SHA256),
            Field::Ulong(ck::CKF_HKDF_SALT_DATA),
            Field::Bytes(secret(b"salt")),
            Field::Ulong(4),
            Field::Ulong(0),
            Field::Bytes(secret(b"")),
            Field::Ulong(0),
        ],
    );
    // SAFETY: the parameter is a CK_HKDF_PARAMS that lives until the end.
    unsafe {
        let mechanism = &*memory.pointer();
        assert_eq!(
            mechanism.ulParameterLen as usize,
            size_of::<ck::CK_HKDF_PARAMS>()
        );
        let params = &*mechanism.pParameter.cast::<ck::CK_HKDF_PARAMS>();
        assert_eq!((params.bExtract, params.bExpand), (1, 1));
        assert_eq!(params.prfHashMechanism, ck::CKM_SHA256);
        assert_eq!(std::slice::from_raw_parts(params.pSalt, 4), b"salt");
        assert!(params.pInfo.is_null());
    }
}

#[test]
fn inline_bytes_follow_a_word() {
    let mut memory = laid_out(
        ck::CKM_AES_CTR,
        vec![Field::Ulong(128), Field::Inline(secret(&[9; 16]))],
    );
    // SAFETY: the parameter is a CK_AES_CTR_PARAMS that lives until the end.
    unsafe {
        let mechanism = &*memory.pointer();
        assert_eq!(
            mechanism.ulParameterLen as usize,
            size_of::<ck::CK_AES_CTR_PARAMS>()
        );
        let params = &*mechanism.pParameter.cast::<ck::CK_AES_CTR_PARAMS>();
        assert_eq!((params.ulCounterBits, params.cb), (128, [9; 16]));
    }
}

#[test]
fn handles_and_bytes_that_the_library_writes_are_read_back() {
    let random = || {
        let bytes = Field::Bytes(secret(&[1; 32]));
        vec![bytes.clone(), Field::Ulong(32), bytes, Field::Ulong(32)]
    };
    let out = vec![
        Field::NewHandle,
        Field::NewHandle,
        Field::NewHandle,
        Field::NewHandle,
        Field::InOut(secret(&[0; 4])),
        Field::InOut(secret(&[0; 4])),
    ];
    let derived = |count| {
        vec![
            Field::Template(vec![(ck::CKA_VALUE_LEN, Value::Ulong(16)); count]),
            Field::Ulong(ulong(count)),
            Field::Struct(vec![Field::NewHandle]),
        ]
    };
    let mut memory = laid_out(
        ck::CKM_TLS12_KEY_AND_MAC_DERIVE,
        vec![
            Field::Ulong(0),
            Field::Ulong(128),
            Field::Ulong(32),
            Field::Byte(0),
            Field::Nested(random()),
            Field::Struct(out),
            Field::Array(vec![derived(0), derived(2)]),
        ],
    );
    // SAFETY: the structures have just been laid out so, and live until the end.
    unsafe {
        let mechanism = &*memory.pointer();
        let begin = mechanism.pParameter.cast::<u8>();
        let params = &*begin.cast::<ck::CK_SSL3_KEY_MAT_PARAMS>();
        let out = &mut *params.pReturnedKeyMaterial;
        (out.hClientMacSecret, out.hServerKey) = (11, 14);
        out.pIVServer.write_bytes(9, 4);
        let array = begin.add(size_of::<ck::CK_SSL3_KEY_MAT_PARAMS>());
        let keys = *array.cast::<*const ck::CK_DERIVED_KEY>();
        let second = &*keys.add(1);
        assert!((*keys).pTemplate.is_null());
        assert_eq!({ (*second.pTemplate.add(1)).type_ }, ck::CKA_VALUE_LEN);
        *second.phKey = 22;
    }
    assert_eq!(memory.handles(), [11, 0, 0, 14, 0, 22]);
    assert_eq!(written(memory.written()), [vec![0; 4], vec![9; 4]]);
}

#[test]
fn handles_are_found_within_structures_and_arrays_of_them() {
    let inner = || vec![Field::Ulong(1), Field::NewHandle];
    let kind = ck::CKM_VENDOR_DEFINED;
    let mut nested = laid_out(kind, vec![Field::Ulong(2), Field::Nested(inner())]);
    let mut array = laid_out(kind, vec![Field::Array(vec![inner(), inner()])]);
    // SAFETY: the structures have just been laid out so, and live until the end.
    unsafe {
        let words = (*nested.pointer()).pParameter.cast::<[CK_ULONG; 3]>();
        assert_eq!(*words, [2, 1, 0]);
        (*words)[2] = 11;
        let words = (*array.pointer()).pParameter.cast::<*mut [CK_ULONG; 4]>();
        assert_eq!(**words, [1, 0, 1, 0]);
        **words = [1, 12, 1, 13];
    }
    assert_eq!(nested.handles(), [11]);
    assert_eq!(array.handles(), [12, 13]);
}

#[test]
fn nested_templates_point_to_their_attributes() {
    let template = vec![
        (ck::CKA_TOKEN, Value::Bool(true)),
        (
            ck::CKA_WRAP_TEMPLATE,
            Value::Template(vec![(ck::CKA_VALUE_LEN, Value::Ulong(32))]),
        ),
    ];
    let Ok(mut memory) = TemplateMemory::new(&template) else {
        panic!("a template is refused");
    };
    assert_eq!(memory.pointer().1, 2);
    // SAFETY: two attributes, the second of which points to one more.
    unsafe {
        let outer = std::slice::from_raw_parts(memory.pointer().0, 2);
        assert_eq!(outer[1].ulValueLen as usize, size_of::<CK_ATTRIBUTE>());
        let inner = &*outer[1].pValue.cast::<CK_ATTRIBUTE>();
        assert_eq!(*inner.pValue.cast::<CK_ULONG>(), 32);
    }
}

/// Members that are so many levels deep.
fn nested(levels: usize, wrap: impl Fn(Vec<Field>) -> Field) -> Vec<Field> {
    let innermost = vec![Field::Ulong(1)];
    (1..levels).fold(innermost, |inner, _| vec![wrap(inner)])
}

fn nested_template(levels: usize) -> Template {
    let innermost = vec![(ck::CKA_TOKEN, Value::Bool(true))];
    (1..levels).fold(innermost, |inner, _| {
        vec![(ck::CKA_WRAP_TEMPLATE, Value::Template(inner))]
    })
}

/// Whether something is laid out; what is very deep is not dropped, which is a recursion as well.
fn fits(fields: Vec<Field>) -> bool {
    let mechanism = Mechanism {
        kind: ck::CKM_VENDOR_DEFINED,
        parameter: Parameter::Fields(fields),
    };
    let fits = MechanismMemory::new(&mechanism).is_ok();
    std::mem::forget(mechanism);
    fits
}

#[test]
fn what_is_nested_too_deep_is_refused_and_no_end_of_the_stack() {
    let wraps: [fn(Vec<Field>) -> Field; 3] = [Field::Struct, Field::Nested, |inner| {
        Field::Array(vec![inner])
    }];
    for wrap in wraps {
        assert!(fits(nested(LEVELS, wrap)));
        assert!(!fits(nested(LEVELS + 1, wrap)));
        assert!(!fits(nested(200_000, wrap)));
    }
    // A template in a structure is one level below it.
    let holding = |levels| vec![Field::Template(nested_template(levels))];
    assert!(fits(holding(LEVELS - 1)));
    assert!(!fits(holding(LEVELS)));
    assert!(TemplateMemory::new(&nested_template(LEVELS)).is_ok());
    for levels in [LEVELS + 1, 200_000] {
        let template = nested_template(levels);
        assert!(TemplateMemory::new(&template).is_err());
        std::mem::forget(template);
    }
}

/// Writes where a library would: at the address that stands in the first member, or at the parameter itself.
fn write_iv(memory: &mut MechanismMemory, behind_pointer: bool, byte: u8) {
    // SAFETY: the structure begins with a pointer to bytes of ours, or is those bytes.
    unsafe {
        let parameter = (*memory.pointer()).pParameter;
        let iv: *mut u8 = if behind_pointer {
            *parameter.cast::<*mut u8>()
        } else {
            parameter.cast()
        };
        iv.write(byte);
    }
}

#[test]
fn an_iv_of_the_library_is_seen_wherever_the_mechanism_was_moved_to() {
    let mut gcm = laid_out(
        ck::CKM_AES_GCM,
        vec![
            Field::InOut(secret(&[7; 12])),
            Field::Ulong(12),
            Field::Bytes(secret(b"header")),
        ],
    );
    assert_eq!(gcm.rewritten(), None);
    write_iv(&mut gcm, true, 7);
    assert_eq!(gcm.rewritten(), None, "the same is no other");
    let mut kept = [Box::new(gcm)];
    write_iv(&mut kept[0], true, 9);
    let mut own = [7; 12];
    own[0] = 9;
    assert_eq!(kept[0].rewritten().map(written), Some(vec![own.to_vec()]));

    let raw = Mechanism {
        kind: ck::CKM_AES_CBC,
        parameter: Parameter::Raw(secret(&[0; 16])),
    };
    let Ok(mut raw) = MechanismMemory::new(&raw) else {
        panic!("raw")
    };
    assert_eq!(raw.rewritten(), None);
    write_iv(&mut raw, false, 1);
    assert_eq!(raw.rewritten().map(|all| all[0][0]), Some(1));
}
