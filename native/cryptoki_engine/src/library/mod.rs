//! A loaded library: who has its sessions, what its numbers mean, what it says of its slots and tokens, its control
//! thread.

// Where the model checker of the tests has its own.
mod sync {
    pub use std::sync::{Condvar, Mutex, MutexGuard};
}

pub mod claims;
pub mod info;
pub mod initialization;
pub mod lanes;
#[allow(clippy::module_inception)]
pub mod library;
pub mod numbers;
pub mod quirks;
pub mod session_handle;
pub mod token_in_slot;
