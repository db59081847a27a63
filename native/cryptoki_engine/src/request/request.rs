//! One request: what is to be done, who waits for it, and how far it has come.

use crate::request::handshake::{Cancelled, Handshake};
use crate::request::pace::look_until;
use crate::session::status::Status;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::panics::guarded;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Nanoseconds in the queue, and since the request was taken out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In the queue.
    pub waited: u64,
    /// Since then.
    pub worked: u64,
}

/// What has become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The caller has it.
    Heard,
    /// The caller is dead.
    Unheard,
    /// What was to take it there panicked; the caller was told.
    Panicked,
}

/// Where an answer goes: a process of a VM, a socket, a test.
pub trait Deliver<A>: Send {
    /// Takes it there. Does not panic.
    fn deliver(self: Box<Self>, outcome: Result<A>, times: Times) -> Delivered;
}

/// What a request needs besides its state: gone as soon as it is answered or cancelled.
struct Payload<J, A> {
    job: Option<J>,
    delivery: Option<Box<dyn Deliver<A>>>,
    left: Option<(Result<A>, Times)>,
}

/// One request. Callers and threads share it; the handshake says who may do what.
pub struct Request<J, A> {
    handshake: Handshake,
    queued: Instant,
    begun: OnceLock<Instant>,
    payload: Mutex<Payload<J, A>>,
    runner: OnceLock<Arc<Status>>,
    waiting: Option<Arc<AtomicUsize>>,
}

/// How serving a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The caller had given up before: nothing was run.
    NotRun,
    /// The caller has its answer.
    Answered,
    /// The caller is dead.
    Unheard,
    /// It ran, but the caller had given up.
    Abandoned,
    /// Our code panicked; the caller was told.
    Panicked,
}

/// What the caller's side can do with a request of any kind.
pub trait Cancel: Send + Sync {
    /// Gives up; after that no message comes unless the answer says so.
    fn cancel(&self) -> Cancelled;
    /// Gives up what has not begun; false when the message comes, sooner or later.
    fn withdraw(&self) -> bool;
    /// Whether that has happened.
    fn is_cancelled(&self) -> bool;
    /// The session that runs the request.
    fn runner(&self) -> Option<Arc<Status>>;
    /// How long it has taken so far.
    fn times(&self) -> Times;
}

impl<J, A> Request<J, A> {
    /// A request whose answer is delivered. In `waiting` it is counted by whoever queues it, until it is taken or given up.
    pub fn new(
        job: J,
        delivery: Box<dyn Deliver<A>>,
        waiting: Option<Arc<AtomicUsize>>,
    ) -> Arc<Self> {
        Self::with(Handshake::new(), job, Some(delivery), waiting)
    }

    /// One whose caller looks for the answer first, and says where it goes to when it stops looking.
    pub fn looked_for(job: J, waiting: Option<Arc<AtomicUsize>>) -> Arc<Self> {
        Self::with(Handshake::looked_for(), job, None, waiting)
    }

    fn with(
        handshake: Handshake,
        job: J,
        delivery: Option<Box<dyn Deliver<A>>>,
        waiting: Option<Arc<AtomicUsize>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            handshake,
            queued: Instant::now(),
            begun: OnceLock::new(),
            payload: Mutex::new(Payload {
                job: Some(job),
                delivery,
                left: None,
            }),
            runner: OnceLock::new(),
            waiting,
        })
    }

    fn payload<T>(&self, work: impl FnOnce(&mut Payload<J, A>) -> T) -> T {
        work(&mut self.payload.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn waits_no_more(&self) {
        if let Some(waiting) = &self.waiting {
            let one_less = |count: usize| count.checked_sub(1);
            let _ = waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        }
    }

    /// Frees the data of a cancelled request now, not when a thread finds it.
    fn bury(&self) {
        self.waits_no_more();
        let dead = self.payload(|payload| (payload.job.take(), payload.delivery.take()));
        drop(dead);
    }

    /// Looks for the answer until `until`, and takes it if it comes.
    pub fn look(&self, until: Instant) -> Option<(Result<A>, Times)> {
        look_until(until, || self.handshake.is_left().then_some(()))?;
        self.payload(|payload| payload.left.take())
    }

    /// Stops looking: the answer is delivered from now on, unless there is one.
    pub fn look_away(&self, delivery: Box<dyn Deliver<A>>) -> Option<(Result<A>, Times)> {
        self.payload(|payload| payload.delivery = Some(delivery));
        if self.handshake.look_away() {
            return None;
        }
        self.payload(|payload| payload.left.take())
    }

    /// Runs `work` and delivers its outcome to the caller.
    pub fn serve(&self, runner: Option<&Arc<Status>>, work: impl FnOnce(J) -> Result<A>) -> Served {
        if let Some(runner) = runner {
            // Set before the state says RUNNING: whoever cancels then finds it.
            let _ = self.runner.set(runner.clone());
        }
        self.begun.get_or_init(Instant::now);
        if !self.handshake.start() {
            return Served::NotRun;
        }
        self.waits_no_more();
        let Some(job) = self.payload(|payload| payload.job.take()) else {
            return Served::NotRun;
        };
        let ran = guarded(|| work(job));
        let panicked = ran.is_none();
        let delivered = self.answer(ran.unwrap_or_else(|| Err(panic_failure())));
        match delivered {
            _ if panicked => Served::Panicked,
            None => Served::Abandoned,
            Some(Delivered::Heard) => Served::Answered,
            Some(Delivered::Unheard) => Served::Unheard,
            Some(Delivered::Panicked) => Served::Panicked,
        }
    }

    /// Leaves the outcome for a caller that looks for it, or delivers it; none when the caller gave up.
    fn answer(&self, outcome: Result<A>) -> Option<Delivered> {
        let times = self.times_so_far();
        let mut answer = Some((outcome, times));
        if self.handshake.is_looked_for() {
            self.payload(|payload| payload.left = answer.take());
            if self.handshake.leave() {
                return Some(Delivered::Heard);
            }
            answer = self.payload(|payload| payload.left.take());
        }
        if !self.handshake.finish() {
            return None;
        }
        let delivery = self.payload(|payload| payload.delivery.take())?;
        let (outcome, times) = answer?;
        Some(delivery.deliver(outcome, times))
    }

    /// Answers without doing anything.
    pub fn refuse(&self, failure: Failure) -> Served {
        self.serve(None, |_| Err(failure))
    }

    fn times_so_far(&self) -> Times {
        let Some(begun) = self.begun.get() else {
            return Times {
                waited: nanoseconds(self.queued.elapsed()),
                worked: 0,
            };
        };
        Times {
            waited: nanoseconds(begun.duration_since(self.queued)),
            worked: nanoseconds(begun.elapsed()),
        }
    }
}

impl<J: Send, A: Send> Cancel for Request<J, A> {
    fn cancel(&self) -> Cancelled {
        let cancelled = self.handshake.cancel();
        if cancelled == Cancelled::Queued {
            self.bury();
        }
        cancelled
    }

    fn withdraw(&self) -> bool {
        let withdrawn = self.handshake.withdraw();
        if withdrawn {
            self.bury();
        }
        withdrawn
    }

    fn is_cancelled(&self) -> bool {
        self.handshake.is_cancelled()
    }

    fn runner(&self) -> Option<Arc<Status>> {
        self.runner.get().cloned()
    }

    fn times(&self) -> Times {
        self.times_so_far()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is known of a panic.
pub fn panic_failure() -> Failure {
    Failure::own(Reason::Panic, "the native code panicked")
}
