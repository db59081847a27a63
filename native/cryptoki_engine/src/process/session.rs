//! A session in another process, as the thread has it that serves callers with it.

use crate::library::token_in_slot::TokenInSlot;
use crate::operation::answer::Answer;
use crate::operation::login::Login;
use crate::operation::operation::Operation;
use crate::process::fitting;
use crate::process::life::{Life, PAUSE};
use crate::process::link::{Broken, Link};
use crate::process::tasks::{is_of_a_crash, with_a_pin};
use crate::process::wire::{self, Answered, Ask, News, Notice};
use crate::process::worker::Worker;
use crate::request::request::{Cancel, panic_failure};
use crate::session::status::{Event, Status};
use crate::session::unheard::{Refusal, Unheard};
use crate::session::work::{Fate, Work};
use crossbeam_channel::{Receiver, never};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// It.
pub struct Away {
    worker: Arc<Worker>,
    status: Arc<Status>,
    unheard: Arc<Unheard>,
    token: TokenInSlot,
    /// None: there is no connection.
    link: Option<(Arc<Life>, Link)>,
    open: bool,
    in_operation: bool,
    fate: Option<Fate>,
    refusal: Option<Refusal>,
    /// The login that the last operation has failed with.
    refused: Option<Failure>,
}

impl Away {
    /// One that is to be opened.
    pub fn new(
        worker: Arc<Worker>,
        status: Arc<Status>,
        unheard: Arc<Unheard>,
        token: TokenInSlot,
    ) -> Self {
        Self {
            worker,
            status,
            unheard,
            token,
            link: None,
            open: false,
            in_operation: false,
            fate: None,
            refusal: None,
            refused: None,
        }
    }

    fn is(&mut self, open: bool) {
        let sessions = &self.status.counters.sessions;
        match (self.open, open) {
            (false, true) => drop(sessions.fetch_add(1, SeqCst)),
            (true, false) => drop(sessions.fetch_sub(1, SeqCst)),
            _ => {}
        }
        self.open = open;
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, ask: &Ask<&Operation>, caller: Option<&dyn Cancel>) -> Result<Answered> {
        let Some((life, link)) = &mut self.link else {
            let gone = Failure::own(Reason::NoProcess, "the session has no connection");
            return Err(gone);
        };
        let life = life.clone();
        // What is certain not to have been asked is told so.
        if life.is_over() {
            return Err(self.lost(&life, life.gone()));
        }
        let answer = link.send(ask, None).and_then(|()| {
            await_answer(link, &self.worker, caller)?;
            link.receive::<Answered>()
        });
        match answer {
            Ok(answered) => Ok(answered),
            Err(Broken::TooLong) => Err(life.crash(Broken::TooLong)),
            Err(broken) => Err(self.lost(&life, life.crash(broken))),
        }
    }

    /// The process is gone, and the session with it.
    fn lost(&mut self, life: &Life, failure: Failure) -> Failure {
        self.link = None;
        self.in_operation = false;
        self.is(false);
        self.worker.note_end(life);
        self.fate.get_or_insert(Fate::Lost(failure.clone()));
        failure
    }

    /// The same, and notes what has happened meanwhile.
    fn asked(&mut self, ask: &Ask<&Operation>, caller: Option<&dyn Cancel>) -> Result<Answer> {
        let answered = self.ask(ask, caller)?;
        let believed = self.worker.follow(answered.epoch);
        let believed = believed.and_then(|()| fitting::of_session(ask, &answered.outcome));
        if let (Err(broken), Some((life, _link))) = (believed, &self.link) {
            let life = life.clone();
            return Err(self.lost(&life, life.crash(broken)));
        }
        self.is(answered.open);
        self.in_operation = answered.in_operation;
        let mut reopened = None;
        for news in answered.news {
            match news {
                // All else is for this side to say: it closes what it says is over. Of many it is the last that is so.
                News::Told(event @ Event::Reopened(_)) => reopened = Some(event),
                News::Told(_) => {}
                News::Counted(works, failure) => self.status.count(works, failure.as_ref()),
            }
        }
        if let Some(event) = reopened {
            self.status.tell(event);
        }
        self.fate = answered.fate.map(|fate| match fate {
            wire::Fate::Over(end) => Fate::Over(end),
            wire::Fate::Lost(failure) => Fate::Lost(failure),
        });
        self.refused = answered.refusal;
        answered.outcome
    }

    fn done(&mut self, ask: &Ask<&Operation>) -> Result<()> {
        self.asked(ask, None).map(drop)
    }

    /// An operation with a PIN in it, unless there is an answer to that already.
    fn perform_with(
        &mut self,
        login: &Login,
        operation: &Operation,
        caller: &dyn Cancel,
    ) -> Result<Answer> {
        let pin = match login {
            Login::Pin(pin) => Some(pin),
            Login::Without | Login::Protected => None,
        };
        let mut answer = None;
        let unheard = self.unheard.clone();
        let refused = unheard.login(pin, || {
            let asked = self.asked(&Ask::Perform(operation), Some(caller));
            let asked = asked.map_err(with_a_pin);
            // Of a crash nobody may have heard either.
            let crashed = asked
                .as_ref()
                .err()
                .filter(|failure| is_of_a_crash(failure));
            let refused = self.refused.take().or_else(|| crashed.cloned());
            answer = Some(asked);
            refused.map_or(Ok(()), Err)
        });
        let known = refused.err().map(|refusal| {
            let failure = refusal.failure();
            self.refusal = Some(refusal);
            failure
        });
        match (answer, known) {
            (Some(answer), _) => answer,
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(panic_failure()),
        }
    }
}

impl Work for Away {
    fn open(&mut self) -> Result<()> {
        let life = self.worker.life()?;
        let link = life.connect(Notice::Session)?.sharing();
        self.link = Some((life, link));
        let token = self.token.clone();
        self.done(&Ask::Open(token))
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn ensure_open(&mut self) -> Result<()> {
        self.done(&Ask::EnsureOpen)
    }

    fn perform(&mut self, operation: &Operation, caller: &dyn Cancel) -> Result<Answer> {
        match operation.login() {
            None => self.asked(&Ask::Perform(operation), Some(caller)),
            Some(login) => self.perform_with(login, operation, caller),
        }
    }

    fn rest(&mut self) {
        if let Some((_life, link)) = &mut self.link {
            link.overwrite();
        }
    }

    fn is_in_operation(&self) -> bool {
        self.in_operation
    }

    fn clean(&mut self) {
        // A failure is the end of the session, which is noted.
        let _ = self.done(&Ask::Clean);
    }

    fn keep_objects(&mut self) {
        if self.link.is_some() {
            let _ = self.done(&Ask::KeepObjects);
        }
    }

    fn close_all(&mut self) {
        if self.link.is_some() {
            let _ = self.done(&Ask::Close);
        }
        self.drop_all();
    }

    fn drop_all(&mut self) {
        // The other side closes what it has when the connection ends.
        self.link = None;
        self.is(false);
    }

    fn fate(&mut self) -> &mut Option<Fate> {
        &mut self.fate
    }

    fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    fn end(&self) -> Receiver<()> {
        self.link
            .as_ref()
            .map_or_else(never, |(life, _link)| life.end())
    }

    fn note_end(&mut self) {
        if let Some((life, _link)) = &self.link {
            let life = life.clone();
            self.lost(&life, life.crash(Broken::Gone));
        }
    }
}

/// Looks for a while, then sleeps until it comes; tells the other side when nobody waits for it any more.
fn await_answer(
    link: &mut Link,
    worker: &Worker,
    caller: Option<&dyn Cancel>,
) -> std::result::Result<(), Broken> {
    if worker.pace.threads_look() && worker.pace.find(|| link.peek().then_some(())).is_some() {
        return Ok(());
    }
    let mut told = false;
    while !link.wait(PAUSE) {
        if !told && caller.is_some_and(|caller| caller.is_cancelled()) {
            link.send(&Ask::<&Operation>::Abandon, None)?;
            told = true;
        }
    }
    Ok(())
}
