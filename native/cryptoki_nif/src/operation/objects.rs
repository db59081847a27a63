//! Objects and the session itself (sections 5.6.4, 5.6.11 and 5.7).

use super::{At, Reader, Run, run};
use crate::active::Begun;
use crate::decode::{list, ulong};
use crate::info;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::values::{NoValue, Read, Template};
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_UNAVAILABLE_INFORMATION, CKA_TOKEN};
use rustler::{Atom, Encoder, Term};

mod atoms {
    rustler::atoms! { error, template, unavailable, attribute_sensitive, attribute_type_invalid }
}

/// A search begins and ends in one call, or is the one of its session.
const FIND: Begun = Begun {
    kind: Kind::Find,
    number: 0,
};
/// Objects taken from a search at a time.
const BATCH: usize = 256;
/// More than a token has: a search that goes on has no end.
const FOUND_LIMIT: usize = 1 << 20;
/// More than anybody should ask for in one step of a search.
const STEP_LIMIT: usize = 1 << 16;

pub(super) fn decode(operation: &str, arguments: &[Term], read: &mut Reader) -> Option<Run> {
    match (operation, arguments) {
        ("find", &[template, limit]) => {
            let (template, limit) = (read.template(template)?, limit.decode().ok()?);
            run(move |at| find(at, &template, limit).map(|found| at.objects(&found)))
        }
        ("find_init", &[template]) => {
            let template = read.template(template)?;
            run(move |at| find_init(at, &template).map(|()| at.ok()))
        }
        ("find_next", &[limit]) => {
            let limit = limit.decode::<usize>().ok()?.clamp(1, STEP_LIMIT);
            run(move |at| find_next(at, limit).map(|found| at.objects(&found)))
        }
        ("find_final", &[]) => run(|at| {
            at.session.clean();
            Ok(at.ok())
        }),
        ("attributes", &[target, kinds]) => {
            let (target, kinds) = (read.object(target)?, list(kinds, ulong)?);
            run(move |at| {
                let read =
                    at.call(|functions, session| functions.attributes(session, target, &kinds))?;
                Ok(encode_attributes(at, &read).encode(at.env))
            })
        }
        ("set_attributes", &[target, template]) => {
            let (target, template) = (read.object(target)?, read.template(template)?);
            run(move |at| {
                at.call(|functions, session| functions.set_attributes(session, target, &template))?;
                Ok(at.ok())
            })
        }
        ("create", &[template]) => {
            let template = read.template(template)?;
            run(move |at| {
                at.call(|functions, session| functions.create(session, &template))
                    .map(|object| at.made(object, &template))
            })
        }
        ("copy", &[source, template]) => {
            let (source, template) = (read.object(source)?, read.template(template)?);
            run(move |at| {
                at.call(|functions, session| functions.copy(session, source, &template))
                    .map(|object| copied(at, object))
            })
        }
        ("destroy", &[target]) => {
            let target = read.handle(target)?;
            run(move |at| {
                at.session.destroy_object(target)?;
                Ok(at.ok())
            })
        }
        ("object_size", &[target]) => {
            let target = read.object(target)?;
            run(move |at| {
                let size = at.call(|functions, session| functions.object_size(session, target))?;
                Ok(if size == CK_UNAVAILABLE_INFORMATION {
                    atoms::unavailable().encode(at.env)
                } else {
                    size.encode(at.env)
                })
            })
        }
        ("session_info", &[]) => {
            run(|at| at.call(|functions, session| info::session(at.env, functions, session)))
        }
        ("validation_flags", &[kind]) => {
            let kind = ulong(kind)?;
            run(move |at| {
                at.call(|functions, session| functions.validation_flags(session, kind))
                    .map(|flags| flags.encode(at.env))
            })
        }
        _ => None,
    }
}

/// A copy is where its original is, unless the template says something else: the library knows.
fn copied<'a>(at: &At<'a, '_>, object: CK_OBJECT_HANDLE) -> Term<'a> {
    let read = at.call(|functions, session| functions.attributes(session, object, &[CKA_TOKEN]));
    let stored = matches!(
        read.as_deref(),
        Ok([(_, Read::Bytes(bytes))]) if bytes.iter().any(|byte| *byte != 0)
    );
    at.made_object(object, stored)
}

fn find_init(at: &mut At, template: &Template) -> Result<()> {
    at.call(|functions, session| functions.find_init(session, template))?;
    at.session.active.began(FIND, 0);
    Ok(())
}

fn find_next(at: &mut At, limit: usize) -> Result<Vec<CK_OBJECT_HANDLE>> {
    at.step(&[FIND], |functions, session| {
        functions.find_next(session, limit)
    })
}

/// All that match, up to `limit` (0: without limit).
fn find(at: &mut At, template: &Template, limit: usize) -> Result<Vec<CK_OBJECT_HANDLE>> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    find_init(at, template)?;
    let found = collect(at, limit);
    at.session.clean();
    found
}

/// Ends with the objects, with the bound of what a token can have, or when nobody waits for them any more.
fn collect(at: &mut At, limit: usize) -> Result<Vec<CK_OBJECT_HANDLE>> {
    let mut found = Vec::new();
    while found.len() < limit {
        if at.is_abandoned() {
            return Err(Failure::own(Reason::Busy, "nobody waits for the answer"));
        }
        let batch = find_next(at, BATCH.min(limit - found.len()))?;
        if batch.is_empty() {
            break;
        }
        if found.len() + batch.len() > FOUND_LIMIT {
            return Err(Failure::misbehaved(
                "C_FindObjects",
                "finds more objects than a token can have",
            ));
        }
        found.extend(batch);
    }
    Ok(found)
}

fn encode_attributes<'a>(at: &At<'a, '_>, read: &[(u64, Read)]) -> Vec<(u64, Term<'a>)> {
    read.iter()
        .map(|(kind, value)| (*kind, encode_read(at, value)))
        .collect()
}

fn encode_read<'a>(at: &At<'a, '_>, read: &Read) -> Term<'a> {
    match read {
        Read::Bytes(bytes) => at.binary(bytes),
        Read::Template(inner) => (atoms::template(), encode_attributes(at, inner)).encode(at.env),
        Read::Nothing(NoValue::Failed(code)) => (atoms::error(), *code).encode(at.env),
        Read::Nothing(why) => (atoms::error(), no_value(*why)).encode(at.env),
    }
}

fn no_value(why: NoValue) -> Atom {
    match why {
        NoValue::Sensitive => atoms::attribute_sensitive(),
        NoValue::TypeInvalid => atoms::attribute_type_invalid(),
        NoValue::Unavailable | NoValue::Failed(_) => atoms::unavailable(),
    }
}
