//! What libraries cannot stand, by the manufacturer that `C_GetInfo` names.

use cryptoki_ffi::functions::Functions;

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
