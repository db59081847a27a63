//! Where sessions are opened: a slot, and the token that was found there. Another may come into the slot,
//! or the library count its slots anew: a session with another token is none.

use crate::info::{self, Identity};
use crate::library::Library;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID};

/// A token in a slot.
pub struct Place {
    /// The slot.
    pub slot: CK_SLOT_ID,
    /// The token.
    pub token: Identity,
    /// Whether sessions may not write.
    pub read_only: bool,
}

impl Place {
    /// Opens a session with the token, and claims its handle.
    pub fn open_session(&self, library: &Library) -> Result<(CK_SESSION_HANDLE, u64)> {
        let (handle, claim) = library.open_session(self.slot, self.read_only)?;
        // With the session open, as a session ends with its token.
        match self.look(library) {
            Ok(()) => Ok((handle, claim)),
            Err(failure) => {
                library.close_session(handle, claim);
                Err(failure)
            }
        }
    }

    fn look(&self, library: &Library) -> Result<()> {
        let now = info::identity(&library.functions.token_info(self.slot)?);
        if now == self.token {
            return Ok(());
        }
        let (was, is) = (&self.token.label, &now.label);
        Err(Failure::own(
            Reason::TokenAbsent,
            format!("{was:?} was in the slot, now there is {is:?}"),
        ))
    }
}
