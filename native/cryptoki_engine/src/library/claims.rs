//! Who a session handle belongs to, so that a claim and the call made on it are one step: a session is not closed
//! under a call of somebody else, and what is closed is the session of the one who closes it. Libraries give numbers
//! again, of sessions that were closed and of sessions that were lost.
//!
//! `tests/claims.rs` checks every interleaving.

use super::sync::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::PoisonError;

/// A handle's owner.
struct Entry {
    claim: u64,
    /// Calls that are on the way with it.
    users: usize,
    /// It is to be closed, by the last user or by whoever said so.
    closing: bool,
}

#[derive(Default)]
struct Entries {
    last: u64,
    /// How many sessions were closed.
    closed: u64,
    entries: HashMap<u64, Entry>,
}

/// The claims on the handles of one library.
#[derive(Default)]
pub struct Claims {
    entries: Mutex<Entries>,
    closed: Condvar,
}

/// A claim on a handle that the library has just given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub number: u64,
    /// Sessions were closed meanwhile: had one the same number, that call may have closed this one.
    pub doubtful: bool,
}

impl Claims {
    /// How many sessions were closed so far: to be asked before one is opened.
    pub fn count_closed(&self) -> u64 {
        self.lock().closed
    }

    /// Claims a handle that was just given; `closed_before` sessions had been closed before it was asked for. Whoever
    /// held the number before has lost it.
    pub fn take(&self, handle: u64, closed_before: u64) -> Claim {
        let mut all = self.lock();
        while all
            .entries
            .get(&handle)
            .is_some_and(|entry| entry.closing && entry.users == 0)
        {
            let waited = self.closed.wait(all);
            all = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let doubtful = all.closed != closed_before;
        all.last += 1;
        let number = all.last;
        let entry = Entry {
            claim: number,
            users: 0,
            closing: false,
        };
        all.entries.insert(handle, entry);
        Claim { number, doubtful }
    }

    /// Whether the handle still belongs to the one with this claim.
    pub fn owns(&self, handle: u64, claim: u64) -> bool {
        self.lock().own(handle, claim).is_some()
    }

    /// Begins a call with the handle; false when it is not theirs any more.
    pub fn enter(&self, handle: u64, claim: u64) -> bool {
        match self.lock().own(handle, claim) {
            Some(entry) => {
                entry.users += 1;
                true
            }
            None => false,
        }
    }

    /// Ends it; true: the session is to be closed, here and now, and then [`Claims::closed`].
    pub fn leave(&self, handle: u64, claim: u64) -> bool {
        let mut all = self.lock();
        let Some(entry) = all.of(handle, claim) else {
            return false;
        };
        entry.users -= 1;
        entry.closing && entry.users == 0
    }

    /// Gives the handle up; true: the session is to be closed, here and now, and then [`Claims::closed`].
    /// Otherwise there is nothing to close, or the last user does it.
    pub fn close(&self, handle: u64, claim: u64) -> bool {
        match self.lock().own(handle, claim) {
            Some(entry) => {
                entry.closing = true;
                entry.users == 0
            }
            None => false,
        }
    }

    /// The call that closes it is back.
    pub fn closed(&self, handle: u64, claim: u64) {
        let mut all = self.lock();
        all.closed += 1;
        if all.of(handle, claim).is_some() {
            all.entries.remove(&handle);
        }
        self.closed.notify_all();
    }

    /// Whether anybody has a session.
    pub fn any(&self) -> bool {
        !self.lock().entries.is_empty()
    }

    /// No handle means anything any more.
    pub fn clear(&self) {
        self.lock().entries.clear();
        self.closed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn of(&mut self, handle: u64, claim: u64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&handle);
        entry.filter(|entry| entry.claim == claim)
    }

    fn own(&mut self, handle: u64, claim: u64) -> Option<&mut Entry> {
        self.of(handle, claim).filter(|entry| !entry.closing)
    }
}
