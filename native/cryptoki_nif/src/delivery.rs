//! Answers and events on their way to processes: as messages.

use crate::encode::{Encode, encode, event, panicked};
use crate::inject;
use cryptoki_engine::request::request::{Deliver, Delivered, Times};
use cryptoki_engine::session::status::{Event, Owner, Status};
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::panics::guarded;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};

mod atoms {
    rustler::atoms! { cryptoki_session }
}

/// The process that made a request, and the reference by which it knows the answer.
pub struct Caller {
    env: OwnedEnv,
    reference: SavedTerm,
    process: LocalPid,
}

impl Caller {
    /// The process whose NIF this is.
    pub fn of(env: Env, reference: Term) -> Box<Self> {
        let own = OwnedEnv::new();
        let reference = own.save(reference);
        Box::new(Self {
            env: own,
            reference,
            process: env.pid(),
        })
    }
}

impl<A: Encode> Deliver<A> for Caller {
    fn deliver(self: Box<Self>, outcome: Result<A>, times: Times) -> Delivered {
        let Self {
            mut env,
            reference,
            process,
        } = *self;
        let encoded =
            guarded(|| env.run(|e| env.save(inject::job("request", || encode(e, outcome)))));
        let sent = env.send_and_clear(&process, |e| {
            let answer = match &encoded {
                Some(saved) => saved.load(e),
                None => panicked(e),
            };
            (reference.load(e), answer, (times.waited, times.worked)).encode(e)
        });
        match (encoded, sent) {
            (None, _) => Delivered::Panicked,
            (Some(_), Ok(())) => Delivered::Heard,
            (Some(_), Err(_)) => Delivered::Unheard,
        }
    }
}

/// The process that owns a session.
pub struct Process(pub LocalPid);

impl Owner for Process {
    fn tell(&self, session: u64, what: Event) {
        let _ = OwnedEnv::new().send_and_clear(&self.0, |env| {
            (atoms::cryptoki_session(), session, event(env, &what)).encode(env)
        });
    }
}

/// Tells the owner of a session in a NIF, which may not send in the name of another thread.
pub fn tell_from(env: Env, status: &Status, what: Event) {
    let owner: &dyn std::any::Any = &*status.owner;
    if let Some(Process(process)) = owner.downcast_ref() {
        let message = (atoms::cryptoki_session(), status.id, event(env, &what));
        let _ = env.send(process, message);
    }
}
