//! The process that owns a session, and what it is told.

use crate::failures;
use cryptoki_engine::session::status::{End, Event, Owner, Status};
use cryptoki_ffi::failure::Failure;
use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, Term};

mod atoms {
    rustler::atoms! {
        cryptoki_session, reopened, lost, ended, overdue, closed, panic, cleaning, clean, failing, working,
    }
}

/// The process.
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

fn event<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    let because =
        |what: Atom, failure: &Failure| (what, failures::failure(env, failure)).encode(env);
    match event {
        Event::Reopened(failure) => because(atoms::reopened(), failure),
        Event::Lost(failure) => because(atoms::lost(), failure),
        Event::Failing(failure) => because(atoms::failing(), failure),
        Event::Ended(end) => (atoms::ended(), self::end(*end)).encode(env),
        Event::Overdue => atoms::overdue().encode(env),
        Event::Cleaning => atoms::cleaning().encode(env),
        Event::Clean => atoms::clean().encode(env),
        Event::Working => atoms::working().encode(env),
    }
}

fn end(end: End) -> Atom {
    match end {
        End::Closed => atoms::closed(),
        End::Overdue => atoms::overdue(),
        End::Panic => atoms::panic(),
    }
}
