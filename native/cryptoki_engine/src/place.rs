//! Where the sessions of an instance are: here, or in another process.

use crate::control::login::{self, Credentials};
use crate::library::token_in_slot::TokenInSlot;
use crate::process::notices::Hear;
use crate::process::session::Away;
use crate::process::tasks;
use crate::process::wire::{Notice, Noticed};
use crate::process::worker::Worker;
use crate::request::request::Request;
use crate::session::counters::Counters;
use crate::session::session::Session;
use crate::session::status::Status;
use crate::session::unheard::Unheard;
use crate::session::work::Work;
use crate::site::{Site, State};
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::panics::guarded;
use std::sync::Arc;

/// What takes no time: nothing of it calls the library.
pub fn take_notice(site: &Site, notice: &Notice) -> Noticed {
    match notice {
        Notice::State(state) => site.set_state(*state),
        Notice::Epoch(epoch) => site.begin_epoch(*epoch),
        Notice::Standing(handle) => return Noticed::Standing(site.standing(handle)),
        Notice::Inside => return Noticed::inside(site.library.control.now(), site.oldest_call()),
        Notice::Control | Notice::Session => {}
    }
    Noticed::Done
}

/// The place.
pub enum Place {
    /// This process.
    Here(Arc<Site>),
    /// One of its own.
    Away(Arc<Worker>),
}

impl Place {
    /// Where its sessions are counted, and where is kept what was said of PINs when nobody listened.
    pub fn shared(&self) -> (Arc<Counters>, Arc<Unheard>) {
        match self {
            Place::Here(site) => (site.counters.clone(), site.unheard.clone()),
            Place::Away(_) => Default::default(),
        }
    }

    /// A session that is to be opened.
    pub fn session(
        &self,
        status: Arc<Status>,
        unheard: Arc<Unheard>,
        token: TokenInSlot,
    ) -> Box<dyn Work> {
        match self {
            Place::Here(site) => Box::new(Session::new(site.clone(), status, token)),
            Place::Away(worker) => Box::new(Away::new(worker.clone(), status, unheard, token)),
        }
    }

    /// Has the control thread log the instance in.
    pub fn log_in(&self, token: TokenInSlot, request: Arc<Request<Credentials, ()>>) -> Result<()> {
        match self {
            Place::Here(site) => site
                .library
                .lanes
                .ask(login::task(site.clone(), token, request)),
            Place::Away(worker) => worker
                .lanes
                .ask(tasks::login(worker.clone(), token, request)),
        }
    }

    /// The instance is in this state.
    pub fn set_state(&self, state: State) {
        match self {
            Place::Here(site) => site.set_state(state),
            Place::Away(worker) => worker.set_state(state),
        }
    }

    /// The epoch handles are issued in.
    pub fn epoch(&self) -> u64 {
        match self {
            Place::Here(site) => site.epoch(),
            Place::Away(worker) => worker.epoch(),
        }
    }

    /// How many epochs have ended.
    pub fn epochs(&self) -> u64 {
        match self {
            Place::Here(site) => site.epochs(),
            Place::Away(worker) => worker.epochs(),
        }
    }

    /// Makes every handle issued before stale.
    pub fn bump_epoch(&self) {
        match self {
            Place::Here(site) => drop(site.bump_epoch()),
            Place::Away(worker) => worker.bump_epoch(),
        }
    }

    /// What can be said at once; none: the process of the library is asked.
    pub fn notice(&self, notice: &Notice) -> Option<Noticed> {
        match self {
            Place::Here(site) => Some(take_notice(site, notice)),
            Place::Away(_) => None,
        }
    }

    /// Asks the process of the library: who hears it is called by a thread of ours.
    pub fn ask(&self, notice: Notice, hear: Hear) -> Result<()> {
        match self {
            Place::Here(site) => hear(Ok(take_notice(site, &notice))),
            Place::Away(worker) => worker.ask(notice, hear)?,
        }
        Ok(())
    }

    /// Runs something on a thread of its own; where none can be had the control thread does it.
    pub fn elsewhere(&self, name: &str, work: impl Fn() + Send + Sync + 'static) {
        let work = Arc::new(work);
        let again = work.clone();
        let thread = std::thread::Builder::new().name(name.into());
        if thread.spawn(move || guarded(|| work())).is_err() {
            match self {
                Place::Here(site) => site.library.lanes.tell(Box::new(move |_| again())),
                Place::Away(worker) => worker.lanes.tell(Box::new(move |_| again())),
            }
        }
    }
}
