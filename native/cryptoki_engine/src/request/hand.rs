//! The hand of a thread that looks for requests: what is given to it wakes no sleeper. One looks at a time.
//!
//! `tests/queue.rs` checks every interleaving with the queue behind it.

use super::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;

#[derive(Clone, Copy, PartialEq)]
enum Looking {
    Nobody,
    /// For whatever anybody asks.
    Openly,
    /// For what its one caller asks, which comes another way.
    Alone,
}

struct Held<T> {
    looking: Looking,
    given: Option<T>,
}

/// It.
pub struct Hand<T>(Mutex<Held<T>>);

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self(Mutex::new(Held {
            looking: Looking::Nobody,
            given: None,
        }))
    }
}

impl<T> Hand<T> {
    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives something to the thread that looks, or back: nobody looks, or the hand is full.
    pub fn give(&self, what: T) -> Result<(), T> {
        let mut held = self.lock();
        if held.looking != Looking::Openly || held.given.is_some() {
            return Err(what);
        }
        held.given = Some(what);
        Ok(())
    }

    /// Begins to look; false when somebody does already, but for one who looks alone: that one stops.
    pub fn open(&self) -> bool {
        let mut held = self.lock();
        let free = held.looking != Looking::Openly;
        held.looking = Looking::Openly;
        free
    }

    /// Begins to look for what comes another way, and is given nothing; false when somebody looks already.
    pub fn keep_shut(&self) -> bool {
        let mut held = self.lock();
        let free = held.looking == Looking::Nobody;
        if free {
            held.looking = Looking::Alone;
        }
        free
    }

    /// Whether one who looks alone still may.
    pub fn is_kept_shut(&self) -> bool {
        self.lock().looking == Looking::Alone
    }

    /// Ends that.
    pub fn let_go(&self) {
        let mut held = self.lock();
        if held.looking == Looking::Alone {
            held.looking = Looking::Nobody;
        }
    }

    /// What was given.
    pub fn take(&self) -> Option<T> {
        self.lock().given.take()
    }

    /// Ends it; what was given last is to be seen to, whatever else was found.
    #[must_use]
    pub fn close(&self) -> Option<T> {
        let mut held = self.lock();
        held.looking = Looking::Nobody;
        held.given.take()
    }
}
