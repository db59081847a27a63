//! What callers ask for, and the threads that are free for it. What comes wakes one of them, mostly the one that sat down
//! last, which is likeliest to be awake still: that costs the same with one thread and with hundreds. It waits where each
//! can take it until one does: whoever was woken may have to wait for a processor.
//!
//! `tests/queue.rs` checks every interleaving.

use super::atomic::{AtomicUsize, Ordering::SeqCst};
use super::channel::Sender;
use super::sync::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// One of so many wakes the thread that has sat for longest: a token may end a session that is never used.
const SELDOM: usize = 64;

/// There may be something to take.
pub struct Wake;

/// Where a thread is woken, among what else it is told.
pub struct Seat<M> {
    number: usize,
    mailbox: Sender<M>,
}

struct Both<R, M> {
    waiting: VecDeque<R>,
    free: VecDeque<Seat<M>>,
    seats: usize,
    wakes: usize,
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
            free: VecDeque::new(),
            seats: 0,
            wakes: 0,
        };
        Self {
            both: Mutex::new(both),
            length: AtomicUsize::new(0),
        }
    }
}

impl<R, M: From<Wake>> Queue<R, M> {
    fn lock(&self) -> MutexGuard<'_, Both<R, M>> {
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a thread that has this mailbox, not yet free.
    pub fn seat(&self, mailbox: Sender<M>) -> Seat<M> {
        let mut both = self.lock();
        both.seats += 1;
        let number = both.seats;
        Seat { number, mailbox }
    }

    /// Puts a request in.
    pub fn put(&self, request: R) {
        let mut both = self.lock();
        both.waiting.push_back(request);
        self.length.store(both.waiting.len(), SeqCst);
        self.wake(both);
    }

    /// Wakes somebody for what waits.
    fn wake(&self, mut both: MutexGuard<'_, Both<R, M>>) {
        if both.waiting.is_empty() {
            return;
        }
        both.wakes = both.wakes.wrapping_add(1);
        let woken = match both.wakes.is_multiple_of(SELDOM) {
            true => both.free.pop_front(),
            false => both.free.pop_back(),
        };
        // That takes a while.
        drop(both);
        if let Some(seat) = woken {
            let _ = seat.mailbox.send(Wake.into());
        }
    }

    /// Lets go of what is not to be kept. What comes meanwhile goes behind.
    pub fn sweep(&self, keep: impl FnMut(&R) -> bool) {
        let mut kept = std::mem::take(&mut self.lock().waiting);
        // Of many that takes a while.
        kept.retain(keep);
        let mut both = self.lock();
        kept.append(&mut both.waiting);
        both.waiting = kept;
        self.length.store(both.waiting.len(), SeqCst);
        // Whoever found nothing may sit.
        for _ in 0..both.free.len().min(both.waiting.len()) {
            self.wake(both);
            both = self.lock();
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

    /// The first that waits, or the thread of this seat is free until it is woken.
    pub fn pop_or_sit(&self, seat: &Seat<M>) -> Option<R> {
        let mut both = self.lock();
        let request = self.first(&mut both);
        if request.is_none() {
            let (number, mailbox) = (seat.number, seat.mailbox.clone());
            both.free.push_back(Seat { number, mailbox });
        }
        request
    }

    /// The thread of this seat takes no more. When it was woken meanwhile somebody else is.
    pub fn rise(&self, seat: &Seat<M>) {
        let mut both = self.lock();
        let sits = |free: &Seat<M>| free.number == seat.number;
        match both.free.iter().position(sits) {
            Some(at) => drop(both.free.remove(at)),
            None => self.wake(both),
        }
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
