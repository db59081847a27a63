//! A session, the operations it is in, the objects it has made, and what others may know of it.

pub mod active;
pub mod counters;
pub mod objects;
pub mod recovery;
#[allow(clippy::module_inception)]
pub mod session;
pub mod spread;
pub mod status;
pub mod told;
pub mod trouble;
pub mod unheard;
pub mod work;
