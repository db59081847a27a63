//! What changes a token or its PINs, in a session of its own (sections 5.5.7 to 5.6.1).

use crate::control::users::PATIENCE;
use crate::library::library::Library;
use crate::library::quirks;
use crate::library::session_handle::SessionHandle;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::values::Secret;
use cryptoki_sys as ck;
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID, CK_USER_TYPE};
use std::sync::Arc;

/// `C_InitToken`
pub fn init_token(
    library: &Library,
    slot: CK_SLOT_ID,
    so_pin: Option<&Secret>,
    label: &[u8],
) -> Result<()> {
    library.functions.init_token(slot, so_pin, label)?;
    library.numbers.clear(Some(slot));
    Ok(())
}

/// `C_InitPIN`
pub fn init_pin(
    library: &Arc<Library>,
    slot: CK_SLOT_ID,
    so_pin: Option<&Secret>,
    pin: Option<&Secret>,
) -> Result<()> {
    with_login(
        library,
        slot,
        Some((ck::CKU_SO, so_pin)),
        |functions, session| functions.init_pin(session, pin),
    )
}

/// `C_SetPIN`
pub fn set_pin(
    library: &Arc<Library>,
    slot: CK_SLOT_ID,
    user: Option<CK_USER_TYPE>,
    old: Option<&Secret>,
    new: Option<&Secret>,
) -> Result<()> {
    let user = user.map(|user| (user, old));
    with_login(library, slot, user, |functions, session| {
        functions.set_pin(session, old, new)
    })
}

/// A session for one call, logged in if need be and logged out again.
fn with_login(
    library: &Arc<Library>,
    slot: CK_SLOT_ID,
    user: Option<(CK_USER_TYPE, Option<&Secret>)>,
    work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<()>,
) -> Result<()> {
    let handle = SessionHandle::open(library, slot, false)?;
    let outcome = match user {
        None => handle.call(work),
        Some((user, pin)) => {
            let alone = quirks::logs_in_alone(&library.functions);
            undisturbed(library, alone, || {
                handle.call(|functions, session| {
                    functions.login(session, user, pin, None)?;
                    let outcome = work(functions, session);
                    // Ours alone: had anybody been logged in, C_Login would have refused.
                    let _ = functions.logout(session);
                    outcome
                })
            })
        }
    };
    handle.close();
    outcome
}

/// Logs in or out, with nobody else inside where the library cannot stand it.
pub fn undisturbed(
    library: &Library,
    alone: bool,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if !alone {
        return work();
    }
    let why = "calls are still in flight, under which this library cannot log in or out";
    let done = library.functions.gate.alone(PATIENCE, work);
    done.unwrap_or_else(|| Err(Failure::own(Reason::Busy, why)))
}
