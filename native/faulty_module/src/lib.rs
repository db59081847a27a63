//! A PKCS #11 library for tests. It forwards every call to a real library and misbehaves on command:
//! answers with any CK_RV, delays, hangs, loses tokens and sessions, lies about lengths, crashes.
//! `README.md` has the command language.
//!
//! How a call goes: the wrapper from the table in [`functions`] calls [`call::run`], which looks at the rules that
//! are in force ([`control`], [`rules`]), at what has become of the session ([`token`]), and else forwards to the
//! real library ([`target`]). [`journal`] notes what came of it.

pub mod attribute;
pub mod call;
pub mod config;
pub mod control;
pub mod environment;
pub mod functions;
pub mod handles;
pub mod iv;
pub mod journal;
pub mod rules;
pub mod signature;
pub mod subject;
pub mod target;
pub mod text;
pub mod token;
pub mod two_layers;
pub mod values;

use config::Fault;
use cryptoki_sys::*;
use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that a panic elsewhere does not take away.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands out the 2.40 list of wrapped functions.
///
/// # Safety
/// `list` is null or points to a writable pointer.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let answer = match config::config().load.list {
        Fault::Fail => return CKR_FUNCTION_FAILED,
        Fault::Crash(crash) => return call::crashed(crash),
        Fault::Null => std::ptr::null_mut(),
        Fault::None => match target::target() {
            Some(target) => target.list(),
            None => return CKR_GENERAL_ERROR,
        },
    };
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { *list = answer };
    CKR_OK
}

/// Lists the target's interfaces, with wrapped functions; a target without interfaces has one, of its 2.40 list.
///
/// # Safety
/// As PKCS #11 says: `count` is valid, `interfaces` is null or has room for `*count`.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn C_GetInterfaceList(
    interfaces: *mut CK_INTERFACE,
    count: *mut CK_ULONG,
) -> CK_RV {
    if count.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    match config::config().load.interface_list {
        Fault::None => {}
        Fault::Fail | Fault::Null => return CKR_FUNCTION_FAILED,
        Fault::Crash(crash) => return call::crashed(crash),
    }
    let Some(target) = target::target() else {
        return CKR_GENERAL_ERROR;
    };
    let all = target.interfaces();
    // SAFETY: `count` is not null; the caller vouches for its target.
    let room = unsafe { count.replace(all.len() as CK_ULONG) } as usize;
    if interfaces.is_null() {
        return CKR_OK;
    }
    if room < all.len() {
        return CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller has room for `room` interfaces, and `all` is not longer.
    unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), interfaces, all.len()) };
    CKR_OK
}

/// Finds an interface by name, version and flags, as PKCS #11 3.0 says.
///
/// # Safety
/// `name` is null or ends in a zero byte, `version` is null or valid, `interface` is null or writable.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn C_GetInterface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    interface: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> CK_RV {
    if interface.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: the caller vouches for a valid version, if any.
    let version = unsafe { version.as_ref() };
    // SAFETY: not null, and the caller vouches for a string that ends.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name.cast()) });
    let answer = match config::config().load.interface {
        Fault::Fail => return CKR_FUNCTION_FAILED,
        Fault::Crash(crash) => return call::crashed(crash),
        Fault::Null => std::ptr::null_mut(),
        Fault::None => {
            match target::target().map(|target| target.interface(name, version, flags)) {
                Some(Some(found)) => found,
                Some(None) => return CKR_FUNCTION_FAILED,
                None => return CKR_GENERAL_ERROR,
            }
        }
    };
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { *interface = answer };
    CKR_OK
}
