//! What the threads of this process share.

use cryptoki_engine::process::wire::Start;
use cryptoki_engine::site::Site;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use std::sync::{Arc, OnceLock};

/// It.
pub struct Inside {
    /// What was said at the start.
    pub start: Start,
    site: OnceLock<Arc<Site>>,
}

impl Inside {
    /// Of a process that has no library yet.
    pub fn new(start: Start) -> Self {
        Self {
            start,
            site: OnceLock::new(),
        }
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
