//! The NIFs of an instance: they read, enqueue, cancel or close, and return at once. None of them calls a library.

use crate::asking::{ask, asked, noticed, read, resource};
use crate::delivery::Caller;
use crate::encode::encode;
use crate::encoded::Encoded;
use crate::failures::error;
use crate::guard::guard;
use crate::owner::{Process, tell_from};
use crate::resources::{
    InstanceResource, LeaseResource, LibraryResource, RequestResource, SessionResource, give_up,
};
use crate::terms::{self, token_in_slot};
use cryptoki_engine::control::login::Credentials;
use cryptoki_engine::instance::Instance;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::operation::read::Term as _;
use cryptoki_engine::operation::words::Word;
use cryptoki_engine::process::wire::Notice;
use cryptoki_engine::request::handshake::Cancelled;
use cryptoki_engine::request::lease::{Lease, Refused};
use cryptoki_engine::request::pace::Pace;
use cryptoki_engine::request::request::{Request, Times};
use cryptoki_engine::session::status::Event;
use cryptoki_engine::session::told::{Close, SessionJob, SessionRequest};
use cryptoki_engine::session_thread;
use cryptoki_engine::site::State;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::values::Secret;
use rustler::schedule::consume_timeslice;
use rustler::{Encoder, Env, ResourceArc, Term};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

mod atoms {
    rustler::atoms! {
        ok, queued, running, sent, queue, sessions, busy, overdue, worked, epoch, epochs, failing, answered,
    }
}

#[rustler::nif]
fn instance_new<'a>(env: Env<'a>, library: Term<'a>, queue_limit: Term<'a>) -> Encoded {
    guard(env, || {
        let place = resource::<LibraryResource>(library)?.0.place();
        let instance = Instance::new(place, read(queue_limit)?);
        Some(ResourceArc::new(InstanceResource(Arc::new(instance))).encode(env))
    })
}

#[rustler::nif]
fn instance_state<'a>(env: Env<'a>, instance: Term<'a>, state: Term<'a>) -> Encoded {
    guard(env, || {
        let state = match terms::Term(state).word()? {
            Word::absent => State::Absent,
            Word::locked => State::Locked,
            Word::ready => State::Ready,
            Word::shutdown => State::Shutdown,
            _ => return None,
        };
        resource::<InstanceResource>(instance)?.0.set_state(state);
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn instance_info<'a>(env: Env<'a>, instance: Term<'a>) -> Encoded {
    guard(env, || {
        let instance = &resource::<InstanceResource>(instance)?.0;
        let counters = &instance.counters;
        let count = |counter: &AtomicIsize| counter.load(SeqCst).max(0).cast_unsigned() as u64;
        let entries = [
            (atoms::queue(), instance.waiting() as u64),
            (atoms::sessions(), count(&counters.sessions)),
            (atoms::busy(), count(&counters.busy)),
            (atoms::overdue(), count(&counters.overdue)),
            (atoms::worked(), counters.worked.load(SeqCst)),
            (atoms::epoch(), instance.place.epoch()),
            (atoms::epochs(), instance.place.epochs()),
            (atoms::failing(), u64::from(counters.trouble.is_there())),
        ];
        Term::map_from_pairs(env, &entries).ok()
    })
}

#[rustler::nif]
fn bump_epoch<'a>(env: Env<'a>, instance: Term<'a>) -> Encoded {
    guard(env, || {
        resource::<InstanceResource>(instance)?.0.place.bump_epoch();
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn handle_standing<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    instance: Term<'a>,
    handle: Term<'a>,
) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?;
        let notice = Notice::Standing(read(handle)?);
        Some(noticed(env, reference, &instance.0.place, notice))
    })
}

#[rustler::nif]
#[allow(clippy::too_many_arguments)] // C_LoginUser has as many.
fn login<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    instance: Term<'a>,
    token: Term<'a>,
    user: Term<'a>,
    pin: Term<'a>,
    name: Term<'a>,
) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?.0.clone();
        let credentials = Credentials {
            user: read(user)?,
            pin: read(pin)?,
            name: read::<Option<Secret>>(name)?.map(|name| name.to_vec()),
        };
        let token = token_in_slot(token)?;
        Some(ask(env, reference, credentials, |request| {
            instance.place.log_in(token, request)
        }))
    })
}

#[rustler::nif]
fn session_open<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    instance: Term<'a>,
    token: Term<'a>,
) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?.0.clone();
        let token = token_in_slot(token)?;
        let owner = Box::new(Process(env.pid()));
        Some(ask(env, reference, (), |request| {
            session_thread::spawn(instance, owner, token, request)
        }))
    })
}

#[rustler::nif]
fn session_id<'a>(env: Env<'a>, session: Term<'a>) -> Encoded {
    guard(env, || {
        let session = resource::<SessionResource>(session)?;
        Some(session.0.status.id.encode(env))
    })
}

#[rustler::nif]
fn session_overdue<'a>(env: Env<'a>, session: Term<'a>) -> Encoded {
    guard(env, || {
        let status = &resource::<SessionResource>(session)?.0.status;
        if status.give_up() {
            tell_from(env, status, Event::Overdue);
        }
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn session_close<'a>(env: Env<'a>, reference: Term<'a>, session: Term<'a>) -> Encoded {
    guard(env, || {
        let session = resource::<SessionResource>(session)?;
        Some(ask(env, reference, (), |request| {
            let sent = session.0.closer.close(Close::of(request));
            sent.map_err(|unsent| {
                // No thread of the VM delivers an answer.
                unsent.take_back();
                Failure::own(Reason::SessionLost, "the session has ended before")
            })
        }))
    })
}

#[rustler::nif]
fn submit<'a>(env: Env<'a>, reference: Term<'a>, target: Term<'a>, operation: Term<'a>) -> Encoded {
    guard(env, || {
        let operation = Operation::read(terms::Term(operation))?;
        if let Some(instance) = resource::<InstanceResource>(target) {
            let instance = &instance.0;
            let put = |request: &SessionRequest| instance.submit(request);
            let until = instance.callers_look();
            let call = Call {
                operation,
                until,
                waiting: Some(instance.waiters()),
            };
            return Some(run(env, reference, &instance.pace, call, put));
        }
        let leased = resource::<LeaseResource>(target)?;
        let put = |request: &SessionRequest| {
            leased
                .requests
                .put(request.clone())
                .map_err(|refused| match refused {
                    Refused::Shut(_) => leased.why.get().cloned().unwrap_or_else(|| {
                        Failure::own(Reason::SessionLost, "the leased session has ended")
                    }),
                    Refused::Full(_) => {
                        Failure::own(Reason::Busy, "the queue of the session is full")
                    }
                })
        };
        let pace = &leased.instance.pace_of_leases;
        let call = Call {
            operation,
            until: pace.callers_look(),
            waiting: None,
        };
        Some(run(env, reference, pace, call, put))
    })
}

/// An operation to be handed over.
struct Call {
    operation: Operation,
    /// Until when its answer may be looked for.
    until: Option<Instant>,
    /// Where it is counted while it waits.
    waiting: Option<Arc<AtomicUsize>>,
}

/// Hands an operation over. Where the answer is likely to come soon it is looked for here, for less than a NIF may take,
/// and is the NIF's own: `{:answered, answer, times}`. An answer to a PIN is one that a dead caller must not take along.
fn run<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    pace: &Pace,
    call: Call,
    put: impl FnOnce(&SessionRequest) -> Result<()>,
) -> Term<'a> {
    let until = call.until.filter(|_| !call.operation.logs_in());
    let job = SessionJob::Run(call.operation);
    let Some(until) = until else {
        let request = Request::new(job, Caller::of(env, reference), call.waiting);
        return asked(env, put(&request), request);
    };
    let request = Request::looked_for(job, call.waiting);
    if let Err(failure) = put(&request) {
        return error(env, &failure);
    }
    let begun = Instant::now();
    let found = request.look(until);
    let took = begun.elapsed();
    pace.caller_looked(found.is_some(), took);
    // In hundredths of the millisecond that a process has.
    let looked = took.as_micros() / 10;
    consume_timeslice(env, i32::try_from(looked).unwrap_or(100).clamp(1, 100));
    match found.or_else(|| request.look_away(Caller::of(env, reference))) {
        Some((outcome, Times { waited, worked })) => {
            (atoms::answered(), encode(env, outcome), (waited, worked)).encode(env)
        }
        None => asked(env, Ok(()), request),
    }
}

#[rustler::nif]
fn lease_session<'a>(env: Env<'a>, reference: Term<'a>, instance: Term<'a>) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?.0.clone();
        let (lease, requests) = Lease::new(instance.limit());
        let caller = Caller::of(env, reference);
        let why = Arc::default();
        let job = SessionJob::Lease(lease, Arc::clone(&why));
        let request = Request::new(job, caller, Some(instance.waiters()));
        let leased = ResourceArc::new(LeaseResource {
            requests,
            why,
            instance: instance.clone(),
        });
        env.monitor(&leased, &env.pid());
        Some(match instance.submit(&request) {
            Ok(()) => {
                let request = ResourceArc::new(RequestResource(request));
                (atoms::ok(), request, leased).encode(env)
            }
            Err(failure) => error(env, &failure),
        })
    })
}

#[rustler::nif]
fn end_lease<'a>(env: Env<'a>, leased: Term<'a>) -> Encoded {
    guard(env, || {
        resource::<LeaseResource>(leased)?.requests.shut();
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn cancel<'a>(env: Env<'a>, request: Term<'a>) -> Encoded {
    guard(env, || {
        let request = resource::<RequestResource>(request)?;
        let found = give_up(env, &request);
        let Times { waited, worked } = request.0.times();
        Some(match found {
            Cancelled::Queued | Cancelled::Already => {
                (atoms::queued(), (waited + worked, 0)).encode(env)
            }
            Cancelled::TooLate => atoms::sent().encode(env),
            Cancelled::Running => (atoms::running(), (waited, worked)).encode(env),
        })
    })
}

#[rustler::nif]
fn withdraw<'a>(env: Env<'a>, request: Term<'a>) -> Encoded {
    guard(env, || {
        let request = resource::<RequestResource>(request)?;
        let answer = if request.0.withdraw() {
            atoms::queued()
        } else {
            atoms::running()
        };
        Some(answer.encode(env))
    })
}
