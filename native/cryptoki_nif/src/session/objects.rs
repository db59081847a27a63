//! The objects that a session finds, makes, uses and destroys: each handle is that of one object.

use super::{RETIRED_LIMIT, Session};
use crate::operation::Work;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::numbers::Numbers;
use cryptoki_ffi::values::Handle;
use cryptoki_sys as ck;
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_SESSION_HANDLE};
use rustler::{Env, Term};

impl Session {
    /// The generation of an object that was made.
    pub fn made_object(&self, object: CK_OBJECT_HANDLE, stored: bool) -> u64 {
        let maker = (!stored).then_some(self.claim);
        self.made_objects
            .set(self.made_objects.get() || maker.is_some());
        self.numbers().made(self.place.slot, object, maker)
    }

    /// The generations of objects that were found.
    pub fn found_objects(&self, objects: &[CK_OBJECT_HANDLE]) -> Vec<(CK_OBJECT_HANDLE, u64)> {
        self.numbers().found(self.place.slot, objects)
    }

    /// Destroys an object, and its handle whatever comes of it, unless the object has certainly stayed.
    pub fn destroy_object(&self, handle: Handle) -> Result<()> {
        let Some(ending) = self.numbers().end(self.place.slot, handle) else {
            return Err(stale("the object is being destroyed by somebody else"));
        };
        let outcome = self.library().destroy(self.handle, handle.object);
        match &outcome {
            Ok(()) => {
                ending.gone();
                self.instance().let_go();
            }
            Err(failure) if is_refusal(failure) => ending.stayed(),
            Err(_) => drop(ending),
        }
        outcome
    }

    /// Whether objects would end with the session.
    pub(super) fn holds_objects(&self) -> bool {
        self.made_objects.get() && self.numbers().holds(self.claim)
    }

    fn numbers(&self) -> &Numbers {
        &self.instance().library.numbers
    }

    /// Closes a session, and ends the handles of the objects that end with it.
    pub(super) fn close_one(&self, handle: CK_SESSION_HANDLE, claim: u64, made_objects: bool) {
        let library = &self.instance().library;
        if made_objects {
            library.close_with_objects(handle, claim);
        } else {
            library.close_session(handle, claim);
        }
    }

    /// Goes on with a new session and keeps the old one open, unused: the objects made in it would
    /// end with it.
    pub(super) fn retire(&mut self) -> Result<()> {
        if !self.holds_objects() || self.retired.len() >= RETIRED_LIMIT {
            return Err(Failure::own(Reason::SessionLost, "nothing to keep"));
        }
        let old = (self.handle, self.claim);
        self.take_new()?;
        self.retired.push(old);
        Ok(())
    }

    /// Leaves those of its sessions open, unused, with which objects of callers would end.
    pub(super) fn keep_objects(&mut self) {
        let instance = self.instance().clone();
        self.retired
            .retain(|(handle, claim)| !instance.keep(*handle, *claim));
        if self.made_objects.get() && instance.keep(self.handle, self.claim) {
            self.made_objects.set(false);
            self.forget();
        }
    }

    /// Runs it if each handle is the one issued for its object, and keeps that so until it is over.
    pub(super) fn run_on_objects<'a>(&mut self, env: Env<'a>, work: &Work) -> Result<Term<'a>> {
        let handles = work.operation.handles();
        if handles.is_empty() {
            return work.run(env, self);
        }
        if handles.iter().any(|handle| handle.epoch != self.stamp) {
            return Err(stale("the handle is from an earlier epoch"));
        }
        let library = self.instance().library.clone();
        let Some(_in_use) = library.numbers.enter(self.place.slot, handles) else {
            return Err(stale("the handle is not that of an object any more"));
        };
        work.run(env, self)
    }

    /// An object that the library does not know was destroyed by somebody else, who may give its number away.
    pub(super) fn forget_unknown(&self, handles: &[Handle], failure: &Failure) {
        if let [handle] = handles
            && (failure.is(ck::CKR_OBJECT_HANDLE_INVALID) || failure.is(ck::CKR_KEY_HANDLE_INVALID))
        {
            self.numbers().lost(self.place.slot, handle);
        }
    }
}

fn stale(why: &str) -> Failure {
    Failure::own(Reason::StaleHandle, why)
}

/// Whether the library has refused before it did anything to the object.
fn is_refusal(failure: &Failure) -> bool {
    let refused = [Class::Login, Class::OperationActive, Class::Other];
    refused.contains(&failure.class()) && !failure.is(ck::CKR_OBJECT_HANDLE_INVALID)
}
