//! What a call is about, and which calls a rule is for.

use crate::rules::number;
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_SLOT_ID, CK_ULONG};

/// What a call is about, as far as its arguments say.
#[derive(Debug, Default)]
pub struct Subject {
    /// The slot; that of the session if there is one.
    pub slot: Option<CK_SLOT_ID>,
    /// The objects, as the client knows them.
    pub objects: Vec<CK_OBJECT_HANDLE>,
    /// The mechanism.
    pub mechanism: Option<CK_MECHANISM_TYPE>,
    /// The attributes asked for.
    pub attributes: Vec<CK_ATTRIBUTE_TYPE>,
    /// The length of the data, or of what is wanted.
    pub length: Option<CK_ULONG>,
}

/// What a call must be about for a rule to apply to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum About {
    /// This slot, or a session of it.
    Slot(CK_ULONG),
    /// This object.
    Object(CK_ULONG),
    /// This mechanism.
    Mechanism(CK_ULONG),
    /// Attributes with this one among them.
    Attribute(CK_ULONG),
    /// More bytes than these.
    Longer(CK_ULONG),
    /// Fewer bytes than these.
    Shorter(CK_ULONG),
}

impl About {
    /// Reads a word `name=value`; none if the name is of something else.
    pub fn parse(name: &str, value: &str) -> Option<Result<About, String>> {
        let about = match name {
            "slot" => About::Slot,
            "object" => About::Object,
            "mechanism" => About::Mechanism,
            "attribute" => About::Attribute,
            "longer" => About::Longer,
            "shorter" => About::Shorter,
            _ => return None,
        };
        Some(number(value).map(about))
    }

    /// Whether a call is about this.
    pub fn holds(self, subject: &Subject) -> bool {
        match self {
            About::Slot(id) => subject.slot == Some(id),
            About::Object(handle) => subject.objects.contains(&handle),
            About::Mechanism(kind) => subject.mechanism == Some(kind),
            About::Attribute(kind) => subject.attributes.contains(&kind),
            About::Longer(n) => subject.length.is_some_and(|length| length > n),
            About::Shorter(n) => subject.length.is_some_and(|length| length < n),
        }
    }
}
