//! PKCS #11 on threads of its own: libraries, the sessions of an instance, its queue, and what they do for a caller.
//!
//! Nothing here knows of a VM. A [`request`] goes into the queue of an [`instance`], a [`session_thread`] takes it and
//! makes the [`calls`] that the table of [`operation`]s names, and its answer is delivered to whoever asked. What is not
//! for one [`session`] is a job of a [`library`]'s [`control`] thread. No two files use each other, nor do any in a circle.

#![deny(unsafe_code)]

pub mod calls;
pub mod control;
pub mod held;
pub mod inject;
pub mod instance;
pub mod library;
pub mod operation;
pub mod perform;
pub mod place;
pub mod process;
pub mod request;
pub mod session;
pub mod session_thread;
pub mod site;
