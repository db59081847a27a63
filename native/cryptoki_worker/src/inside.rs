//! What the threads of this process share.

use cryptoki_engine::library::lanes::STACK;
use cryptoki_engine::process::wire::Start;
use cryptoki_engine::site::Site;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::process::limit_memory;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Stacks that there are beside those of the connections: of the control thread, and of threads that have just ended.
const BESIDE: u64 = 4;

/// It.
pub struct Inside {
    /// What was said at the start.
    pub start: Start,
    site: OnceLock<Arc<Site>>,
    threads: Mutex<u64>,
}

impl Inside {
    /// Of a process that has no library yet: from here on its memory is bounded.
    pub fn new(start: Start) -> std::io::Result<Self> {
        let inside = Self {
            start,
            site: OnceLock::new(),
            threads: Mutex::new(0),
        };
        inside.bound(0)?;
        Ok(inside)
    }

    /// What the library may have, and stacks for so many connections.
    fn bound(&self, threads: u64) -> std::io::Result<()> {
        let stacks = (threads + BESIDE) * STACK as u64;
        let memory = self.start.memory.map(|bytes| bytes.saturating_add(stacks));
        memory.map_or(Ok(()), limit_memory)
    }

    fn count(&self, change: i64) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        *threads = threads.saturating_add_signed(change);
        // Where it cannot be moved, whoever needs memory is told.
        let _ = self.bound(*threads);
    }

    /// The library was opened, once.
    pub fn opened(&self, site: Site) -> Result<()> {
        let again = |_| Failure::own(Reason::InvalidArgument, "the library was opened before");
        self.site.set(Arc::new(site)).map_err(again)
    }

    /// What the sessions share.
    pub fn site(&self) -> Result<&Arc<Site>> {
        let none = || Failure::own(Reason::Shutdown, "the library was not opened");
        self.site.get().ok_or_else(none)
    }

    /// The epoch, as the other side is to know it.
    pub fn epoch(&self) -> u64 {
        self.site
            .get()
            .map_or(self.start.epoch, |site| site.epoch())
    }
}

/// One more connection, whose thread has a stack.
pub struct OneMore(pub Arc<Inside>);

impl OneMore {
    /// Until it is dropped.
    pub fn of(inside: &Arc<Inside>) -> Self {
        inside.count(1);
        Self(inside.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.count(-1);
    }
}
