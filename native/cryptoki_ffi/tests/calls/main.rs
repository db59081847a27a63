//! Each method before a library that notes what it is asked: which function, with which arguments in which place, and
//! what becomes of the answer. Also those that no software token has.
#![allow(clippy::unwrap_used)]

mod crypto;
mod library;
mod messages;
mod objects;
mod sessions;

use cryptoki_ffi::values::{Data, Mechanism, Parameter, Secret, Template, Value};
use cryptoki_sys::{CK_ULONG, CKA_LABEL};

/// A session.
const S: CK_ULONG = 7;
/// Keys and objects.
const K: CK_ULONG = 21;
const L: CK_ULONG = 22;

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes.to_vec())
}

/// A mechanism with the number 99 and the parameter "iv".
fn mechanism() -> Mechanism {
    Mechanism {
        kind: 99,
        parameter: Parameter::Raw(Data::copied(b"iv")),
    }
}

/// A label; CKA_LABEL is 3.
fn template(label: &[u8]) -> Template {
    vec![(CKA_LABEL, Value::Bytes(Data::copied(label)))]
}
