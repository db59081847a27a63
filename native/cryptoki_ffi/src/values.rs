//! Owned forms of what crosses the border: mechanisms, templates, handles. Safe, no pointers.

use crate::shared::Lent;
pub use crate::wire::LEVELS;
use crate::wire::{Many, Piece, in_one_piece, nested, piece};
use bytes::Bytes;
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_ULONG};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use zeroize::Zeroizing;

/// Bytes that are overwritten when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// Drops them. Of a full vector each byte would be overwritten by itself, what is spare in one is overwritten as a whole.
pub fn wipe(mut bytes: Secret) {
    bytes.clear();
}

/// Bytes of a caller, with whoever owns them: a copy, which is overwritten when it is dropped, or memory that others
/// keep alive, which is not copied.
#[derive(Clone, Default)]
pub struct Data(Bytes);

impl Data {
    /// A copy.
    pub fn copied(bytes: &[u8]) -> Self {
        Self::owned(Copied(Zeroizing::new(bytes.to_vec())))
    }

    /// What somebody keeps in memory for as long as this, or a clone of it, is there.
    pub fn owned(owner: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self(Bytes::from_owner(owner))
    }
}

/// The owner of a copy.
struct Copied(Secret);

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0));
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} bytes", self.len())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        piece(from)
    }
}

impl Piece for Data {
    fn of(bytes: Secret) -> Self {
        Self::owned(Copied(bytes))
    }

    fn lent(bytes: Lent) -> Option<Self> {
        Some(Self::owned(bytes))
    }
}

/// An object handle: the library's number, and for what it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The library's number.
    pub number: CK_OBJECT_HANDLE,
    /// The life of the token in which the library gave it: it ends when the token restarts.
    pub life: u64,
    /// Which of the objects that have had the number in that life.
    pub generation: u64,
}

/// One member of a C structure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Field {
    /// A `CK_ULONG`.
    Ulong(CK_ULONG),
    /// A `CK_BYTE` or `CK_BBOOL`.
    Byte(u8),
    /// A pointer to bytes; null when empty.
    Bytes(Data),
    /// A pointer to bytes that the library may overwrite, and that are read back.
    InOut(Data),
    /// Bytes inside the structure.
    Inline(Data),
    /// A pointer to a structure.
    Struct(#[serde(deserialize_with = "nested")] Vec<Field>),
    /// A structure by value.
    Nested(#[serde(deserialize_with = "nested")] Vec<Field>),
    /// A pointer to structures; null when empty.
    Array(#[serde(deserialize_with = "nested")] Vec<Vec<Field>>),
    /// An object handle.
    Handle(Handle),
    /// Where the library puts the handle of a key it makes.
    NewHandle,
    /// A pointer to attributes; null when there are none.
    Template(#[serde(deserialize_with = "nested")] Template),
}

/// The parameter of a mechanism.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Parameter {
    /// None.
    Absent,
    /// The bytes as they are.
    Raw(Data),
    /// A structure.
    Fields(Vec<Field>),
}

/// A mechanism with its parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mechanism {
    /// The number of the mechanism.
    pub kind: CK_MECHANISM_TYPE,
    /// Its parameter.
    pub parameter: Parameter,
}

/// The value of an attribute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    /// The bytes as they are.
    Bytes(Data),
    /// A `CK_ULONG`.
    Ulong(CK_ULONG),
    /// A `CK_BBOOL`.
    Bool(bool),
    /// An array of `CK_ULONG`.
    Ulongs(Vec<CK_ULONG>),
    /// An array of attributes.
    Template(#[serde(deserialize_with = "nested")] Template),
}

impl Value {
    /// Whether it is `CK_TRUE`.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Bool(truth) => *truth,
            Value::Bytes(bytes) => bytes.iter().any(|byte| *byte != 0),
            Value::Ulong(number) => *number != 0,
            Value::Ulongs(_) | Value::Template(_) => false,
        }
    }
}

/// Attributes in the order they were given.
pub type Template = Vec<(CK_ATTRIBUTE_TYPE, Value)>;

/// Why an attribute has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoValue {
    /// `CKR_ATTRIBUTE_SENSITIVE`.
    Sensitive,
    /// `CKR_ATTRIBUTE_TYPE_INVALID`.
    TypeInvalid,
    /// The library knows the attribute and has no value for it.
    Unavailable,
    /// It answers this to whoever asks for it.
    Failed(CK_RV),
}

fn nested_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    nested(from).map(|Many(items)| items)
}

/// What was read of one attribute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Read {
    /// Its bytes.
    Bytes(#[serde(with = "in_one_piece")] Secret),
    /// Its nested attributes.
    Template(#[serde(deserialize_with = "nested_list")] Vec<(CK_ATTRIBUTE_TYPE, Read)>),
    /// Why there is nothing.
    Nothing(NoValue),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_what_c_takes_for_it() {
        let bytes = |bytes: &[u8]| Value::Bytes(Data::copied(bytes));
        for truth in [Value::Bool(true), bytes(&[0, 1]), Value::Ulong(2)] {
            assert!(truth.is_true());
        }
        for other in [
            Value::Bool(false),
            bytes(&[0, 0]),
            bytes(&[]),
            Value::Ulong(0),
            Value::Ulongs(vec![1]),
        ] {
            assert!(!other.is_true());
        }
    }
}
