//! The connection of one session: the thread that serves it is the only one that ever uses the session.

use crate::inside::Inside;
use crate::log::Log;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::process::link::{Broken, Link};
use cryptoki_engine::process::wire::{Answered, Ask};
use cryptoki_engine::request::handshake::Cancelled;
use cryptoki_engine::request::pace::Pace;
use cryptoki_engine::request::request::{Cancel, Times, panic_failure};
use cryptoki_engine::session::session::Session;
use cryptoki_engine::session::status::{End, Status};
use cryptoki_engine::session::work::{Fate, Work};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::output::Output;
use cryptoki_ffi::panics::guarded;
use cryptoki_ffi::shared;
use cryptoki_ffi::values::wipe;
use std::sync::Arc;

/// Who waits for an answer: as long as nothing comes from there, somebody does.
struct Asker<'l>(&'l Link);

impl Cancel for Asker<'_> {
    fn cancel(&self) -> Cancelled {
        Cancelled::TooLate
    }

    fn withdraw(&self) -> bool {
        false
    }

    fn is_cancelled(&self) -> bool {
        self.0.has_news()
    }

    fn runner(&self) -> Option<Arc<Status>> {
        None
    }

    fn times(&self) -> Times {
        Times::default()
    }
}

/// Serves it until its end.
pub fn serve(inside: &Inside, mut link: Link) {
    let log = Log::default();
    let pace = Pace::default();
    let mut session = None;
    while let Some(ask) = next(&mut link, &pace) {
        let outcome = match &ask {
            Ok(ask) => guarded(|| {
                link.make_room();
                answer(inside, &log, &mut session, ask, &Asker(&link))
            }),
            Err(failure) => Some(Err(failure.clone())),
        };
        let answer = after(inside, &log, &mut session, outcome);
        let sent = link.send(&answer, None);
        if sent.is_ok()
            && matches!(
                &answer.outcome,
                Ok(Answer::Bytes(Output::Lent(_)) | Answer::Secret(Output::Lent(_)))
            )
        {
            shared::sent();
        }
        // Overwriting much takes its time, for which nobody waits.
        drop(ask);
        if let Ok(Answer::Secret(Output::Own(bytes))) = answer.outcome {
            wipe(bytes);
        }
        match sent {
            Ok(()) => {}
            Err(Broken::TooLong) => {
                let failure = Failure::misbehaved("the library", "has answered too much");
                let answer = after(inside, &log, &mut session, Some(Err(failure)));
                if link.send(&answer, None).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    if let Some(mut session) = session {
        let _ = guarded(|| session.close_all());
    }
}

/// What comes next, or that it was too much. Whoever has just answered looks for it a while before it sleeps.
fn next(link: &mut Link, pace: &Pace) -> Option<Result<Ask>> {
    loop {
        if !link.peek() && pace.threads_look() {
            pace.find(|| link.peek().then_some(()));
        }
        match link.receive() {
            // Too late: it was answered.
            Ok(Ask::Abandon) => {}
            Ok(ask) => return Some(Ok(ask)),
            Err(Broken::NoRoom) => {
                let why = "more than the process of the library has memory for: give it in parts, or give it more (memory:)";
                return Some(Err(Failure::own(Reason::InvalidArgument, why)));
            }
            Err(_) => return None,
        }
    }
}

fn answer(
    inside: &Inside,
    log: &Log,
    session: &mut Option<Session>,
    ask: &Ask,
    asker: &Asker,
) -> Result<Answer> {
    if let Ask::Open(token) = ask {
        let site = inside.site()?;
        let whereabouts = Arc::default();
        site.follow(&whereabouts);
        whereabouts.follow();
        let status = Arc::new(Status::new(site.counters.clone(), Box::new(log.clone())));
        let session = session.insert(Session::new(site.clone(), status, token.clone()));
        session.open()?;
        return Ok(Answer::Done);
    }
    let none = || Failure::own(Reason::SessionLost, "the session was not opened");
    let session = session.as_mut().ok_or_else(none)?;
    match ask {
        Ask::Perform(operation) => return session.perform(operation, asker),
        Ask::EnsureOpen => session.ensure_open()?,
        Ask::Clean => session.clean(),
        Ask::KeepObjects => session.keep_objects(),
        Ask::Close => session.close_all(),
        Ask::Open(_) | Ask::Abandon => {}
    }
    Ok(Answer::Done)
}

/// An answer, with what has become of the session. After a panic it serves nobody.
fn after(
    inside: &Inside,
    log: &Log,
    session: &mut Option<Session>,
    outcome: Option<Result<Answer>>,
) -> Answered {
    let panicked = outcome.is_none();
    let fate = session.as_mut().and_then(|session| session.fate.take());
    let fate = fate.filter(|_| !panicked);
    let refusal = session.as_mut().and_then(|session| session.refusal.take());
    Answered {
        outcome: outcome.unwrap_or_else(|| Err(panic_failure())),
        news: log.take(),
        epoch: inside.epoch(),
        open: session.as_ref().is_some_and(Session::is_open),
        in_operation: session.as_ref().is_some_and(Work::is_in_operation),
        fate: fate.or(panicked.then_some(Fate::Over(End::Panic))),
        refusal: refusal.map(|refusal| refusal.failure()),
    }
}
