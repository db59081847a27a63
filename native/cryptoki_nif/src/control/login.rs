//! Logging in: a PIN is handed over once, in a session that is there, to the token that it is for.

use super::Control;
use crate::instance::{Instance, LoginSession};
use crate::place::Place;
use crate::quirks;
use crate::request::{Cancel, Request, Served, ok};
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::values::Secret;
use cryptoki_sys::{CK_SESSION_HANDLE, CK_USER_TYPE};

/// Who logs in.
pub struct Credentials {
    /// `CKU_*`.
    pub user: CK_USER_TYPE,
    /// None: the protected authentication path.
    pub pin: Option<Secret>,
    /// For `C_LoginUser`.
    pub name: Option<Vec<u8>>,
}

impl Control {
    /// While the request is not taken no PIN was tried, and its caller may withdraw it.
    pub(super) fn serve_login(
        &self,
        instance: &Instance,
        place: &Place,
        request: &Request<Credentials>,
    ) -> Served {
        if request.is_cancelled() {
            return Served::NotRun;
        }
        let alone = quirks::logs_in_alone(&self.library.functions);
        match self.login_session(instance, place) {
            Ok(session) => request.serve(None, |env, credentials| {
                let login = |session| self.login(place, session, alone, &credentials);
                match login(session) {
                    // The token may have restarted since the session was looked at: no PIN was tried.
                    Err(failure) if failure.class() == Class::Session => {
                        login(self.login_session(instance, place)?)
                    }
                    outcome => outcome,
                }
                .map(|()| ok(env))
            }),
            Err(failure) => request.refuse(failure),
        }
    }

    fn login(
        &self,
        place: &Place,
        session: CK_SESSION_HANDLE,
        alone: bool,
        credentials: &Credentials,
    ) -> Result<()> {
        let functions = &self.library.functions;
        let Credentials { user, pin, name } = credentials;
        self.undisturbed(alone, || {
            functions.login(session, *user, pin.as_ref(), name.as_deref())
        })
        .inspect(|()| self.library.numbers.logged_in(place.slot))
    }

    /// The session that keeps the instance's login alive, opened anew when it is gone.
    fn login_session(&self, instance: &Instance, place: &Place) -> Result<CK_SESSION_HANDLE> {
        if let Some(session) = instance.login_session() {
            let alive = session.slot == place.slot
                && self.library.owns(session.handle, session.claim)
                && self.library.functions.session_info(session.handle).is_ok();
            if alive {
                return Ok(session.handle);
            }
            self.library.close_session(session.handle, session.claim);
        }
        let (handle, claim) = place.open_session(&self.library)?;
        let session = LoginSession {
            slot: place.slot,
            handle,
            claim,
        };
        if instance.keep_login_session(session) {
            return Ok(handle);
        }
        self.library.close_session(handle, claim);
        Err(Failure::own(Reason::Shutdown, "the instance is stopping"))
    }
}
