//! The native part of cryptoki: PKCS #11 for Elixir and Erlang.
//!
//! NIFs ([`nifs`]) run on normal schedulers and return at once; every call into a PKCS #11 library
//! happens on a thread of ours: one per session ([`session`]) and one per library ([`control`]).
//! Requests ([`request`]) travel through an instance's queue ([`instance`]) and come back as messages.
//! The C functions themselves are in the crate `cryptoki_ffi`, which knows nothing of the VM.

#![deny(unsafe_code)]

mod active;
mod control;
mod decode;
#[allow(unsafe_code)] // Implements a trait of rustler that is marked so.
mod encoded;
mod guard;
#[allow(unsafe_code)] // Calls a function of the VM that may not exist.
mod halt;
mod info;
mod channel {
    pub use crossbeam_channel::{Receiver, Sender, unbounded};
}
mod sync {
    pub use std::sync::{Arc, Mutex, MutexGuard};
}
#[cfg(feature = "inject-panics")]
mod inject;
#[cfg(not(feature = "inject-panics"))]
#[path = "inject_nothing.rs"]
mod inject;
mod instance;
mod lease;
mod library;
#[allow(unsafe_code)] // The macro's entry points; what they run is behind `guard`.
mod nifs;
mod operation;
mod place;
mod quirks;
mod request;
mod resources;
mod session;
mod status;
mod tally;
mod trouble;
mod unheard;

use rustler::{Env, Term};

/// Refuses an Elixir side of another version.
fn load(env: Env, load_info: Term) -> bool {
    cryptoki_ffi::panics::quiet_panics();
    let same = load_info
        .decode::<&str>()
        .is_ok_and(|version| version == env!("CARGO_PKG_VERSION"));
    if same {
        info::prepare_atoms(env);
        halt::hook(env);
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
