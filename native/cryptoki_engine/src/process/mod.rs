//! A library in a process of its own: what this side has of it. The other side is the program `cryptoki_worker`.

pub mod fitting;
pub mod life;
pub mod link;
pub mod notices;
pub mod pieces;
pub mod session;
pub mod tasks;
pub mod wire;
pub mod worker;
