//! What a session's thread, its callers and its owner know of each other.

use crate::instance::Instance;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

mod atoms {
    rustler::atoms! { cryptoki_session, overdue, cleaning, clean }
}

/// What others may know of a session.
pub struct Status {
    /// Its number, unique in this VM.
    pub id: u64,
    /// Its instance.
    pub instance: Arc<Instance>,
    owner: LocalPid,
    overdue: AtomicBool,
    /// Whether the thread is in a call that no caller waits for.
    unattended: AtomicBool,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl Status {
    /// Of a session that is about to be opened.
    pub fn new(instance: Arc<Instance>, owner: LocalPid) -> Self {
        Self {
            id: IDS.fetch_add(1, SeqCst),
            instance,
            owner,
            overdue: AtomicBool::new(false),
            unattended: AtomicBool::new(false),
        }
    }

    /// A caller gave up on a call that still runs. Called in a NIF of that caller.
    pub fn mark_overdue(&self, env: Env) {
        if !self.overdue.swap(true, SeqCst) {
            self.instance.counters.overdue.fetch_add(1, SeqCst);
            let _ = env.send(
                &self.owner,
                (atoms::cryptoki_session(), self.id, atoms::overdue()),
            );
        }
    }

    /// The owner gives up on a call that no caller waits for. Called in a NIF of the owner.
    pub fn give_up(&self, env: Env) {
        if self.unattended.swap(false, SeqCst) {
            self.mark_overdue(env);
        }
    }

    /// From here on calls are made that no caller waits for; the owner looks after the time.
    pub fn unattended(&self) {
        self.unattended.store(true, SeqCst);
        self.tell(|env| atoms::cleaning().encode(env));
    }

    /// They are over; whether that was before the owner gave up.
    pub fn attended_again(&self) -> bool {
        self.tell(|env| atoms::clean().encode(env));
        self.unattended.swap(false, SeqCst)
    }

    /// From here on nobody can mark it any more.
    pub fn settle(&self) {
        if self.overdue.swap(true, SeqCst) {
            self.instance.counters.overdue.fetch_sub(1, SeqCst);
        }
    }

    /// A message to the owner.
    pub fn tell(&self, event: impl FnOnce(Env<'_>) -> Term<'_>) {
        let _ = OwnedEnv::new().send_and_clear(&self.owner, |env| {
            (atoms::cryptoki_session(), self.id, event(env)).encode(env)
        });
    }
}
