//! The process beside the one with the library: it tells how that has ended, and ends it when it is told to, or when nobody
//! is there any more who could; what is left of its group ends with it.

use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::process;
use std::sync::{Arc, Mutex, PoisonError};

/// Does so until that has ended.
pub fn serve(connection: Channel, child: u32) -> ! {
    let connection = Arc::new(connection);
    // Its number may be somebody else's then.
    let reaped = Arc::new(Mutex::new(false));
    let (heard, ended) = (connection.clone(), reaped.clone());
    let listening = std::thread::Builder::new().spawn(move || {
        // A word or the end are the same.
        let _ = heard.receive(&mut [0]);
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            process::kill(child);
        }
    });
    if listening.is_err() {
        process::kill(child);
    }
    process::wait_for(child);
    let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
    *reaped = true;
    let how = process::reap(child);
    let _ = connection.send(&how.bytes(), None);
    // What the library has started, and what has not left our group, is not to hold a reader, or an output of the VM.
    process::kill_own_group();
    process::leave(0)
}
