//! What a session thread is told: requests of callers, and to end.

use crate::operation::answer::Answer;
use crate::operation::operation::Operation;
use crate::request::lease::Lease;
use crate::request::queue::Wake;
use crate::request::request::Request;
use crossbeam_channel::Sender;
use cryptoki_ffi::failure::Failure;
use std::sync::{Arc, OnceLock};

/// What a session thread can be asked to do.
pub enum SessionJob {
    /// Run one operation.
    Run(Operation),
    /// Serve only these requests until the sender is gone; where it is told why, when that is not the sender's doing.
    Lease(Lease<SessionRequest>, Arc<OnceLock<Failure>>),
}

/// A request for a session thread.
pub type SessionRequest = Arc<Request<SessionJob, Answer>>;

/// What a session thread is given to do next.
pub enum Next {
    /// A request.
    Request(SessionRequest),
    /// The session is to be closed; none: nobody holds it any more.
    Close(Option<Close>),
    /// There may be one.
    Look,
    /// There will be no more requests.
    Nothing,
    /// The session is over, though nobody has asked for anything.
    End,
}

impl From<Wake> for Next {
    fn from(_wake: Wake) -> Self {
        Next::Look
    }
}

/// A request to close a session: the answer comes when it is closed, also by a thread that was ending when it was asked.
pub struct Close(Option<Arc<Request<(), ()>>>);

impl Close {
    /// That of whoever waits for it.
    pub fn of(request: Arc<Request<(), ()>>) -> Self {
        Self(Some(request))
    }

    /// It was not handed over: whoever has asked is told otherwise.
    pub fn take_back(mut self) {
        self.0.take();
    }
}

impl Drop for Close {
    fn drop(&mut self) {
        if let Some(request) = self.0.take() {
            request.serve(None, |()| Ok(()));
        }
    }
}

/// What closes a session, at the latest when nobody holds this any more.
pub struct Closer(Sender<Next>);

impl Closer {
    /// That of the thread that reads what is sent there.
    pub fn new(told: Sender<Next>) -> Self {
        Self(told)
    }

    /// Closes it; given back when it has ended.
    pub fn close(&self, close: Close) -> Result<(), Close> {
        let sent = self.0.send(Next::Close(Some(close)));
        sent.map_err(|error| match error.0 {
            Next::Close(Some(close)) => close,
            _ => Close(None),
        })
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        let _ = self.0.send(Next::Close(None));
    }
}
