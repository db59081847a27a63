//! Numbers of objects that are given again.
#![allow(clippy::unwrap_used)]

mod support;

use cryptoki_sys::*;
use support::*;

/// A data object with this label, of the session; its handle.
fn object(list: &CK_FUNCTION_LIST, session: CK_SESSION_HANDLE, label: &str) -> CK_OBJECT_HANDLE {
    let (mut class, mut handle) = (CKO_DATA, 0);
    let mut template = [
        attribute(CKA_CLASS, &raw mut class, size_of_val(&class)),
        attribute(CKA_LABEL, label.as_ptr().cast_mut(), label.len()),
    ];
    let made = ck!(list.C_CreateObject(session, template.as_mut_ptr(), 2, &raw mut handle));
    assert_eq!(made, CKR_OK);
    handle
}

fn attribute<T>(kind: CK_ATTRIBUTE_TYPE, value: *mut T, length: usize) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: kind,
        pValue: value.cast(),
        ulValueLen: length as CK_ULONG,
    }
}

/// The label of an object, or what is answered in its place.
fn label(
    list: &CK_FUNCTION_LIST,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
) -> Result<String, CK_RV> {
    let mut text = [0_u8; 32];
    let mut wanted = attribute(CKA_LABEL, text.as_mut_ptr(), text.len());
    match ck!(list.C_GetAttributeValue(session, object, &raw mut wanted, 1)) {
        CKR_OK => Ok(String::from_utf8_lossy(&text[..wanted.ulValueLen as usize]).into_owned()),
        rv => Err(rv),
    }
}

#[test]
fn gives_the_number_of_an_object_that_is_gone_to_the_next() {
    let Some((module, list)) = Module::ready() else {
        return;
    };
    module.control("handles reuse");
    let slot = slots(list, CK_TRUE)[0];
    let (session, other) = (open(list, slot).unwrap(), open(list, slot).unwrap());
    assert_eq!(login(list, session), CKR_OK);
    let first = object(list, session, "first");
    let second = object(list, other, "second");
    assert_ne!(first, second);
    assert_eq!(ck!(list.C_DestroyObject(session, first)), CKR_OK);
    assert_eq!(label(list, session, first), Err(CKR_OBJECT_HANDLE_INVALID));
    assert_eq!(object(list, session, "third"), first);
    assert_eq!(label(list, other, first), Ok("third".to_owned()));
    assert_eq!(ck!(list.C_CloseSession(other)), CKR_OK);
    assert_eq!(object(list, session, "fourth"), second);
}
