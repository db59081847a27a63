//! The gate in front of every call into a library: counts who is inside, lets nobody in once closed.

use crate::door::{Door, Entry};
use crate::exit::{self, Outside, outside, wait_until_empty};
use crate::failure::{Failure, Reason, Result};
use cryptoki_sys::CKR_SESSION_HANDLE_INVALID;
use std::cell::Cell;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

thread_local! {
    /// The life of the library that this thread has its session of; none: it may call in each.
    static LIFE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// One library's gate.
pub struct Gate {
    door: Door,
    /// How often the library was initialised: no session outlives it.
    life: AtomicU64,
    /// Calls that have come back.
    served: AtomicU64,
    /// For libraries that cannot stand threads: whoever is inside holds the turn.
    serialized: AtomicBool,
    turn: Mutex<()>,
}

/// The right to be inside the library; given back on drop.
pub struct Pass<'a> {
    gate: &'a Gate,
    // Given back after the gate's.
    _process: Outside,
    _turn: Option<MutexGuard<'a, ()>>,
}

impl Gate {
    /// A gate that stays shut until [`Gate::open`].
    pub fn shut() -> Self {
        Self {
            door: Door::new(true),
            life: AtomicU64::new(0),
            served: AtomicU64::new(0),
            serialized: AtomicBool::new(false),
            turn: Mutex::new(()),
        }
    }

    /// Whether calls go in one at a time from now on.
    pub fn serialize(&self, serialized: bool) {
        self.serialized.store(serialized, SeqCst);
    }

    /// Whether calls go in one at a time.
    pub fn is_serialized(&self) -> bool {
        self.serialized.load(SeqCst)
    }

    /// Enters, or says that the library is being shut down. While somebody initialises the library
    /// anew only that thread comes in, the others wait.
    pub fn enter(&self) -> Result<Pass<'_>> {
        loop {
            // Waiting for the turn does not count as being inside.
            let turn = self
                .serialized
                .load(SeqCst)
                .then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            let process = outside();
            match self.door.enter() {
                Entry::Inside => {
                    return Ok(Pass {
                        gate: self,
                        _process: process,
                        _turn: turn,
                    });
                }
                Entry::Shut => {
                    return Err(Failure::own(Reason::Shutdown, "the library is shut down"));
                }
                // Neither the turn nor the count is held while it waits.
                Entry::Paused => drop((process, turn)),
            }
            self.door.wait_for_resume();
        }
    }

    /// All sessions are void from now on.
    pub fn begin_life(&self) {
        self.life.fetch_add(1, SeqCst);
    }

    /// What the calling thread opens from now on is of this life: in the next one it does not come in with it.
    pub fn live_now(&self) {
        LIFE.set(Some(self.life.load(SeqCst)));
    }

    /// Refuses a thread whose session is of an earlier life: its handle may be that of somebody else. To be asked
    /// inside, where no life begins.
    pub fn same_life(&self, function: &'static str) -> Result<()> {
        let code = CKR_SESSION_HANDLE_INVALID;
        match LIFE.get() {
            Some(life) if life != self.life.load(SeqCst) => Err(Failure::Rv { code, function }),
            _ => Ok(()),
        }
    }

    /// Runs `work` with nobody else inside; calls that come meanwhile wait. `None` when those that
    /// are inside do not come out in time.
    pub fn alone<T>(&self, limit: Duration, work: impl FnOnce() -> T) -> Option<T> {
        let _pause = Pause::new(&self.door);
        wait_until_empty(&self.door, limit).then(work)
    }

    /// Lets calls in.
    pub fn open(&self) {
        self.door.open();
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.door.shut();
    }

    /// Waits until nobody is inside; false when the time is over.
    pub fn wait_until_idle(&self, limit: Duration) -> bool {
        wait_until_empty(&self.door, limit)
    }
}

/// Ends the pause on drop, whatever happened.
struct Pause<'a>(&'a Door);

impl<'a> Pause<'a> {
    fn new(door: &'a Door) -> Self {
        door.pause();
        Self(door)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// After each of so many calls the exit hook is registered again, and then ever more seldom.
const EARLY_CALLS: u64 = 64;

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // Libraries register destructors when they first need something, long after C_Initialize.
        let served = self.gate.served.fetch_add(1, Relaxed) + 1;
        if served <= EARLY_CALLS || served.is_power_of_two() {
            exit::hook();
        }
        self.gate.door.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_closed_gate_refuses_and_an_open_one_counts() {
        let gate = Gate::shut();
        assert!(gate.enter().is_err());
        gate.open();
        let pass = gate.enter();
        assert!(pass.is_ok());
        assert!(!gate.wait_until_idle(Duration::from_millis(1)));
        gate.close();
        drop(pass);
        assert!(gate.wait_until_idle(Duration::ZERO));
        assert!(gate.enter().is_err());
    }

    #[test]
    fn alone_waits_for_those_inside_and_keeps_others_out() {
        let gate = Gate::shut();
        gate.open();
        let inside = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        let pass = gate.enter();
                        assert!(pass.is_ok());
                        inside.fetch_add(1, SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                });
            }
            for _ in 0..200 {
                let done = gate.alone(Duration::from_secs(60), || {
                    assert!(gate.enter().is_ok());
                    assert_eq!(inside.load(SeqCst), 0);
                    std::thread::yield_now();
                    assert_eq!(inside.load(SeqCst), 0);
                });
                assert_eq!(done, Some(()));
            }
            stop.store(true, SeqCst);
        });
        let pass = gate.enter();
        assert_eq!(gate.alone(Duration::ZERO, || ()), None);
        drop(pass);
        assert!(gate.enter().is_ok());
    }

    #[test]
    fn a_thread_does_not_come_into_a_later_life_with_its_session() {
        let gate = Gate::shut();
        gate.begin_life();
        assert_eq!(gate.same_life("C_Sign"), Ok(()));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                gate.live_now();
                assert_eq!(gate.same_life("C_Sign"), Ok(()));
                gate.begin_life();
                assert!(
                    gate.same_life("C_Sign")
                        .is_err_and(|failure| failure.is(CKR_SESSION_HANDLE_INVALID))
                );
                gate.live_now();
                assert_eq!(gate.same_life("C_Sign"), Ok(()));
            });
        });
        // One without a session, as the control thread.
        gate.begin_life();
        assert_eq!(gate.same_life("C_Sign"), Ok(()));
    }

    #[test]
    fn a_serialized_gate_lets_one_in_at_a_time() {
        let gate = Gate::shut();
        gate.open();
        assert!(!gate.is_serialized());
        gate.serialize(true);
        assert!(gate.is_serialized());
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let pass = gate.enter();
                        assert!(pass.is_ok());
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        inside.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
    }
}
