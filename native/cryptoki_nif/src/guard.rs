//! The body of every NIF: whatever panics, in it or while its result is encoded, stays here.

use crate::encoded::Encoded;
use crate::failures::panicked;
use crate::inject;
use cryptoki_ffi::panics::guarded;
use rustler::{Env, Term};

/// Runs a NIF's body. `None`: the arguments are not what the Elixir side promises.
pub fn guard<'a>(env: Env<'a>, body: impl FnOnce() -> Option<Term<'a>>) -> Encoded {
    match guarded(|| inject::nif(env, body)).unwrap_or_else(|| guarded(|| panicked(env))) {
        Some(term) => Encoded::term(term),
        None => Encoded::badarg(env),
    }
}
