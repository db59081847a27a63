//! The last line of defence for every way a VM can exit while threads are inside a library.
//!
//! `exit()` runs the destructors of a library while our threads are in it, the newest first. The hook is
//! registered after `C_Initialize`, and again as calls come back: so it runs before whatever the library
//! has registered until then.

use crate::door::{Door, Entry};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// In front of all libraries; shut once the VM is on its way out, for good.
static PROCESS: LazyLock<Door> = LazyLock::new(|| Door::new(false));

/// How long the exit waits for calls in flight.
pub const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod register {
    use super::{PATIENCE, close_all_for_exit};
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }

    extern "C" fn at_exit(status: c_int, _argument: *mut c_void) {
        if !close_all_for_exit(PATIENCE) {
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
    use super::{PATIENCE, close_all_for_exit};

    extern "C" fn at_exit() {
        if !close_all_for_exit(PATIENCE) {
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

/// The right to run a library's code past its gate: while it is loaded, and while it is finalised.
/// The exit of the VM waits for it as for a call.
pub struct Outside(());

/// Goes in past the gates; waits for ever once the VM is on its way out.
pub fn outside() -> Outside {
    if PROCESS.enter() != Entry::Inside {
        // The VM is taking itself apart: a thread that came back would touch what is gone.
        loop {
            std::thread::park();
        }
    }
    Outside(())
}

impl Drop for Outside {
    fn drop(&mut self) {
        PROCESS.leave();
    }
}

/// Closes every gate for good; false when calls were still in flight after `limit`.
pub fn close_all_for_exit(limit: Duration) -> bool {
    PROCESS.shut();
    wait_until_empty(&PROCESS, limit)
}

/// Waits until nobody is behind a door; false when the time is over.
pub(crate) fn wait_until_empty(door: &Door, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while !door.is_empty() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}
