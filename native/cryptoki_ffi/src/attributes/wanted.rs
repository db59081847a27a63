//! What is asked of objects, and the room for the answers.

use crate::failure::Result;
use crate::functions::{buffer, ulong};
use crate::values::{Read, Secret, wipe};
use cryptoki_sys as ck;
use cryptoki_sys::{CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE};
use std::ptr::null_mut;
use zeroize::Zeroizing;

/// The function that reads them.
pub const FUNCTION: &str = "C_GetAttributeValue";

/// Room for a value whose length is not asked for first: most keys, names and numbers fit.
const ROOM: usize = 1 << 10;
/// The same where certificates may be read, and where it is used for many objects.
const ROOM_FOR_VALUE: usize = 4 << 10;
/// For so many at most: whoever wants more asks for the lengths first.
pub const ROOMS: usize = 32;

/// Attributes whose value is an array of attributes.
pub const TEMPLATES: &[CK_ATTRIBUTE_TYPE] = &[
    ck::CKA_WRAP_TEMPLATE,
    ck::CKA_UNWRAP_TEMPLATE,
    ck::CKA_DERIVE_TEMPLATE,
    ck::CKA_ENCAPSULATE_TEMPLATE,
    ck::CKA_DECAPSULATE_TEMPLATE,
];

/// Of what no token keeps to itself, that which has no more than a few bytes, or no more than a key has: 32 768 bits.
const SHORT: &[CK_ATTRIBUTE_TYPE] = &[
    ck::CKA_CLASS,
    ck::CKA_KEY_TYPE,
    ck::CKA_TOKEN,
    ck::CKA_MODULUS,
    ck::CKA_PUBLIC_EXPONENT,
    ck::CKA_EC_PARAMS,
    ck::CKA_EC_POINT,
    ck::CKA_PRIME,
    ck::CKA_SUBPRIME,
    ck::CKA_BASE,
    ck::CKA_PARAMETER_SET,
    ck::CKA_CHECK_VALUE,
];

/// What else no token keeps to itself.
const PUBLIC: &[CK_ATTRIBUTE_TYPE] = &[
    ck::CKA_LABEL,
    ck::CKA_ID,
    ck::CKA_UNIQUE_ID,
    ck::CKA_PUBLIC_KEY_INFO,
];

/// Whether no token keeps it to itself: the reason why there is none of it is that the object has none.
pub fn is_public(kind: CK_ATTRIBUTE_TYPE) -> bool {
    SHORT.contains(&kind) || PUBLIC.contains(&kind)
}

/// A request for the length of an attribute.
pub fn question(kind: CK_ATTRIBUTE_TYPE) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: kind,
        pValue: null_mut(),
        ulValueLen: 0,
    }
}

/// A request for an attribute that has this room.
pub fn with_room((kind, room): (&CK_ATTRIBUTE_TYPE, &mut [u8])) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: *kind,
        pValue: room.as_mut_ptr().cast(),
        ulValueLen: ulong(room.len()),
    }
}

/// Its length; none: there is no value.
pub fn length(attribute: &CK_ATTRIBUTE) -> Option<usize> {
    (attribute.ulValueLen != ck::CK_UNAVAILABLE_INFORMATION)
        .then_some(attribute.ulValueLen as usize)
}

/// The attributes to read of objects, of one after the other.
pub struct Wanted<'k> {
    pub(super) kinds: &'k [CK_ATTRIBUTE_TYPE],
    /// Those whose lengths are asked for as well, in the same order.
    pub(super) lengths: Vec<CK_ATTRIBUTE_TYPE>,
    /// Room for each, used again for every object; none where lengths are asked for first.
    pub(super) room: Option<Secret>,
    /// What the library was asked last.
    pub(super) asked: Vec<CK_ATTRIBUTE>,
    /// What the objects before had.
    pub(super) before: Before,
}

/// So many objects in a row that have the same attributes: the next is taken for one more.
const ALIKE: u32 = 4;

/// Which attributes the last objects had: those of a search are mostly alike.
pub struct Before {
    there: Vec<bool>,
    alike: u32,
    enough: u32,
}

impl Before {
    fn new() -> Self {
        Self {
            there: Vec::new(),
            alike: 0,
            enough: ALIKE,
        }
    }

    /// Which of them the next object has, if that is likely.
    pub fn expected(&self) -> Option<&[bool]> {
        (self.alike >= self.enough).then_some(&self.there)
    }

    /// One more object, of which this is known.
    pub fn note(&mut self, known: Option<&[Option<Read>]>) {
        let there = |read: &Option<Read>| read.as_ref().map(|read| matches!(read, Read::Bytes(_)));
        let Some(there) = known.and_then(|known| known.iter().map(there).collect()) else {
            self.alike = 0;
            return;
        };
        if self.there == there {
            self.alike += 1;
        } else {
            (self.there, self.alike) = (there, 1);
        }
    }

    /// One was not what was expected: the more often, the longer the row that is waited for.
    pub fn was_wrong(&mut self) {
        self.alike = 0;
        self.enough = self.enough.saturating_mul(2);
    }
}

impl<'k> Wanted<'k> {
    /// Those of these types.
    pub fn new(kinds: &'k [CK_ATTRIBUTE_TYPE]) -> Result<Self> {
        let each = if kinds.contains(&ck::CKA_VALUE) {
            ROOM_FOR_VALUE
        } else {
            ROOM
        };
        Self::with(kinds, kinds.to_vec(), each)
    }

    /// The same of many objects: numbers that no key has, because they are longer than the room, may be taken for none.
    pub fn of_many(kinds: &'k [CK_ATTRIBUTE_TYPE]) -> Result<Self> {
        let lengths = kinds.iter().filter(|kind| !SHORT.contains(kind)).copied();
        Self::with(kinds, lengths.collect(), ROOM_FOR_VALUE)
    }

    fn with(
        kinds: &'k [CK_ATTRIBUTE_TYPE],
        lengths: Vec<CK_ATTRIBUTE_TYPE>,
        each: usize,
    ) -> Result<Self> {
        // One alone is asked for as ever: a failure is said of it at once, and what was executed is not run again.
        let room = if is_plain(kinds) && (2..=ROOMS).contains(&kinds.len()) {
            Some(Zeroizing::new(buffer(kinds.len() * each, FUNCTION)?))
        } else {
            None
        };
        let asked = Vec::with_capacity(kinds.len() + lengths.len() + 1);
        Ok(Self {
            kinds,
            lengths,
            room,
            asked,
            before: Before::new(),
        })
    }

    /// The library is asked for the lengths first from now on.
    pub(super) fn lengths_first(&mut self) {
        if let Some(room) = self.room.take() {
            wipe(room);
        }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.lengths_first();
    }
}

/// Whether none of them is an array of attributes.
pub fn is_plain(kinds: &[CK_ATTRIBUTE_TYPE]) -> bool {
    !kinds.iter().any(|kind| TEMPLATES.contains(kind))
}

/// The bytes of a value, of which none are left in the room for that of the next object.
pub fn taken(room: &mut [u8], written: usize) -> Read {
    let bytes = room[..written].to_vec();
    room[..written].fill(0);
    Read::Bytes(Zeroizing::new(bytes))
}
