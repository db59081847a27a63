//! The program, as an instance starts it: with SoftHSM behind a library that fails on command, in a process that the tests
//! stop, starve, look into and kill.
#![allow(clippy::unwrap_used, clippy::panic)]

mod isolated;
#[path = "../../../faulty_module/tests/support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../../../cryptoki_engine/tests/engine/world.rs"]
mod world;

mod ends;
mod limits;
mod pins;
mod seen;
mod strange;
