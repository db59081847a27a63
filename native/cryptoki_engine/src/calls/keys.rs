//! Keys that are made, wrapped, unwrapped, derived and encapsulated (section 5.18).

use crate::calls::at::{At, with};
use crate::operation::answer::Answer;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::keys::Beside;
use cryptoki_ffi::values::{Handle, Mechanism, Template};
use cryptoki_sys::{CK_INVALID_HANDLE, CK_OBJECT_HANDLE};

/// `C_GenerateKey` with what the mechanism answers in its parameter.
pub fn generate_beside(at: &mut At, mechanism: &Mechanism, template: &Template) -> Result<Answer> {
    at.call(|functions, session| functions.generate_beside(session, mechanism, template))
        .map(|made| beside(at, made, template))
}

/// `C_GenerateKeyPair`
pub fn generate_pair(
    at: &mut At,
    mechanism: &Mechanism,
    public: &Template,
    private: &Template,
) -> Result<Answer> {
    let (public_key, private_key) = at.call(|functions, session| {
        functions.generate_key_pair(session, mechanism, public, private)
    })?;
    let public_key = at.made(public_key, public);
    Ok(Answer::Pair(public_key, at.made(private_key, private)))
}

/// `C_WrapKey`, or `C_WrapKeyAuthenticated` (3.2) with associated data.
pub fn wrap(
    at: &mut At,
    mechanism: &Mechanism,
    wrapping: Handle,
    key: Handle,
    associated: Option<&[u8]>,
) -> Result<Answer> {
    let (wrapping, key) = (wrapping.number, key.number);
    let (wrapped, own_iv) = at.call(|functions, session| {
        functions.wrap_key(session, mechanism, wrapping, key, associated)
    })?;
    Ok(with(Answer::Bytes(wrapped.into()), own_iv))
}

/// `C_DeriveKey` with what the mechanism answers in its parameter.
pub fn derive_beside(
    at: &mut At,
    mechanism: &Mechanism,
    base: Handle,
    template: &Template,
) -> Result<Answer> {
    at.call(|functions, session| functions.derive_beside(session, mechanism, base.number, template))
        .map(|made| beside(at, made, template))
}

/// `C_EncapsulateKey` (3.2)
pub fn encapsulate(
    at: &mut At,
    mechanism: &Mechanism,
    public: Handle,
    template: &Template,
) -> Result<Answer> {
    let (ciphertext, key) = at.call(|functions, session| {
        functions.encapsulate_key(session, mechanism, public.number, template)
    })?;
    Ok(Answer::Encapsulated(ciphertext, at.made(key, template)))
}

/// A new key, and what its mechanism made beside it.
fn beside(at: &At, (key, beside): (CK_OBJECT_HANDLE, Beside), template: &Template) -> Answer {
    let made = |key| (key != CK_INVALID_HANDLE).then(|| at.made(key, template));
    let keys = beside.handles.into_iter().map(made).collect();
    Answer::Beside(made(key), keys, beside.written)
}
