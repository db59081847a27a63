//! Threads that work at the same time, on processors of their own. A scheduler of the VM that looks for work keeps its
//! processor busy without need: whoever places threads sees none that is free, and leaves two that work on one.

use cryptoki_ffi::processors;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// No processor: the thread sleeps.
const NOWHERE: usize = usize::MAX;
/// One of so many calls looks where the others are.
const SELDOM: u32 = 16;
/// And goes elsewhere after so long at the earliest: to go costs some 20 µs.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the threads of an instance work.
#[derive(Default)]
pub struct Spread(Mutex<Vec<Weak<AtomicUsize>>>);

/// Where one of them does.
pub struct Place {
    on: Arc<AtomicUsize>,
    calls: u32,
    moved: Option<Instant>,
}

impl Spread {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<AtomicUsize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more thread, for as long as it keeps its place.
    pub fn join(&self) -> Place {
        let on = Arc::new(AtomicUsize::new(NOWHERE));
        let mut all = self.lock();
        all.retain(|place| place.strong_count() > 0);
        all.push(Arc::downgrade(&on));
        Place {
            on,
            calls: 0,
            moved: None,
        }
    }
}

impl Place {
    /// The thread is about to work; now and then it goes where fewer do.
    pub fn work(&mut self, spread: &Spread) {
        let Some(here) = processors::here() else {
            return;
        };
        if self.on.load(Relaxed) != here {
            self.on.store(here, Relaxed);
        }
        self.calls = self.calls.wrapping_add(1);
        if !self.calls.is_multiple_of(SELDOM)
            || self.moved.is_some_and(|moved| moved.elapsed() < PAUSE)
        {
            return;
        }
        // Under the lock: of two at one place one goes.
        let all = spread.lock();
        let working = all.iter().filter_map(Weak::upgrade);
        let working: Vec<_> = working.map(|place| place.load(Relaxed)).collect();
        if working.iter().filter(|on| **on == here).count() < 2 {
            return;
        }
        self.moved = Some(Instant::now());
        if let Some(there) = better(here, &working, &processors::allowed()) {
            self.on.store(there, Relaxed);
            drop(all);
            processors::go_to(there);
        }
    }

    /// It is about to sleep.
    pub fn rest(&self) {
        self.on.store(NOWHERE, Relaxed);
    }
}

/// A processor that has two fewer at work than this one.
fn better(here: usize, working: &[usize], allowed: &[usize]) -> Option<usize> {
    let on = |processor: usize| working.iter().filter(|on| **on == processor).count();
    let least = allowed.iter().copied().min_by_key(|there| on(*there))?;
    (on(least) + 2 <= on(here)).then_some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_where_it_does_not_meet_as_many() {
        assert_eq!(better(0, &[0, 0], &[0, 1]), Some(1));
        assert_eq!(better(0, &[0, 0, 1], &[0, 1]), None);
        assert_eq!(better(0, &[0, 0, 0, 1], &[0, 1]), Some(1));
        assert_eq!(better(0, &[0, 0, 1], &[0, 1, 2]), Some(2));
        assert_eq!(better(0, &[0, NOWHERE], &[0, 1]), None);
        assert_eq!(better(0, &[0, 0], &[0]), None);
        assert_eq!(better(0, &[0, 0], &[]), None);
    }

    #[test]
    fn those_that_sleep_or_have_ended_are_in_nobodys_way() {
        let spread = Spread::default();
        let mut place = spread.join();
        let others = [spread.join(), spread.join()];
        others[0].rest();
        drop(others);
        for _ in 0..3 * SELDOM {
            place.work(&spread);
        }
        assert!(place.moved.is_none());
        assert_eq!(spread.join().on.load(Relaxed), NOWHERE);
        assert_eq!(spread.lock().len(), 2);
    }
}
