//! The native part of cryptoki: PKCS #11 for Elixir and Erlang.
//!
//! NIFs ([`library_nifs`], [`nifs`]) run on normal schedulers and return at once: they read [`terms`], hand requests to the engine, and its
//! answers come back as messages ([`delivery`]). All else is in the crate `cryptoki_engine`, which knows nothing of the VM.

#![deny(unsafe_code)]

mod asking;
mod delivery;
mod encode;
#[allow(unsafe_code)] // Implements a trait of rustler that is marked so.
mod encoded;
mod failures;
mod guard;
#[allow(unsafe_code)] // Calls a function of the VM that may not exist.
mod halt;
mod inject;
#[allow(unsafe_code)] // The macro's entry points; what they run is behind `guard`.
mod library_nifs;
#[allow(unsafe_code)] // The same.
mod nifs;
mod owner;
#[allow(unsafe_code)] // Reads memory of the VM for as long as it keeps it.
mod pinned;
mod resources;
mod terms;

use rustler::{Env, Term};

/// Refuses an Elixir side of another version.
fn load(env: Env, load_info: Term) -> bool {
    cryptoki_ffi::panics::quiet_panics();
    let same = load_info
        .decode::<&str>()
        .is_ok_and(|version| version == env!("CARGO_PKG_VERSION"));
    if same {
        encode::prepare_atoms();
        failures::prepare_atoms(env);
        terms::prepare_words(env);
        halt::hook(env);
        cryptoki_ffi::memory::reuse_large_blocks();
        // What it looks at is read now, not by the first call that looks.
        cryptoki_engine::request::pace::is_possible();
    }
    same
}

mod entry {
    #![allow(unsafe_code)]

    /// What the build reads of a library that it does not load: whose, and of which version.
    #[used]
    #[unsafe(no_mangle)]
    static CRYPTOKI_NIF_VERSION: &str =
        concat!("cryptoki_nif:version=", env!("CARGO_PKG_VERSION"), "\0");

    rustler::init!("Elixir.Cryptoki.Native", load = super::load);
}
