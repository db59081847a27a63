//! Tokens with CKM_RSA_AES_KEY_WRAP, as network HSMs and opencryptoki have it: `rsa_aes_key_wrap on`. The target does each of its
//! layers: RSA-OAEP for an AES key, RFC 5649 by that for the other one (PKCS #11 v3.2, section 6.1.28).

use crate::attribute::attribute;
use crate::control;
use crate::target::{Answer, real};
use cryptoki_sys::*;
use std::ptr::null_mut;

/// `C_GetMechanismList`: one more.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn get_mechanism_list(
    slot: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    count: *mut CK_ULONG,
) -> Answer {
    if !control::current().rsa_aes_key_wrap || count.is_null() {
        return real!(C_GetMechanismList(slot, list, count));
    }
    if !list.is_null() {
        // SAFETY: not null; room for one is kept back.
        unsafe { *count = (*count).saturating_sub(1) };
    }
    let answer = real!(C_GetMechanismList(slot, list, count));
    if answer == Ok(CKR_OK) {
        // SAFETY: not null, and the caller's list has that room: it is the one that was kept back.
        unsafe {
            if !list.is_null() {
                list.add(*count as usize).write(CKM_RSA_AES_KEY_WRAP);
            }
            *count += 1;
        }
    }
    answer
}

/// `C_UnwrapKey` by this mechanism: both layers, and nothing of the first is left.
///
/// # Safety
/// As for the function.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn unwrap_key(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    object: CK_OBJECT_HANDLE,
    data: *mut CK_BYTE,
    n: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    n2: CK_ULONG,
    new: *mut CK_OBJECT_HANDLE,
) -> Answer {
    // SAFETY: null, or the caller's mechanism.
    let given = unsafe { mechanism.as_ref() };
    let both = given.filter(|given| given.mechanism == CKM_RSA_AES_KEY_WRAP);
    let (true, Some(given)) = (control::current().rsa_aes_key_wrap, both) else {
        return real!(C_UnwrapKey(
            session, mechanism, object, data, n, template, n2, new
        ));
    };
    if given.pParameter.is_null()
        || given.ulParameterLen as usize != size_of::<CK_RSA_AES_KEY_WRAP_PARAMS>()
    {
        return Ok(CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: not null, and as long as the structure.
    let params = unsafe { &*given.pParameter.cast::<CK_RSA_AES_KEY_WRAP_PARAMS>() };
    let first = modulus(session, object)?;
    if data.is_null() || n <= first {
        return Ok(CKR_WRAPPED_KEY_LEN_RANGE);
    }
    let mut oaep = CK_MECHANISM {
        mechanism: CKM_RSA_PKCS_OAEP,
        pParameter: params.pOAEPParams.cast(),
        ulParameterLen: size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG,
    };
    let (mut class, mut key_type, mut yes, mut no) = (CKO_SECRET_KEY, CKK_AES, CK_TRUE, CK_FALSE);
    let mut aes = [
        attribute(CKA_CLASS, &mut class),
        attribute(CKA_KEY_TYPE, &mut key_type),
        attribute(CKA_UNWRAP, &mut yes),
        attribute(CKA_TOKEN, &mut no),
    ];
    let mut key = 0;
    let count = aes.len() as CK_ULONG;
    let answer = real!(C_UnwrapKey(
        session,
        &mut oaep,
        object,
        data,
        first,
        aes.as_mut_ptr(),
        count,
        &mut key
    ))?;
    if answer != CKR_OK {
        return Ok(answer);
    }
    // SoftHSM 2.6.1 shows no length of a key that it has unwrapped.
    let answer = if [0, params.ulAESKeyBits].contains(&bits(session, key)?) {
        // SAFETY: the data is longer than its first layer.
        let rest = unsafe { data.add(first as usize) };
        padded(session, key, (rest, n - first), (template, n2), new)
    } else {
        Ok(CKR_WRAPPED_KEY_INVALID)
    };
    let _ = real!(C_DestroyObject(session, key));
    answer
}

/// RFC 5649, by the name that the target has for it.
fn padded(
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    (data, n): (*mut CK_BYTE, CK_ULONG),
    (template, n2): (*mut CK_ATTRIBUTE, CK_ULONG),
    new: *mut CK_OBJECT_HANDLE,
) -> Answer {
    let mut answer = Ok(CKR_MECHANISM_INVALID);
    for name in [CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD] {
        let mut mechanism = CK_MECHANISM {
            mechanism: name,
            pParameter: null_mut(),
            ulParameterLen: 0,
        };
        answer = real!(C_UnwrapKey(
            session,
            &mut mechanism,
            key,
            data,
            n,
            template,
            n2,
            new
        ));
        if answer != Ok(CKR_MECHANISM_INVALID) {
            break;
        }
    }
    answer
}

/// How many bytes the modulus of a key has.
fn modulus(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Result<CK_ULONG, CK_RV> {
    let mut asked = CK_ATTRIBUTE {
        type_: CKA_MODULUS,
        pValue: null_mut(),
        ulValueLen: 0,
    };
    match real!(C_GetAttributeValue(session, object, &mut asked, 1))? {
        CKR_OK => Ok(asked.ulValueLen),
        rv => Err(rv),
    }
}

/// How many bits an AES key has.
fn bits(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result<CK_ULONG, CK_RV> {
    let mut length: CK_ULONG = 0;
    let mut asked = attribute(CKA_VALUE_LEN, &mut length);
    match real!(C_GetAttributeValue(session, key, &mut asked, 1))? {
        CKR_OK => Ok(8 * length),
        rv => Err(rv),
    }
}
