//! What callers ask for, and the threads that are free for it. A request goes to the thread that sat down last, which is
//! likeliest to be awake still, and wakes no other: that costs the same with one thread and with hundreds.
//!
//! `tests/queue.rs` checks every interleaving.

use super::atomic::{AtomicUsize, Ordering::SeqCst};
use super::channel::Sender;
use super::sync::{Mutex, MutexGuard};
use std::collections::VecDeque;

/// Where a thread is given a request, among what else it is told.
pub struct Seat<M> {
    number: usize,
    mailbox: Sender<M>,
}

struct Both<R, M> {
    /// Only while no thread is free.
    waiting: VecDeque<R>,
    free: Vec<Seat<M>>,
    seats: usize,
}

/// It.
pub struct Queue<R, M> {
    both: Mutex<Both<R, M>>,
    /// How many wait, for those who only look.
    length: AtomicUsize,
}

impl<R, M> Default for Queue<R, M> {
    fn default() -> Self {
        let both = Both {
            waiting: VecDeque::new(),
            free: Vec::new(),
            seats: 0,
        };
        Self {
            both: Mutex::new(both),
            length: AtomicUsize::new(0),
        }
    }
}

impl<R: Clone, M: From<R>> Queue<R, M> {
    fn lock(&self) -> MutexGuard<'_, Both<R, M>> {
        match self.both.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// A place for a thread that has this mailbox, not yet free.
    pub fn seat(&self, mailbox: Sender<M>) -> Seat<M> {
        let mut both = self.lock();
        both.seats += 1;
        let number = both.seats;
        Seat { number, mailbox }
    }

    /// Gives a request to a thread that is free, or lets it wait.
    pub fn put(&self, request: R) {
        loop {
            let mut both = self.lock();
            let Some(seat) = both.free.pop() else {
                both.waiting.push_back(request);
                self.length.store(both.waiting.len(), SeqCst);
                return;
            };
            // To wake somebody takes a while.
            drop(both);
            if seat.mailbox.send(request.clone().into()).is_ok() {
                return;
            }
        }
    }

    /// The first that waits.
    pub fn pop(&self) -> Option<R> {
        if self.is_empty() {
            return None;
        }
        let mut both = self.lock();
        self.first(&mut both)
    }

    fn first(&self, both: &mut Both<R, M>) -> Option<R> {
        let request = both.waiting.pop_front();
        self.length.store(both.waiting.len(), SeqCst);
        request
    }

    /// The first that waits, or the thread of this seat is free: then it is given one, unless it rises.
    pub fn pop_or_sit(&self, seat: &Seat<M>) -> Option<R> {
        let mut both = self.lock();
        let request = self.first(&mut both);
        if request.is_none() {
            let (number, mailbox) = (seat.number, seat.mailbox.clone());
            both.free.push(Seat { number, mailbox });
        }
        request
    }

    /// The thread of this seat is free no more; false when a request is on its way to it.
    #[must_use]
    pub fn rise(&self, seat: &Seat<M>) -> bool {
        let mut both = self.lock();
        let found = both.free.iter().position(|free| free.number == seat.number);
        found.map(|at| both.free.remove(at)).is_some()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.length.load(SeqCst)
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
