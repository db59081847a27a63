//! Attributes that are answered with another value, or with none.

use crate::control;
use crate::rules::number;
use crate::target::{Answer, real};
use cryptoki_sys::*;

/// An attribute that is not answered as it is.
#[derive(Debug, PartialEq)]
pub struct Attribute {
    kind: CK_ATTRIBUTE_TYPE,
    /// Of what class of objects; of all if not said.
    class: Option<CK_OBJECT_CLASS>,
    /// The answer; none if it cannot be read.
    value: Option<Vec<u8>>,
}

impl Attribute {
    /// Reads `TYPE [class=N] [value=HEX]`.
    pub fn parse(kind: &str, options: &[&str]) -> Result<Attribute, String> {
        let mut attribute = Attribute {
            kind: number(kind)?,
            class: None,
            value: None,
        };
        for option in options {
            match option.split_once('=') {
                Some(("class", class)) => attribute.class = Some(number(class)?),
                Some(("value", hex)) => attribute.value = Some(bytes(hex)?),
                _ => return Err((*option).to_owned()),
            }
        }
        Ok(attribute)
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let wrong = || hex.to_owned();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2);
            u8::from_str_radix(pair.ok_or_else(wrong)?, 16).map_err(|_| wrong())
        })
        .collect()
}

/// `C_GetAttributeValue`: what the rules name is not asked of the target.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    n: CK_ULONG,
) -> Answer {
    let rules = control::current();
    if rules.attributes.is_empty() || template.is_null() {
        return real!(C_GetAttributeValue(session, object, template, n));
    }
    let class = class(session, object);
    let named = |kind: CK_ATTRIBUTE_TYPE| {
        rules
            .attributes
            .iter()
            .find(|rule| rule.kind == kind && (rule.class.is_none() || rule.class == class))
    };
    // SAFETY: not null, and the caller vouches for `n` attributes.
    let template = unsafe { std::slice::from_raw_parts_mut(template, n as usize) };
    let mut others: Vec<CK_ATTRIBUTE> = template
        .iter()
        .filter(|attribute| named(attribute.type_).is_none())
        .copied()
        .collect();
    let mut rv = if others.is_empty() {
        CKR_OK
    } else {
        let count = others.len() as CK_ULONG;
        real!(C_GetAttributeValue(
            session,
            object,
            others.as_mut_ptr(),
            count
        ))?
    };
    let mut others = others.into_iter();
    for attribute in template {
        match named(attribute.type_) {
            Some(rule) => {
                // SAFETY: the caller vouches for its attributes.
                let answer = unsafe { answer(attribute, rule) };
                if rv == CKR_OK {
                    rv = answer;
                }
            }
            None => attribute.ulValueLen = others.next().map_or(0, |other| other.ulValueLen),
        }
    }
    Ok(rv)
}

/// # Safety
/// `attribute` has room for as many bytes as it says, or none.
unsafe fn answer(attribute: &mut CK_ATTRIBUTE, rule: &Attribute) -> CK_RV {
    let Some(value) = &rule.value else {
        attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_ATTRIBUTE_TYPE_INVALID;
    };
    let room = attribute.ulValueLen as usize;
    if attribute.pValue.is_null() {
        attribute.ulValueLen = value.len() as CK_ULONG;
        return CKR_OK;
    }
    if room < value.len() {
        attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: not null, and there is room.
    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast(), value.len()) };
    attribute.ulValueLen = value.len() as CK_ULONG;
    CKR_OK
}

/// A question for an attribute that is as long as this value, in the place of which it is answered.
pub(crate) fn attribute<T>(name: CK_ATTRIBUTE_TYPE, value: &mut T) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: name,
        pValue: std::ptr::from_mut(value).cast(),
        ulValueLen: size_of::<T>() as CK_ULONG,
    }
}

fn class(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Option<CK_OBJECT_CLASS> {
    let mut class: CK_OBJECT_CLASS = 0;
    let mut wanted = attribute(CKA_CLASS, &mut class);
    let rv = real!(C_GetAttributeValue(session, object, &raw mut wanted, 1));
    (rv == Ok(CKR_OK)).then_some(class)
}
