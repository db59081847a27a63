//! What a session can be asked to do, as data: the table, what its rows are read from, and what they answer.

pub mod answer;
pub mod begun;
pub mod login;
#[allow(clippy::module_inception)]
pub mod operation;
pub mod read;
pub mod table;
pub mod words;
