//! Panics on command, for test/safety/panic_test.exs: in no other build is there anything behind these functions.
//!
//! Places in a NIF are called `NIF PLACE`, such as `submit decoding`; see `cryptoki_engine/src/inject.rs`.

#[cfg(not(feature = "inject-panics"))]
mod nothing {
    use rustler::{Env, Term};

    #[inline(always)]
    pub fn in_nif(_what: &str) {}

    #[inline(always)]
    pub fn of_type<T>(_what: &str) {}

    #[inline(always)]
    pub fn nif<'a>(_env: Env<'a>, body: impl FnOnce() -> Option<Term<'a>>) -> Option<Term<'a>> {
        body()
    }

    #[inline(always)]
    pub fn job<T>(_prefix: &str, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[cfg(feature = "inject-panics")]
mod panics {
    use cryptoki_engine::inject::place;
    use rustler::{Env, Term};
    use std::cell::Cell;

    thread_local! {
        static NIF: Cell<&'static str> = const { Cell::new("") };
    }

    /// Panics if it is the turn of this place in the NIF that runs on this thread.
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

    struct Way<'a>(&'a str);

    impl Drop for Way<'_> {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                place(&format!("{} drop", self.0));
            }
        }
    }

    /// A body of a NIF, with a value whose encoder and whose destructor may panic on the way out.
    pub fn nif<'a, F: FnOnce() -> Option<Term<'a>>>(_env: Env<'a>, body: F) -> Option<Term<'a>> {
        // The type of the closure is called crate::nifs::NIF::{{closure}}.
        let name = std::any::type_name::<F>()
            .split("::")
            .filter(|part| !part.starts_with('{'))
            .last();
        NIF.set(name.unwrap_or_default());
        in_nif("body");
        job(NIF.get(), body)
    }

    /// The encoding of an answer, likewise.
    pub fn job<T>(prefix: &str, work: impl FnOnce() -> T) -> T {
        let _way = Way(prefix);
        let answer = work();
        place(&format!("{prefix} encoding"));
        answer
    }
}

#[cfg(not(feature = "inject-panics"))]
pub use nothing::*;
#[cfg(feature = "inject-panics")]
pub use panics::*;
