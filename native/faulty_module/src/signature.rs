//! Signatures in another form than the standard's, PSS with another salt than asked for, and limits on mechanisms
//! that hash and sign.

use crate::target::{Answer, real};
use crate::{control, lock};
use cryptoki_sys::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The form of a signature that is not the standard's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// The DER of r and s.
    Der,
    /// Numbers without their leading zeros.
    Trimmed,
    /// Numbers with a zero byte before them.
    Signed,
    /// Without the last byte.
    Short,
}

impl Form {
    /// Reads its name.
    pub fn parse(name: &str) -> Result<Form, String> {
        Ok(match name {
            "der" => Form::Der,
            "trimmed" => Form::Trimmed,
            "signed" => Form::Signed,
            "short" => Form::Short,
            _ => return Err(name.to_owned()),
        })
    }
}

/// A signature, or its verification, that goes on in a session.
#[derive(Clone, Copy, Default)]
struct Going {
    mechanism: CK_MECHANISM_TYPE,
    bytes: CK_ULONG,
}

/// By session and whether it verifies.
static GOING: Mutex<BTreeMap<(CK_SESSION_HANDLE, bool), Going>> = Mutex::new(BTreeMap::new());

/// Mechanisms whose signature is r and s.
const ECDSA: std::ops::RangeInclusive<CK_MECHANISM_TYPE> = CKM_ECDSA..=CKM_ECDSA_SHA512;

/// Room for every signature that is put into another form.
const ROOM: usize = 64 * 1024;

/// `C_SignInit`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    let mut parameters = CK_RSA_PKCS_PSS_PARAMS::default();
    // SAFETY: null, or the caller's mechanism.
    let salted = unsafe { mechanism.as_ref() }.and_then(|mechanism| {
        let salt = control::current().salt?;
        let size = size_of::<CK_RSA_PKCS_PSS_PARAMS>() as CK_ULONG;
        if !pss(mechanism.mechanism) || mechanism.ulParameterLen != size {
            return None;
        }
        // SAFETY: the parameter of these mechanisms is this structure, and its length says so.
        let asked = unsafe { mechanism.pParameter.cast::<CK_RSA_PKCS_PSS_PARAMS>().read() };
        parameters = CK_RSA_PKCS_PSS_PARAMS {
            sLen: salt,
            ..asked
        };
        Some(CK_MECHANISM {
            pParameter: (&raw mut parameters).cast(),
            ..*mechanism
        })
    });
    let rv = match salted {
        Some(mut mechanism) => real!(C_SignInit(session, &raw mut mechanism, key))?,
        None => real!(C_SignInit(session, mechanism, key))?,
    };
    // SAFETY: as in `begun`.
    unsafe { begun(session, mechanism, false, rv) };
    Ok(rv)
}

/// `C_VerifyInit`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn verify_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    let rv = real!(C_VerifyInit(session, mechanism, key))?;
    // SAFETY: as in `begun`.
    unsafe { begun(session, mechanism, true, rv) };
    Ok(rv)
}

/// # Safety
/// `mechanism` is null or the caller's mechanism.
unsafe fn begun(
    session: CK_SESSION_HANDLE,
    mechanism: *const CK_MECHANISM,
    verify: bool,
    rv: CK_RV,
) {
    // SAFETY: the caller's contract.
    if let (CKR_OK, Some(mechanism)) = (rv, unsafe { mechanism.as_ref() }) {
        let mechanism = mechanism.mechanism;
        lock(&GOING).insert(
            (session, verify),
            Going {
                mechanism,
                bytes: 0,
            },
        );
    }
}

/// `C_Sign`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    n: CK_ULONG,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
) -> Answer {
    refused(session, false, n)?;
    let call = |out, len| real!(C_Sign(session, data, n, out, len));
    // SAFETY: as for the function.
    unsafe { shaped(session, out, len, call) }
}

/// `C_SignUpdate`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn sign_update(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    n: CK_ULONG,
) -> Answer {
    refused(session, false, n)?;
    real!(C_SignUpdate(session, data, n))
}

/// `C_SignFinal`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn sign_final(
    session: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
) -> Answer {
    let call = |out, len| real!(C_SignFinal(session, out, len));
    // SAFETY: as for the function.
    unsafe { shaped(session, out, len, call) }
}

/// `C_Verify`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn verify(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    n: CK_ULONG,
    signature: *mut CK_BYTE,
    size: CK_ULONG,
) -> Answer {
    refused(session, true, n)?;
    real!(C_Verify(session, data, n, signature, size))
}

/// `C_VerifyUpdate`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn verify_update(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    n: CK_ULONG,
) -> Answer {
    refused(session, true, n)?;
    real!(C_VerifyUpdate(session, data, n))
}

/// Refuses what is above the limit; the operation is over then, as it is after every failure.
fn refused(session: CK_SESSION_HANDLE, verify: bool, n: CK_ULONG) -> Result<(), CK_RV> {
    let Some(limit) = control::current().combined_limit else {
        return Ok(());
    };
    let mut going = lock(&GOING);
    let Some(operation) = going.get_mut(&(session, verify)) else {
        return Ok(());
    };
    operation.bytes = operation.bytes.saturating_add(n);
    if !combined(operation.mechanism) || operation.bytes <= limit {
        return Ok(());
    }
    going.remove(&(session, verify));
    drop(going);
    end(session, verify);
    Err(CKR_DATA_LEN_RANGE)
}

/// Ends the operation of the target in the way that all versions know: with a result that nobody sees.
fn end(session: CK_SESSION_HANDLE, verify: bool) {
    let (mut nothing, mut out, mut size) = ([0_u8], vec![0_u8; ROOM], ROOM as CK_ULONG);
    let _ = if verify {
        real!(C_Verify(
            session,
            nothing.as_mut_ptr(),
            0,
            out.as_mut_ptr(),
            1
        ))
    } else {
        real!(C_Sign(
            session,
            nothing.as_mut_ptr(),
            0,
            out.as_mut_ptr(),
            &raw mut size
        ))
    };
}

/// Runs `call` with room of its own, and hands on the signature in the form that is asked for.
///
/// # Safety
/// `out` is null or has room for `*len` bytes; `len` is valid.
unsafe fn shaped(
    session: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
    call: impl FnOnce(*mut CK_BYTE, *mut CK_ULONG) -> Answer,
) -> Answer {
    let mechanism = lock(&GOING)
        .get(&(session, false))
        .map(|going| going.mechanism);
    let (Some(form), Some(mechanism)) = (control::current().signature, mechanism) else {
        return call(out, len);
    };
    if out.is_null() || len.is_null() {
        return call(out, len);
    }
    let mut room = vec![0_u8; ROOM];
    let mut size = ROOM as CK_ULONG;
    let rv = call(room.as_mut_ptr(), &raw mut size)?;
    if rv != CKR_OK {
        return Ok(rv);
    }
    let signature = reshape(form, mechanism, &room[..size as usize]);
    // SAFETY: not null, and the caller's.
    if (unsafe { *len } as usize) < signature.len() {
        return Err(CKR_FUNCTION_FAILED);
    }
    // SAFETY: the caller has room for as many bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(signature.as_ptr(), out, signature.len());
        *len = signature.len() as CK_ULONG;
    }
    Ok(rv)
}

/// A signature in another form; those that have none are left as they are.
pub fn reshape(form: Form, mechanism: CK_MECHANISM_TYPE, signature: &[u8]) -> Vec<u8> {
    let halves = ECDSA
        .contains(&mechanism)
        .then(|| signature.split_at(signature.len() / 2));
    match (form, halves) {
        (Form::Der, Some((r, s))) => {
            let numbers = [integer(r), integer(s)].concat();
            [length(0x30, numbers.len()), numbers].concat()
        }
        (Form::Der, None) => signature.to_vec(),
        (Form::Trimmed, Some((r, s))) => [trimmed(r), trimmed(s)].concat(),
        (Form::Trimmed, None) => trimmed(signature).to_vec(),
        (Form::Signed, Some((r, s))) => [&[0], r, &[0], s].concat(),
        (Form::Signed, None) => [&[0], signature].concat(),
        (Form::Short, _) => signature[..signature.len().saturating_sub(1)].to_vec(),
    }
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The DER of a number that is not negative.
fn integer(number: &[u8]) -> Vec<u8> {
    let digits = trimmed(number);
    let sign: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) {
        &[0]
    } else {
        &[]
    };
    [
        length(2, sign.len() + digits.len()),
        sign.to_vec(),
        digits.to_vec(),
    ]
    .concat()
}

/// Tag and length in DER.
fn length(tag: u8, length: usize) -> Vec<u8> {
    if length < 128 {
        vec![tag, length as u8]
    } else {
        vec![tag, 0x81, length as u8]
    }
}

/// Whether the parameter of a mechanism has the salt of PSS.
fn pss(mechanism: CK_MECHANISM_TYPE) -> bool {
    [
        CKM_RSA_PKCS_PSS,
        CKM_SHA1_RSA_PKCS_PSS,
        CKM_SHA224_RSA_PKCS_PSS,
        CKM_SHA256_RSA_PKCS_PSS,
        CKM_SHA384_RSA_PKCS_PSS,
        CKM_SHA512_RSA_PKCS_PSS,
    ]
    .contains(&mechanism)
}

/// Whether a mechanism hashes what it signs.
fn combined(mechanism: CK_MECHANISM_TYPE) -> bool {
    let rsa = [
        CKM_SHA1_RSA_PKCS,
        CKM_SHA224_RSA_PKCS,
        CKM_SHA256_RSA_PKCS,
        CKM_SHA384_RSA_PKCS,
        CKM_SHA512_RSA_PKCS,
    ];
    rsa.contains(&mechanism)
        || (pss(mechanism) && mechanism != CKM_RSA_PKCS_PSS)
        || (ECDSA.contains(&mechanism) && mechanism != CKM_ECDSA)
}
