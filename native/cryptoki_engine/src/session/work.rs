//! What a session thread does with its session, wherever that is.

use crate::operation::answer::Answer;
use crate::operation::operation::Operation;
use crate::request::request::Cancel;
use crate::session::status::End;
use crate::session::unheard::Refusal;
use crossbeam_channel::{Receiver, never};
use cryptoki_ffi::failure::{Failure, Result};
use serde::{Deserialize, Serialize};

/// How a thread ends.
#[derive(Debug, Serialize, Deserialize)]
pub enum Fate {
    /// It is over, whatever its owner thinks of that.
    Over(End),
    /// The session is lost.
    Lost(Failure),
}

/// A session to work with.
pub trait Work: Send {
    /// Opens it.
    fn open(&mut self) -> Result<()>;

    /// Whether it is open.
    fn is_open(&self) -> bool;

    /// Makes sure that it still is.
    fn ensure_open(&mut self) -> Result<()>;

    /// Runs one operation by the recovery table.
    fn perform(&mut self, operation: &Operation, caller: &dyn Cancel) -> Result<Answer>;

    /// Whoever has asked has the answer: what takes its time may be done now.
    fn rest(&mut self) {}

    /// Whether it is in an operation.
    fn is_in_operation(&self) -> bool;

    /// Leaves whatever operation it is in.
    fn clean(&mut self);

    /// Leaves open, unused, what objects of callers would end with.
    fn keep_objects(&mut self);

    /// Closes all that there is.
    fn close_all(&mut self);

    /// Lets go of it after a panic: somebody else closes it.
    fn drop_all(&mut self);

    /// Set when there is nothing left to serve with.
    fn fate(&mut self) -> &mut Option<Fate>;

    /// A login that the last operation has failed with.
    fn take_refusal(&mut self) -> Option<Refusal>;

    /// Disconnected when there is nothing left to serve with, though nobody has asked for anything.
    fn end(&self) -> Receiver<()> {
        never()
    }

    /// That has happened.
    fn note_end(&mut self) {}
}
