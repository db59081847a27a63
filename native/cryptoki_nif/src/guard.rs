//! The body of every NIF: whatever panics, in it or while its result is encoded, stays here.

use crate::encoded::Encoded;
use crate::request::encode;
use cryptoki_ffi::failure::{Failure, Reason};
use cryptoki_ffi::panics::guarded;
use rustler::{Env, Term};

/// Runs a NIF's body. `None`: the arguments are not what the Elixir side promises.
pub fn guard<'a>(env: Env<'a>, body: impl FnOnce() -> Option<Term<'a>>) -> Encoded {
    let panicked = || {
        let failure = Failure::own(Reason::Panic, "the native code panicked");
        encode(env, Err(failure))
    };
    match guarded(body).unwrap_or_else(|| guarded(panicked)) {
        Some(term) => Encoded::term(term),
        None => Encoded::badarg(env),
    }
}
