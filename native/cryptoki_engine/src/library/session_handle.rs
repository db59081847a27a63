//! The handle of a session: opening makes it, closing ends it, and a call with it is made only while it is ours.

use crate::inject;
use crate::library::library::Library;
use crate::library::numbers::PATIENCE;
use cryptoki_ffi::failure::{Class, Failure, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID, CKR_SESSION_HANDLE_INVALID};
use std::sync::Arc;

/// How often a session is opened that is closed in the place of another.
const OPENINGS: usize = 3;

/// A session that is open for us. One that is dropped is closed by the control thread of its library.
pub struct SessionHandle {
    guest: Guest,
    closed: bool,
    /// What it may still read and write: of operations that end with it.
    until_closed: Vec<MechanismMemory>,
}

/// The right to call with a session of somebody else for as long as it is theirs.
#[derive(Clone)]
pub struct Guest {
    library: Arc<Library>,
    number: CK_SESSION_HANDLE,
    claim: u64,
}

impl SessionHandle {
    /// Opens a session and claims its handle, whatever token is in the slot: see
    /// [`crate::library::token_in_slot::TokenInSlot`].
    pub fn open(library: &Arc<Library>, slot: CK_SLOT_ID, read_only: bool) -> Result<Self> {
        for _ in 0..OPENINGS {
            let closed = library.claims.count_closed();
            let number = library.functions.open_session(slot, read_only)?;
            let claim = library.claims.take(number, closed);
            let guest = Guest {
                library: library.clone(),
                number,
                claim: claim.number,
            };
            if !claim.doubtful || !guest.is_lost() {
                return Ok(Self {
                    guest,
                    closed: false,
                    until_closed: Vec::new(),
                });
            }
            // Closed in the place of another one; there is nothing to close.
            if library.claims.close(number, claim.number) {
                library.claims.closed(number, claim.number);
            }
        }
        Err(gone())
    }

    /// What tells the session from all others: objects are made in its name.
    pub fn claim(&self) -> u64 {
        self.guest.claim
    }

    /// Whether the handle is still ours.
    pub fn is_ours(&self) -> bool {
        let guest = &self.guest;
        guest.library.claims.owns(guest.number, guest.claim)
    }

    /// For those who call with it now and then.
    pub fn guest(&self) -> Guest {
        self.guest.clone()
    }

    /// Keeps the mechanisms of operations that nobody ends: the library may use them until the session is closed.
    pub fn carry(&mut self, mechanisms: impl IntoIterator<Item = MechanismMemory>) {
        self.until_closed.extend(mechanisms);
    }

    /// Makes a call, if the handle is ours.
    pub fn call<T>(
        &self,
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<T>,
    ) -> Result<T> {
        self.guest.call(work)
    }

    /// Closes the session, unless its handle belongs to somebody else by now. Where somebody else is in a call with
    /// it, they close it afterwards.
    pub fn close(mut self) {
        self.closed = true;
        self.guest.close();
    }

    /// The same with the objects that end with it: their handles are good for nothing from then on.
    pub fn close_with_objects(mut self) {
        self.closed = true;
        self.guest.close_with_objects();
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let (guest, until_closed) = (self.guest(), std::mem::take(&mut self.until_closed));
        self.guest.library.lanes.tell(Box::new(move |_| {
            inject::place("control close");
            guest.close_with_objects();
            drop(until_closed);
        }));
    }
}

impl Guest {
    /// Makes a call, if the handle is still that of its owner: it is not closed under the call.
    pub fn call<T>(
        &self,
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<T>,
    ) -> Result<T> {
        if !self.library.claims.enter(self.number, self.claim) {
            return Err(gone());
        }
        let _inside = Inside(self);
        work(&self.library.functions, self.number)
    }

    fn is_lost(&self) -> bool {
        let looked = self.library.functions.session_info(self.number);
        looked.is_err_and(|failure| failure.class() == Class::Session)
    }

    fn close(&self) {
        if self.library.claims.close(self.number, self.claim) {
            self.close_now();
        }
    }

    fn close_with_objects(&self) {
        let ending = self.library.numbers.end_of(self.claim, PATIENCE);
        self.close();
        ending.gone();
    }

    fn close_now(&self) {
        // It may be gone already: then there is nothing to close.
        let _ = self.library.functions.close_session(self.number);
        self.library.claims.closed(self.number, self.claim);
    }
}

/// Somebody in a call with the session; the last one closes it, if it is to be closed.
struct Inside<'a>(&'a Guest);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.0.library.claims.leave(self.0.number, self.0.claim) {
            self.0.close_now();
        }
    }
}

/// What a library would say of a handle that is not ours.
pub fn gone() -> Failure {
    Failure::Rv {
        code: CKR_SESSION_HANDLE_INVALID,
        function: "C_OpenSession",
    }
}
