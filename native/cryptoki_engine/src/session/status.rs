//! What a session's thread, its callers and its owner know of each other.

use crate::session::counters::Counters;
use cryptoki_ffi::failure::Failure;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It was closed.
    Closed,
    /// A caller gave up on its last call.
    Overdue,
    /// Our code panicked.
    Panic,
}

/// What the owner of a session is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It was opened anew, because of this.
    Reopened(Failure),
    /// It is lost, because of this.
    Lost(Failure),
    /// It is over.
    Ended(End),
    /// A caller gave up on a call that still runs.
    Overdue,
    /// Calls are made that no caller waits for.
    Cleaning,
    /// They are over.
    Clean,
    /// The device is in trouble.
    Failing(Failure),
    /// It is not any more.
    Working,
}

/// Who opened a session and looks after it: a process of a VM, a test.
pub trait Owner: Any + Send + Sync {
    /// Something has happened to the session with this number. From a thread of ours.
    fn tell(&self, session: u64, event: Event);

    /// An operation has succeeded or failed; see [`Status::count`].
    fn counted(&self, _works: bool, _failure: Option<&Failure>) {}
}

/// What others may know of a session.
pub struct Status {
    /// Its number, unique in this process.
    pub id: u64,
    /// Those of its instance.
    pub counters: Arc<Counters>,
    /// Its owner.
    pub owner: Box<dyn Owner>,
    overdue: AtomicBool,
    /// Whether the thread is in a call that no caller waits for.
    unattended: AtomicBool,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl Status {
    /// Of a session that is about to be opened.
    pub fn new(counters: Arc<Counters>, owner: Box<dyn Owner>) -> Self {
        Self {
            id: IDS.fetch_add(1, SeqCst),
            counters,
            owner,
            overdue: AtomicBool::new(false),
            unattended: AtomicBool::new(false),
        }
    }

    /// A caller gave up on a call that still runs; whether the owner has to be told.
    #[must_use]
    pub fn mark_overdue(&self) -> bool {
        let first = !self.overdue.swap(true, SeqCst);
        if first {
            self.counters.overdue.fetch_add(1, SeqCst);
        }
        first
    }

    /// The owner gives up on a call that no caller waits for; whether it has to be told.
    #[must_use]
    pub fn give_up(&self) -> bool {
        self.unattended.swap(false, SeqCst) && self.mark_overdue()
    }

    /// From here on calls are made that no caller waits for; the owner looks after the time.
    pub fn unattended(&self) {
        self.unattended.store(true, SeqCst);
        self.tell(Event::Cleaning);
    }

    /// They are over; whether that was before the owner gave up.
    pub fn attended_again(&self) -> bool {
        self.tell(Event::Clean);
        self.unattended.swap(false, SeqCst)
    }

    /// From here on nobody can mark it any more.
    pub fn settle(&self) {
        if self.overdue.swap(true, SeqCst) {
            self.counters.overdue.fetch_sub(1, SeqCst);
        }
    }

    /// Tells the owner.
    pub fn tell(&self, event: Event) {
        self.owner.tell(self.id, event);
    }

    /// Counts an operation of the session; `works` says that its success shows that the device does.
    pub fn count(&self, works: bool, failure: Option<&Failure>) {
        self.owner.counted(works, failure);
        let trouble = &self.counters.trouble;
        match failure {
            None => {
                if works {
                    self.counters.worked.fetch_add(1, Relaxed);
                }
                if trouble.succeeded(works) {
                    self.tell(Event::Working);
                }
            }
            Some(failure) => {
                if trouble.failed(works, failure) {
                    self.tell(Event::Failing(failure.clone()));
                }
            }
        }
    }
}
