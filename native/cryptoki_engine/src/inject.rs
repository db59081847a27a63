//! Panics on command, for test/safety/panic_test.exs: no other build has more of this than an empty function.
//!
//! The file that `CRYPTOKI_INJECT_PANIC` names has one place a line. Whoever comes to that place takes the
//! line out and panics, with a payload that panics again when it is dropped.

#[cfg(all(feature = "inject-panics", not(debug_assertions)))]
compile_error!("inject-panics is for tests: a release build cannot have it");

/// Nothing.
#[cfg(not(feature = "inject-panics"))]
#[inline(always)]
pub fn place(_name: &str) {}

/// Panics if it is this place's turn.
#[cfg(feature = "inject-panics")]
pub fn place(name: &str) {
    use std::sync::{Mutex, PoisonError};

    static FILE: Mutex<()> = Mutex::new(());

    struct Payload;

    impl Drop for Payload {
        fn drop(&mut self) {
            std::panic::panic_any("the payload of a panic was dropped");
        }
    }

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
