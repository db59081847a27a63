//! The operations a session is in, and what their last steps need to know.

use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Outcome, Reason};
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_sys::{CK_FLAGS, CK_MECHANISM_TYPE};

/// None, one, or two that a dual-function update feeds.
#[derive(Default)]
pub struct Active {
    kinds: Vec<Kind>,
    /// Bytes given to a cipher that has not given them back.
    held: usize,
    signs_with: CK_MECHANISM_TYPE,
    /// How many bytes more they take, those that have a limit.
    limits: Vec<(Kind, usize)>,
    /// The mechanisms as the library was given them: it may read and write there until the operation is over.
    mechanisms: Vec<(Kind, MechanismMemory)>,
}

impl Active {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Notes that the library has begun an operation.
    pub fn began(&mut self, kind: Kind, mechanism: CK_MECHANISM_TYPE) {
        self.kinds.push(kind);
        self.held = 0;
        if matches!(kind, Kind::Sign | Kind::MessageSign) {
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

    /// Notes how many bytes one takes in all, if there is a limit.
    pub fn limit(&mut self, kind: Kind, bytes: Option<usize>) {
        self.limits.extend(bytes.map(|bytes| (kind, bytes)));
    }

    /// Counts what one is given, and whether it takes that.
    pub fn takes(&mut self, kind: Kind, bytes: usize) -> bool {
        self.limits
            .iter_mut()
            .filter(|(of, _)| *of == kind)
            .all(|(_, left)| match left.checked_sub(bytes) {
                Some(less) => {
                    *left = less;
                    true
                }
                None => false,
            })
    }

    /// Counts what went into the library and what came out.
    pub fn passed(&mut self, given: usize, got: usize) {
        self.held = (self.held + given).saturating_sub(got);
    }

    /// Refuses a step of an operation that the session is not in.
    pub fn expect(&self, kind: Kind) -> Outcome<()> {
        if self.kinds.contains(&kind) {
            return Ok(());
        }
        Err(Failure::own(Reason::OperationNotInitialized, ""))
    }

    /// Notes that the library ends one now; what it may still hold back of its input.
    pub fn end(&mut self, kind: Kind) -> Outcome<usize> {
        self.expect(kind)?;
        self.remove(kind);
        Ok(std::mem::take(&mut self.held))
    }

    /// Forgets one; whether it was there.
    pub fn remove(&mut self, kind: Kind) -> bool {
        let before = self.kinds.len();
        self.kinds.retain(|active| *active != kind);
        self.limits.retain(|(of, _)| *of != kind);
        self.kinds.len() < before
    }

    /// Forgets all of them, and says which they were; their mechanisms are to be dropped when they are over.
    pub fn take(&mut self) -> (Vec<Kind>, Vec<(Kind, MechanismMemory)>) {
        let all = std::mem::take(self);
        (all.kinds, all.mechanisms)
    }
}

/// What cancels operations in `C_SessionCancel`.
pub fn flags(kinds: &[Kind]) -> CK_FLAGS {
    kinds.iter().fold(0, |all, kind| all | kind.cancel_flag())
}
