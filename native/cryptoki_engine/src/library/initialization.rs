//! How a library was initialised: once, for all its users.

use cryptoki_ffi::environment::Variables;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString};

/// What users ask for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The reserved string.
    pub init_args: Option<CString>,
    /// One call at a time.
    pub serialized: bool,
    /// What is in C's environment during `C_Initialize`.
    pub environment: Variables,
}

/// How it was done.
pub struct Initialized {
    /// What was asked for.
    pub settings: Settings,
    /// The string in the settings, kept for ever: some libraries read it again later.
    pub reserved: Option<&'static CStr>,
    /// Somebody else in the process did it, and will finalise it.
    pub adopted: bool,
}

/// What the control thread of a library remembers.
#[derive(Default)]
pub struct Initialization {
    /// How many use the library.
    pub users: usize,
    /// None: it is not initialised.
    pub now: Option<Initialized>,
    /// `C_Finalize` has refused: what is found initialised then is what we have left, nobody else's.
    pub left: bool,
}
