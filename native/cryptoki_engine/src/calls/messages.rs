//! Message-based operations (3.0, sections 5.9, 5.11, 5.14 and 5.16).

use crate::calls::at::{At, with};
use crate::calls::raw_rsa;
use crate::operation::answer::Answer;
use crate::operation::begun::Begun;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::values::Parameter;

/// A message in one call. One that fails does not end the operation: the next one may be well.
pub fn message(
    at: &mut At,
    begun: Begun,
    parameter: &Parameter,
    extra: &[u8],
    data: &[u8],
) -> Result<Answer> {
    let kind = begun.kind;
    at.session.active.expect(begun)?;
    raw_rsa::message(at, begun, data.len())?;
    let mechanism = at.session.active.signs_with();
    let (bytes, written) = at.call(|functions, session| {
        functions.message(kind, mechanism, session, parameter, extra, data)
    })?;
    Ok(with(at.result(kind, bytes), Some(written)))
}

/// The begin of a message in parts.
pub fn begin(
    at: &mut At,
    begun: Begun,
    parameter: &Parameter,
    associated: &[u8],
) -> Result<Answer> {
    let kind = begun.kind;
    at.session.active.next_message(kind);
    at.step(&[begun], |functions, session| {
        functions.message_begin(kind, session, parameter, associated)
    })
    .map(Answer::Written)
}

/// A part of it; the last one with the signature to verify.
pub fn next(
    at: &mut At,
    begun: Begun,
    parameter: &Parameter,
    data: &[u8],
    last: Option<&[u8]>,
) -> Result<Answer> {
    let kind = begun.kind;
    raw_rsa::part(at, &[begun], data.len())?;
    let mechanism = at.session.active.signs_with();
    let (bytes, written) = at.step(&[begun], |functions, session| {
        functions.message_next(kind, mechanism, session, parameter, data, last)
    })?;
    Ok(with(at.result(kind, bytes), Some(written)))
}

/// The end of the operation.
pub fn finish(at: &mut At, begun: Begun) -> Result<Answer> {
    at.session.active.end(begun)?;
    let _until_over = at.session.active.mechanism(begun.kind);
    at.call(|functions, session| functions.message_final(begun.kind, session))?;
    Ok(Answer::Done)
}
