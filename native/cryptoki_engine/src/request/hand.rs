//! The hand of a thread that looks for requests: what is given to it wakes no sleeper. One looks at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

    /// Begins to look; false when somebody does already.
    pub fn open(&self) -> bool {
        self.look(Looking::Openly)
    }

    /// Begins to look for what comes another way, and is given nothing; false when somebody looks already.
    pub fn keep_shut(&self) -> bool {
        self.look(Looking::Alone)
    }

    fn look(&self, how: Looking) -> bool {
        let mut held = self.lock();
        let nobody = held.looking == Looking::Nobody;
        if nobody {
            held.looking = how;
        }
        nobody
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_found_by_the_one_who_looks_or_handed_back() {
        let hand = Hand::default();
        assert_eq!(hand.give(1), Err(1));
        assert!(hand.open() && !hand.open());
        assert_eq!((hand.give(2), hand.give(3)), (Ok(()), Err(3)));
        assert_eq!((hand.take(), hand.take()), (Some(2), None));
        assert_eq!(hand.give(4), Ok(()));
        assert_eq!(hand.close(), Some(4));
        assert_eq!(hand.give(5), Err(5));
        assert!(hand.open() && !hand.keep_shut());
        assert_eq!(hand.close(), None);
        assert!(hand.keep_shut() && !hand.open());
        assert_eq!((hand.give(6), hand.close()), (Err(6), None));
    }
}
