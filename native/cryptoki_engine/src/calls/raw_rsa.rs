//! What `CKM_RSA_X_509` may be given: no more than the modulus has. SoftHSM ends the process at more (`exit(5)`), and
//! in a verification the data is a stranger's.

use crate::calls::at::{At, Crypto};
use crate::operation::begun::Begun;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::values::Read;
use cryptoki_sys as ck;

/// Shorter than every modulus that a token has.
const SHORT: usize = 64;

/// Refuses data for one call that is too long.
pub fn check(at: &At, crypto: &Crypto, length: usize) -> Result<()> {
    if crypto.mechanism.kind != ck::CKM_RSA_X_509 || length <= SHORT {
        return Ok(());
    }
    match modulus(at, crypto)? {
        Some(modulus) if length > modulus => Err(too_long(crypto.kind)),
        _ => Ok(()),
    }
}

/// How much an operation in parts, or each message of one, takes; `None` where that is for the token to say.
pub fn limit(at: &At, crypto: &Crypto) -> Result<Option<usize>> {
    if crypto.mechanism.kind == ck::CKM_RSA_X_509 {
        modulus(at, crypto)
    } else {
        Ok(None)
    }
}

/// A part of it: what is too long ends the operation, as the library's own refusal would.
pub fn part(at: &mut At, steps: &[Begun], length: usize) -> Result<()> {
    for begun in steps {
        at.session.active.expect(*begun)?;
        if !at.session.active.takes(begun.kind, length) {
            at.session.leave(*begun);
            return Err(too_long(begun.kind));
        }
    }
    Ok(())
}

/// A message in one call: one that is too long leaves the operation to the next.
pub fn message(at: &mut At, begun: Begun, length: usize) -> Result<()> {
    at.session.active.next_message(begun.kind);
    if at.session.active.takes(begun.kind, length) {
        Ok(())
    } else {
        Err(too_long(begun.kind))
    }
}

/// How many bytes the modulus of the key has; `None` where the token does not show it: then it has to look itself.
fn modulus(at: &At, crypto: &Crypto) -> Result<Option<usize>> {
    let read = at
        .call(|functions, session| functions.attributes(session, crypto.key(), &[ck::CKA_MODULUS]));
    match read {
        Ok(read) => Ok(match read.first() {
            Some((_, Read::Bytes(bytes))) if !bytes.is_empty() => {
                let leading = bytes.iter().take_while(|byte| **byte == 0).count();
                Some(bytes.len() - leading)
            }
            _ => None,
        }),
        Err(failure) if matches!(failure.class(), Class::Other | Class::Device) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn too_long(kind: Kind) -> Failure {
    let reason = match kind {
        Kind::Decrypt | Kind::MessageDecrypt => Reason::EncryptedDataLenRange,
        Kind::VerifyRecover => Reason::SignatureLenRange,
        _ => Reason::DataLenRange,
    };
    Failure::own(reason, "it is longer than the modulus of the key")
}
