//! Where sessions are opened: a slot, and the token that was found there. Another may come into the slot,
//! or the library count its slots anew: a session with another token is none.

use crate::library::info::{self, Identity};
use crate::library::library::Library;
use crate::library::session_handle::SessionHandle;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_sys::CK_SLOT_ID;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A token in a slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenInSlot {
    /// The slot.
    pub slot: CK_SLOT_ID,
    /// The token.
    pub token: Identity,
    /// Whether sessions may not write.
    pub read_only: bool,
}

impl TokenInSlot {
    /// Opens a session with the token.
    pub fn open_session(&self, library: &Arc<Library>) -> Result<SessionHandle> {
        let session = SessionHandle::open(library, self.slot, self.read_only)?;
        // With the session open, as a session ends with its token.
        match self.look(library) {
            Ok(()) => Ok(session),
            Err(failure) => {
                session.close();
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
