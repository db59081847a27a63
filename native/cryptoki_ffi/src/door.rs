//! Who is inside, and whether anybody may come in: the protocol of the gate, without what it guards.
//!
//! `tests/door.rs` checks every interleaving.

use super::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, SeqCst, ThreadId, current};
use std::sync::PoisonError;

/// What somebody finds who wants to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Is inside, and has to [`Door::leave`].
    Inside,
    /// Nobody comes in any more.
    Shut,
    /// Somebody is alone inside for a while: wait, then try again.
    Paused,
}

/// A door.
pub struct Door {
    shut: AtomicBool,
    inside: AtomicUsize,
    paused: AtomicBool,
    pauser: Mutex<Option<ThreadId>>,
    resumed: Condvar,
}

impl Door {
    /// A door with nobody behind it.
    pub fn new(shut: bool) -> Self {
        Self {
            shut: AtomicBool::new(shut),
            inside: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            pauser: Mutex::new(None),
            resumed: Condvar::new(),
        }
    }

    /// Comes in, or says why not.
    pub fn enter(&self) -> Entry {
        // Counted before the looks: whoever shuts or pauses it and then sees nobody inside knows that
        // nobody slips in.
        self.inside.fetch_add(1, SeqCst);
        if self.shut.load(SeqCst) {
            self.leave();
            return Entry::Shut;
        }
        if self.paused.load(SeqCst) && *self.pauser() != Some(current().id()) {
            self.leave();
            return Entry::Paused;
        }
        Entry::Inside
    }

    /// Goes out.
    pub fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
    }

    /// Whether nobody is inside; who comes in later finds it shut or paused, if it was before.
    pub fn is_empty(&self) -> bool {
        // Not a load: one that adds is before or after all others, whatever else is ordered.
        self.inside.fetch_add(0, SeqCst) == 0
    }

    /// Lets nobody in any more.
    pub fn shut(&self) {
        self.shut.store(true, SeqCst);
    }

    /// Lets everybody in.
    pub fn open(&self) {
        self.shut.store(false, SeqCst);
    }

    /// Only this thread comes in, until [`Door::resume`].
    pub fn pause(&self) {
        *self.pauser() = Some(current().id());
        self.paused.store(true, SeqCst);
    }

    /// Everybody comes in again.
    pub fn resume(&self) {
        self.paused.store(false, SeqCst);
        *self.pauser() = None;
        self.resumed.notify_all();
    }

    /// Waits until nobody has paused it.
    pub fn wait_for_resume(&self) {
        let mut pauser = self.pauser();
        while pauser.is_some() {
            let waited = self.resumed.wait(pauser);
            pauser = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pauser(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.pauser.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
