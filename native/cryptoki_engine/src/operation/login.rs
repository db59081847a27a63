//! The login that some keys want for every single use (section 5.6.8).

use cryptoki_ffi::values::Secret;
use serde::{Deserialize, Serialize};

/// Whether there is one, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Login {
    /// There is none.
    Without,
    /// By the protected authentication path.
    Protected,
    /// With a PIN.
    Pin(Secret),
}
