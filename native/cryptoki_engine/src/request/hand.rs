//! The hand of a thread that looks for requests: what is given to it wakes no sleeper. One looks at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

struct Held<T> {
    looking: bool,
    given: Option<T>,
}

/// It.
pub struct Hand<T>(Mutex<Held<T>>);

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self(Mutex::new(Held {
            looking: false,
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
        if !held.looking || held.given.is_some() {
            return Err(what);
        }
        held.given = Some(what);
        Ok(())
    }

    /// Begins to look; false when somebody does already.
    pub fn open(&self) -> bool {
        !std::mem::replace(&mut self.lock().looking, true)
    }

    /// What was given.
    pub fn take(&self) -> Option<T> {
        self.lock().given.take()
    }

    /// Ends it; what was given last is to be seen to, whatever else was found.
    #[must_use]
    pub fn close(&self) -> Option<T> {
        let mut held = self.lock();
        held.looking = false;
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
        assert!(hand.open());
    }
}
