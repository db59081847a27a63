//! A session thread: the only caller that ever uses its session. It takes requests from the queue of its instance, runs
//! them by the recovery table, and serves one caller alone for as long as that has a lease.

use crate::inject;
use crate::instance::Instance;
use crate::library::lanes::STACK;
use crate::library::token_in_slot::TokenInSlot;
use crate::operation::answer::Answer;
use crate::place::Place;
use crate::request::queue::Seat;
use crate::request::request::{Cancel, Request, Served, panic_failure};
use crate::session::spread;
use crate::session::status::{End, Event, Owner, Status};
use crate::session::told::{Close, Closer, Next, SessionJob, SessionRequest};
use crate::session::work::{Fate, Work};
use crossbeam_channel::{Receiver, TryRecvError, never, select_biased, unbounded};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::panics::guarded;
use std::sync::Arc;

/// How a session is reached.
pub struct Reach {
    /// Closes it.
    pub closer: Closer,
    /// What may be known of it.
    pub status: Arc<Status>,
}

/// Opens a session on a thread of its own and tells the request how to reach it.
pub fn spawn(
    instance: Arc<Instance>,
    owner: Box<dyn Owner>,
    token: TokenInSlot,
    request: Arc<Request<(), Reach>>,
) -> Result<()> {
    let status = Arc::new(Status::new(instance.counters.clone(), owner));
    std::thread::Builder::new()
        .name(format!("cryptoki-{}", status.id))
        .stack_size(STACK)
        .spawn(move || {
            let whereabouts = Arc::default();
            if let Place::Here(site) = &instance.place {
                site.follow(&whereabouts);
            }
            whereabouts.follow();
            let (told, mailbox) = unbounded();
            let unheard = instance.unheard.clone();
            let session = instance.place.session(status.clone(), unheard, token);
            let mut thread = Thread {
                place: instance.spread.join(),
                seat: instance.queue.seat(told.clone()),
                sits: false,
                instance,
                status: status.clone(),
                session,
                end: never(),
                mailbox,
            };
            // With the status: an owner who gives up marks it overdue, and it counts as one.
            let served = request.serve(Some(&status.clone()), |()| {
                thread.session.open()?;
                thread.end = thread.session.end();
                let closer = Closer::new(told);
                Ok(Reach { closer, status })
            });
            if served == Served::Answered && thread.session.is_open() {
                let last = guarded(|| thread.serve()).unwrap_or(Last::panicked());
                thread.finish(last);
            } else {
                thread.close_all();
                thread.status.settle();
            }
        })
        .map(drop)
        .map_err(|error| Failure::own(Reason::Busy, format!("no thread for a session: {error}")))
}

/// How it ends, and who waits for that.
struct Last {
    fate: Fate,
    request: Option<Close>,
}

impl Last {
    fn panicked() -> Self {
        Self {
            fate: Fate::Over(End::Panic),
            request: None,
        }
    }

    fn closed(request: Option<Close>) -> Self {
        Self {
            fate: Fate::Over(End::Closed),
            request,
        }
    }
}

/// The thread.
struct Thread {
    instance: Arc<Instance>,
    place: spread::Place,
    status: Arc<Status>,
    session: Box<dyn Work>,
    /// Of what its session is in.
    end: Receiver<()>,
    mailbox: Receiver<Next>,
    /// Where it is woken, while it sits.
    seat: Seat<Next>,
    sits: bool,
}

/// What those are told who come to a lease that has ended: with its process nothing of theirs was begun.
fn lease_ended(fate: Option<&Fate>) -> Failure {
    match fate {
        Some(Fate::Lost(Failure::Own {
            reason: Reason::LibraryCrashed | Reason::NoProcess,
            detail,
        })) => Failure::own(Reason::NoProcess, detail.clone()),
        _ => Failure::own(Reason::SessionLost, "the leased session has ended"),
    }
}

impl Thread {
    fn serve(&mut self) -> Last {
        loop {
            let request = match self.next() {
                Next::Request(request) => request,
                Next::Close(request) => return Last::closed(request),
                Next::Look => continue,
                Next::Nothing => return Last::closed(None),
                Next::End => return self.note_end(),
            };
            match guarded(|| self.serve_one(&request)) {
                None => {
                    request.refuse(panic_failure());
                    return Last::panicked();
                }
                Some(Some(last)) => return last,
                Some(None) => {}
            }
            if let Some(fate) = self.session.fate().take() {
                return Last {
                    fate,
                    request: None,
                };
            }
        }
    }

    /// What comes next out of the queue. Whoever has just served looks for it a while before it sleeps.
    fn next(&mut self) -> Next {
        let instance = &self.instance;
        let look = || {
            let told = self.mailbox.try_recv().ok();
            told.or_else(|| instance.queue.pop().map(Next::Request))
        };
        look()
            .or_else(|| {
                if !instance.pace.threads_look() || !instance.hand.open() {
                    return None;
                }
                let given = || instance.hand.take().map(Next::Request);
                let found = instance.pace.find(|| given().or_else(look));
                match (found, instance.hand.close()) {
                    // Both at once: the other one is for whoever is free.
                    (Some(found), Some(last)) => {
                        instance.put_back(last);
                        Some(found)
                    }
                    (found, last) => found.or(last.map(Next::Request)),
                }
            })
            .unwrap_or_else(|| self.wait())
    }

    fn note_end(&mut self) -> Last {
        self.session.note_end();
        let fate = self.session.fate().take();
        Last {
            fate: fate.unwrap_or(Fate::Over(End::Closed)),
            request: None,
        }
    }

    fn wait(&mut self) -> Next {
        self.place.rest();
        loop {
            if let Some(request) = self.instance.queue.pop_or_sit(&self.seat) {
                return Next::Request(request);
            }
            self.sits = true;
            let mut next = select_biased! {
                recv(self.mailbox) -> told => told.unwrap_or(Next::Nothing),
                recv(self.end) -> _ => Next::End,
            };
            if let Next::Look = next {
                if let Err(TryRecvError::Empty) = self.end.try_recv() {
                    self.sits = false;
                    continue;
                }
                next = Next::End;
            }
            self.rise();
            return next;
        }
    }

    /// It takes no more requests.
    fn rise(&mut self) {
        if std::mem::take(&mut self.sits) {
            self.instance.queue.rise(&self.seat);
        }
    }

    /// What comes next from the one caller that it serves, looked for in the same way.
    fn next_leased(&mut self, requests: &Receiver<SessionRequest>) -> Next {
        let instance = &self.instance;
        let look = || {
            let told = self.mailbox.try_recv().ok();
            told.or_else(|| match requests.try_recv() {
                Ok(request) => Some(Next::Request(request)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Next::Nothing),
            })
        };
        let found = look().or_else(|| {
            let pace = &instance.pace_of_leases;
            if !pace.threads_look() || !instance.hand.keep_shut() {
                return None;
            }
            // Whoever looks for what anybody asks goes before.
            let found = pace.find(|| match instance.hand.is_kept_shut() {
                true => look(),
                false => Some(Next::Look),
            });
            instance.hand.let_go();
            found
        });
        match found {
            Some(Next::Look) | None => self.wait_leased(requests),
            Some(next) => next,
        }
    }

    fn wait_leased(&self, requests: &Receiver<SessionRequest>) -> Next {
        self.place.rest();
        select_biased! {
            recv(self.mailbox) -> told => told.unwrap_or(Next::Nothing),
            recv(self.end) -> _ => Next::End,
            recv(requests) -> request => request.map_or(Next::Nothing, Next::Request),
        }
    }

    fn serve_one(&mut self, request: &SessionRequest) -> Option<Last> {
        inject::place("session loop");
        self.place.work(&self.instance.spread);
        let instance = self.instance.clone();
        let _busy = instance.busy();
        let mut leased = None;
        let status = self.status.clone();
        let served = request.serve(Some(&status), |job| match job {
            SessionJob::Run(operation) => self.session.perform(&operation, &**request),
            SessionJob::Lease(lease, why) => {
                leased = Some((lease, why));
                self.session.ensure_open()?;
                Ok(Answer::Done)
            }
        });
        if served == Served::Answered && leased.is_none() {
            instance.pace.worked(request.times().worked);
        }
        self.judge(served);
        let (lease, why) = leased?;
        let mut last = None;
        if served == Served::Answered && self.session.fate().is_none() {
            last = guarded(|| self.serve_leased(&lease.requests)).unwrap_or(Some(Last::panicked()));
        }
        let fate = last.as_ref().map(|last| &last.fate);
        let why = why.get_or_init(|| lease_ended(fate.or(self.session.fate().as_ref())));
        lease.end(|request| {
            request.refuse(why.clone());
        });
        last
    }

    fn judge(&mut self, served: Served) {
        self.session.rest();
        let refusal = self.session.take_refusal();
        match served {
            Served::Abandoned => *self.session.fate() = Some(Fate::Over(End::Overdue)),
            Served::Panicked => *self.session.fate() = Some(Fate::Over(End::Panic)),
            Served::Answered | Served::NotRun => return,
            Served::Unheard => {}
        }
        if let Some(refusal) = refusal {
            self.instance.unheard.keep(refusal);
        }
    }

    /// Serves one caller only, until it is done or dead.
    fn serve_leased(&mut self, requests: &Receiver<SessionRequest>) -> Option<Last> {
        let status = self.status.clone();
        while self.session.fate().is_none() {
            let request = match self.next_leased(requests) {
                Next::Request(request) => request,
                Next::Close(request) => return Some(Last::closed(request)),
                Next::Look => continue,
                Next::Nothing => break,
                Next::End => return Some(self.note_end()),
            };
            self.place.work(&self.instance.spread);
            if guarded(|| inject::place("session leased")).is_none() {
                request.refuse(panic_failure());
                return Some(Last::panicked());
            }
            let served = request.serve(Some(&status), |job| match job {
                SessionJob::Run(operation) => self.session.perform(&operation, &*request),
                SessionJob::Lease(..) => Err(Failure::own(
                    Reason::InvalidArgument,
                    "a session is leased already",
                )),
            });
            if served == Served::Answered {
                let pace = &self.instance.pace_of_leases;
                pace.worked(request.times().worked);
            }
            self.judge(served);
        }
        // What a caller left behind is dirty: cancelled or closed, never handed on.
        let session = &mut self.session;
        if session.fate().is_none() && session.is_in_operation() {
            self.status.unattended();
            if guarded(|| session.clean()).is_none() {
                *session.fate() = Some(Fate::Over(End::Panic));
            }
            if !self.status.attended_again() {
                session.fate().get_or_insert(Fate::Over(End::Overdue));
            }
        }
        None
    }

    /// Closes all that the thread has; a panic is no reason to count a session that nobody serves.
    fn close_all(&mut self) -> bool {
        let closed = guarded(|| self.session.close_all()).is_some();
        if !closed {
            self.session.drop_all();
        }
        closed
    }

    fn finish(&mut self, last: Last) {
        self.rise();
        self.status.unattended();
        if matches!(last.fate, Fate::Over(End::Overdue | End::Panic)) {
            // Whoever gave up, or panicked, is not alone in having objects here.
            let _ = guarded(|| self.session.keep_objects());
        }
        let closed = self.close_all();
        let status = &self.status;
        match last.fate {
            Fate::Over(End::Closed) if !closed && last.request.is_none() => {
                status.tell(Event::Ended(End::Panic));
            }
            Fate::Over(end) => status.tell(Event::Ended(end)),
            Fate::Lost(failure) => status.tell(Event::Lost(failure)),
        }
        drop(last.request);
        status.settle();
    }
}
