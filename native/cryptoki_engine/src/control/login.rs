//! Logging in: a PIN is handed over once, in a session that is there, to the token that it is for.

use crate::control::administration::undisturbed;
use crate::control::task::answered;
use crate::inject;
use crate::library::initialization::Initialization;
use crate::library::lanes::Task;
use crate::library::quirks;
use crate::library::session_handle::Guest;
use crate::library::token_in_slot::TokenInSlot;
use crate::request::request::{Cancel, Request, Served};
use crate::site::Site;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::values::Secret;
use cryptoki_sys::CK_USER_TYPE;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who logs in.
#[derive(Serialize, Deserialize)]
pub struct Credentials {
    /// `CKU_*`.
    pub user: CK_USER_TYPE,
    /// None: the protected authentication path.
    pub pin: Option<Secret>,
    /// For `C_LoginUser`.
    pub name: Option<Vec<u8>>,
}

/// A task that logs an instance in.
pub fn task(
    site: Arc<Site>,
    token: TokenInSlot,
    request: Arc<Request<Credentials, ()>>,
) -> Task<Initialization> {
    answered(request, move |_, request| {
        inject::place("control login");
        serve(&site, &token, request)
    })
}

/// While the request is not taken no PIN was tried, and its caller may withdraw it.
fn serve(site: &Site, token: &TokenInSlot, request: &Request<Credentials, ()>) -> Served {
    if request.is_cancelled() {
        return Served::NotRun;
    }
    let alone = quirks::logs_in_alone(&site.library.functions);
    match session(site, token) {
        Ok(session) => request.serve(None, |credentials| {
            hand(site, token, &session, alone, &credentials)
        }),
        Err(failure) => request.refuse(failure),
    }
}

fn hand(
    site: &Site,
    token: &TokenInSlot,
    session: &Guest,
    alone: bool,
    credentials: &Credentials,
) -> Result<()> {
    let Credentials { user, pin, name } = credentials;
    let login = |session: &Guest| {
        undisturbed(&site.library, alone, || {
            session.call(|functions, session| {
                functions.login(session, *user, pin.as_ref(), name.as_deref())
            })
        })
        .inspect(|()| site.library.numbers.logged_in(token.slot))
    };
    match login(session) {
        // The token may have restarted since the session was looked at: no PIN was tried.
        Err(failure) if failure.class() == Class::Session => login(&self::session(site, token)?),
        outcome => outcome,
    }
}

/// Makes sure that there is a session to log in with, before anybody asks for a PIN; whether nobody else may be inside then.
pub fn prepare(site: &Site, token: &TokenInSlot) -> Result<bool> {
    let alone = quirks::logs_in_alone(&site.library.functions);
    session(site, token).map(|_| alone)
}

/// Logs in, when that was done: the library is asked nothing more between its session and the PIN.
pub fn hand_over(
    site: &Site,
    token: &TokenInSlot,
    alone: bool,
    credentials: &Credentials,
) -> Result<()> {
    hand(site, token, &session(site, token)?, alone, credentials)
}

/// The session that keeps the instance's login alive, opened anew when it is gone.
fn session(site: &Site, token: &TokenInSlot) -> Result<Guest> {
    if let Some(session) = site.login_session(Some(token.slot))
        && session
            .call(|functions, session| functions.session_info(session))
            .is_ok()
    {
        return Ok(session);
    }
    let handle = token.open_session(&site.library)?;
    let session = handle.guest();
    match site.keep_login_session(token.slot, handle) {
        Ok(before) => {
            if let Some(before) = before {
                before.close();
            }
            Ok(session)
        }
        Err(handle) => {
            handle.close();
            Err(Failure::own(Reason::Shutdown, "the instance is stopping"))
        }
    }
}
