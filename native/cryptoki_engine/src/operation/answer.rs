//! What operations answer.

use crate::library::info::SessionInfo;
use cryptoki_ffi::attributes::Attributes;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::output::Output;
use cryptoki_ffi::values::{Handle, Secret};
use cryptoki_ffi::wire::{Many, in_one_piece, many, nested};
use cryptoki_sys::CK_ULONG;
use serde::{Deserialize, Deserializer, Serialize};

fn each<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Vec<Result<Attributes>>, D::Error> {
    let each: Vec<Result<Many<_>>> = many(from)?;
    Ok(each
        .into_iter()
        .map(|read| read.map(|Many(read)| read))
        .collect())
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// An encryption has begun, and the library has taken another IV than it was given.
    OwnIv,
    /// Bytes that everybody may see.
    Bytes(#[serde(with = "in_one_piece")] Output),
    /// Bytes that should not linger in memory.
    Secret(#[serde(with = "in_one_piece")] Output<Secret>),
    /// The same with what the library has written into the parameter.
    With(
        #[serde(deserialize_with = "nested")] Box<Answer>,
        #[serde(deserialize_with = "many")] Vec<Secret>,
    ),
    /// What the library has written into the parameter.
    Written(#[serde(deserialize_with = "many")] Vec<Secret>),
    /// The values of a one-time password.
    Otp(#[serde(deserialize_with = "many")] Vec<(CK_ULONG, Vec<u8>)>),
    /// A number.
    Number(CK_ULONG),
    /// A number that the library does not know.
    Unavailable,
    /// An object.
    Object(Handle),
    /// Objects.
    Objects(#[serde(deserialize_with = "many")] Vec<Handle>),
    /// A public key and its private key.
    Pair(Handle, Handle),
    /// What was encapsulated, and the key of it.
    Encapsulated(Vec<u8>, Handle),
    /// A new key, the keys that its mechanism has made beside it (none where it made none), and bytes.
    Beside(
        Option<Handle>,
        #[serde(deserialize_with = "many")] Vec<Option<Handle>>,
        #[serde(deserialize_with = "many")] Vec<Secret>,
    ),
    /// The attributes of an object.
    Attributes(#[serde(deserialize_with = "many")] Attributes),
    /// Those of several objects, or why one of them cannot be read.
    Each(#[serde(deserialize_with = "each")] Vec<Result<Attributes>>),
    /// What a session says of itself.
    Session(SessionInfo),
}
