//! What the sessions of an instance count.

use crate::session::trouble::Trouble;
use std::sync::atomic::{AtomicIsize, AtomicU64};

/// Numbers of an instance for whoever asks.
#[derive(Default)]
pub struct Counters {
    /// Open sessions.
    pub sessions: AtomicIsize,
    /// Sessions that serve somebody.
    pub busy: AtomicIsize,
    /// Sessions whose caller gave up on a call that still runs.
    pub overdue: AtomicIsize,
    /// Operations that have succeeded, other than looks at objects.
    pub worked: AtomicU64,
    /// Whether device errors are all there is.
    pub trouble: Trouble,
}
