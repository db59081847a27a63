//! The queue of an instance: what its callers ask for, its session threads take.

use crate::place::Place;
use crate::request::hand::Hand;
use crate::request::pace::Pace;
use crate::request::queue::Queue;
use crate::request::request::Cancel;
use crate::session::counters::Counters;
use crate::session::spread::Spread;
use crate::session::told::{Next, SessionRequest};
use crate::session::unheard::Unheard;
use crate::site::State;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

/// Where so many times the limit of cancelled requests stand in the queue, nobody waits for who is to take them out.
const SWEPT_LATE: usize = 4;

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
    /// Where the session threads take requests from.
    pub queue: Queue<SessionRequest, Next>,
    /// Of the thread that looks for requests.
    pub hand: Hand<SessionRequest>,
    /// Where its threads work.
    pub spread: Spread,
    waiting: Arc<AtomicUsize>,
    /// Whether somebody takes them out.
    sweeping: AtomicBool,
}

impl Instance {
    /// An instance without a token.
    pub fn new(place: Place, queue_limit: usize) -> Self {
        let limit = queue_limit.max(1);
        let (counters, unheard) = place.shared();
        Self {
            counters,
            unheard,
            place,
            pace: Pace::default(),
            pace_of_leases: Pace::default(),
            limit,
            state: AtomicU8::new(State::Absent as u8),
            queue: Queue::default(),
            hand: Hand::default(),
            spread: Spread::default(),
            waiting: Arc::default(),
            sweeping: AtomicBool::new(false),
        }
    }

    /// Where requests are counted from being queued until a thread takes them or their callers give up.
    pub fn waiters(&self) -> Arc<AtomicUsize> {
        self.waiting.clone()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Until when a caller may look for its answer, if that is likely to come soon: nobody is before it.
    pub fn callers_look(&self) -> Option<Instant> {
        let counters = &self.counters;
        let free = counters.busy.load(SeqCst) < counters.sessions.load(SeqCst);
        if free && self.queue.is_empty() {
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
        if state != State::Ready && !self.queue.is_empty() {
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
        while let Some(request) = self.queue.pop() {
            match self.state().refusal() {
                Some(refusal) => drop(request.refuse(refusal)),
                None => {
                    self.queue.put(request);
                    // It may have changed again, when this was not in the queue.
                    if self.state() == State::Ready {
                        return;
                    }
                }
            }
        }
    }

    /// Queues a request, or says at once why not.
    pub fn submit(self: &Arc<Self>, request: &SessionRequest) -> Result<()> {
        if let Some(refusal) = self.state().refusal() {
            return Err(refusal);
        }
        // Cancelled requests stand there until they are taken out.
        let dead = self.queue.len().saturating_sub(self.waiting());
        if dead >= self.limit.saturating_mul(SWEPT_LATE) {
            self.take_out();
            if self.state() != State::Ready {
                self.elsewhere("cryptoki-drain", Self::drain);
            }
        } else if dead >= self.limit && !self.sweeping.swap(true, SeqCst) {
            self.elsewhere("cryptoki-sweep", Self::sweep);
        }
        let one_more = |waiting| (waiting < self.limit).then_some(waiting + 1);
        if self.waiting.fetch_update(SeqCst, SeqCst, one_more).is_err() {
            return Err(Failure::own(Reason::Busy, "the queue is full"));
        }
        if let Err(request) = self.hand.give(request.clone()) {
            self.queue.put(request);
        }
        // The state may have changed in between, and nobody would come for the request.
        match self.state().refusal() {
            Some(refusal) if request.withdraw() => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Back into the queue, for whoever is free. From a thread of ours.
    pub fn put_back(&self, request: SessionRequest) {
        self.queue.put(request);
        // What was out of the queue for a moment may have been missed by who drained it.
        if self.state() != State::Ready {
            self.drain();
        }
    }

    fn take_out(&self) {
        self.queue.sweep(|request| !request.is_cancelled());
    }

    /// Takes out of the queue what was cancelled.
    fn sweep(&self) {
        self.take_out();
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
