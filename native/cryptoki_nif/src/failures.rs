//! Failures as terms.

use crate::inject;
use cryptoki_engine::request::request::panic_failure;
use cryptoki_ffi::failure::{Class, Failure, Reason};
use cryptoki_ffi::names::NAMES;
use rustler::{Atom, Encoder, Env, Term};

mod atoms {
    rustler::atoms! {
        error, rv, own,
        session, session_closed, login, absent, operation_active, pin, device, not_initialized, other,
        shutdown, token_absent, locked, busy, panic, session_lost, stale_handle,
        operation_not_initialized, data_len_range, encrypted_data_len_range, signature_len_range,
        library_not_loaded, module_misbehaved, invalid_argument, library_crashed, crashed_in_login,
        no_process,
    }
}

/// Makes the atoms of the functions: one that fails for the first time after months makes none.
pub fn prepare_atoms(env: Env) {
    for name in NAMES {
        // Too long is the only error there is.
        let _ = Atom::from_str(env, name);
    }
}

/// `{:error, failure}`
pub fn error<'a>(env: Env<'a>, failure: &Failure) -> Term<'a> {
    (atoms::error(), self::failure(env, failure)).encode(env)
}

/// What a caller is told of a panic.
pub fn panicked(env: Env<'_>) -> Term<'_> {
    inject::in_nif("answer");
    error(env, &panic_failure())
}

/// `{:rv, code, function, class}` or `{:own, reason, detail}`.
pub fn failure<'a>(env: Env<'a>, failure: &Failure) -> Term<'a> {
    match failure {
        Failure::Rv { code, function } => {
            let function = Atom::from_str(env, function).unwrap_or_else(|_| atoms::other());
            (atoms::rv(), *code, function, class(failure.class())).encode(env)
        }
        Failure::Own {
            reason: name,
            detail,
        } => (atoms::own(), reason(*name), detail).encode(env),
    }
}

fn class(class: Class) -> Atom {
    match class {
        Class::Session => atoms::session(),
        Class::SessionClosed => atoms::session_closed(),
        Class::Login => atoms::login(),
        Class::Absent => atoms::absent(),
        Class::OperationActive => atoms::operation_active(),
        Class::Pin => atoms::pin(),
        Class::Device => atoms::device(),
        Class::NotInitialized => atoms::not_initialized(),
        Class::Other => atoms::other(),
    }
}

fn reason(reason: Reason) -> Atom {
    match reason {
        Reason::Shutdown => atoms::shutdown(),
        Reason::TokenAbsent => atoms::token_absent(),
        Reason::Locked => atoms::locked(),
        Reason::Busy => atoms::busy(),
        Reason::Panic => atoms::panic(),
        Reason::SessionLost => atoms::session_lost(),
        Reason::StaleHandle => atoms::stale_handle(),
        Reason::OperationNotInitialized => atoms::operation_not_initialized(),
        Reason::DataLenRange => atoms::data_len_range(),
        Reason::EncryptedDataLenRange => atoms::encrypted_data_len_range(),
        Reason::SignatureLenRange => atoms::signature_len_range(),
        Reason::LibraryNotLoaded => atoms::library_not_loaded(),
        Reason::ModuleMisbehaved => atoms::module_misbehaved(),
        Reason::InvalidArgument => atoms::invalid_argument(),
        Reason::LibraryCrashed => atoms::library_crashed(),
        Reason::CrashedInLogin => atoms::crashed_in_login(),
        Reason::NoProcess => atoms::no_process(),
    }
}
