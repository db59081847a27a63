//! The journal: a line for each call, so that a test can count how often a function really ran.
//!
//! `counter thread function event rv`; never an argument, so never a PIN or data.

use crate::{config, lock};
use cryptoki_sys::CK_RV;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

static FILE: OnceLock<Option<Mutex<(File, u64)>>> = OnceLock::new();
static THREADS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Adds a line: what became of a call of `function`, and the value it returned, if it has returned.
pub fn note(function: &str, event: &str, rv: Option<CK_RV>) {
    let Some(file) = FILE.get_or_init(open) else {
        return;
    };
    let thread = THREAD.try_with(|thread| *thread).unwrap_or(0);
    let rv = rv.map_or_else(|| "-".to_owned(), |rv| format!("{rv:#x}"));
    let mut file = lock(file);
    file.1 += 1;
    let line = format!("{} {thread} {function} {event} {rv}\n", file.1);
    // One write a line: a reader sees whole lines. A full disk is no reason to change what the call answers.
    let _ = file.0.write_all(line.as_bytes());
}

fn open() -> Option<Mutex<(File, u64)>> {
    let path = config::config().journal.as_ref()?;
    match File::options().append(true).create(true).open(path) {
        Ok(file) => Some(Mutex::new((file, 0))),
        Err(error) => {
            eprintln!("faulty_module: no journal at {}: {error}", path.display());
            None
        }
    }
}
