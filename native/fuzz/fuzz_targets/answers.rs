//! A library that answers with any return value, length, count and handle: a value or an error comes
//! out, never memory that is not ours. It writes no more than the room it was given.
#![no_main]

use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::output::Output;
use cryptoki_ffi::values::{Mechanism, Parameter};
use cryptoki_sys as ck;
use cryptoki_sys::*;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::sync::LazyLock;

thread_local! {
    /// What the library still has to answer with.
    static ANSWERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn byte() -> u8 {
    ANSWERS.with_borrow_mut(|answers| answers.pop().unwrap_or(0))
}

/// Mostly small, at times absurd.
fn number() -> CK_ULONG {
    match byte() {
        250 => CK_ULONG::MAX,
        251 => CK_ULONG::MAX - 1,
        252 => 1 << 63,
        253 => 1 << 32,
        254 => 1 << 16,
        255 => CK_ULONG::from(byte()) << 6,
        small => CK_ULONG::from(small),
    }
}

fn rv() -> CK_RV {
    match byte() % 24 {
        0 => ck::CKR_BUFFER_TOO_SMALL,
        1 => ck::CKR_ATTRIBUTE_SENSITIVE,
        2 => ck::CKR_ATTRIBUTE_TYPE_INVALID,
        3 => ck::CKR_FUNCTION_NOT_SUPPORTED,
        4 => ck::CKR_DEVICE_ERROR,
        5 => number(),
        _ => ck::CKR_OK,
    }
}

/// Fills what there is room for and says whatever it likes about how much that was.
unsafe fn fill<T>(items: *mut T, count: *mut CK_ULONG, item: impl Fn() -> T) -> CK_RV {
    unsafe {
        let said = number();
        if !items.is_null() {
            for index in 0..(*count).min(said).min(4096) as usize {
                items.add(index).write(item());
            }
        }
        *count = said;
    }
    rv()
}

unsafe extern "C" fn slots(_: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    unsafe { fill(slots, count, number) }
}

unsafe extern "C" fn mechanisms(_: CK_SLOT_ID, list: *mut CK_ULONG, count: *mut CK_ULONG) -> CK_RV {
    unsafe { fill(list, count, number) }
}

unsafe extern "C" fn single(
    _: CK_SESSION_HANDLE,
    _: *mut CK_BYTE,
    _: CK_ULONG,
    out: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { fill(out, length, byte) }
}

unsafe extern "C" fn finish(
    _: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { fill(out, length, byte) }
}

unsafe extern "C" fn wrap(
    _: CK_SESSION_HANDLE,
    _: *mut CK_MECHANISM,
    _: CK_OBJECT_HANDLE,
    _: CK_OBJECT_HANDLE,
    out: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { fill(out, length, byte) }
}

unsafe extern "C" fn encapsulate(
    _: CK_SESSION_HANDLE,
    _: *mut CK_MECHANISM,
    _: CK_OBJECT_HANDLE,
    _: *mut CK_ATTRIBUTE,
    _: CK_ULONG,
    out: *mut CK_BYTE,
    length: *mut CK_ULONG,
    key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    unsafe {
        key.write(number());
        fill(out, length, byte)
    }
}

unsafe extern "C" fn find(
    _: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    limit: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    unsafe {
        count.write(limit);
        fill(objects, count, number)
    }
}

unsafe extern "C" fn generate(
    _: CK_SESSION_HANDLE,
    _: *mut CK_MECHANISM,
    _: *mut CK_ATTRIBUTE,
    _: CK_ULONG,
    key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    unsafe { key.write(number()) };
    rv()
}

unsafe extern "C" fn attributes(
    _: CK_SESSION_HANDLE,
    _: CK_OBJECT_HANDLE,
    asked: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    for index in 0..count as usize {
        unsafe { answer(&mut *asked.add(index)) };
    }
    rv()
}

unsafe fn answer(attribute: &mut CK_ATTRIBUTE) {
    let room = attribute.ulValueLen as usize;
    if !attribute.pValue.is_null() {
        if attribute.type_ == ck::CKA_WRAP_TEMPLATE {
            let inner: *mut CK_ATTRIBUTE = attribute.pValue.cast();
            for index in 0..room / size_of::<CK_ATTRIBUTE>() {
                unsafe {
                    let nested = &mut *inner.add(index);
                    nested.type_ = CK_ULONG::from(byte());
                    answer(nested);
                }
            }
        } else {
            unsafe { attribute.pValue.cast::<u8>().write_bytes(byte(), room) };
        }
    }
    attribute.ulValueLen = match byte() % 4 {
        0 if attribute.type_ == ck::CKA_WRAP_TEMPLATE => 24 * CK_ULONG::from(byte() % 4),
        0 | 1 => number(),
        // As one that keeps to the rules: the length it was given, or a small one.
        _ if attribute.pValue.is_null() => CK_ULONG::from(byte() % 64),
        _ => room as CK_ULONG,
    };
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    // SAFETY: zero is the version 0.0 and `None` for every function.
    let mut list: CK_FUNCTION_LIST_3_2 = unsafe { std::mem::zeroed() };
    list.C_GetSlotList = Some(slots);
    list.C_GetMechanismList = Some(mechanisms);
    list.C_Sign = Some(single);
    list.C_Encrypt = Some(single);
    list.C_Decrypt = Some(single);
    list.C_Digest = Some(single);
    list.C_EncryptUpdate = Some(single);
    list.C_DecryptUpdate = Some(single);
    list.C_SignFinal = Some(finish);
    list.C_DecryptFinal = Some(finish);
    list.C_GetOperationState = Some(finish);
    list.C_WrapKey = Some(wrap);
    list.C_EncapsulateKey = Some(encapsulate);
    list.C_FindObjects = Some(find);
    list.C_GenerateKey = Some(generate);
    list.C_GetAttributeValue = Some(attributes);
    // SAFETY: the functions are those of this program.
    let functions = unsafe { Functions::new(list, (3, 2), Vec::new()) };
    functions.gate.open();
    functions
});

/// No answer is longer than what a library may ask for.
fn bounded<T, E>(answer: Result<Vec<T>, E>, given: usize) {
    if let Ok(items) = answer {
        assert!(items.len() <= given + (64 << 20));
    }
}

fn written<E>(answer: Result<Output, E>, given: usize) {
    bounded(answer.map(Output::own), given);
}

fuzz_target!(|data: &[u8]| {
    let functions = &*FUNCTIONS;
    let none = Mechanism {
        kind: 0,
        parameter: Parameter::Absent,
    };
    let template = Vec::new();
    ANSWERS.set(data.to_vec());
    // More than one call on what one answer left behind.
    for _ in 0..4 {
        let input = vec![7; byte() as usize];
        match byte() % 14 {
            0 => bounded(functions.slots(true), 0),
            1 => bounded(functions.mechanisms(0), 0),
            which @ 2..=5 => {
                let kinds = [Kind::Sign, Kind::Encrypt, Kind::Decrypt, Kind::Digest];
                let kind = kinds[usize::from(which) - 2];
                written(functions.single(kind, 0, 1, &input), input.len());
            }
            6 => drop(functions.update(Kind::Encrypt, 1, &input)),
            7 => written(functions.finish(Kind::Decrypt, 0, 1, input.len()), input.len()),
            8 => bounded(functions.operation_state(1), 0),
            9 => bounded(functions.wrap_key(1, &none, 1, 2, None).map(|(wrapped, _)| wrapped), 0),
            10 => drop(functions.encapsulate_key(1, &none, 1, &template)),
            11 => bounded(functions.find_next(1, input.len()), input.len()),
            12 => drop(functions.generate_key(1, &none, &template)),
            _ => {
                let kinds = [ck::CKA_LABEL, ck::CKA_WRAP_TEMPLATE, ck::CKA_ID];
                let first = usize::from(byte() % 2);
                if let Ok(read) = functions.attributes(1, 2, &kinds[first..]) {
                    assert_eq!(read.len(), kinds.len() - first);
                }
            }
        }
    }
});
