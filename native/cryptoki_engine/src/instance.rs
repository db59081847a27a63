//! The queue of an instance: what its callers ask for, its session threads take.

use crate::operation::answer::Answer;
use crate::operation::operation::Operation;
use crate::place::Place;
use crate::request::hand::Hand;
use crate::request::lease::Lease;
use crate::request::pace::Pace;
use crate::request::request::{Cancel, Request, Served};
use crate::session::counters::Counters;
use crate::session::spread::Spread;
use crate::session::unheard::Unheard;
use crate::site::State;
use crossbeam_channel::{Receiver, Sender, unbounded};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// So many times the limit of cancelled requests may stand in the queue while somebody takes them out.
const SWEPT_LATE: isize = 4;

/// What a session thread can be asked to do.
pub enum SessionJob {
    /// Run one operation.
    Run(Operation),
    /// Serve only these requests until the sender is gone; where it is told why, when that is not the sender's doing.
    Lease(Lease<SessionRequest>, Arc<OnceLock<Failure>>),
}

/// A request for a session thread.
pub type SessionRequest = Arc<Request<SessionJob, Answer>>;

/// One instance.
pub struct Instance {
    /// Where its sessions are.
    pub place: Place,
    /// Numbers for `status`.
    pub counters: Arc<Counters>,
    /// What was said of PINs when nobody listened.
    pub unheard: Arc<Unheard>,
    /// Whether it pays to look for requests, and for the answers of the queue.
    pub pace: Pace,
    /// The same of sessions that serve one caller.
    pub pace_of_leases: Pace,
    limit: usize,
    state: AtomicU8,
    sender: Sender<SessionRequest>,
    receiver: Receiver<SessionRequest>,
    /// Of the thread that looks for requests.
    pub hand: Hand<SessionRequest>,
    /// Where its threads work.
    pub spread: Spread,
    tombstones: Arc<AtomicIsize>,
    /// Whether somebody takes them out.
    sweeping: AtomicBool,
}

impl Instance {
    /// An instance without a token.
    pub fn new(place: Place, queue_limit: usize) -> Self {
        let limit = queue_limit.max(1);
        let (sender, receiver) = unbounded();
        Self {
            counters: place.counters(),
            unheard: place.unheard(),
            place,
            pace: Pace::default(),
            pace_of_leases: Pace::default(),
            limit,
            state: AtomicU8::new(State::Absent as u8),
            sender,
            receiver,
            hand: Hand::default(),
            spread: Spread::default(),
            tombstones: Arc::default(),
            sweeping: AtomicBool::new(false),
        }
    }

    /// The counter of cancelled requests that still stand in the queue.
    pub fn tombstones(&self) -> Arc<AtomicIsize> {
        self.tombstones.clone()
    }

    /// Where the session threads take requests from.
    pub fn queue(&self) -> &Receiver<SessionRequest> {
        &self.receiver
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        let dead = self.tombstones.load(SeqCst).max(0).cast_unsigned();
        self.receiver.len().saturating_sub(dead)
    }

    /// Until when a caller may look for its answer, if that is likely to come soon: nobody is before it.
    pub fn callers_look(&self) -> Option<Instant> {
        let counters = &self.counters;
        let free = counters.busy.load(SeqCst) < counters.sessions.load(SeqCst);
        if free && self.receiver.is_empty() {
            self.pace.callers_look()
        } else {
            None
        }
    }

    /// The current state.
    pub fn state(&self) -> State {
        State::of(self.state.load(SeqCst))
    }

    /// Changes the state; what waits is answered when no session will come for it.
    pub fn set_state(self: &Arc<Self>, state: State) {
        self.state.store(state as u8, SeqCst);
        self.place.set_state(state);
        if state != State::Ready && !self.receiver.is_empty() {
            // Not here: messages cannot be sent from a scheduler in the name of another thread.
            self.elsewhere("cryptoki-drain", Self::drain);
        }
    }

    /// Runs what a scheduler may not.
    fn elsewhere(self: &Arc<Self>, name: &str, work: fn(&Self)) {
        let instance = self.clone();
        self.place.elsewhere(name, move || work(&instance));
    }

    /// Counts a session that serves somebody until it is dropped, whatever happens.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.counters.busy.fetch_add(1, SeqCst);
        Busy(self.clone())
    }

    /// How many requests may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn drain(&self) {
        while let Ok(request) = self.receiver.try_recv() {
            let refusal = match self.state().refusal() {
                Some(refusal) => refusal,
                None => match self.sender.try_send(request.clone()) {
                    Ok(()) => return,
                    Err(_) => queue_full(),
                },
            };
            self.served(request.refuse(refusal));
        }
    }

    /// Queues a request, or says at once why not.
    pub fn submit(self: &Arc<Self>, request: &SessionRequest) -> Result<()> {
        if let Some(refusal) = self.state().refusal() {
            return Err(refusal);
        }
        if self.waiting() >= self.limit {
            return Err(queue_full());
        }
        let dead = self.tombstones.load(SeqCst);
        if dead >= self.limit.cast_signed().saturating_mul(SWEPT_LATE) {
            return Err(queue_full());
        }
        if dead >= self.limit.cast_signed() && !self.sweeping.swap(true, SeqCst) {
            self.elsewhere("cryptoki-sweep", Self::sweep);
        }
        self.put(request.clone())?;
        // The state may have changed in between, and nobody would come for the request.
        match self.state().refusal() {
            Some(refusal) if request.withdraw() => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Into the hand of a thread that looks, or into the queue.
    fn put(&self, request: SessionRequest) -> Result<()> {
        match self.hand.give(request) {
            Ok(()) => Ok(()),
            Err(request) => self.sender.try_send(request).map_err(|_| queue_full()),
        }
    }

    /// Back into the queue, for whoever is free. From a thread of ours.
    pub fn put_back(&self, request: SessionRequest) {
        if let Err(full) = self.sender.try_send(request) {
            full.into_inner().refuse(queue_full());
        }
        // What was out of the queue for a moment may have been missed by who drained it.
        if self.state() != State::Ready {
            self.drain();
        }
    }

    /// Bookkeeping for a request taken out of the queue.
    pub fn served(&self, served: Served) {
        if served == Served::NotRun {
            self.tombstones.fetch_sub(1, SeqCst);
        }
    }

    /// Takes the tombstones out of the queue.
    fn sweep(&self) {
        for _ in 0..self.receiver.len() {
            let Ok(request) = self.receiver.try_recv() else {
                break;
            };
            if request.is_cancelled() {
                self.tombstones.fetch_sub(1, SeqCst);
            } else if self.sender.try_send(request).is_err() {
                break;
            }
        }
        self.sweeping.store(false, SeqCst);
        // What was out of the queue for a moment may have been missed by who drained it.
        if self.state() != State::Ready {
            self.drain();
        }
    }
}

/// A session that serves somebody.
pub struct Busy(Arc<Instance>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.counters.busy.fetch_sub(1, SeqCst);
    }
}

fn queue_full() -> Failure {
    Failure::own(Reason::Busy, "the queue is full")
}
