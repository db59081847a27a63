//! The NIFs: they decode, enqueue, cancel or close, and return at once. None of them calls a library.

use crate::control::{Credentials, Job, Message, Settings};
use crate::decode;
use crate::encoded::Encoded;
use crate::guard::guard;
use crate::inject;
use crate::instance::{Instance, SessionJob, SessionRequest, State};
use crate::lease::{Lease, Refused};
use crate::library::{Library, Opening};
use crate::operation::Operation;
use crate::request::{Request, encode_failure, panic_failure};
use crate::resources::{
    InstanceResource, LeaseResource, LibraryResource, RequestResource, SessionResource, give_up,
};
use crate::session::{self, Command};
use crate::status::Status;
use crossbeam_channel::Sender;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::handshake::Cancelled;
use cryptoki_ffi::numbers::Standing;
use cryptoki_ffi::panics::guarded;
use rustler::{Atom, Binary, Encoder, Env, Resource, ResourceArc, Term};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

mod atoms {
    rustler::atoms! {
        ok, error, queued, running, sent, queue, sessions, busy, overdue, worked, epoch, epochs,
        current, gone, unknown, failing, control, nil,
    }
}

fn submitted<'a, J: Send + 'static>(env: Env<'a>, request: Arc<Request<J>>) -> Term<'a> {
    (atoms::ok(), ResourceArc::new(RequestResource(request))).encode(env)
}

fn refused<'a>(env: Env<'a>, failure: &Failure) -> Term<'a> {
    (atoms::error(), encode_failure(env, failure)).encode(env)
}

fn resource<T: Resource>(term: Term<'_>) -> Option<ResourceArc<T>> {
    inject::in_nif("decoding");
    term.decode().ok()
}

fn control_request<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    ask: impl FnOnce(Message) -> Result<()>,
    operation: Term<'a>,
) -> Option<Term<'a>> {
    let request = Request::new(env.pid(), reference, None, |_| decode::control(operation))?;
    let message = Message::Request(request.clone());
    Some(asked(env, ask(message), request))
}

fn asked<'a, J: Send + 'static>(
    env: Env<'a>,
    outcome: Result<()>,
    request: Arc<Request<J>>,
) -> Term<'a> {
    match outcome {
        Ok(()) => submitted(env, request),
        Err(failure) => refused(env, &failure),
    }
}

#[rustler::nif]
fn version<'a>(env: Env<'a>) -> Encoded {
    guard(env, || Some(env!("CARGO_PKG_VERSION").encode(env)))
}

#[rustler::nif]
fn open<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    path: Term<'a>,
    init_args: Term<'a>,
    serialized: Term<'a>,
    interface: Term<'a>,
) -> Encoded {
    guard(env, || {
        let path = path.decode::<Binary>().ok()?.to_vec();
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        let init_args = match decode::optional_secret(init_args)? {
            None => None,
            Some(text) => Some(CString::new(text.to_vec()).ok()?),
        };
        let wanted: Option<(u8, u8)> = if decode::is_nil(interface) {
            None
        } else {
            Some(interface.decode().ok()?)
        };
        let settings = Settings {
            init_args,
            serialized: serialized.decode().ok()?,
        };
        let request = Request::new(env.pid(), reference, None, |_| Some(Job::Attach(settings)))?;
        let opening = match Opening::of(&path) {
            Ok(opening) => opening,
            Err(failure) => return Some(refused(env, &failure)),
        };
        let attaching = request.clone();
        // Loading runs the library's constructors, which may take their time.
        let thread = std::thread::Builder::new()
            .name("cryptoki-open".into())
            .stack_size(session::STACK);
        let spawned = thread.spawn(move || {
            let found = guarded(|| {
                inject::place("open thread");
                Library::find(&path, wanted)
            });
            drop(opening);
            match found.unwrap_or_else(|| Err(panic_failure())) {
                Ok(library) => library.tell(Message::Request(attaching)),
                Err(failure) => drop(attaching.refuse(failure)),
            }
        });
        Some(match spawned {
            Ok(_) => submitted(env, request),
            Err(error) => refused(
                env,
                &Failure::own(Reason::LibraryNotLoaded, error.to_string()),
            ),
        })
    })
}

#[rustler::nif]
fn close<'a>(env: Env<'a>, reference: Term<'a>, library: Term<'a>) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        if !library.attached.swap(false, SeqCst) {
            let failure = Failure::own(Reason::Shutdown, "the library was given back before");
            return Some(refused(env, &failure));
        }
        let request = Request::new(env.pid(), reference, None, |_| Some(()))?;
        // Whatever becomes of the caller: the library is given back.
        library.library.tell(Message::Detach(Some(request.clone())));
        Some(submitted(env, request))
    })
}

#[rustler::nif]
fn control<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    library: Term<'a>,
    operation: Term<'a>,
) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        control_request(
            env,
            reference,
            |message| library.library.question(message),
            operation,
        )
    })
}

/// The same for what an instance needs done.
#[rustler::nif]
fn job<'a>(env: Env<'a>, reference: Term<'a>, library: Term<'a>, operation: Term<'a>) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        control_request(
            env,
            reference,
            |message| library.library.ask(message),
            operation,
        )
    })
}

/// The calls that have been in the library for longest: of its control thread, and of the sessions of an
/// instance.
#[rustler::nif]
fn inside<'a>(env: Env<'a>, target: Term<'a>) -> Encoded {
    guard(env, || {
        let (control, session) = if let Some(instance) = resource::<InstanceResource>(target) {
            (instance.0.library.control.now(), instance.0.oldest_call())
        } else {
            let library = resource::<LibraryResource>(target)?;
            (library.library.control.now(), None)
        };
        let entries = [
            (atoms::control(), call(env, control)),
            (atoms::sessions(), call(env, session)),
        ];
        Term::map_from_pairs(env, &entries).ok()
    })
}

/// A function and the milliseconds since it was called.
fn call<'a>(env: Env<'a>, inside: Option<(&'static str, Duration)>) -> Term<'a> {
    let named = inside.and_then(|(function, since)| {
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Some((Atom::from_str(env, function).ok()?, milliseconds))
    });
    match named {
        None => atoms::nil().encode(env),
        Some(call) => call.encode(env),
    }
}

#[rustler::nif]
fn instance_new<'a>(env: Env<'a>, library: Term<'a>, queue_limit: Term<'a>) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        let instance = Instance::new(library.library.clone(), queue_limit.decode().ok()?);
        Some(ResourceArc::new(InstanceResource(Arc::new(instance))).encode(env))
    })
}

#[rustler::nif]
fn instance_state<'a>(env: Env<'a>, instance: Term<'a>, state: Term<'a>) -> Encoded {
    guard(env, || {
        let state = match state.atom_to_string().ok()?.as_str() {
            "absent" => State::Absent,
            "locked" => State::Locked,
            "ready" => State::Ready,
            "shutdown" => State::Shutdown,
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
        let entries = [
            (atoms::queue(), instance.waiting() as u64),
            (
                atoms::sessions(),
                counters.sessions.load(SeqCst).max(0).cast_unsigned() as u64,
            ),
            (
                atoms::busy(),
                counters.busy.load(SeqCst).max(0).cast_unsigned() as u64,
            ),
            (
                atoms::overdue(),
                counters.overdue.load(SeqCst).max(0).cast_unsigned() as u64,
            ),
            (atoms::worked(), counters.worked.load(SeqCst)),
            (atoms::epoch(), instance.epoch()),
            (atoms::epochs(), instance.epochs()),
            (atoms::failing(), u64::from(counters.trouble.is_there())),
        ];
        Term::map_from_pairs(env, &entries).ok()
    })
}

#[rustler::nif]
fn bump_epoch<'a>(env: Env<'a>, instance: Term<'a>) -> Encoded {
    guard(env, || {
        resource::<InstanceResource>(instance)?.0.bump_epoch();
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn handle_standing<'a>(env: Env<'a>, instance: Term<'a>, handle: Term<'a>) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?;
        let standing = match instance.0.standing(&decode::handle(handle)?) {
            Standing::Current => atoms::current(),
            Standing::Gone => atoms::gone(),
            Standing::Unknown => atoms::unknown(),
        };
        Some(standing.encode(env))
    })
}

#[rustler::nif]
#[allow(clippy::too_many_arguments)] // C_LoginUser has as many.
fn login<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    instance: Term<'a>,
    place: Term<'a>,
    user: Term<'a>,
    pin: Term<'a>,
    name: Term<'a>,
) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?.0.clone();
        let library = instance.library.clone();
        let place = decode::place(place)?;
        let request = Request::new(env.pid(), reference, None, |_| {
            Some(Credentials {
                user: decode::ulong(user)?,
                pin: decode::optional_secret(pin)?,
                name: decode::optional_secret(name)?.map(|name| name.to_vec()),
            })
        })?;
        let message = Message::Login(instance, place, request.clone());
        Some(asked(env, library.ask(message), request))
    })
}

#[rustler::nif]
fn session_open<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    instance: Term<'a>,
    place: Term<'a>,
) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?.0.clone();
        let place = decode::place(place)?;
        let request = Request::new(env.pid(), reference, None, |_| Some(()))?;
        let spawned = session::spawn(instance, env.pid(), place, request.clone(), make_session);
        Some(match spawned {
            Ok(()) => submitted(env, request),
            Err(failure) => refused(env, &failure),
        })
    })
}

fn make_session(env: Env<'_>, commands: Sender<Command>, status: Arc<Status>) -> Term<'_> {
    ResourceArc::new(SessionResource { commands, status }).encode(env)
}

#[rustler::nif]
fn session_id<'a>(env: Env<'a>, session: Term<'a>) -> Encoded {
    guard(env, || {
        Some(resource::<SessionResource>(session)?.status.id.encode(env))
    })
}

#[rustler::nif]
fn session_overdue<'a>(env: Env<'a>, session: Term<'a>) -> Encoded {
    guard(env, || {
        resource::<SessionResource>(session)?.status.give_up(env);
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn session_close<'a>(env: Env<'a>, reference: Term<'a>, session: Term<'a>) -> Encoded {
    guard(env, || {
        let session = resource::<SessionResource>(session)?;
        let request = Request::new(env.pid(), reference, None, |_| Some(()))?;
        Some(
            match session.commands.send(Command::Close(request.clone())) {
                Ok(()) => submitted(env, request),
                Err(_) => refused(
                    env,
                    &Failure::own(Reason::SessionLost, "the session has ended before"),
                ),
            },
        )
    })
}

fn session_job(
    env: Env,
    reference: Term,
    instance: &Instance,
    operation: Term,
) -> Option<SessionRequest> {
    Request::new(env.pid(), reference, Some(instance.tombstones()), |place| {
        Operation::decode(operation, place).map(SessionJob::Run)
    })
}

#[rustler::nif]
fn submit<'a>(env: Env<'a>, reference: Term<'a>, target: Term<'a>, operation: Term<'a>) -> Encoded {
    guard(env, || {
        let (request, outcome) = if let Some(instance) = resource::<InstanceResource>(target) {
            let request = session_job(env, reference, &instance.0, operation)?;
            let outcome = instance.0.submit(&request);
            (request, outcome)
        } else {
            let leased = resource::<LeaseResource>(target)?;
            let request = Request::new(env.pid(), reference, None, |place| {
                Operation::decode(operation, place).map(SessionJob::Run)
            })?;
            let outcome = to_leased(&leased, request.clone());
            (request, outcome)
        };
        Some(match outcome {
            Ok(()) => submitted(env, request),
            Err(failure) => refused(env, &failure),
        })
    })
}

fn to_leased(leased: &LeaseResource, request: SessionRequest) -> Result<()> {
    leased
        .requests
        .put(request)
        .map_err(|refused| match refused {
            Refused::Shut(_) => Failure::own(Reason::SessionLost, "the leased session has ended"),
            Refused::Full(_) => Failure::own(Reason::Busy, "the queue of the session is full"),
        })
}

#[rustler::nif]
fn lease_session<'a>(env: Env<'a>, reference: Term<'a>, instance: Term<'a>) -> Encoded {
    guard(env, || {
        let instance = resource::<InstanceResource>(instance)?.0.clone();
        let (lease, requests) = Lease::new(instance.limit());
        let request = Request::new(env.pid(), reference, Some(instance.tombstones()), |_| {
            Some(SessionJob::Lease(lease))
        })?;
        let leased = ResourceArc::new(LeaseResource {
            requests,
            instance: instance.clone(),
        });
        env.monitor(&leased, &env.pid());
        Some(match leased.instance.submit(&request) {
            Ok(()) => (
                atoms::ok(),
                ResourceArc::new(RequestResource(request)),
                leased,
            )
                .encode(env),
            Err(failure) => refused(env, &failure),
        })
    })
}

#[rustler::nif]
fn end_lease<'a>(env: Env<'a>, leased: Term<'a>) -> Encoded {
    guard(env, || {
        resource::<LeaseResource>(leased)?.release();
        Some(atoms::ok().encode(env))
    })
}

#[rustler::nif]
fn cancel<'a>(env: Env<'a>, request: Term<'a>) -> Encoded {
    guard(env, || {
        let request = resource::<RequestResource>(request)?;
        let found = give_up(env, &request);
        let (queue, device) = request.0.times();
        Some(match found {
            Cancelled::Queued | Cancelled::Already => {
                (atoms::queued(), (queue + device, 0)).encode(env)
            }
            Cancelled::TooLate => atoms::sent().encode(env),
            Cancelled::Running => (atoms::running(), (queue, device)).encode(env),
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
