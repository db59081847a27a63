//! Panics on command, for test/safety/panic_test.exs: no other build has this module.
//!
//! The file that `CRYPTOKI_INJECT_PANIC` names has one place a line. Whoever comes to that place takes the
//! line out and panics, with a payload that panics again when it is dropped. Places in a NIF are called
//! `NIF PLACE`, such as `submit decoding`; those on threads of ours have names of their own.

use crate::request::panicked;
use rustler::{Encoder, Env, Term};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

#[cfg(not(debug_assertions))]
compile_error!("inject-panics is for tests: a release build cannot have it");

static FILE: Mutex<()> = Mutex::new(());

thread_local! {
    static NIF: Cell<&'static str> = const { Cell::new("") };
}

struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        std::panic::panic_any("the payload of a panic was dropped");
    }
}

/// Panics if it is this place's turn.
pub fn place(name: &str) {
    let Some(file) = std::env::var_os("CRYPTOKI_INJECT_PANIC") else {
        return;
    };
    let turn = {
        let _alone = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let (now, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| *line == name);
        !now.is_empty() && std::fs::write(&file, rest.join("\n")).is_ok()
    };
    if turn {
        std::panic::panic_any(Payload);
    }
}

/// The same in the NIF that runs on this thread.
pub fn in_nif(what: &str) {
    place(&format!("{} {what}", NIF.get()));
}

/// The same for what belongs to a type.
pub fn of_type<T>(what: &str) {
    let name = std::any::type_name::<T>();
    place(&format!(
        "{} {what}",
        name.rsplit("::").next().unwrap_or(name)
    ));
}

struct Way<'a> {
    prefix: &'a str,
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            place(&format!("{} drop", self.prefix));
        }
    }
}

impl Encoder for Way<'_> {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        place(&format!("{} encoding", self.prefix));
        panicked(env)
    }
}

/// A body of a NIF, with a value whose encoder and whose destructor may panic on the way out.
pub fn nif<'a, F: FnOnce() -> Option<Term<'a>>>(env: Env<'a>, body: F) -> Option<Term<'a>> {
    // The type of the closure is called crate::nifs::NIF::{{closure}}.
    let name = std::any::type_name::<F>()
        .split("::")
        .filter(|part| !part.starts_with('{'))
        .last();
    NIF.set(name.unwrap_or_default());
    in_nif("body");
    job(NIF.get(), env, body)
}

/// The work of a thread, likewise.
pub fn job<'a, T>(prefix: &str, env: Env<'a>, work: impl FnOnce() -> T) -> T {
    let way = Way { prefix };
    let answer = work();
    way.encode(env);
    answer
}
