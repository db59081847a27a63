//! What a process of its own shows: how it ends while a thread is in a library, and what a panic prints.
#![allow(clippy::unwrap_used)]

use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::panics::{guarded, quiet_panics};
use cryptoki_sys::*;
use std::process::{Command, Output, exit};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

const TASK: &str = "CRYPTOKI_TEST_TASK";
const STATUS: i32 = 7;
/// What the destructor of the library writes.
const DESTROYED: &str = "destroyed";

static INSIDE: Mutex<Option<Sender<()>>> = Mutex::new(None);

extern "C" fn destroyed() {
    eprintln!("{DESTROYED}");
}

/// Registers a destructor, as libraries do when they first need something.
unsafe extern "C" fn close_session(_session: CK_ULONG) -> CK_RV {
    // SAFETY: a function of the program.
    unsafe { libc::atexit(destroyed) };
    CKR_OK
}

unsafe extern "C" fn find_objects_final(_session: CK_ULONG) -> CK_RV {
    CKR_OK
}

/// Does not return.
unsafe extern "C" fn logout(_session: CK_ULONG) -> CK_RV {
    INSIDE.lock().unwrap().take().unwrap().send(()).unwrap();
    loop {
        std::thread::park();
    }
}

fn opened() -> Arc<Functions> {
    // SAFETY: functions that are not there.
    let mut list: CK_FUNCTION_LIST_3_2 = unsafe { std::mem::zeroed() };
    list.C_CloseSession = Some(close_session);
    list.C_FindObjectsFinal = Some(find_objects_final);
    list.C_Logout = Some(logout);
    // SAFETY: the functions keep to their declarations.
    let functions = unsafe { Functions::new(list, (2, 40), Vec::new()) };
    functions.gate.open();
    Arc::new(functions)
}

/// A destructor is registered in the call with this number.
fn end(call: usize, hanging: bool) {
    let functions = opened();
    for _ in 1..call {
        functions.find_final(1).unwrap();
    }
    functions.close_session(1).unwrap();
    if hanging {
        let (inside, is_inside) = channel();
        *INSIDE.lock().unwrap() = Some(inside);
        std::thread::spawn(move || functions.logout(1));
        is_inside.recv().unwrap();
    }
    exit(STATUS);
}

/// What the process does that [`process`] starts.
#[test]
fn task() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    match task.split_once(' ') {
        Some(("hanging", call)) => end(call.parse().unwrap(), true),
        Some(("idle", call)) => end(call.parse().unwrap(), false),
        _ => {
            quiet_panics();
            assert_eq!(guarded(|| -> u8 { panic!("the PIN is 1234") }), None);
        }
    }
}

fn process(task: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "task", "--nocapture"])
        .env(TASK, task)
        .output()
        .unwrap()
}

fn ends(task: &str) -> (Option<i32>, bool) {
    let output = process(task);
    let said = String::from_utf8_lossy(&output.stderr).contains(DESTROYED);
    (output.status.code(), said)
}

#[test]
fn no_destructor_runs_under_a_thread_that_is_in_the_library() {
    // Registered in one of the first calls, and much later.
    for call in [1, 3, 64, 128] {
        assert_eq!(ends(&format!("hanging {call}")), (Some(STATUS), false));
    }
}

#[test]
fn where_nobody_is_in_the_library_the_process_ends_as_it_does() {
    assert_eq!(ends("idle 3"), (Some(STATUS), true));
}

#[test]
fn a_panic_prints_where_it_was_and_nothing_of_its_message() {
    let said = String::from_utf8(process("panic").stderr).unwrap();
    let place = "cryptoki: native code panicked at native/cryptoki_ffi/tests/process.rs:";
    assert!(said.contains(place), "{said}");
    assert!(!said.contains("1234"), "{said}");
}
