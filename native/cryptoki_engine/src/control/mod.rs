//! What the control thread of a library does: initialises, looks at slots and tokens, logs in, finalises.

pub mod administration;
pub mod jobs;
pub mod login;
pub mod opening;
pub mod task;
pub mod users;
