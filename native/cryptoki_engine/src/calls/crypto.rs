//! Signing, verifying, encrypting, decrypting, digesting, random numbers (sections 5.8 to 5.16, 5.19).

use crate::calls::at::{At, Crypto, number};
use crate::calls::raw_rsa;
use crate::operation::answer::Answer;
use crate::operation::begun::Begun;
use crate::operation::operation::Key;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::dual::Dual;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_ffi::otp;
use zeroize::Zeroizing;

/// Data in, bytes out, in one call.
pub fn single(at: &mut At, crypto: &Crypto, data: &[u8]) -> Result<Answer> {
    raw_rsa::check(at, crypto, data.len())?;
    let mechanism = begin(at, crypto, None)?;
    let bytes = at.call(|functions, session| {
        functions.single(crypto.kind, crypto.mechanism.kind, session, data)
    })?;
    let result = at.result(crypto.kind, bytes);
    Ok(at.with_own_iv(crypto.kind, result, Some(mechanism)))
}

/// What comes back is a structure with pointers, and is read where it lies.
pub fn sign_otp(at: &mut At, crypto: &Crypto, data: &[u8]) -> Result<Answer> {
    let _until_over = begin(at, crypto, None)?;
    let parameters = at.call(|functions, session| {
        let answer = functions.sign_in_place(crypto.mechanism.kind, session, data)?;
        otp::parameters(&answer)
    })?;
    Ok(Answer::Otp(parameters))
}

/// `C_Verify`
pub fn verify(at: &mut At, crypto: &Crypto, data: &[u8], signature: &[u8]) -> Result<Answer> {
    raw_rsa::check(at, crypto, data.len())?;
    let _until_over = begin(at, crypto, None)?;
    at.done(|functions, session| functions.verify(session, data, signature))
}

/// `C_VerifySignature` (3.2): the signature comes first, the data after it.
pub fn verify_signature(
    at: &mut At,
    crypto: &Crypto,
    data: &[u8],
    signature: &[u8],
) -> Result<Answer> {
    raw_rsa::check(at, crypto, data.len())?;
    let _until_over = begin(at, crypto, Some(signature))?;
    at.done(|functions, session| functions.verify_signature(session, data))
}

/// `C_SignInit` and its kin, of an operation in parts or one of messages; with the signature to verify where that comes
/// first.
pub fn init(
    at: &mut At,
    begun: Begun,
    crypto: &Crypto,
    signature: Option<&[u8]>,
) -> Result<Answer> {
    let limit = raw_rsa::limit(at, crypto)?;
    let mechanism = begin(at, crypto, signature)?;
    let own_iv = crypto.kind == Kind::Encrypt && mechanism.rewritten().is_some();
    at.session.active.began(begun, crypto.mechanism.kind);
    at.session.active.keep(crypto.kind, mechanism);
    at.session.active.limit(crypto.kind, limit);
    Ok(if own_iv { Answer::OwnIv } else { Answer::Done })
}

/// A part of its data.
pub fn update(at: &mut At, begun: Begun, data: &[u8]) -> Result<Answer> {
    let kind = begun.kind;
    raw_rsa::part(at, &[begun], data.len())?;
    let bytes = at.step(&[begun], |functions, session| {
        functions.update(kind, session, data)
    })?;
    let Some(bytes) = bytes else {
        return Ok(Answer::Done);
    };
    at.session.active.passed(data.len(), bytes.len());
    Ok(at.result(kind, bytes))
}

/// A part of the data of two operations.
pub fn dual_update(at: &mut At, dual: Dual, steps: [Begun; 2], data: &[u8]) -> Result<Answer> {
    raw_rsa::part(at, &steps, data.len())?;
    let bytes = at.step(&steps, |functions, session| {
        functions.dual_update(dual, session, data)
    })?;
    at.session.active.passed(data.len(), bytes.len());
    Ok(at.result(dual.kinds()[0], bytes))
}

/// The end of an operation in parts; with the signature to verify.
pub fn finish(at: &mut At, begun: Begun, signature: Option<&[u8]>) -> Result<Answer> {
    let kind = begun.kind;
    let held = at.session.active.end(begun)?;
    let until_over = at.session.active.mechanism(kind);
    match signature {
        None if kind == Kind::VerifySignature => {
            at.done(|functions, session| functions.verify_signature_final(session))
        }
        Some(signature) => at.done(|functions, session| functions.verify_final(session, signature)),
        None => {
            let mechanism = at.session.active.signs_with();
            let bytes =
                at.call(|functions, session| functions.finish(kind, mechanism, session, held))?;
            let result = at.result(kind, bytes);
            Ok(at.with_own_iv(kind, result, until_over))
        }
    }
}

/// Leaves an operation.
pub fn cancel(at: &mut At, begun: Begun) -> Result<Answer> {
    at.session.active.expect(begun)?;
    at.session.leave(begun);
    Ok(Answer::Done)
}

/// `C_GetOperationState`
pub fn save_state(at: &mut At, begun: Begun) -> Result<Answer> {
    at.session.active.expect(begun)?;
    let state = at.call(|functions, session| functions.operation_state(session))?;
    Ok(Answer::Secret(Zeroizing::new(state).into()))
}

/// `C_SetOperationState`
pub fn restore_state(
    at: &mut At,
    begun: Begun,
    state: &[u8],
    encryption: Key,
    authentication: Key,
) -> Result<Answer> {
    let number = |key: Key| key.map(|key| number(Some(key)));
    at.call(|functions, session| {
        functions.set_operation_state(session, state, number(encryption), number(authentication))
    })?;
    at.session.active.began(begun, 0);
    Ok(Answer::Done)
}

/// Init, with the signature where that comes first, and the login that some keys want for every single use. The
/// mechanism is kept until the operation is over.
fn begin(at: &mut At, crypto: &Crypto, signature: Option<&[u8]>) -> Result<MechanismMemory> {
    let (mechanism, key) = (crypto.mechanism, crypto.key());
    let memory = at.call(|functions, session| match signature {
        None => functions.init(crypto.kind, session, mechanism, key),
        Some(signature) => functions.verify_signature_init(session, mechanism, key, signature),
    })?;
    at.log_in_for_use(crypto)?;
    Ok(memory)
}
