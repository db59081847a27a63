//! Who answers a request: the thread that ran it, or the caller that gave up.
//!
//! `QUEUED -> RUNNING -> SENT`, and from the first two also `-> CANCELLED`. A caller that looks for its answer for a
//! while begins with `QUEUED` and `RUNNING` of their own, from which the thread leaves the answer where it lies
//! (`LEFT`), and the caller that stops looking goes on to the others. Every step is one compare-and-swap, so exactly one
//! side wins: a caller that cancelled never gets a message, one that could not cancel gets one for certain, and one that
//! found its answer gets none. `tests/handshake.rs` checks every interleaving.

use super::atomic::{AtomicU8, Ordering};

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const SENT: u8 = 2;
const CANCELLED: u8 = 3;
const QUEUED_LOOKED_FOR: u8 = 4;
const RUNNING_LOOKED_FOR: u8 = 5;
const LEFT: u8 = 6;

/// What [`Handshake::cancel`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// No thread had taken the request: nothing was executed, no message will come.
    Queued,
    /// A thread is running the request: it may have been executed, no message will come.
    Running,
    /// The message was sent or is about to be.
    TooLate,
    /// It had been cancelled before.
    Already,
}

/// The state of one request.
pub struct Handshake(AtomicU8);

impl Handshake {
    /// A request that nobody has taken.
    pub fn new() -> Self {
        Self(AtomicU8::new(QUEUED))
    }

    /// One whose caller looks for the answer, until [`Handshake::look_away`].
    pub fn looked_for() -> Self {
        Self(AtomicU8::new(QUEUED_LOOKED_FOR))
    }

    fn step(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// A step from one of two states, between which only the caller goes, and only once.
    fn either(&self, looked_for: (u8, u8), not: (u8, u8)) -> Result<u8, u8> {
        self.step(looked_for.0, looked_for.1)
            .or_else(|_| self.step(not.0, not.1))
    }

    /// The thread takes the request; false when it was cancelled.
    pub fn start(&self) -> bool {
        let looked_for = (QUEUED_LOOKED_FOR, RUNNING_LOOKED_FOR);
        self.either(looked_for, (QUEUED, RUNNING)).is_ok()
    }

    /// Whether the caller may find an answer that is left for it.
    pub fn is_looked_for(&self) -> bool {
        self.0.load(Ordering::Acquire) == RUNNING_LOOKED_FOR
    }

    /// The thread has put the answer where the caller finds it; false when nobody looks any more: then it is to be sent.
    pub fn leave(&self) -> bool {
        self.step(RUNNING_LOOKED_FOR, LEFT).is_ok()
    }

    /// The thread is about to send; false when the caller gave up: nothing may be sent.
    pub fn finish(&self) -> bool {
        self.step(RUNNING, SENT).is_ok()
    }

    /// Whether there is an answer to be taken.
    pub fn is_left(&self) -> bool {
        self.0.load(Ordering::Acquire) == LEFT
    }

    /// The caller looks no more; false when there is an answer to be taken: then no message comes.
    pub fn look_away(&self) -> bool {
        let running = (RUNNING_LOOKED_FOR, RUNNING);
        match self.step(QUEUED_LOOKED_FOR, QUEUED) {
            Ok(_) | Err(CANCELLED) => true,
            Err(_) => self.step(running.0, running.1).is_ok(),
        }
    }

    /// The caller gives up.
    pub fn cancel(&self) -> Cancelled {
        if self.withdraw() {
            return Cancelled::Queued;
        }
        match self.either((RUNNING_LOOKED_FOR, CANCELLED), (RUNNING, CANCELLED)) {
            Ok(_) => Cancelled::Running,
            Err(CANCELLED) => Cancelled::Already,
            Err(_) => Cancelled::TooLate,
        }
    }

    /// The caller gives up only what no thread has taken; false when a message comes for certain, whenever
    /// the thread returns.
    pub fn withdraw(&self) -> bool {
        self.either((QUEUED_LOOKED_FOR, CANCELLED), (QUEUED, CANCELLED))
            .is_ok()
    }

    /// Whether the caller gave up.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}
