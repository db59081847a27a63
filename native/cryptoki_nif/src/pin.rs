//! Where the requests of a pinned session go in and come out: each is served, or given back, once.
//!
//! `../cryptoki_ffi/tests/pin.rs` checks every interleaving.

use super::channel::{Receiver, Sender, unbounded};
use super::sync::{Arc, Mutex, MutexGuard};

/// Where the caller puts its requests in, until somebody shuts it.
pub struct Inbox<R>(Arc<Mutex<Option<Sender<R>>>>);

impl<R> Inbox<R> {
    /// Puts a request in; gives it back when it is shut.
    pub fn put(&self, request: R) -> Result<(), R> {
        match self.sender().as_ref() {
            Some(sender) => sender.send(request).map_err(|error| error.0),
            None => Err(request),
        }
    }

    /// Nothing goes in any more; what is in it is served.
    pub fn shut(&self) {
        drop(self.sender().take());
    }

    fn sender(&self) -> MutexGuard<'_, Option<Sender<R>>> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// What a session thread needs to serve one caller only.
pub struct Pin<R> {
    /// The requests of that caller; they end when the inbox is shut.
    pub requests: Receiver<R>,
    inbox: Inbox<R>,
}

impl<R> Pin<R> {
    /// A pin and where its requests are put in.
    pub fn new() -> (Self, Inbox<R>) {
        let (sender, requests) = unbounded();
        let inbox = Arc::new(Mutex::new(Some(sender)));
        let pin = Self {
            requests,
            inbox: Inbox(inbox.clone()),
        };
        (pin, Inbox(inbox))
    }

    /// Shuts the inbox, then gives back what is in it: a request is refused there or here, never lost.
    pub fn end(self, refuse: impl Fn(R)) {
        self.inbox.shut();
        while let Ok(request) = self.requests.try_recv() {
            refuse(request);
        }
    }
}
