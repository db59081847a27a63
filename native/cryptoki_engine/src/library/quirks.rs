//! What libraries cannot stand, by the manufacturer that `C_GetInfo` names, and what they mean by what they say.

use crate::library::session_handle::SessionHandle;
use cryptoki_ffi::failure::Failure;
use cryptoki_ffi::functions::Functions;
use cryptoki_sys as ck;

/// Those that lock themselves up when somebody logs in or out while other calls are inside. In
/// Kryoptic 1.5 the login holds the token and waits for every session, while others hold their
/// session and wait for the token.
const LOG_IN_ALONE: &[&str] = &["Kryoptic"];

/// Whether nobody else may be inside while somebody logs in or out.
pub fn logs_in_alone(functions: &Functions) -> bool {
    functions.info().is_ok_and(|info| {
        LOG_IN_ALONE
            .iter()
            .any(|name| info.manufacturerID.starts_with(name.as_bytes()))
    })
}

/// What a failure in a session means: Kryoptic calls it a general error when somebody else has logged us out.
pub fn understood(failure: Failure, session: Option<&SessionHandle>, logged_in: bool) -> Failure {
    let public = [ck::CKS_RO_PUBLIC_SESSION, ck::CKS_RW_PUBLIC_SESSION];
    let is_public = |session: &SessionHandle| {
        let looked = session.call(|functions, session| functions.session_info(session));
        looked.is_ok_and(|info| public.contains(&info.state))
    };
    match failure {
        Failure::Rv { code, function }
            if code == ck::CKR_GENERAL_ERROR
                && function.ends_with("Init")
                && logged_in
                && session.is_some_and(is_public) =>
        {
            let code = ck::CKR_USER_NOT_LOGGED_IN;
            Failure::Rv { code, function }
        }
        other => other,
    }
}
