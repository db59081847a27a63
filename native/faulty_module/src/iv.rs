//! Tokens that choose the IV of an encryption themselves.

use crate::target::{Answer, real};
use crate::{control, lock};
use cryptoki_sys::*;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The IV that a token puts behind a ciphertext has as many bytes.
const BEHIND: usize = 16;

/// Who chooses the IV of an encryption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Iv {
    /// The token, which writes it over the caller's, in C_EncryptInit or when the ciphertext is ready.
    Written {
        /// Only with the ciphertext.
        late: bool,
    },
    /// The token, which takes none and puts its own behind the ciphertext.
    Behind,
}

impl Iv {
    /// Reads the words behind `iv`.
    pub fn parse(words: &[&str]) -> Result<Iv, String> {
        match words {
            ["written"] => Ok(Iv::Written { late: false }),
            ["written", "late"] => Ok(Iv::Written { late: true }),
            ["behind"] => Ok(Iv::Behind),
            _ => Err(words.join(" ")),
        }
    }
}

/// An IV that is still to be told.
enum Pending {
    /// Written to this address, which the caller keeps valid until the operation is over.
    Written(usize, Vec<u8>),
    /// Put behind the ciphertext.
    Behind([u8; BEHIND]),
}

static PENDING: Mutex<BTreeMap<CK_SESSION_HANDLE, Pending>> = Mutex::new(BTreeMap::new());

/// Bytes that are never the same twice, and never zero.
fn chosen(iv: &mut [u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    iv.fill(0xC5);
    for (byte, of_number) in iv.iter_mut().rev().zip(number.iter().rev()) {
        *byte = *of_number;
    }
}

/// The IV in a mechanism's parameter, where there is one.
///
/// # Safety
/// `mechanism` is the caller's, with a parameter as the standard wants it.
unsafe fn of_caller<'a>(mechanism: &CK_MECHANISM) -> Option<&'a mut [u8]> {
    let parameter = mechanism.pParameter;
    if parameter.is_null() {
        return None;
    }
    // SAFETY: the parameter of each mechanism is its structure, or the IV itself.
    let (iv, length) = unsafe {
        match mechanism.mechanism {
            CKM_AES_GCM => {
                let gcm = &*parameter.cast::<CK_GCM_PARAMS>();
                (gcm.pIv, gcm.ulIvLen)
            }
            CKM_AES_CCM => {
                let ccm = &*parameter.cast::<CK_CCM_PARAMS>();
                (ccm.pNonce, ccm.ulNonceLen)
            }
            CKM_CHACHA20_POLY1305 => {
                let poly = &*parameter.cast::<CK_SALSA20_CHACHA20_POLY1305_PARAMS>();
                (poly.pNonce, poly.ulNonceLen)
            }
            CKM_AES_CBC | CKM_AES_CBC_PAD => (parameter.cast(), mechanism.ulParameterLen),
            _ => return None,
        }
    };
    // SAFETY: not null, and of the length that stands beside it.
    (!iv.is_null()).then(|| unsafe { std::slice::from_raw_parts_mut(iv, length as usize) })
}

/// Calls the target with the IV that the token has chosen in place of the caller's, which is put back
/// before this returns, and what becomes of the chosen one.
///
/// # Safety
/// As for the function behind `call`.
unsafe fn with_own(
    mechanism: *mut CK_MECHANISM,
    call: impl FnOnce(*mut CK_MECHANISM) -> Answer,
) -> (Answer, Option<Pending>) {
    // SAFETY: null, or the caller's.
    let given = unsafe { mechanism.as_ref() };
    let (Some(form), Some(given)) = (control::current().iv, given) else {
        return (call(mechanism), None);
    };
    // SAFETY: the caller's mechanism.
    let iv = unsafe { of_caller(given) };
    match (form, iv) {
        (Iv::Written { .. }, Some(iv)) => {
            let before = iv.to_vec();
            chosen(iv);
            let answer = call(mechanism);
            let own = iv.to_vec();
            iv.copy_from_slice(&before);
            (
                answer,
                Some(Pending::Written(iv.as_mut_ptr().expose_provenance(), own)),
            )
        }
        (Iv::Behind, Some(_)) if given.mechanism == CKM_AES_GCM => {
            (Err(CKR_MECHANISM_PARAM_INVALID), None)
        }
        (Iv::Behind, None) if given.mechanism == CKM_AES_GCM && !given.pParameter.is_null() => {
            let mut own = [0; BEHIND];
            chosen(&mut own);
            // SAFETY: the mechanism has this parameter.
            let mut parameter = unsafe { *given.pParameter.cast::<CK_GCM_PARAMS>() };
            parameter.pIv = own.as_mut_ptr();
            parameter.ulIvLen = BEHIND as CK_ULONG;
            parameter.ulIvBits = 8 * BEHIND as CK_ULONG;
            let mut mechanism = *given;
            mechanism.pParameter = (&raw mut parameter).cast();
            (call(&raw mut mechanism), Some(Pending::Behind(own)))
        }
        _ => (call(mechanism), None),
    }
}

/// Writes an IV to where the caller will look for it.
fn write(address: usize, iv: &[u8]) {
    // SAFETY: the caller's buffer of this length, valid until its operation is over.
    unsafe {
        std::ptr::copy_nonoverlapping(
            iv.as_ptr(),
            std::ptr::with_exposed_provenance_mut(address),
            iv.len(),
        );
    }
}

/// `C_EncryptInit`.
///
/// # Safety
/// As for the function, and the parameter stays until the encryption is over.
pub(crate) unsafe fn encrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    let init = |mechanism| real!(C_EncryptInit(session, mechanism, key));
    // SAFETY: as the caller vouches for.
    let (answer, own) = unsafe { with_own(mechanism, init) };
    lock(&PENDING).remove(&session);
    match own {
        Some(own) if answer == Ok(CKR_OK) => match own {
            Pending::Written(address, iv)
                if control::current().iv == Some(Iv::Written { late: false }) =>
            {
                write(address, &iv);
            }
            later => {
                lock(&PENDING).insert(session, later);
            }
        },
        _ => {}
    }
    answer
}

/// `C_Encrypt`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn encrypt(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    n: CK_ULONG,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
) -> Answer {
    told(session, out, len, |out, len| {
        real!(C_Encrypt(session, data, n, out, len))
    })
}

/// `C_EncryptFinal`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn encrypt_final(
    session: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
) -> Answer {
    told(session, out, len, |out, len| {
        real!(C_EncryptFinal(session, out, len))
    })
}

/// The last call of an encryption, which tells the IV.
fn told(
    session: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
    call: impl FnOnce(*mut CK_BYTE, *mut CK_ULONG) -> Answer,
) -> Answer {
    let pending = lock(&PENDING).remove(&session);
    let (Some(own), false) = (pending, len.is_null()) else {
        return call(out, len);
    };
    // SAFETY: not null; the caller's length.
    let len = unsafe { &mut *len };
    let room = *len;
    if let Pending::Behind(_) = own
        && !out.is_null()
    {
        // The target must not fill the place of the IV.
        *len = room.saturating_sub(BEHIND as CK_ULONG);
    }
    let answer = call(out, len);
    let over = answer == Ok(CKR_OK) && !out.is_null();
    match own {
        Pending::Written(address, ref iv) if over => write(address, iv),
        Pending::Behind(iv) if over => {
            // SAFETY: the target was told that the buffer is so much shorter.
            unsafe {
                std::ptr::copy_nonoverlapping(iv.as_ptr(), out.add(*len as usize), BEHIND);
            }
            *len += BEHIND as CK_ULONG;
        }
        Pending::Behind(_) => *len += BEHIND as CK_ULONG,
        Pending::Written(..) => {}
    }
    if matches!(answer, Ok(CKR_OK | CKR_BUFFER_TOO_SMALL)) && !over {
        lock(&PENDING).insert(session, own);
    }
    answer
}

/// `C_WrapKey`: the IV is written over the caller's.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn wrap_key(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    out: *mut CK_BYTE,
    len: *mut CK_ULONG,
) -> Answer {
    let wrap = |mechanism| real!(C_WrapKey(session, mechanism, wrapping, key, out, len));
    // SAFETY: as the caller vouches for.
    let (answer, own) = unsafe { with_own(mechanism, wrap) };
    if let (Some(Pending::Written(address, iv)), Ok(CKR_OK), false) = (own, answer, out.is_null()) {
        write(address, &iv);
    }
    answer
}
