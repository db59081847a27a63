//! A session at work: each operation runs by the recovery table.

use crate::calls::at::At;
use crate::calls::run::run;
use crate::inject;
use crate::operation::answer::Answer;
use crate::operation::operation::{Class, Operation};
use crate::request::request::Cancel;
use crate::session::active::flags;
use crate::session::recovery::{Decision, Situation, Then, decide};
use crate::session::session::Session;
use crate::session::unheard::Refusal;
use crate::session::work::{Fate, Work};
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::values::Handle;

impl Work for Session {
    fn open(&mut self) -> Result<()> {
        Session::open(self)
    }

    fn is_open(&self) -> bool {
        Session::is_open(self)
    }

    fn ensure_open(&mut self) -> Result<()> {
        Session::ensure_open(self)
    }

    fn perform(&mut self, operation: &Operation, caller: &dyn Cancel) -> Result<Answer> {
        perform(self, operation, caller)
    }

    fn is_in_operation(&self) -> bool {
        self.active.any()
    }

    fn clean(&mut self) {
        Session::clean(self);
    }

    fn keep_objects(&mut self) {
        Session::keep_objects(self);
    }

    fn close_all(&mut self) {
        Session::close_all(self);
    }

    fn drop_all(&mut self) {
        Session::drop_all(self);
    }

    fn fate(&mut self) -> &mut Option<Fate> {
        &mut self.fate
    }

    fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }
}

/// Runs one operation by the recovery table.
fn perform(session: &mut Session, operation: &Operation, caller: &dyn Cancel) -> Result<Answer> {
    inject::place("session work");
    session.ensure_open()?;
    let handles = operation.handles();
    let in_operation = session.active.any();
    let attempt = |session: &mut Session| attempt(session, operation, &handles, caller);
    let failure = match attempt(session) {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    let situation = Situation {
        in_operation,
        step: operation.class() == Class::step,
        names_objects: !handles.is_empty(),
    };
    match decide(failure.class(), situation) {
        Decision::HandOver => Err(failure),
        Decision::Reopen(then) => {
            session.end_epoch();
            session.site.note_loss();
            let reopened = session.reopen(&failure);
            match then {
                Then::HandOver => Err(failure),
                Then::TellLoss => Err(lost(&failure)),
                Then::LookUp => reopened.and(Err(failure)),
                Then::Again => {
                    reopened?;
                    attempt(session)
                }
            }
        }
        Decision::CancelAndAgain => {
            session.cancel(flags(&Kind::ALL))?;
            attempt(session)
        }
        Decision::GiveUp => {
            session.clean();
            Err(lost(&failure))
        }
    }
}

fn attempt(
    session: &mut Session,
    operation: &Operation,
    handles: &[Handle],
    caller: &dyn Cancel,
) -> Result<Answer> {
    session.begin();
    let outcome = on_objects(session, operation, handles, caller)
        .map_err(|failure| session.understand(failure));
    let works = operation.class() != Class::looks;
    session.status.count(works, outcome.as_ref().err());
    if let Err(failure) = &outcome {
        session.forget_unknown(handles, failure);
        session.react(failure);
    } else {
        session.went_well();
    }
    outcome
}

/// Runs it if each handle is the one issued for its object, and keeps that so until it is over.
fn on_objects(
    session: &mut Session,
    operation: &Operation,
    handles: &[Handle],
    caller: &dyn Cancel,
) -> Result<Answer> {
    let library = session.site.library.clone();
    let (slot, stamp) = (session.token.slot, session.stamp());
    let _in_use = Session::use_objects(slot, stamp, &library.numbers, handles)?;
    run(&mut At { session, caller }, operation)
}

/// An operation of several parts went with its session, or its login.
fn lost(failure: &Failure) -> Failure {
    Failure::own(Reason::SessionLost, failure.to_string())
}
