//! A session as its thread has it: one handle that only this thread calls with, and what it is in the middle of.

use crate::inject;
use crate::library::quirks;
use crate::library::session_handle::{SessionHandle, gone};
use crate::library::token_in_slot::TokenInSlot;
use crate::operation::begun::Begun;
use crate::session::active::{Active, flags};
use crate::session::recovery::{Aftermath, aftermath};
use crate::session::status::{Event, Status};
use crate::session::unheard::Refusal;
use crate::session::work::Fate;
use crate::site::Site;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_sys::{CK_FLAGS, CK_SESSION_HANDLE};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Old sessions that one thread keeps open for the objects made in them.
const RETIRED_LIMIT: usize = 8;

/// A session.
pub struct Session {
    /// What others know of it.
    pub status: Arc<Status>,
    /// What it shares with the others of its instance.
    pub site: Arc<Site>,
    /// Where it is opened.
    pub token: TokenInSlot,
    /// None: it is not open.
    pub(super) handle: Option<SessionHandle>,
    pub(super) epoch: u64,
    /// How many losses of the instance this session is known to have outlived.
    losses: u64,
    device_errors: u32,
    /// Set when the thread has nothing left to serve with.
    pub fate: Option<Fate>,
    /// The operations the session is in.
    pub active: Active,
    /// A login that the request being served has failed with.
    pub refusal: Option<Refusal>,
    /// The epoch of the instance when the running operation began: that of the handles it gives.
    pub(super) stamp: u64,
    /// Whether objects were made here that end with the session.
    pub(super) made_objects: Cell<bool>,
    /// Sessions that are open for the sake of the objects made in them.
    pub(super) retired: Vec<SessionHandle>,
}

impl Session {
    /// One that is to be opened.
    pub fn new(site: Arc<Site>, status: Arc<Status>, token: TokenInSlot) -> Self {
        Self {
            status,
            site,
            token,
            handle: None,
            epoch: 0,
            losses: 0,
            device_errors: 0,
            fate: None,
            active: Active::default(),
            refusal: None,
            stamp: 0,
            made_objects: Cell::new(false),
            retired: Vec::new(),
        }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// The epoch of the handles that the running operation gives.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// An operation begins.
    pub fn begin(&mut self) {
        self.stamp = self.site.epoch();
    }

    /// Ends the epoch that the session was opened in: all that it has given is void.
    pub fn end_epoch(&self) {
        self.site.end_epoch(self.epoch);
    }

    /// Calls a function of the library, with the session for as long as it is ours.
    pub fn call<T>(
        &self,
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<T>,
    ) -> Result<T> {
        match &self.handle {
            Some(handle) => handle.call(work),
            None => Err(gone()),
        }
    }

    /// Opens it.
    pub fn open(&mut self) -> Result<()> {
        inject::place("session open");
        self.site.found_in(self.token.slot);
        self.take_new()?;
        self.device_errors = 0;
        self.status.counters.sessions.fetch_add(1, SeqCst);
        Ok(())
    }

    /// The one way to a session handle: with the epoch of the object handles that it may be given. What was the handle
    /// before.
    fn take_new(&mut self) -> Result<Option<SessionHandle>> {
        // Before: what is lost meanwhile may be this one.
        let losses = self.site.losses();
        let library = &self.site.library;
        library.functions.gate.live_now();
        let new = self.token.open_session(library)?;
        self.epoch = self.site.epoch_for_new_session();
        self.losses = losses;
        self.made_objects.set(false);
        let before = self.part();
        self.handle = Some(new);
        Ok(before)
    }

    fn close(&mut self) {
        let Some(handle) = self.part() else { return };
        if self.made_objects.take() {
            handle.close_with_objects();
        } else {
            handle.close();
        }
        self.uncount();
    }

    /// The handle, with the mechanisms of what the session is in; the thread has it no more.
    fn part(&mut self) -> Option<SessionHandle> {
        let active = std::mem::take(&mut self.active);
        let mut handle = self.handle.take()?;
        handle.carry(active.into_mechanisms());
        Some(handle)
    }

    /// The same of a session that is not counted any more: the handle is somebody else's to close.
    pub(super) fn forget(&mut self) -> Option<SessionHandle> {
        let handle = self.part()?;
        self.uncount();
        Some(handle)
    }

    fn uncount(&self) {
        self.status.counters.sessions.fetch_sub(1, SeqCst);
    }

    /// Closes all that the thread has.
    pub fn close_all(&mut self) {
        inject::place("session close");
        self.close();
        for old in std::mem::take(&mut self.retired) {
            old.close_with_objects();
        }
    }

    /// Lets go of it after a panic: the control thread closes it.
    pub fn drop_all(&mut self) {
        drop(self.forget());
        self.retired.clear();
    }

    /// Makes sure that the handle is still ours, and that the session lives when another was found lost.
    pub fn ensure_open(&mut self) -> Result<()> {
        if !self.handle.as_ref().is_some_and(SessionHandle::is_ours) {
            return self.reopen(&gone());
        }
        let losses = self.site.losses();
        // One in the middle of an operation is found out by it.
        if self.losses == losses || self.active.any() {
            return Ok(());
        }
        match self.call(|functions, session| functions.session_info(session)) {
            Err(failure) if failure.class().is_loss() => {
                self.end_epoch();
                self.reopen(&failure)
            }
            // Whatever else is wrong, the operation says it.
            _ => {
                self.losses = losses;
                Ok(())
            }
        }
    }

    /// Opens the session anew; when that fails the thread has nothing left to serve with.
    pub fn reopen(&mut self, cause: &Failure) -> Result<()> {
        self.close();
        match self.open() {
            Ok(()) => {
                self.status.tell(Event::Reopened(cause.clone()));
                Ok(())
            }
            Err(failure) => {
                self.fate = Some(Fate::Lost(failure.clone()));
                Err(failure)
            }
        }
    }

    /// Leaves whatever operation the session is in.
    pub fn clean(&mut self) {
        inject::place("session clean");
        let (active, _until_over) = self.active.take();
        if active.is_empty() {
            return;
        }
        if !active.iter().all(|kind| self.finish_off(*kind)) {
            // A failure is the end of the thread, which `reopen` has noted.
            let _ = self.cancel(flags(&active));
        }
    }

    /// Leaves one of the operations the session is in; whether it was in it.
    pub fn leave(&mut self, begun: Begun) -> bool {
        let was_in_it = self.active.remove(begun);
        if was_in_it {
            let _until_over = self.active.mechanism(begun.kind);
            if !self.finish_off(begun.kind) {
                // A failure is the end of the thread, which `reopen` has noted.
                let _ = self.cancel(begun.kind.cancel_flag());
            }
        }
        was_in_it
    }

    fn finish_off(&self, kind: Kind) -> bool {
        self.call(|functions, session| Ok(functions.finish_off(kind, session)))
            .unwrap_or(false)
    }

    /// Cancels operations; where the library cannot, closing the session does it for certain.
    pub fn cancel(&mut self, operations: CK_FLAGS) -> Result<()> {
        match self.call(|functions, session| functions.session_cancel(session, operations)) {
            Ok(()) => Ok(()),
            Err(failure) => self.retire().or_else(|_| self.reopen(&failure)),
        }
    }

    /// Goes on with a new session and keeps the old one open, unused: the objects made in it would
    /// end with it.
    fn retire(&mut self) -> Result<()> {
        if !self.holds_objects() || self.retired.len() >= RETIRED_LIMIT {
            return Err(Failure::own(Reason::SessionLost, "nothing to keep"));
        }
        let old = self.take_new()?;
        self.retired.extend(old);
        Ok(())
    }

    /// What a failure means, where the library says something else.
    pub fn understand(&self, failure: Failure) -> Failure {
        quirks::understood(failure, self.handle.as_ref(), self.site.is_logged_in())
    }

    /// An operation has succeeded.
    pub fn went_well(&mut self) {
        self.device_errors = 0;
    }

    /// One has failed: what that means for the session beyond the operation.
    pub fn react(&mut self, failure: &Failure) {
        let class = failure.class();
        self.device_errors += u32::from(class == Class::Device);
        let opens_anew = match aftermath(class, self.device_errors, || self.holds_objects()) {
            Aftermath::Nothing => false,
            Aftermath::End => {
                self.end_epoch();
                self.fate = Some(Fate::Lost(failure.clone()));
                false
            }
            Aftermath::Reopen => true,
            Aftermath::ReopenIfSilent => self
                .call(|functions, session| functions.session_info(session))
                .is_err(),
        };
        if opens_anew {
            // A failure to reopen is the end of the thread, which `reopen` has noted.
            let _ = self.reopen(failure);
        }
    }
}
