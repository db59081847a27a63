//! What goes over the connections of a worker. On each there is one question at a time, and its answer.

pub use crate::session::work::Fate;

use crate::control::jobs::{Job, Told};
use crate::control::login::Credentials;
use crate::library::initialization::Settings;
use crate::library::numbers::Standing;
use crate::library::token_in_slot::TokenInSlot;
use crate::operation::answer::Answer;
use crate::operation::operation::Operation;
use crate::session::status::Event;
use crate::site::State;
use cryptoki_ffi::failure::{Failure, Result, function};
use cryptoki_ffi::values::Handle;
use cryptoki_ffi::wire::many;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Changes when anything here does.
pub const VERSION: u32 = 4;

/// The status of a worker whose first connection was closed under it, by what else is in its process.
pub const CLOSED: i32 = 120;

/// The first word of a worker.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of the package.
    pub version: String,
    /// Of what is here.
    pub wire: u32,
}

impl Hello {
    /// Of this build.
    pub fn ours() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire: VERSION,
        }
    }
}

/// The first word to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The library.
    pub path: PathBuf,
    /// The version of the interface that is wanted.
    pub interface: Option<(u8, u8)>,
    /// How much memory it may have.
    pub memory: Option<u64>,
    /// Epochs begin here: they are nobody else's.
    pub epoch: u64,
    /// It is to be said again.
    pub secret: [u8; 32],
}

/// The answer to that: whoever only repeats what a worker has said once does not know it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// That of the start.
    pub secret: [u8; 32],
}

/// On the first connection: what takes no time.
#[derive(Debug, Serialize, Deserialize)]
pub enum Notice {
    /// The connection for the control thread comes with it.
    Control,
    /// One for a session comes with it.
    Session,
    /// The instance is in this state.
    State(State),
    /// All handles are stale; the epoch that begins.
    Epoch(u64),
    /// Which calls are in the library?
    Inside,
    /// What has become of a handle?
    Standing(Handle),
}

/// What is said to that.
#[derive(Debug, Serialize, Deserialize)]
pub enum Noticed {
    /// It is done.
    Done,
    /// A connection cannot be served, and why.
    Refused(String),
    /// The oldest call of the control thread, and of the sessions.
    Inside(Option<Call>, Option<Call>),
    /// The handle.
    Standing(Standing),
}

impl Noticed {
    /// Which calls are in the library.
    pub fn inside(control: Option<(Name, Duration)>, sessions: Option<(Name, Duration)>) -> Self {
        let call = |(function, since): (Name, Duration)| Call {
            function,
            milliseconds: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        Noticed::Inside(control.map(call), sessions.map(call))
    }
}

/// A call that has not returned.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// The function.
    #[serde(deserialize_with = "function")]
    pub function: Name,
    /// How long it has been in it.
    pub milliseconds: u64,
}

type Name = &'static str;

/// For the control thread.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// The library is loaded and initialised.
    Open(Settings),
    /// A job.
    Job(Job),
    /// A session is opened that keeps the login.
    Prepare(TokenInSlot),
    /// A PIN is handed over.
    LogIn(TokenInSlot, Credentials),
    /// The library is finalised.
    Close,
}

/// What comes of it.
#[derive(Serialize, Deserialize)]
pub struct Ordered {
    /// The answer.
    pub outcome: Result<Told>,
    /// The epoch after it.
    pub epoch: u64,
}

/// For a session; `O` is an operation, or a reference to one.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask<O = Operation> {
    /// Open it.
    Open(TokenInSlot),
    /// Make sure that it is open.
    EnsureOpen,
    /// Run an operation.
    Perform(O),
    /// Leave whatever it is in.
    Clean,
    /// Leave open, unused, what objects would end with.
    KeepObjects,
    /// Close it.
    Close,
    /// Nobody waits for what was asked: the answer comes all the same.
    Abandon,
}

/// What has happened to a session meanwhile, in its order.
#[derive(Debug, Serialize, Deserialize)]
pub enum News {
    /// For its owner.
    Told(Event),
    /// An operation has succeeded or failed.
    Counted(bool, Option<Failure>),
}

/// The answer of a session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    /// The answer itself.
    pub outcome: Result<Answer>,
    /// What has happened.
    #[serde(deserialize_with = "many")]
    pub news: Vec<News>,
    /// The epoch after it.
    pub epoch: u64,
    /// Whether it is open.
    pub open: bool,
    /// Whether it is in an operation.
    pub in_operation: bool,
    /// Its fate.
    pub fate: Option<Fate>,
    /// The login that it has failed with.
    pub refusal: Option<Failure>,
}
