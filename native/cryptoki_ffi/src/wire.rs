//! How values are written down for another process, and read again: bytes in one piece, nothing so deep in each other
//! that whoever walks it later, or drops it, runs out of stack, and no list that takes much more than was sent.

pub use crate::shared::LARGE;

use crate::shared::Lent;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// How deep structures, arrays and templates may stand in each other: more than any mechanism has, and little for a
/// stack.
pub const LEVELS: usize = 16;

/// How much the lists of one message may take: a byte that is sent may stand for an item of a hundred.
pub const LISTS: usize = 128 << 20;

thread_local! {
    static DEEP: Cell<usize> = const { Cell::new(0) };
    static LEFT: Cell<usize> = const { Cell::new(LISTS) };
}

/// Another message is read from here on.
pub fn begin_message() {
    LEFT.set(LISTS);
}

/// One level deeper, until it is dropped.
struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEEP.set(DEEP.get().saturating_sub(1));
    }
}

/// Reads what may hold others of its kind: for `#[serde(deserialize_with)]` wherever a type comes back to itself.
pub fn nested<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    if DEEP.get() >= LEVELS {
        return Err(D::Error::custom("nested too deep"));
    }
    DEEP.set(DEEP.get() + 1);
    let _level = Level;
    T::deserialize(from)
}

/// A list, within what a message may take: for `#[serde(deserialize_with)]` wherever another process sends one.
pub fn many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Many::deserialize(from).map(|many| many.0)
}

/// The same where lists are in a list.
pub struct Many<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Many<T>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(to, "a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Many<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    room(&mut items).ok_or_else(|| A::Error::custom("too many"))?;
                    items.push(item);
                }
                Ok(Many(items))
            }
        }

        from.deserialize_seq(Items(PhantomData))
    }
}

/// Room for one more, of what the message has left.
fn room<T>(items: &mut Vec<T>) -> Option<()> {
    if items.len() == items.capacity() {
        let more = items.len().max(4);
        let left = LEFT.get().checked_sub(more * size_of::<T>())?;
        items.try_reserve_exact(more).ok()?;
        LEFT.set(left);
    }
    Some(())
}

/// Whether somebody reads bytes that it keeps, and bytes that were received for it already.
enum Kept {
    Nobody,
    Wanted,
    Received(Zeroizing<Vec<u8>>),
    Lent(Lent),
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept::Nobody) };
}

/// Whether what is read now are bytes that are kept: they may be handed over, and nothing read.
pub fn is_wanted() -> bool {
    KEPT.with_borrow(|kept| matches!(kept, Kept::Wanted))
}

/// Hands over the bytes that are wanted.
pub fn hand_over(bytes: Zeroizing<Vec<u8>>) {
    KEPT.set(Kept::Received(bytes));
}

/// The same with bytes that lie where they may be used.
pub fn lend(bytes: Lent) {
    KEPT.set(Kept::Lent(bytes));
}

/// Reads bytes that are kept: they are copied, unless they were handed over.
pub fn piece<'de, D: Deserializer<'de>, T: Piece>(from: D) -> Result<T, D::Error> {
    struct Copied<T>(PhantomData<T>);

    impl<T: Piece> Visitor<'_> for Copied<T> {
        type Value = T;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(to, "bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
            match KEPT.replace(Kept::Nobody) {
                Kept::Received(bytes) => Some(T::of(bytes)),
                Kept::Lent(bytes) => T::lent(bytes),
                Kept::Nobody | Kept::Wanted => copy(bytes).map(T::of),
            }
            .ok_or_else(|| E::custom("no memory"))
        }
    }

    KEPT.set(Kept::Wanted);
    let bytes = from.deserialize_byte_buf(Copied(PhantomData));
    KEPT.set(Kept::Nobody);
    bytes
}

fn copy(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(Zeroizing::new(copy))
}

/// What bytes are read into.
pub trait Piece: Sized {
    /// It.
    fn of(bytes: Zeroizing<Vec<u8>>) -> Self;

    /// The same of bytes that are somebody else's; none: there is no memory for a copy.
    fn lent(bytes: Lent) -> Option<Self> {
        copy(bytes.as_ref()).map(Self::of)
    }
}

impl Piece for Zeroizing<Vec<u8>> {
    fn of(bytes: Zeroizing<Vec<u8>>) -> Self {
        bytes
    }
}

impl Piece for Vec<u8> {
    fn of(mut bytes: Zeroizing<Vec<u8>>) -> Self {
        std::mem::take(&mut *bytes)
    }
}

/// Bytes in one piece, in the place of one number after the other.
pub mod in_one_piece {
    use super::*;

    /// Writes them.
    pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes.as_ref())
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>, T: Piece>(from: D) -> Result<T, D::Error> {
        piece(from)
    }
}
