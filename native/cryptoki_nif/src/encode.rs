//! Answers as terms.

use crate::failures::error;
use crate::resources::{BytesResource, LibraryResource, SessionResource};
use cryptoki_engine::control::jobs::Told;
use cryptoki_engine::control::users::Attached;
use cryptoki_engine::held::Held;
use cryptoki_engine::library::info::{LibraryInfo, Slot, Token};
use cryptoki_engine::library::numbers::Standing;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::process::wire::{Call, Noticed};
use cryptoki_engine::process::worker::Worker;
use cryptoki_engine::session_thread::Reach;
use cryptoki_ffi::failure::{Failure, Result};
use cryptoki_ffi::functions::Interface;
use cryptoki_ffi::values::{Handle, NoValue, Read, Secret};
use rustler::{Atom, Encoder, Env, NewBinary, ResourceArc, Term};
use serde::Serialize;
use std::sync::Arc;

mod atoms {
    // Every key and value of the information structures, too, made at load: the bridge falls back to strings for
    // atoms that are not there.
    rustler::atoms! {
        ok, error, nil, own_iv, template, attribute_sensitive, attribute_type_invalid, unavailable,
        __struct__, cryptoki_version, manufacturer, description, version, interface, id, flags,
        hardware_version, firmware_version, token, label, model, serial, max_session_count,
        session_count, max_rw_session_count, rw_session_count, max_pin_len, min_pin_len,
        total_public_memory, free_public_memory, total_private_memory, free_private_memory,
        utc_time, min_key_size, max_key_size, present, infinite, state, slot, device_error, interfaces, name,
        control, sessions, current, gone, unknown,
    }
}

/// Makes the atoms, of which the first use of one makes all.
pub fn prepare_atoms() {
    atoms::nil();
}

/// What is copied into a binary of the VM.
const COPIED: usize = 64 << 10;

/// What can be made a term of.
pub trait Encode: Send + 'static {
    /// Makes it; none: nothing but that it is done.
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>>;
}

/// `:ok`, `{:ok, value}` or `{:error, failure}`.
pub fn encode<A: Encode>(env: Env<'_>, outcome: Result<A>) -> Term<'_> {
    match outcome.and_then(|answer| answer.encode(env)) {
        Ok(None) => atoms::ok().encode(env),
        Ok(Some(term)) => (atoms::ok(), term).encode(env),
        Err(failure) => error(env, &failure),
    }
}

impl Encode for () {
    fn encode(self, _env: Env<'_>) -> Result<Option<Term<'_>>> {
        Ok(None)
    }
}

impl Encode for Attached {
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>> {
        Ok(Some(
            ResourceArc::new(LibraryResource(Held::Here(self))).encode(env),
        ))
    }
}

impl Encode for Arc<Worker> {
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>> {
        Ok(Some(
            ResourceArc::new(LibraryResource(Held::Away(self))).encode(env),
        ))
    }
}

impl Encode for Noticed {
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>> {
        let call = |call: Option<Call>| {
            let named = |call: Call| {
                Atom::from_str(env, call.function)
                    .ok()
                    .zip(Some(call.milliseconds))
            };
            let call = call.and_then(named);
            call.map_or_else(|| atoms::nil().encode(env), |call| call.encode(env))
        };
        Ok(Some(match self {
            Noticed::Done | Noticed::Refused(_) => return Ok(None),
            Noticed::Inside(control, sessions) => {
                let entries = [
                    (atoms::control(), call(control)),
                    (atoms::sessions(), call(sessions)),
                ];
                Term::map_from_pairs(env, &entries).map_err(|_| no_map())?
            }
            Noticed::Standing(Standing::Current) => atoms::current().encode(env),
            Noticed::Standing(Standing::Gone) => atoms::gone().encode(env),
            Noticed::Standing(Standing::Unknown) => atoms::unknown().encode(env),
        }))
    }
}

impl Encode for Reach {
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>> {
        Ok(Some(ResourceArc::new(SessionResource(self)).encode(env)))
    }
}

impl Encode for Answer {
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>> {
        Ok(Some(match self {
            Answer::Done => return Ok(None),
            Answer::OwnIv => atoms::own_iv().encode(env),
            Answer::Bytes(bytes) => owned(env, BytesResource::Open(bytes.own())),
            Answer::Secret(bytes) => owned(env, BytesResource::Secret(bytes.own())),
            Answer::With(result, written) => {
                let result = Encode::encode(*result, env)?;
                (result, binaries(env, &written)).encode(env)
            }
            Answer::Written(written) => binaries(env, &written).encode(env),
            Answer::Otp(parameters) => {
                let parameters = parameters.iter();
                let parameters = parameters.map(|(kind, bytes)| (*kind, binary(env, bytes)));
                parameters.collect::<Vec<_>>().encode(env)
            }
            Answer::Number(number) => number.encode(env),
            Answer::Unavailable => atoms::unavailable().encode(env),
            Answer::Object(object) => handle(object).encode(env),
            Answer::Objects(objects) => {
                let handles: Vec<_> = objects.into_iter().map(handle).collect();
                handles.encode(env)
            }
            Answer::Pair(public, private) => (handle(public), handle(private)).encode(env),
            Answer::Encapsulated(bytes, key) => (binary(env, &bytes), handle(key)).encode(env),
            Answer::Beside(key, keys, written) => {
                let keys: Vec<_> = keys.iter().map(|key| key.map(handle)).collect();
                (key.map(handle), keys, binaries(env, &written)).encode(env)
            }
            Answer::Attributes(read) => attributes(env, &read).encode(env),
            Answer::Each(objects) => {
                let each = objects.iter().map(|read| match read {
                    Ok(read) => values(env, read).encode(env),
                    Err(failure) => error(env, failure),
                });
                each.collect::<Vec<_>>().encode(env)
            }
            Answer::Session(info) => map(env, &info)?,
        }))
    }
}

fn handle(handle: Handle) -> (u64, u64, u64) {
    (handle.number, handle.life, handle.generation)
}

/// Bytes that are handed on as they are where copying them would take its time.
fn owned(env: Env<'_>, bytes: BytesResource) -> Term<'_> {
    if bytes.bytes().len() <= COPIED {
        return binary(env, bytes.bytes());
    }
    let bytes = ResourceArc::new(bytes);
    bytes.make_binary(env, BytesResource::bytes).to_term(env)
}

fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

fn binaries<'a>(env: Env<'a>, all: &[Secret]) -> Vec<Term<'a>> {
    all.iter().map(|bytes| binary(env, bytes)).collect()
}

fn attributes<'a>(env: Env<'a>, read: &[(u64, Read)]) -> Vec<(u64, Term<'a>)> {
    let read = read.iter();
    read.map(|(kind, value)| (*kind, attribute(env, value)))
        .collect()
}

/// The values in the order asked, nil where there is none: of one of many objects nobody wants to know why.
fn values<'a>(env: Env<'a>, read: &[(u64, Read)]) -> Vec<Term<'a>> {
    let value = |(_, value): &(u64, Read)| match value {
        Read::Nothing(_) => atoms::nil().encode(env),
        value => attribute(env, value),
    };
    read.iter().map(value).collect()
}

fn attribute<'a>(env: Env<'a>, read: &Read) -> Term<'a> {
    match read {
        Read::Bytes(bytes) => binary(env, bytes),
        Read::Template(inner) => (atoms::template(), attributes(env, inner)).encode(env),
        Read::Nothing(NoValue::Failed(code)) => (atoms::error(), *code).encode(env),
        Read::Nothing(why) => (atoms::error(), no_value(*why)).encode(env),
    }
}

fn no_value(why: NoValue) -> Atom {
    match why {
        NoValue::Sensitive => atoms::attribute_sensitive(),
        NoValue::TypeInvalid => atoms::attribute_type_invalid(),
        NoValue::Unavailable | NoValue::Failed(_) => atoms::unavailable(),
    }
}

impl Encode for Told {
    fn encode(self, env: Env<'_>) -> Result<Option<Term<'_>>> {
        Ok(Some(match self {
            Told::Done => return Ok(None),
            Told::Library(info, offered) => library(env, &info, &offered)?,
            Told::Slots(all) => slots(env, &all)?,
            Told::Token(info) => map(env, &info)?,
            Told::Mechanisms(all) => all.encode(env),
            Told::Mechanism(info) => map(env, &info)?,
            Told::Presence(all) => {
                let all: Result<Vec<_>> = all.iter().map(|one| map(env, one)).collect();
                all?.encode(env)
            }
            Told::Events(count) => count.encode(env),
        }))
    }
}

fn library<'a>(env: Env<'a>, info: &LibraryInfo, offered: &[Interface]) -> Result<Term<'a>> {
    let interface = |offered: &Interface| {
        let entries = [
            (atoms::name(), offered.name.encode(env)),
            (atoms::version(), offered.version.encode(env)),
            (atoms::flags(), offered.flags.encode(env)),
        ];
        Term::map_from_pairs(env, &entries).map_err(|_| no_map())
    };
    let interfaces: Result<Vec<_>> = offered.iter().map(interface).collect();
    put(
        map(env, info)?,
        atoms::interfaces(),
        interfaces?.encode(env),
    )
}

fn slots<'a>(env: Env<'a>, all: &[(Slot, Result<Option<Token>>)]) -> Result<Term<'a>> {
    let slot = |(slot, token): &(Slot, Result<Option<Token>>)| {
        let token = match token {
            Ok(Some(info)) => map(env, info)?,
            Ok(None) => atoms::nil().encode(env),
            Err(failure) => error(env, failure),
        };
        put(map(env, slot)?, atoms::token(), token)
    };
    let slots: Result<Vec<_>> = all.iter().map(slot).collect();
    Ok(slots?.encode(env))
}

/// A serialised structure as a plain map.
fn map<'a>(env: Env<'a>, structure: &impl Serialize) -> Result<Term<'a>> {
    let term = rustler::serde::to_term(env, structure).map_err(|_| no_map())?;
    let key = atoms::__struct__().encode(env);
    term.map_remove(key).map_err(|_| no_map())
}

/// A map with one more entry.
fn put<'a>(map: Term<'a>, key: Atom, value: Term<'a>) -> Result<Term<'a>> {
    map.map_put(key, value).map_err(|_| no_map())
}

fn no_map() -> Failure {
    Failure::misbehaved("serde", "gave no map")
}
