//! A user's hold on a library, wherever that is; letting go gives it back.

use crate::control::jobs::{Job, Told};
use crate::control::users::Attached;
use crate::place::Place;
use crate::process::tasks;
use crate::process::worker::Worker;
use crate::request::request::Request;
use crate::site::Site;
use cryptoki_ffi::failure::Result;
use std::sync::Arc;

/// The hold.
pub enum Held {
    /// On one in this process.
    Here(Attached),
    /// On one in a process of its own.
    Away(Arc<Worker>),
}

impl Held {
    /// Has its control thread do something that an instance needs done.
    pub fn job(&self, request: Arc<Request<Job, Told>>) -> Result<()> {
        match self {
            Held::Here(held) => {
                let library = held.library().clone();
                held.library().lanes.ask(Job::task(library, request))
            }
            Held::Away(worker) => worker.lanes.ask(tasks::job(worker.clone(), request)),
        }
    }

    /// The same for a question, for which no instance waits.
    pub fn question(&self, request: Arc<Request<Job, Told>>) -> Result<()> {
        match self {
            Held::Here(held) => {
                let library = held.library().clone();
                held.library().lanes.question(Job::task(library, request))
            }
            Held::Away(worker) => worker.lanes.question(tasks::job(worker.clone(), request)),
        }
    }

    /// Gives it back; the request is answered when that is done.
    pub fn give_back(&self, request: Arc<Request<(), ()>>) -> Result<()> {
        match self {
            Held::Here(held) => held.detach(request),
            Held::Away(worker) => {
                tasks::close(worker, request);
                Ok(())
            }
        }
    }

    /// Where the sessions of one more instance are.
    pub fn place(&self) -> Place {
        match self {
            Held::Here(held) => Place::Here(Arc::new(Site::new(held.library().clone()))),
            Held::Away(worker) => Place::Away(worker.clone()),
        }
    }
}
