//! A safe layer over the C functions of PKCS #11: pointers go in here and only values come out.
//!
//! [`loader`] takes the function list of a library; [`functions::Functions`] has one method for each
//! function of the standard (in [`sessions`], [`crypto`], [`signatures`], [`dual`], [`messages`], [`objects`], [`keys`] and
//! [`attributes`]), each behind the [`gate`]. [`layout`] puts [`values`] into memory as C wants them; [`sizes`] says what answers fit in. What comes back is not
//! trusted: lengths are checked, counts bounded, allocations may fail.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("cryptoki is for systems of 64 bits");

mod sync {
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    pub use std::sync::{Condvar, Mutex, MutexGuard};
    pub use std::thread::{ThreadId, current};
}

pub mod attributes;
pub mod channel;
pub mod crypto;
pub mod door;
pub mod dual;
pub mod environment;
pub mod exit;
pub mod failure;
pub mod functions;
pub mod gate;
pub mod keys;
pub mod layout;
pub mod loader;
pub mod memory;
pub mod messages;
pub mod names;
pub mod objects;
pub mod otp;
pub mod output;
pub mod panics;
pub mod process;
pub mod processors;
pub mod sessions;
pub mod shared;
pub mod signatures;
pub mod sizes;
mod symbols;
pub mod values;
pub mod whereabouts;
mod whole;
pub mod wire;
