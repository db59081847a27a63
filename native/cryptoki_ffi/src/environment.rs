//! The environment that C sees: some libraries know no other way to be configured.

use crate::failure::{Failure, Reason, Result};
use std::ffi::OsString;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

/// One changes it at a time, while nobody else initialises a library: that would be given variables of another one.
static ALONE: RwLock<()> = RwLock::new(());

/// How long others may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names and values.
pub type Variables = Vec<(OsString, OsString)>;

enum Turn {
    Changing(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
    AsItIs(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
}

/// Variables that are set, until this is dropped: then they are as they were before.
pub struct Set {
    before: Vec<(OsString, Option<OsString>)>,
    _turn: Turn,
}

impl Set {
    /// Sets them, where there are any, when it is our turn. Whoever reads C's environment on another thread at the same
    /// moment may be given what is being moved, in C libraries that do not guard it (glibc does from 2.41 on).
    pub fn new(variables: &Variables) -> Result<Self> {
        let turn = turn(|| match variables.is_empty() {
            true => ready(ALONE.try_read()).map(Turn::AsItIs),
            false => ready(ALONE.try_write()).map(Turn::Changing),
        })?;
        let names = variables.iter().map(|(name, _)| name.clone());
        let before = names
            .map(|name| (name.clone(), std::env::var_os(name)))
            .collect();
        for (name, value) in variables {
            // SAFETY: see above; names and values have no NUL, names no `=`.
            unsafe { std::env::set_var(name, value) };
        }
        Ok(Self {
            before,
            _turn: turn,
        })
    }
}

/// What a lock gives, also after a panic of somebody who held it.
fn ready<G>(tried: std::result::Result<G, TryLockError<G>>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn turn(mut take: impl FnMut() -> Option<Turn>) -> Result<Turn> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(turn) = take() {
            return Ok(turn);
        }
        if Instant::now() >= until {
            let why = "another library is being initialised with an env: of its own";
            return Err(Failure::own(Reason::Busy, why));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        for (name, value) in self.before.drain(..).rev() {
            match value {
                // SAFETY: as in `new`.
                Some(value) => unsafe { std::env::set_var(name, value) },
                // SAFETY: as in `new`.
                None => unsafe { std::env::remove_var(name) },
            }
        }
    }
}

/// Whether a variable can be set.
pub fn is_valid(name: &[u8], value: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_there_for_a_while_and_then_as_they_were() {
        let value = || std::env::var_os("CRYPTOKI_TEST_SET");
        let set = |text: &str| Set::new(&vec![("CRYPTOKI_TEST_SET".into(), text.into())]);
        // Those that change nothing are not in each other's way.
        let (one, another) = (Set::new(&Vec::new()), Set::new(&Vec::new()));
        assert!(one.is_ok() && another.is_ok());
        drop((one, another));
        assert_eq!(value(), None);
        let outer = set("one");
        assert_eq!(value(), Some("one".into()));
        // Nobody is given them who has not asked for them.
        assert!(Set::new(&Vec::new()).is_err_and(|failure| failure.to_string().contains("env:")));
        drop(outer);
        assert_eq!(value(), None);
        // SAFETY: of this test alone.
        unsafe { std::env::set_var("CRYPTOKI_TEST_SET", "before") };
        drop(set("two"));
        assert_eq!(value(), Some("before".into()));
    }

    #[test]
    fn a_name_is_one_and_nothing_has_a_zero() {
        assert!(is_valid(b"A", b"") && is_valid(b"A", b"b=c"));
        for (name, value) in [
            (&b""[..], &b"x"[..]),
            (b"A=B", b"x"),
            (b"A\0", b"x"),
            (b"A", b"\0"),
        ] {
            assert!(!is_valid(name, value));
        }
    }
}
