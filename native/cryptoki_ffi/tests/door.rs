//! Every interleaving of threads that come in with one that shuts the door, or is alone behind it.
//!
//! Seen to fail: the first model when `enter` looks at `shut` before it counts, the second when it looks at
//! `paused` before, or when `resume` forgets to notify; both when `is_empty` is a load. The third when
//! `resume` leaves it paused, the fourth when whoever waits keeps the turn.

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    pub use loom::thread::{ThreadId, current};
}

#[path = "../src/door.rs"]
mod door;

use door::{Door, Entry};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// What is behind the door: loom panics when somebody is in there beside one who wants to be alone.
struct House {
    door: Door,
    turn: Mutex<()>,
    library: UnsafeCell<u32>,
}

// SAFETY: that access to the cell is exclusive where it has to be is what the models check.
unsafe impl Sync for House {}

impl House {
    fn new() -> Arc<Self> {
        let house = Self {
            door: Door::new(true),
            turn: Mutex::new(()),
            library: UnsafeCell::new(0),
        };
        house.door.open();
        Arc::new(house)
    }

    /// As `Gate::enter` does it, with a call.
    fn call(&self) -> bool {
        loop {
            match self.door.enter() {
                Entry::Inside => break,
                Entry::Shut => return false,
                Entry::Paused => self.door.wait_for_resume(),
            }
        }
        self.library.with(|_| thread::yield_now());
        self.door.leave();
        true
    }

    /// As `Gate::enter` does it for a library that takes one call at a time.
    fn call_in_turn(&self) {
        loop {
            let turn = self.turn.lock();
            match self.door.enter() {
                Entry::Inside => {
                    self.library.with_mut(|_| ());
                    self.door.leave();
                    return;
                }
                _paused => drop(turn),
            }
            self.door.wait_for_resume();
        }
    }

    fn wait_until_empty(&self) {
        while !self.door.is_empty() {
            thread::yield_now();
        }
    }
}

fn callers<T: 'static>(
    house: &Arc<House>,
    count: usize,
    call: fn(&House) -> T,
) -> Vec<thread::JoinHandle<T>> {
    (0..count)
        .map(|_| {
            let house = house.clone();
            thread::spawn(move || call(&house))
        })
        .collect()
}

fn joined<T>(callers: Vec<thread::JoinHandle<T>>) -> Vec<Option<T>> {
    callers
        .into_iter()
        .map(|caller| caller.join().ok())
        .collect()
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn whoever_shuts_it_and_sees_nobody_is_alone_for_good() {
    model(|| {
        let house = House::new();
        let callers = callers(&house, 2, House::call);
        house.door.shut();
        house.wait_until_empty();
        // As C_Finalize, or the exit of the process.
        house.library.with_mut(|_| ());
        assert!(joined(callers).iter().all(Option::is_some));
        assert!(house.door.is_empty());
        assert!(!house.call());
    });
}

#[test]
fn whoever_pauses_it_is_alone_and_all_others_come_in_afterwards() {
    model(|| {
        let house = House::new();
        let callers = callers(&house, 1, House::call);
        house.door.pause();
        house.wait_until_empty();
        house.library.with_mut(|_| ());
        // Whoever paused it comes in.
        assert_eq!(house.door.enter(), Entry::Inside);
        house.door.leave();
        house.door.resume();
        assert_eq!(joined(callers), [Some(true)]);
        assert!(house.call());
        assert!(house.door.is_empty());
    });
}

#[test]
fn whoever_pauses_it_in_vain_keeps_nobody_out_for_good() {
    model(|| {
        let house = House::new();
        let callers = callers(&house, 2, House::call);
        // As `Gate::alone` when the time is over at the first look.
        house.door.pause();
        if house.door.is_empty() {
            house.library.with_mut(|_| ());
        }
        house.door.resume();
        assert_eq!(joined(callers), [Some(true), Some(true)]);
        assert!(house.door.is_empty());
    });
}

#[test]
fn where_calls_go_in_turn_whoever_pauses_it_has_a_turn_too() {
    model(|| {
        let house = House::new();
        let callers = callers(&house, 1, House::call_in_turn);
        house.door.pause();
        house.wait_until_empty();
        house.library.with_mut(|_| ());
        house.call_in_turn();
        house.door.resume();
        assert_eq!(joined(callers), [Some(())]);
        house.call_in_turn();
        assert!(house.door.is_empty());
    });
}
