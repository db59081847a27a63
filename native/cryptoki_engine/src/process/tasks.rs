//! What the control thread of this side does for a library in a process of its own. As in the VM itself, what was given up
//! before it begins is not begun, and a PIN is taken when it can be handed over.

use crate::control::jobs::{Job, Told};
use crate::control::login::Credentials;
use crate::control::task::answered;
use crate::library::lanes::Task;
use crate::library::token_in_slot::TokenInSlot;
use crate::process::life::{PAUSE, spawn};
use crate::process::wire::Order;
use crate::process::worker::{Launch, Seat, Worker};
use crate::request::request::{Cancel, Request, Served};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use std::sync::Arc;

/// Starts the process of a library, and answers with it.
pub fn open(launch: Launch, request: Arc<Request<(), Arc<Worker>>>) -> Result<()> {
    let worker = Arc::new(Worker::new(launch)?);
    let started = worker.clone();
    worker
        .lanes
        .ask(answered(request.clone(), move |seat, asked| {
            asked.serve(None, |()| {
                let _watched = watched(&started, request)?;
                started.start(seat)?;
                Ok(started)
            })
        }))
}

/// Ends the process when nobody waits for it any more, for as long as what is answered is kept.
fn watched(worker: &Arc<Worker>, request: Arc<Request<(), Arc<Worker>>>) -> Result<Sender<()>> {
    let (kept, started) = bounded::<()>(0);
    let worker = Arc::downgrade(worker);
    spawn("cryptoki-start", move || {
        while started.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            match worker.upgrade() {
                Some(worker) if request.is_cancelled() => {
                    worker.kill("nobody waited for its start any more");
                }
                Some(_) => {}
                None => return,
            }
        }
    })?;
    Ok(kept)
}

/// A job.
pub fn job(worker: Arc<Worker>, request: Arc<Request<Job, Told>>) -> Task<Seat> {
    answered(request, move |seat, request| {
        worker.settle(seat);
        request.serve(None, |job| match job {
            Job::Reinitialize => worker.restart(seat),
            job => worker.order(seat, &Order::Job(job)),
        })
    })
}

/// A login. While the request is not taken no PIN has left this process, and its caller may withdraw it.
pub fn login(
    worker: Arc<Worker>,
    token: TokenInSlot,
    request: Arc<Request<Credentials, ()>>,
) -> Task<Seat> {
    answered(request, move |seat, request| {
        if request.is_cancelled() {
            return Served::NotRun;
        }
        worker.settle(seat);
        match worker.order(seat, &Order::Prepare(token.clone())) {
            Ok(_) => request.serve(None, |credentials| {
                let order = Order::LogIn(token, credentials);
                worker.order(seat, &order).map(drop).map_err(with_a_pin)
            }),
            Err(failure) => request.refuse(failure),
        }
    })
}

/// What is told of a crash when the library may have had a PIN.
pub fn with_a_pin(failure: Failure) -> Failure {
    match failure {
        Failure::Own {
            reason: Reason::LibraryCrashed | Reason::ModuleMisbehaved,
            detail,
        } => Failure::own(Reason::CrashedInLogin, detail),
        other => other,
    }
}

/// Whether the library may have had a PIN when it crashed.
pub fn is_of_a_crash(failure: &Failure) -> bool {
    let reason = Reason::CrashedInLogin;
    matches!(failure, Failure::Own { reason: told, .. } if *told == reason)
}

/// Gives the library back, and ends its process.
pub fn close(worker: &Arc<Worker>, request: Arc<Request<(), ()>>) {
    let closed = worker.clone();
    worker.lanes.tell(answered(request, move |seat, request| {
        let outcome = closed.close(seat);
        request.serve(None, |()| outcome)
    }));
    worker.bound_the_end();
}
