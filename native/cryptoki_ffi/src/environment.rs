//! The environment that C sees: some libraries know no other way to be configured.

use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One changes it at a time, and has it back as it was before the next one does.
static ALONE: Mutex<()> = Mutex::new(());

/// Names and values.
pub type Variables = Vec<(OsString, OsString)>;

/// Variables that are set, until this is dropped: then they are as they were before.
pub struct Set {
    before: Vec<(OsString, Option<OsString>)>,
    _alone: MutexGuard<'static, ()>,
}

impl Set {
    /// Sets them, where there are any. Whoever reads C's environment on another thread at the same moment may be given
    /// what is being moved, in C libraries that do not guard it (glibc does from 2.41 on).
    pub fn new(variables: &Variables) -> Option<Self> {
        if variables.is_empty() {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let names = variables.iter().map(|(name, _)| name.clone());
        let before = names
            .map(|name| (name.clone(), std::env::var_os(name)))
            .collect();
        for (name, value) in variables {
            // SAFETY: see above; names and values have no NUL, names no `=`.
            unsafe { std::env::set_var(name, value) };
        }
        Some(Self {
            before,
            _alone: alone,
        })
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
        assert!(Set::new(&Vec::new()).is_none());
        assert_eq!(value(), None);
        let outer = set("one");
        assert_eq!(value(), Some("one".into()));
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
