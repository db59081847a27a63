//! Tokens that take no key in the clear, as HSMs in FIPS mode do: `values refused`.

use crate::control;
use crate::target::{Answer, real};
use cryptoki_sys::*;

/// `C_CreateObject`: of a private or a secret key it answers what the rules say, and the target is not asked.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn create_object(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    n: CK_ULONG,
    object: *mut CK_OBJECT_HANDLE,
) -> Answer {
    if let Some(rv) = control::current().values_refused
        && !template.is_null()
    {
        // SAFETY: not null, and the caller vouches for `n` attributes.
        let template = unsafe { std::slice::from_raw_parts(template, n as usize) };
        // SAFETY: the caller vouches for its attributes.
        let class = template.iter().find_map(|one| unsafe { class(one) });
        if class == Some(CKO_PRIVATE_KEY) || class == Some(CKO_SECRET_KEY) {
            return Ok(rv);
        }
    }
    real!(C_CreateObject(session, template, n, object))
}

/// # Safety
/// `attribute` has as many bytes as it says, or none.
unsafe fn class(attribute: &CK_ATTRIBUTE) -> Option<CK_OBJECT_CLASS> {
    let whole = attribute.ulValueLen as usize == size_of::<CK_OBJECT_CLASS>();
    (attribute.type_ == CKA_CLASS && whole && !attribute.pValue.is_null()).then(|| {
        // SAFETY: not null, and as long as a class is; the address need not be one of a class.
        unsafe { attribute.pValue.cast::<CK_OBJECT_CLASS>().read_unaligned() }
    })
}
