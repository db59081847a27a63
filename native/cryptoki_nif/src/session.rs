//! A session thread: owns one session handle and is the only caller that ever uses it.

use crate::active::{Active, Begun, flags};
use crate::inject;
use crate::instance::{Instance, SessionJob, SessionRequest};
use crate::operation::Work;
use crate::place::Place;
use crate::quirks;
use crate::request::{Request, Served, encode_failure, panic_failure};
use crate::status::Status;
use crate::tally;
use crate::unheard::Refusal;
use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::panics::guarded;
use cryptoki_ffi::recovery::{Decision, Situation, Then, decide};
use cryptoki_sys as ck;
use cryptoki_sys::{CK_FLAGS, CK_SESSION_HANDLE};
use rustler::{Atom, Encoder, Env, LocalPid, Term};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

mod atoms {
    rustler::atoms! { reopened, lost, ended, overdue, closed, panic }
}

mod objects;

/// Some libraries need more stack than the VM's own threads have.
pub const STACK: usize = 4 << 20;
/// Device errors in a row after which the session is opened anew.
const PATIENCE: u32 = 3;

/// Old sessions that one thread keeps open for the objects made in them.
const RETIRED_LIMIT: usize = 8;

/// What the owner of a session can ask for.
pub enum Command {
    /// Close it and say so.
    Close(Arc<Request<()>>),
}

/// How a thread ends, for its owner.
enum End {
    Closed(Option<Arc<Request<()>>>),
    Lost(Failure),
    Overdue,
    Panicked,
}

/// A session and its thread's state.
pub struct Session {
    status: Arc<Status>,
    place: Place,
    handle: CK_SESSION_HANDLE,
    claim: u64,
    epoch: u64,
    /// How many losses of the instance this session is known to have outlived.
    losses: u64,
    device_errors: u32,
    fate: Option<End>,
    /// The operations the session is in.
    pub active: Active,
    /// A login that the request being served has failed with.
    pub refusal: Option<Refusal>,
    /// The epoch of the instance when the running operation began: that of the handles it gives.
    stamp: u64,
    /// Whether objects were made here that end with the session.
    made_objects: Cell<bool>,
    /// Sessions that are open for the sake of the objects made in them.
    retired: Vec<(CK_SESSION_HANDLE, u64)>,
}

/// Opens a session on a thread of its own and tells the request how to reach it.
pub fn spawn(
    instance: Arc<Instance>,
    owner: LocalPid,
    place: Place,
    request: Arc<Request<()>>,
    resource: impl for<'a> FnOnce(Env<'a>, Sender<Command>, Arc<Status>) -> Term<'a> + Send + 'static,
) -> Result<()> {
    let status = Arc::new(Status::new(instance, owner));
    std::thread::Builder::new()
        .name(format!("cryptoki-{}", status.id))
        .stack_size(STACK)
        .spawn(move || {
            let whereabouts = Arc::default();
            status.instance.follow(&whereabouts);
            whereabouts.follow();
            let (sender, receiver) = unbounded();
            let mut session = Session::new(status.clone(), place);
            // With the status: an owner who gives up marks it overdue, and it counts as one.
            let served = request.serve(Some(&status.clone()), |env, ()| {
                session.open()?;
                Ok(resource(env, sender, status))
            });
            if served == Served::Answered && session.handle != ck::CK_INVALID_HANDLE {
                let end = guarded(|| session.run(&receiver)).unwrap_or(End::Panicked);
                session.finish(end);
            } else {
                session.close_all();
                session.status.settle();
            }
        })
        .map(drop)
        .map_err(|error| Failure::own(Reason::Busy, format!("no thread for a session: {error}")))
}

impl Session {
    fn new(status: Arc<Status>, place: Place) -> Self {
        Self {
            status,
            place,
            handle: ck::CK_INVALID_HANDLE,
            claim: 0,
            epoch: 0,
            losses: 0,
            device_errors: 0,
            fate: None,
            active: Active::default(),
            refusal: None,
            stamp: 0,
            made_objects: Cell::new(false),
            retired: Vec::new(),
        }
    }

    /// The instance of the session.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.status.instance
    }

    fn library(&self) -> &Functions {
        &self.instance().library.functions
    }

    /// The handle; valid until the session is reopened.
    pub fn handle(&self) -> CK_SESSION_HANDLE {
        self.handle
    }

    fn open(&mut self) -> Result<()> {
        inject::place("session open");
        let instance = self.instance().clone();
        instance.found_in(self.place.slot);
        self.take_new()?;
        self.device_errors = 0;
        instance.counters.sessions.fetch_add(1, SeqCst);
        Ok(())
    }

    /// The one way to a session handle: with the epoch of the object handles that it may be given.
    fn take_new(&mut self) -> Result<()> {
        let instance = self.instance().clone();
        // Before: what is lost meanwhile may be this one.
        let losses = instance.losses();
        instance.library.functions.gate.live_now();
        (self.handle, self.claim) = self.place.open_session(&instance.library)?;
        self.epoch = instance.epoch_for_new_session();
        self.losses = losses;
        self.made_objects.set(false);
        self.active = Active::default();
        Ok(())
    }

    fn close(&mut self) {
        if self.handle == ck::CK_INVALID_HANDLE {
            return;
        }
        let made_objects = self.made_objects.take();
        self.close_one(self.handle, self.claim, made_objects);
        self.forget();
    }

    fn forget(&mut self) {
        self.handle = ck::CK_INVALID_HANDLE;
        self.active = Active::default();
        self.instance().counters.sessions.fetch_sub(1, SeqCst);
    }

    fn run(&mut self, commands: &Receiver<Command>) -> End {
        let instance = self.instance().clone();
        loop {
            select_biased! {
                recv(commands) -> command => break End::Closed(command.ok().map(|Command::Close(request)| request)),
                recv(instance.queue()) -> request => match request {
                    Ok(request) => {
                        if guarded(|| self.serve(&request, commands)).is_none() {
                            request.refuse(panic_failure());
                            break End::Panicked;
                        }
                    }
                    Err(_) => break End::Closed(None),
                }
            }
            if let Some(end) = self.fate.take() {
                break end;
            }
        }
    }

    /// Closes all that the thread has; a panic is no reason to count a session that nobody serves.
    fn close_all(&mut self) -> bool {
        let closed = guarded(|| {
            inject::place("session close");
            self.close();
            for (handle, claim) in std::mem::take(&mut self.retired) {
                self.close_one(handle, claim, true);
            }
        });
        if closed.is_none() && self.handle != ck::CK_INVALID_HANDLE {
            let (handle, claim) = (self.handle, self.claim);
            self.instance().library.forget_session(handle, claim);
            self.forget();
        }
        closed.is_some()
    }

    fn finish(&mut self, end: End) {
        self.status.unattended();
        if matches!(end, End::Overdue | End::Panicked) {
            // Whoever gave up, or panicked, is not alone in having objects here.
            let _ = guarded(|| self.keep_objects());
        }
        let closed = self.close_all();
        match end {
            End::Closed(None) if !closed => self.ended(atoms::panic()),
            End::Closed(request) => {
                self.status
                    .tell(|env| (atoms::ended(), atoms::closed()).encode(env));
                if let Some(request) = request {
                    request.serve(None, |env, ()| Ok(crate::request::ok(env)));
                }
            }
            End::Lost(failure) => self
                .status
                .tell(|env| (atoms::lost(), encode_failure(env, &failure)).encode(env)),
            End::Overdue => self.ended(atoms::overdue()),
            End::Panicked => self.ended(atoms::panic()),
        }
        self.status.settle();
    }

    fn ended(&self, why: Atom) {
        self.status.tell(|env| (atoms::ended(), why).encode(env));
    }

    fn serve(&mut self, request: &SessionRequest, commands: &Receiver<Command>) {
        inject::place("session loop");
        let instance = self.instance().clone();
        let _busy = instance.busy();
        let mut leased = None;
        let status = self.status.clone();
        let served = request.serve(Some(&status), |env, job| match job {
            SessionJob::Run(operation) => self.perform(env, &Work::new(&operation, request)),
            SessionJob::Lease(lease) => {
                leased = Some(lease);
                self.ensure_open()?;
                Ok(crate::request::ok(env))
            }
        });
        instance.served(served);
        self.judge(served);
        if let Some(lease) = leased {
            if served == Served::Answered
                && self.fate.is_none()
                && guarded(|| self.serve_leased(&lease.requests, commands)).is_none()
            {
                self.fate = Some(End::Panicked);
            }
            lease.end(|request| {
                request.refuse(Failure::own(
                    Reason::SessionLost,
                    "the leased session has ended",
                ));
            });
        }
    }

    fn judge(&mut self, served: Served) {
        let refusal = self.refusal.take();
        match served {
            Served::Abandoned => self.fate = Some(End::Overdue),
            Served::Panicked => self.fate = Some(End::Panicked),
            Served::Answered | Served::NotRun => return,
            Served::Unheard => {}
        }
        if let Some(refusal) = refusal {
            self.instance().unheard.keep(refusal);
        }
    }

    /// Serves one caller only, until it is done or dead.
    fn serve_leased(&mut self, requests: &Receiver<SessionRequest>, commands: &Receiver<Command>) {
        let status = self.status.clone();
        while self.fate.is_none() {
            select_biased! {
                recv(commands) -> command => {
                    self.fate = Some(End::Closed(command.ok().map(|Command::Close(request)| request)));
                }
                recv(requests) -> request => {
                    let Ok(request) = request else { break };
                    if guarded(|| inject::place("session leased")).is_none() {
                        request.refuse(panic_failure());
                        self.fate = Some(End::Panicked);
                        break;
                    }
                    let served = request.serve(Some(&status), |env, job| match job {
                        SessionJob::Run(operation) => self.perform(env, &Work::new(&operation, &request)),
                        SessionJob::Lease(_) => Err(Failure::own(Reason::InvalidArgument, "a session is leased already")),
                    });
                    self.judge(served);
                }
            }
        }
        // What a caller left behind is dirty: cancelled or closed, never handed on.
        if self.fate.is_none() && self.active.any() {
            self.status.unattended();
            if guarded(|| self.clean()).is_none() {
                self.fate = Some(End::Panicked);
            }
            if !self.status.attended_again() {
                self.fate.get_or_insert(End::Overdue);
            }
        }
    }

    /// Makes sure that the handle is still ours, and that the session lives when another was found lost.
    fn ensure_open(&mut self) -> Result<()> {
        if !self.instance().library.owns(self.handle, self.claim) {
            return self.reopen(&Failure::Rv {
                code: ck::CKR_SESSION_HANDLE_INVALID,
                function: "C_OpenSession",
            });
        }
        let losses = self.instance().losses();
        // One in the middle of an operation is found out by it.
        if self.losses == losses || self.active.any() {
            return Ok(());
        }
        match self.library().session_info(self.handle) {
            Err(failure) if failure.class().is_loss() => {
                self.instance().end_epoch(self.epoch);
                self.reopen(&failure)
            }
            // Whatever else is wrong, the operation says it.
            _ => {
                self.losses = losses;
                Ok(())
            }
        }
    }

    /// Opens the session anew; when that fails the thread has nothing left to serve with.
    fn reopen(&mut self, cause: &Failure) -> Result<()> {
        self.close();
        match self.open() {
            Ok(()) => {
                self.status
                    .tell(|env| (atoms::reopened(), encode_failure(env, cause)).encode(env));
                Ok(())
            }
            Err(failure) => {
                self.fate = Some(End::Lost(failure.clone()));
                Err(failure)
            }
        }
    }

    /// The epoch of the handles that the running operation gives.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Leaves whatever operation the session is in.
    pub fn clean(&mut self) {
        inject::place("session clean");
        let (active, _until_over) = self.active.take();
        if active.is_empty() {
            return;
        }
        let left = active
            .iter()
            .all(|kind| self.library().finish_off(*kind, self.handle));
        if !left {
            // A failure is the end of the thread, which `reopen` has noted.
            let _ = self.cancel(flags(&active));
        }
    }

    /// Leaves one of the operations the session is in; whether it was in it.
    pub fn leave(&mut self, begun: Begun) -> bool {
        let was_in_it = self.active.remove(begun);
        if was_in_it {
            let _until_over = self.active.mechanism(begun.kind);
            if !self.library().finish_off(begun.kind, self.handle) {
                // A failure is the end of the thread, which `reopen` has noted.
                let _ = self.cancel(begun.kind.cancel_flag());
            }
        }
        was_in_it
    }

    /// Cancels operations; where the library cannot, closing the session does it for certain.
    fn cancel(&mut self, operations: CK_FLAGS) -> Result<()> {
        match self.library().session_cancel(self.handle, operations) {
            Ok(()) => Ok(()),
            Err(failure) => self.retire().or_else(|_| self.reopen(&failure)),
        }
    }

    /// Runs one operation by the recovery table.
    fn perform<'a>(&mut self, env: Env<'a>, work: &Work) -> Result<Term<'a>> {
        inject::place("session work");
        self.ensure_open()?;
        let in_operation = self.active.any();
        let failure = match self.attempt(env, work) {
            Ok(term) => return Ok(term),
            Err(failure) => failure,
        };
        let situation = Situation {
            in_operation,
            step: work.operation.is_step(),
            names_objects: !work.operation.handles().is_empty(),
        };
        match decide(failure.class(), situation) {
            Decision::HandOver => Err(failure),
            Decision::Reopen(then) => {
                self.instance().end_epoch(self.epoch);
                self.instance().note_loss();
                let reopened = self.reopen(&failure);
                match then {
                    Then::HandOver => Err(failure),
                    Then::TellLoss => Err(lost(&failure)),
                    Then::LookUp => reopened.and(Err(failure)),
                    Then::Again => {
                        reopened?;
                        self.attempt(env, work)
                    }
                }
            }
            Decision::CancelAndAgain => {
                self.cancel(flags(&Kind::ALL))?;
                self.attempt(env, work)
            }
            Decision::GiveUp => {
                self.clean();
                Err(lost(&failure))
            }
        }
    }

    fn attempt<'a>(&mut self, env: Env<'a>, work: &Work) -> Result<Term<'a>> {
        self.stamp = self.instance().epoch();
        let outcome = self.run_on_objects(env, work).map_err(|failure| {
            let logged_in = self.instance().login_session().is_some();
            quirks::understood(failure, self.library(), self.handle, logged_in)
        });
        tally::count(&self.status, work.operation.works(), outcome.as_ref().err());
        if let Err(failure) = &outcome {
            self.forget_unknown(work.operation.handles(), failure);
            self.react(failure);
        } else {
            self.device_errors = 0;
        }
        outcome
    }

    fn react(&mut self, failure: &Failure) {
        match failure.class() {
            Class::Absent | Class::NotInitialized => {
                self.instance().end_epoch(self.epoch);
                self.fate = Some(End::Lost(failure.clone()));
            }
            Class::Device => {
                self.device_errors += 1;
                // Some libraries call every bad ciphertext a general error. Reopening would cost the
                // objects that were made here: not while the session still answers.
                if self.device_errors >= PATIENCE
                    && (!self.holds_objects() || self.library().session_info(self.handle).is_err())
                {
                    // A failure to reopen is the end of the thread, which `reopen` has noted.
                    let _ = self.reopen(failure);
                }
            }
            _ => {}
        }
    }
}

/// An operation of several parts went with its session, or its login.
fn lost(failure: &Failure) -> Failure {
    Failure::own(Reason::SessionLost, failure.to_string())
}
