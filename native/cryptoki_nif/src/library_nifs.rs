//! The NIFs of a library: opened, asked, given back.

use crate::asking::{ask, noticed, read, resource};
use crate::encoded::Encoded;
use crate::guard::guard;
use crate::resources::{InstanceResource, LibraryResource};
use crate::terms;
use cryptoki_engine::control::jobs::Job;
use cryptoki_engine::control::opening;
use cryptoki_engine::held::Held;
use cryptoki_engine::library::initialization::Settings;
use cryptoki_engine::operation::read::is_nil;
use cryptoki_engine::process::tasks;
use cryptoki_engine::process::wire::Notice;
use cryptoki_engine::process::worker::Launch;
use cryptoki_ffi::environment::{self, Variables};
use cryptoki_ffi::values::Secret;
use rustler::{Binary, Encoder, Env, Term};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

mod atoms {
    rustler::atoms! { ok }
}

#[rustler::nif]
fn version<'a>(env: Env<'a>) -> Encoded {
    guard(env, || Some(env!("CARGO_PKG_VERSION").encode(env)))
}

/// `[{name, value}]`
fn variables(term: Term) -> Option<Variables> {
    let pairs: Vec<(Binary, Binary)> = term.decode().ok()?;
    let variable = |(name, value): &(Binary, Binary)| {
        environment::is_valid(name, value).then(|| (text(name), text(value)))
    };
    pairs.iter().map(variable).collect()
}

/// The program in which the library is to run, and how much memory that may have; none: here.
fn program(term: Term) -> Option<Option<(PathBuf, Option<u64>)>> {
    if is_nil(terms::Term(term)) {
        return Some(None);
    }
    let (program, memory): (Binary, Option<u64>) = term.decode().ok()?;
    Some(Some((text(&program).into(), memory)))
}

fn text(bytes: &Binary) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[rustler::nif]
#[allow(clippy::too_many_arguments)] // Each is an option of the start.
fn open<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    path: Term<'a>,
    init_args: Term<'a>,
    serialized: Term<'a>,
    environment: Term<'a>,
    interface: Term<'a>,
    isolation: Term<'a>,
) -> Encoded {
    guard(env, || {
        let path = PathBuf::from(text(&path.decode().ok()?));
        let init_args = match read::<Option<Secret>>(init_args)? {
            None => None,
            Some(text) => Some(CString::new(text.to_vec()).ok()?),
        };
        let settings = Settings {
            init_args,
            serialized: read(serialized)?,
            environment: variables(environment)?,
        };
        let interface = interface.decode().ok()?;
        Some(match program(isolation)? {
            None => ask(env, reference, settings, |request| {
                opening::open(path, interface, request)
            }),
            Some((program, memory)) => {
                let launch = Launch {
                    program,
                    path,
                    interface,
                    settings,
                    memory,
                };
                ask(env, reference, (), |request| tasks::open(launch, request))
            }
        })
    })
}

#[rustler::nif]
fn close<'a>(env: Env<'a>, reference: Term<'a>, library: Term<'a>) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        let give_back = |request| library.0.give_back(request);
        Some(ask(env, reference, (), give_back))
    })
}

/// A question, for which no instance waits.
#[rustler::nif]
fn control<'a>(
    env: Env<'a>,
    reference: Term<'a>,
    library: Term<'a>,
    operation: Term<'a>,
) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        let question = Job::read(terms::Term(operation))?;
        Some(ask(env, reference, question, |request| {
            library.0.question(request)
        }))
    })
}

/// The same for what an instance needs done.
#[rustler::nif]
fn job<'a>(env: Env<'a>, reference: Term<'a>, library: Term<'a>, operation: Term<'a>) -> Encoded {
    guard(env, || {
        let library = resource::<LibraryResource>(library)?;
        let job = Job::read(terms::Term(operation))?;
        Some(ask(env, reference, job, |request| library.0.job(request)))
    })
}

/// The calls that have been in the library for longest: of its control thread, and of the sessions of an
/// instance.
#[rustler::nif]
fn inside<'a>(env: Env<'a>, reference: Term<'a>, target: Term<'a>) -> Encoded {
    guard(env, || {
        if let Some(instance) = resource::<InstanceResource>(target) {
            return Some(noticed(env, reference, &instance.0.place, Notice::Inside));
        }
        let place = resource::<LibraryResource>(target)?.0.place();
        Some(noticed(env, reference, &place, Notice::Inside))
    })
}

/// Ends the process of a library that does not return.
#[rustler::nif]
fn kill<'a>(env: Env<'a>, library: Term<'a>, why: Term<'a>) -> Encoded {
    guard(env, || {
        let why: String = why.decode().ok()?;
        if let Held::Away(worker) = &resource::<LibraryResource>(library)?.0 {
            worker.kill(&why);
        }
        Some(atoms::ok().encode(env))
    })
}
