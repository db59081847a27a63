//! Answers on their way to processes: as messages.

use crate::encode::{Encode, encode};
use crate::failures::panicked;
use crate::inject;
use cryptoki_engine::request::request::{Deliver, Delivered, Times};
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::panics::guarded;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};

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
