//! A request on its way from a caller to a thread and back.

use crate::inject;
use crate::status::Status;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::handshake::{Cancelled, Handshake};
use cryptoki_ffi::panics::guarded;
use rustler::env::SavedTerm;
use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, Term};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

mod atoms {
    rustler::atoms! {
        ok, error, rv, own,
        session, session_closed, login, absent, operation_active, pin, device, not_initialized, other,
        shutdown, token_absent, locked, busy, panic, session_lost, stale_handle,
        operation_not_initialized, data_len_range, encrypted_data_len_range, signature_len_range,
        library_not_loaded, module_misbehaved, invalid_argument,
    }
}

/// What a request needs besides its state: gone as soon as it is answered or cancelled.
struct Payload<J> {
    env: OwnedEnv,
    reference: SavedTerm,
    job: J,
}

/// One request. Callers and threads share it; the handshake says who may do what.
pub struct Request<J> {
    handshake: Handshake,
    caller: LocalPid,
    queued: Instant,
    begun: OnceLock<Instant>,
    payload: Mutex<Option<Payload<J>>>,
    runner: OnceLock<Arc<Status>>,
    tombstones: Option<Arc<AtomicIsize>>,
}

/// How serving a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The caller had given up before: nothing was run.
    NotRun,
    /// The caller has its answer.
    Answered,
    /// The caller is dead.
    Unheard,
    /// It ran, but the caller had given up.
    Abandoned,
    /// Our code panicked; the caller was told.
    Panicked,
}

/// What the caller's side can do with a request of any kind.
pub trait Cancel: Send + Sync {
    /// Gives up; after that no message comes unless the answer says so.
    fn cancel(&self) -> Cancelled;
    /// Gives up what has not begun; false when the message comes, sooner or later.
    fn withdraw(&self) -> bool;
    /// Whether that has happened.
    fn is_cancelled(&self) -> bool;
    /// The session that runs the request.
    fn runner(&self) -> Option<Arc<Status>>;
    /// Nanoseconds in the queue, and since it was taken out of it.
    fn times(&self) -> (u64, u64);
}

impl<J> Request<J> {
    /// A request of the calling process. `tombstones` counts cancelled requests left in a queue.
    pub fn new(
        caller: LocalPid,
        reference: Term,
        tombstones: Option<Arc<AtomicIsize>>,
        job: impl FnOnce(&OwnedEnv) -> Option<J>,
    ) -> Option<Arc<Self>> {
        let env = OwnedEnv::new();
        let reference = env.save(reference);
        let job = job(&env)?;
        Some(Arc::new(Self {
            handshake: Handshake::new(),
            caller,
            queued: Instant::now(),
            begun: OnceLock::new(),
            payload: Mutex::new(Some(Payload {
                env,
                reference,
                job,
            })),
            runner: OnceLock::new(),
            tombstones,
        }))
    }

    fn take(&self) -> Option<Payload<J>> {
        self.payload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Frees the data of a cancelled request now, not when a thread finds it.
    fn bury(&self) {
        if let Some(tombstones) = &self.tombstones {
            tombstones.fetch_add(1, Ordering::Relaxed);
        }
        drop(self.take());
    }

    /// Runs `work` and sends its outcome to the caller, encoded inside the guard.
    pub fn serve<W>(&self, runner: Option<&Arc<Status>>, work: W) -> Served
    where
        W: for<'a> FnOnce(Env<'a>, J) -> Result<Term<'a>>,
    {
        if let Some(runner) = runner {
            // Set before the state says RUNNING: whoever cancels then finds it.
            let _ = self.runner.set(runner.clone());
        }
        let begun = *self.begun.get_or_init(Instant::now);
        if !self.handshake.start() {
            return Served::NotRun;
        }
        let Some(Payload {
            mut env,
            reference,
            job,
        }) = self.take()
        else {
            return Served::NotRun;
        };
        let waited = begun.duration_since(self.queued);
        let ran = guarded(|| {
            env.run(|e| env.save(inject::job("request", e, || encode(e, work(e, job)))))
        });
        let is_panic = ran.is_none();
        let times = (nanoseconds(waited), nanoseconds(begun.elapsed()));
        if !self.handshake.finish() {
            return if is_panic {
                Served::Panicked
            } else {
                Served::Abandoned
            };
        }
        let sent = env.send_and_clear(&self.caller, |e| {
            let answer = match &ran {
                Some(saved) => saved.load(e),
                None => panicked(e),
            };
            (reference.load(e), answer, times).encode(e)
        });
        match (is_panic, sent) {
            (true, _) => Served::Panicked,
            (false, Ok(())) => Served::Answered,
            (false, Err(_)) => Served::Unheard,
        }
    }

    /// Answers without doing anything.
    pub fn refuse(&self, failure: Failure) -> Served {
        self.serve(None, |_, _| Err(failure))
    }
}

impl<J: Send> Cancel for Request<J> {
    fn cancel(&self) -> Cancelled {
        let cancelled = self.handshake.cancel();
        if cancelled == Cancelled::Queued {
            self.bury();
        }
        cancelled
    }

    fn withdraw(&self) -> bool {
        let withdrawn = self.handshake.withdraw();
        if withdrawn {
            self.bury();
        }
        withdrawn
    }

    fn is_cancelled(&self) -> bool {
        self.handshake.is_cancelled()
    }

    fn runner(&self) -> Option<Arc<Status>> {
        self.runner.get().cloned()
    }

    fn times(&self) -> (u64, u64) {
        match self.begun.get() {
            None => (nanoseconds(self.queued.elapsed()), 0),
            Some(begun) => {
                let waited = begun.duration_since(self.queued);
                (nanoseconds(waited), nanoseconds(begun.elapsed()))
            }
        }
    }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `:ok`, `{:ok, value}` or `{:error, failure}`.
pub fn encode<'a>(env: Env<'a>, outcome: Result<Term<'a>>) -> Term<'a> {
    match outcome {
        Ok(term) if atoms::ok() == term => term,
        Ok(term) => (atoms::ok(), term).encode(env),
        Err(failure) => (atoms::error(), encode_failure(env, &failure)).encode(env),
    }
}

/// What is known of a panic.
pub fn panic_failure() -> Failure {
    Failure::own(Reason::Panic, "the native code panicked")
}

/// What a caller is told of it.
pub fn panicked(env: Env<'_>) -> Term<'_> {
    inject::in_nif("answer");
    encode(env, Err(panic_failure()))
}

/// The answer of a call that gives nothing but success.
pub fn ok(env: Env<'_>) -> Term<'_> {
    atoms::ok().encode(env)
}

/// `{:rv, code, function, class}` or `{:own, reason, detail}`.
pub fn encode_failure<'a>(env: Env<'a>, failure: &Failure) -> Term<'a> {
    match failure {
        Failure::Rv { code, function } => {
            let function = Atom::from_str(env, function).unwrap_or_else(|_| atoms::other());
            (atoms::rv(), *code, function, class(failure.class())).encode(env)
        }
        Failure::Own {
            reason: name,
            detail,
        } => (atoms::own(), reason(*name), detail).encode(env),
    }
}

fn class(class: Class) -> Atom {
    match class {
        Class::Session => atoms::session(),
        Class::SessionClosed => atoms::session_closed(),
        Class::Login => atoms::login(),
        Class::Absent => atoms::absent(),
        Class::OperationActive => atoms::operation_active(),
        Class::Pin => atoms::pin(),
        Class::Device => atoms::device(),
        Class::NotInitialized => atoms::not_initialized(),
        Class::Other => atoms::other(),
    }
}

fn reason(reason: Reason) -> Atom {
    match reason {
        Reason::Shutdown => atoms::shutdown(),
        Reason::TokenAbsent => atoms::token_absent(),
        Reason::Locked => atoms::locked(),
        Reason::Busy => atoms::busy(),
        Reason::Panic => atoms::panic(),
        Reason::SessionLost => atoms::session_lost(),
        Reason::StaleHandle => atoms::stale_handle(),
        Reason::OperationNotInitialized => atoms::operation_not_initialized(),
        Reason::DataLenRange => atoms::data_len_range(),
        Reason::EncryptedDataLenRange => atoms::encrypted_data_len_range(),
        Reason::SignatureLenRange => atoms::signature_len_range(),
        Reason::LibraryNotLoaded => atoms::library_not_loaded(),
        Reason::ModuleMisbehaved => atoms::module_misbehaved(),
        Reason::InvalidArgument => atoms::invalid_argument(),
    }
}
