//! Who answers a request: the thread that ran it, or the caller that gave up.
//!
//! `QUEUED -> RUNNING -> SENT`, and from the first two also `-> CANCELLED`. Every step is one
//! compare-and-swap, so exactly one side wins: a caller that cancelled never gets a message, and a
//! caller that could not cancel gets one for certain. `tests/handshake.rs` checks every interleaving.

use super::atomic::{AtomicU8, Ordering};

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const SENT: u8 = 2;
const CANCELLED: u8 = 3;

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

    fn step(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// The thread takes the request; false when it was cancelled.
    pub fn start(&self) -> bool {
        self.step(QUEUED, RUNNING).is_ok()
    }

    /// The thread is about to send; false when the caller gave up: nothing may be sent.
    pub fn finish(&self) -> bool {
        self.step(RUNNING, SENT).is_ok()
    }

    /// The caller gives up.
    pub fn cancel(&self) -> Cancelled {
        if self.withdraw() {
            return Cancelled::Queued;
        }
        match self.step(RUNNING, CANCELLED) {
            Ok(_) => Cancelled::Running,
            Err(CANCELLED) => Cancelled::Already,
            Err(_) => Cancelled::TooLate,
        }
    }

    /// The caller gives up only what no thread has taken; false when a message comes for certain, whenever
    /// the thread returns.
    pub fn withdraw(&self) -> bool {
        self.step(QUEUED, CANCELLED).is_ok()
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
