//! The last line of defence for every way a VM can exit while threads are inside a library.
//!
//! `exit()` runs the destructors of a library while our threads are in it, the newest first. The hook is
//! registered after `C_Initialize`, and again as calls come back: so it runs before whatever the library
//! has registered until then.

use crate::gate;
use std::time::Duration;

/// How long the exit waits for calls in flight.
pub const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod register {
    use super::{PATIENCE, gate};
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }

    extern "C" fn at_exit(status: c_int, _argument: *mut c_void) {
        if !gate::close_all_for_exit(PATIENCE) {
            // SAFETY: ends the process with the status it was given; nothing else is left to do.
            unsafe { libc::_exit(status) }
        }
    }

    pub fn hook() {
        // SAFETY: the function lives as long as the process: this library is never unmapped.
        unsafe { on_exit(at_exit, std::ptr::null_mut()) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use elsewhere as register;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod elsewhere {
    use super::{PATIENCE, gate};

    extern "C" fn at_exit() {
        if !gate::close_all_for_exit(PATIENCE) {
            // atexit does not tell the status: a thread that hangs in a library is a failure.
            // SAFETY: ends the process; nothing else is left to do.
            unsafe { libc::_exit(1) }
        }
    }

    pub fn hook() {
        // SAFETY: the function lives as long as the process: this library is never unmapped.
        unsafe { libc::atexit(at_exit) };
    }
}

/// Registers the hook; again after a library may have registered destructors of its own.
pub fn hook() {
    register::hook();
}
