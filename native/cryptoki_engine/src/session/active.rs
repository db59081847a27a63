//! The operations a session is in, and what their last steps need to know.

use crate::operation::begun::Begun;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_sys::{CK_FLAGS, CK_MECHANISM_TYPE};

/// How much an operation takes.
struct Limit {
    kind: Kind,
    most: usize,
    left: usize,
}

/// None, one, or two that a dual-function update feeds.
#[derive(Default)]
pub struct Active {
    begun: Vec<Begun>,
    /// Bytes given to a cipher that has not given them back.
    held: usize,
    signs_with: CK_MECHANISM_TYPE,
    /// How many bytes they take, those that have a limit.
    limits: Vec<Limit>,
    /// The mechanisms as the library was given them: it may read and write there until the operation is over.
    mechanisms: Vec<(Kind, MechanismMemory)>,
}

impl Active {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Notes that the library has begun an operation.
    pub fn began(&mut self, begun: Begun, mechanism: CK_MECHANISM_TYPE) {
        self.begun.push(begun);
        self.held = 0;
        if matches!(begun.kind, Kind::Sign | Kind::MessageSign) {
            self.signs_with = mechanism;
        }
    }

    /// Keeps the mechanism of one that has begun.
    pub fn keep(&mut self, kind: Kind, mechanism: MechanismMemory) {
        self.mechanisms.push((kind, mechanism));
    }

    /// The mechanism of one that ends, to be dropped when it is over.
    pub fn mechanism(&mut self, kind: Kind) -> Option<MechanismMemory> {
        let at = self.mechanisms.iter().position(|(of, _)| *of == kind)?;
        Some(self.mechanisms.swap_remove(at).1)
    }

    /// The mechanism of the signature: it says how long the signature can be.
    pub fn signs_with(&self) -> CK_MECHANISM_TYPE {
        self.signs_with
    }

    /// Notes how many bytes one takes in all, or each of its messages, if there is a limit.
    pub fn limit(&mut self, kind: Kind, bytes: Option<usize>) {
        self.limits.extend(bytes.map(|most| Limit {
            kind,
            most,
            left: most,
        }));
    }

    /// Notes that a message begins.
    pub fn next_message(&mut self, kind: Kind) {
        for limit in self.limits.iter_mut().filter(|limit| limit.kind == kind) {
            limit.left = limit.most;
        }
    }

    /// Counts what one is given, and whether it takes that.
    pub fn takes(&mut self, kind: Kind, bytes: usize) -> bool {
        self.limits
            .iter_mut()
            .filter(|limit| limit.kind == kind)
            .all(|limit| match limit.left.checked_sub(bytes) {
                Some(less) => {
                    limit.left = less;
                    true
                }
                None => false,
            })
    }

    /// Counts what went into the library and what came out.
    pub fn passed(&mut self, given: usize, got: usize) {
        self.held = (self.held + given).saturating_sub(got);
    }

    /// Refuses a step of an operation that the session is not in, or not any more.
    pub fn expect(&self, begun: Begun) -> Result<()> {
        if self.begun.contains(&begun) {
            return Ok(());
        }
        Err(Failure::own(Reason::OperationNotInitialized, ""))
    }

    /// Notes that the library ends one now; what it may still hold back of its input.
    pub fn end(&mut self, begun: Begun) -> Result<usize> {
        self.expect(begun)?;
        self.remove(begun);
        Ok(std::mem::take(&mut self.held))
    }

    /// Forgets one; whether it was there.
    pub fn remove(&mut self, begun: Begun) -> bool {
        let before = self.begun.len();
        self.begun.retain(|active| *active != begun);
        let was_there = self.begun.len() < before;
        if was_there {
            self.limits.retain(|limit| limit.kind != begun.kind);
        }
        was_there
    }

    /// The mechanisms, of operations that end with their session.
    pub fn into_mechanisms(self) -> impl Iterator<Item = MechanismMemory> {
        self.mechanisms.into_iter().map(|(_kind, memory)| memory)
    }

    /// Forgets all of them, and says which they were; their mechanisms are to be dropped when they are over.
    pub fn take(&mut self) -> (Vec<Kind>, Vec<(Kind, MechanismMemory)>) {
        let all = std::mem::take(self);
        let kinds = all.begun.iter().map(|begun| begun.kind).collect();
        (kinds, all.mechanisms)
    }
}

/// What cancels operations in `C_SessionCancel`.
pub fn flags(kinds: &[Kind]) -> CK_FLAGS {
    kinds.iter().fold(0, |all, kind| all | kind.cancel_flag())
}
