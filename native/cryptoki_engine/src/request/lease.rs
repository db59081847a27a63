//! Where the requests of a leased session go in and come out: each is served, or given back, once.
//!
//! `tests/lease.rs` checks every interleaving.

use super::channel::{Receiver, Sender, unbounded};
use super::sync::{Arc, Mutex, MutexGuard};
use std::sync::PoisonError;

/// Where the caller puts its requests in, until somebody shuts it.
pub struct Inbox<R> {
    sender: Arc<Mutex<Option<Sender<R>>>>,
    /// How many may wait.
    limit: usize,
}

/// A request that is given back.
pub enum Refused<R> {
    /// The session is over.
    Shut(R),
    /// As many wait as may.
    Full(R),
}

impl<R> Inbox<R> {
    /// Puts a request in, or gives it back.
    pub fn put(&self, request: R) -> Result<(), Refused<R>> {
        match self.sender().as_ref() {
            Some(sender) if sender.len() >= self.limit => Err(Refused::Full(request)),
            Some(sender) => sender.send(request).map_err(|error| Refused::Shut(error.0)),
            None => Err(Refused::Shut(request)),
        }
    }

    /// Nothing goes in any more; what is in it is served.
    pub fn shut(&self) {
        drop(self.sender().take());
    }

    fn sender(&self) -> MutexGuard<'_, Option<Sender<R>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session thread needs to serve one caller only.
pub struct Lease<R> {
    /// The requests of that caller; they end when the inbox is shut.
    pub requests: Receiver<R>,
    inbox: Inbox<R>,
}

impl<R> Lease<R> {
    /// A lease and where its requests are put in, of which so many may wait.
    pub fn new(limit: usize) -> (Self, Inbox<R>) {
        let (sender, requests) = unbounded();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let inbox = |sender| Inbox { sender, limit };
        let lease = Self {
            requests,
            inbox: inbox(sender.clone()),
        };
        (lease, inbox(sender))
    }

    /// Shuts the inbox, then gives back what is in it: a request is refused there or here, never lost.
    pub fn end(self, refuse: impl Fn(R)) {
        self.inbox.shut();
        while let Ok(request) = self.requests.try_recv() {
            refuse(request);
        }
    }
}
