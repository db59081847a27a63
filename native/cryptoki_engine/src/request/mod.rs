//! A request on its way from a caller to a thread, and its answer on the way back.

// Where the model checker of the tests has its own.
mod atomic {
    pub use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
}
mod channel {
    pub use crossbeam_channel::{Receiver, Sender, unbounded};
}
mod sync {
    pub use std::sync::{Arc, Mutex, MutexGuard};
}

pub mod hand;
pub mod handshake;
pub mod lease;
pub mod pace;
pub mod queue;
#[allow(clippy::module_inception)]
pub mod request;
