//! The gate in front of every call into a library: counts who is inside, lets nobody in once closed.

use crate::failure::{Failure, Outcome, Reason};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Set once the VM is on its way out; never cleared.
static EXITING: AtomicBool = AtomicBool::new(false);
/// Calls in flight in all libraries, for the exit hook.
static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);

/// One library's gate.
pub struct Gate {
    closed: AtomicBool,
    in_flight: AtomicUsize,
    /// For libraries that cannot stand threads: whoever is inside holds the turn.
    serialized: AtomicBool,
    turn: Mutex<()>,
    /// While somebody initialises the library anew: only that thread comes in, the others wait.
    paused: AtomicBool,
    pauser: Mutex<Option<ThreadId>>,
    resumed: Condvar,
}

/// The right to be inside the library; given back on drop.
pub struct Pass<'a> {
    gate: &'a Gate,
    _turn: Option<MutexGuard<'a, ()>>,
}

impl Gate {
    /// A gate that stays shut until [`Gate::open`].
    pub const fn shut() -> Self {
        Self {
            closed: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            serialized: AtomicBool::new(false),
            turn: Mutex::new(()),
            paused: AtomicBool::new(false),
            pauser: Mutex::new(None),
            resumed: Condvar::new(),
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

    /// Enters, or says that the library is being shut down.
    pub fn enter(&self) -> Outcome<Pass<'_>> {
        loop {
            let pass = self.try_enter()?;
            // Looked at from inside, like `closed`: a pauser that sees nobody knows that nobody slips in.
            if !self.paused.load(SeqCst) || self.is_pauser() {
                return Ok(pass);
            }
            drop(pass);
            self.wait_for_resume();
        }
    }

    fn try_enter(&self) -> Outcome<Pass<'_>> {
        // Waiting for the turn does not count as being inside.
        let turn = self
            .serialized
            .load(SeqCst)
            .then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
        // Counted before the check: a closer that sees zero afterwards knows that nobody slips in.
        IN_FLIGHT.fetch_add(1, SeqCst);
        self.in_flight.fetch_add(1, SeqCst);
        let pass = Pass {
            gate: self,
            _turn: turn,
        };
        if EXITING.load(SeqCst) {
            drop(pass);
            // The VM is taking itself apart: a thread that came back would touch what is gone.
            loop {
                std::thread::park();
            }
        }
        if self.closed.load(SeqCst) {
            return Err(Failure::own(Reason::Shutdown, "the library is shut down"));
        }
        Ok(pass)
    }

    fn pauser(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.pauser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_pauser(&self) -> bool {
        *self.pauser() == Some(std::thread::current().id())
    }

    fn wait_for_resume(&self) {
        let mut pauser = self.pauser();
        while pauser.is_some() {
            pauser = self
                .resumed
                .wait(pauser)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs `work` with nobody else inside; calls that come meanwhile wait. `None` when those that
    /// are inside do not come out in time.
    pub fn alone<T>(&self, limit: Duration, work: impl FnOnce() -> T) -> Option<T> {
        let _pause = Pause::new(self);
        wait_for_zero(&self.in_flight, limit).then(work)
    }

    /// Lets calls in.
    pub fn open(&self) {
        self.closed.store(false, SeqCst);
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    /// Waits until nobody is inside; false when the time is over.
    pub fn wait_until_idle(&self, limit: Duration) -> bool {
        wait_for_zero(&self.in_flight, limit)
    }
}

/// Ends the pause on drop, whatever happened.
struct Pause<'a>(&'a Gate);

impl<'a> Pause<'a> {
    fn new(gate: &'a Gate) -> Self {
        *gate.pauser() = Some(std::thread::current().id());
        gate.paused.store(true, SeqCst);
        Self(gate)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.paused.store(false, SeqCst);
        *self.0.pauser() = None;
        self.0.resumed.notify_all();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.in_flight.fetch_sub(1, SeqCst);
        IN_FLIGHT.fetch_sub(1, SeqCst);
    }
}

/// The right to run a library's code past its gate: while it is loaded, and while it is finalised.
/// The exit of the VM waits for it as for a call.
pub struct Outside(());

/// Goes in past the gates; waits for ever once the VM is on its way out.
pub fn outside() -> Outside {
    IN_FLIGHT.fetch_add(1, SeqCst);
    let outside = Outside(());
    if EXITING.load(SeqCst) {
        drop(outside);
        loop {
            std::thread::park();
        }
    }
    outside
}

impl Drop for Outside {
    fn drop(&mut self) {
        IN_FLIGHT.fetch_sub(1, SeqCst);
    }
}

/// Closes every gate for good; false when calls were still in flight after `limit`.
pub fn close_all_for_exit(limit: Duration) -> bool {
    EXITING.store(true, SeqCst);
    wait_for_zero(&IN_FLIGHT, limit)
}

fn wait_for_zero(count: &AtomicUsize, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while count.load(SeqCst) != 0 {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_serialized_gate_lets_one_in_at_a_time() {
        let gate = Gate::shut();
        gate.open();
        gate.serialize(true);
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
