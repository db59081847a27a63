//! A binary of the VM that stays where it is, for whoever reads it on another thread: large ones are not copied.

use rustler::{Binary, OwnedEnv, Term};

/// A binary, kept alive by an environment of its own.
pub struct Pinned {
    bytes: *const [u8],
    _keeps: OwnedEnv,
}

impl Pinned {
    /// Keeps a binary; none: the term is none.
    pub fn new(term: Term) -> Option<Self> {
        let keeps = OwnedEnv::new();
        let bytes = keeps.run(|env| {
            let kept = term.in_env(env).decode::<Binary>().ok()?;
            Some(std::ptr::from_ref(kept.as_slice()))
        })?;
        Some(Self {
            bytes,
            _keeps: keeps,
        })
    }
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: what an environment without a process keeps is neither moved nor freed before the environment is,
        // and nobody writes to a binary of the VM.
        unsafe { &*self.bytes }
    }
}

// SAFETY: the bytes are only read, and the environment may be freed on any thread.
unsafe impl Send for Pinned {}
