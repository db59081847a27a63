//! The engine before SoftHSM and a library that fails on command, with the test in the place of a VM.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../faulty_module/tests/support/mod.rs"]
mod support;
mod world;

mod calls;
mod crossing;
mod examples;
mod handles;
mod perform;
mod recovery;
mod requests;
mod shared;
mod wire;
