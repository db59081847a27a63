//! What a session does for a caller: one path from an operation to each C function.

pub mod at;
pub mod crypto;
pub mod keys;
pub mod messages;
pub mod objects;
pub mod raw_rsa;
pub mod run;
