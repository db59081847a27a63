//! Objects and the session itself (sections 5.6.4, 5.6.11 and 5.7).

use crate::calls::at::At;
use crate::operation::answer::Answer;
use crate::operation::begun::Begun;
use cryptoki_ffi::attributes::Wanted;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Class, Failure, Result};
use cryptoki_ffi::values::{Handle, Read, Template};
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_ULONG, CK_UNAVAILABLE_INFORMATION, CKA_TOKEN};
use std::time::{Duration, Instant};

/// A search begins and ends in one call.
const FIND: Begun = Begun::in_this_call(Kind::Find);
/// Objects taken from a search at a time.
const BATCH: usize = 256;
/// More than a token has: a search that goes on has no end.
const FOUND_LIMIT: usize = 1 << 20;
/// For how long objects are read before others have their turn with the session.
const TURN: Duration = Duration::from_millis(10);
/// What is read of objects is handed over when it is so much.
const ANSWER_LIMIT: usize = 1 << 20;

/// All that match, up to `limit` (0: without limit).
pub fn find(at: &mut At, template: &Template, limit: usize) -> Result<Answer> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    at.call(|functions, session| functions.find_init(session, template))?;
    at.session.active.began(FIND, 0);
    let found = collect(at, limit);
    at.session.clean();
    Ok(Answer::Objects(at.session.found_objects(&found?)))
}

/// Ends with the objects, with the bound of what a token can have, or when nobody waits for them any more.
fn collect(at: &mut At, limit: usize) -> Result<Vec<CK_OBJECT_HANDLE>> {
    let mut found = Vec::new();
    while found.len() < limit {
        at.ensure_awaited()?;
        let batch = at.step(&[FIND], |functions, session| {
            functions.find_next(session, BATCH.min(limit - found.len()))
        })?;
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

/// `C_GetAttributeValue` of several objects: of the first of them at least, and of so many as come in a turn. One that cannot
/// be read spoils no other; when that is all of them it is the failure.
pub fn attributes_of(at: &mut At, objects: &[Handle], kinds: &[CK_ULONG]) -> Result<Answer> {
    let begun = Instant::now();
    let mut wanted = Wanted::of_many(kinds)?;
    let mut each = Vec::with_capacity(objects.len());
    let mut size = 0;
    for object in objects {
        at.ensure_awaited()?;
        let read = at.call(|functions, session| {
            functions.attributes_of(session, object.number, &mut wanted)
        });
        match read {
            Err(failure) if !matches!(failure.class(), Class::Device | Class::Other) => {
                return Err(failure);
            }
            read => {
                size += read.as_ref().map_or(0, |read| bytes_in(read));
                each.push(read);
            }
        }
        if size >= ANSWER_LIMIT || begun.elapsed() >= TURN {
            break;
        }
    }
    match each.first() {
        Some(Err(failure)) if each.iter().all(Result::is_err) => Err(failure.clone()),
        _ => Ok(Answer::Each(each)),
    }
}

fn bytes_in(read: &[(CK_ULONG, Read)]) -> usize {
    let bytes = |(_, value): &(_, Read)| match value {
        Read::Bytes(bytes) => bytes.len(),
        Read::Template(inner) => bytes_in(inner),
        Read::Nothing(_) => 0,
    };
    read.iter().map(bytes).sum()
}

/// `C_CopyObject`
pub fn copy(at: &mut At, object: Handle, template: &Template) -> Result<Answer> {
    let copy = at.call(|functions, session| functions.copy(session, object.number, template))?;
    let stored = is_stored(at, copy);
    Ok(Answer::Object(at.session.made_object(copy, stored)))
}

/// A copy is where its original is, unless the template says something else: the library knows.
fn is_stored(at: &At, object: CK_OBJECT_HANDLE) -> bool {
    let read = at.call(|functions, session| functions.attributes(session, object, &[CKA_TOKEN]));
    matches!(
        read.as_deref(),
        Ok([(_, Read::Bytes(bytes))]) if bytes.iter().any(|byte| *byte != 0)
    )
}

/// `C_GetObjectSize`
pub fn size(at: &mut At, object: Handle) -> Result<Answer> {
    let size = at.call(|functions, session| functions.object_size(session, object.number))?;
    Ok(if size == CK_UNAVAILABLE_INFORMATION {
        Answer::Unavailable
    } else {
        Answer::Number(size)
    })
}
