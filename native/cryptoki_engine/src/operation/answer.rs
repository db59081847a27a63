//! What operations answer.

use crate::library::info::SessionInfo;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::values::{Handle, Read, Secret};
use cryptoki_ffi::wire::{in_one_piece, nested};
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_ULONG};
use serde::{Deserialize, Serialize};

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// An encryption has begun, and the library has taken another IV than it was given.
    OwnIv,
    /// Bytes that everybody may see.
    Bytes(#[serde(with = "in_one_piece")] Vec<u8>),
    /// Bytes that should not linger in memory.
    Secret(#[serde(with = "in_one_piece")] Secret),
    /// The same with what the library has written into the parameter.
    With(
        #[serde(deserialize_with = "nested")] Box<Answer>,
        Vec<Secret>,
    ),
    /// What the library has written into the parameter.
    Written(Vec<Secret>),
    /// The values of a one-time password.
    Otp(Vec<(CK_ULONG, Vec<u8>)>),
    /// A number.
    Number(CK_ULONG),
    /// A number that the library does not know.
    Unavailable,
    /// An object.
    Object(Handle),
    /// Objects.
    Objects(Vec<Handle>),
    /// A public key and its private key.
    Pair(Handle, Handle),
    /// What was encapsulated, and the key of it.
    Encapsulated(Vec<u8>, Handle),
    /// A new key, the keys that its mechanism has made beside it (none where it made none), and bytes.
    Beside(Option<Handle>, Vec<Option<Handle>>, Vec<Secret>),
    /// The attributes of an object.
    Attributes(Vec<(CK_ATTRIBUTE_TYPE, Read)>),
    /// Those of several objects, or why one of them cannot be read.
    Each(Vec<Result<Vec<(CK_ATTRIBUTE_TYPE, Read)>>>),
    /// What a session says of itself.
    Session(SessionInfo),
}
