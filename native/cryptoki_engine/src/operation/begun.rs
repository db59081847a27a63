//! Which operation a step goes on with.

use cryptoki_ffi::crypto::Kind;
use serde::{Deserialize, Serialize};

/// An operation that was begun, by the number that its caller gave it: its steps are no other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Of its kind a session has one at a time.
    pub kind: Kind,
    /// Unique for its caller; 0 for those that a call begins and ends.
    pub number: u64,
}

impl Begun {
    /// One that no step of another call goes on with.
    pub const fn in_this_call(kind: Kind) -> Self {
        Self { kind, number: 0 }
    }
}
