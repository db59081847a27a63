//! Message-based operations (3.0, sections 5.9, 5.11, 5.14 and 5.16).

use super::{Reader, Run, raw_rsa, run};
use crate::active::Begun;
use crate::decode;
use cryptoki_ffi::crypto::Kind;
use rustler::{Encoder, Term};

pub(super) fn decode(operation: &str, arguments: &[Term], read: &mut Reader) -> Option<Run> {
    match (operation, arguments) {
        ("message_init", &[of, m, key, pin]) => {
            let begun = message(of)?;
            let crypto = read.crypto(begun.kind, m, key, pin)?;
            run(move |at| {
                let limit = raw_rsa::limit(at, &crypto)?;
                let mechanism = at.call(|functions, session| {
                    functions.message_init(crypto.kind, session, &crypto.mechanism, crypto.key)
                })?;
                at.log_in_for_use(&crypto)?;
                at.session.active.began(begun, crypto.mechanism.kind);
                at.session.active.keep(crypto.kind, mechanism);
                at.session.active.limit(crypto.kind, limit);
                Ok(at.ok())
            })
        }
        // `extra` is the associated data of a cipher, or the signature to verify.
        ("message", &[of, parameter, extra, data]) => {
            let (begun, parameter) = (message(of)?, decode::parameter(parameter)?);
            let kind = begun.kind;
            let (extra, data) = (read.input(extra)?, read.input(data)?);
            run(move |at| {
                let (extra, data) = (extra.bytes(at)?, data.bytes(at)?);
                at.session.active.expect(begun)?;
                raw_rsa::message(at, begun, data.len())?;
                // A message that fails does not end the operation: the next one may be well.
                let mechanism = at.session.active.signs_with();
                let (bytes, written) = at.call(|functions, session| {
                    functions.message(kind, mechanism, session, &parameter, &extra, &data)
                })?;
                Ok(at.with_written(at.result(kind, bytes), &written))
            })
        }
        ("message_begin", &[of, parameter, associated]) => {
            let (begun, parameter) = (message(of)?, decode::parameter(parameter)?);
            let kind = begun.kind;
            let associated = read.input(associated)?;
            run(move |at| {
                let associated = associated.bytes(at)?;
                at.session.active.next_message(kind);
                let written = at.step(&[begun], |functions, session| {
                    functions.message_begin(kind, session, &parameter, &associated)
                })?;
                Ok(at.binaries(&written).encode(at.env))
            })
        }
        // The signature to verify comes with the last part.
        ("message_next", &[of, parameter, data, last, signature]) => {
            let (begun, parameter) = (message(of)?, decode::parameter(parameter)?);
            let kind = begun.kind;
            let (data, last) = (read.input(data)?, last.decode::<bool>().ok()?);
            let signature = read.input(signature)?;
            run(move |at| {
                let (data, signature) = (data.bytes(at)?, signature.bytes(at)?);
                raw_rsa::part(at, &[begun], data.len())?;
                let mechanism = at.session.active.signs_with();
                let last = last.then_some(&*signature);
                let (bytes, written) = at.step(&[begun], |functions, session| {
                    functions.message_next(kind, mechanism, session, &parameter, &data, last)
                })?;
                Ok(at.with_written(at.result(kind, bytes), &written))
            })
        }
        ("message_final", &[of]) => {
            let begun = message(of)?;
            let kind = begun.kind;
            run(move |at| {
                at.session.active.end(begun)?;
                let _until_over = at.session.active.mechanism(kind);
                at.call(|functions, session| functions.message_final(kind, session))?;
                Ok(at.ok())
            })
        }
        _ => None,
    }
}

/// A message-based operation.
fn message(term: Term) -> Option<Begun> {
    let begun = decode::begun(term)?;
    let messages = [
        Kind::MessageSign,
        Kind::MessageVerify,
        Kind::MessageEncrypt,
        Kind::MessageDecrypt,
    ];
    messages.contains(&begun.kind).then_some(begun)
}
