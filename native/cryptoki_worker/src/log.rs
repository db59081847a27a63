//! What happens to a session between two answers: the other side is told with the next.

use cryptoki_engine::process::wire::News;
use cryptoki_engine::session::status::{Event, Owner};
use cryptoki_ffi::failure::Failure;
use std::sync::{Arc, Mutex, PoisonError};

/// What has happened since the last answer.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<News>>>);

impl Log {
    fn add(&self, news: News) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(news);
    }

    /// Takes it out.
    pub fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Owner for Log {
    fn tell(&self, _session: u64, event: Event) {
        // The other side counts for itself, and learns from that when the device is in trouble.
        if !matches!(event, Event::Failing(_) | Event::Working) {
            self.add(News::Told(event));
        }
    }

    fn counted(&self, works: bool, failure: Option<&Failure>) {
        self.add(News::Counted(works, failure.cloned()));
    }
}
