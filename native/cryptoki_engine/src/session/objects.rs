//! The objects that a session finds, makes, uses and destroys: each handle is that of one object.

use crate::library::numbers::{InUse, Numbers};
use crate::session::session::Session;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::values::Handle;
use cryptoki_sys as ck;
use cryptoki_sys::CK_OBJECT_HANDLE;

impl Session {
    /// The handle of an object that was made; `stored`: it does not end with the session.
    pub fn made_object(&self, number: CK_OBJECT_HANDLE, stored: bool) -> Handle {
        let session = self.handle.as_ref().filter(|_| !stored);
        let maker = session.map(|session| session.claim());
        self.made_objects
            .set(self.made_objects.get() || maker.is_some());
        self.handle(number, self.numbers().made(self.token.slot, number, maker))
    }

    /// The handles of objects that were found.
    pub fn found_objects(&self, objects: &[CK_OBJECT_HANDLE]) -> Vec<Handle> {
        let issued = self.numbers().found(self.token.slot, objects).into_iter();
        issued
            .map(|(number, generation)| self.handle(number, generation))
            .collect()
    }

    /// Valid in the epoch in which the operation began.
    fn handle(&self, number: CK_OBJECT_HANDLE, generation: u64) -> Handle {
        Handle {
            number,
            life: self.stamp,
            generation,
        }
    }

    /// Destroys an object, and its handle whatever comes of it, unless the object has certainly stayed.
    pub fn destroy_object(&self, handle: Handle) -> Result<()> {
        let Some(ending) = self.numbers().end(self.token.slot, handle) else {
            return Err(stale("the object is being destroyed by somebody else"));
        };
        let outcome = self.call(|functions, session| functions.destroy(session, handle.number));
        match &outcome {
            Ok(()) => {
                ending.gone();
                self.site.let_go();
            }
            Err(failure) if is_refusal(failure) => ending.stayed(),
            Err(_) => drop(ending),
        }
        outcome
    }

    /// Whether objects would end with the session.
    pub fn holds_objects(&self) -> bool {
        let holds = |claim| self.numbers().holds(claim);
        self.made_objects.get()
            && self
                .handle
                .as_ref()
                .is_some_and(|handle| holds(handle.claim()))
    }

    fn numbers(&self) -> &Numbers {
        &self.site.library.numbers
    }

    /// Leaves those of its sessions open, unused, with which objects of callers would end.
    pub fn keep_objects(&mut self) {
        let retired = std::mem::take(&mut self.retired).into_iter();
        self.retired = retired.filter_map(|old| self.site.keep(old)).collect();
        if self.made_objects.get()
            && let Some(handle) = self.forget()
            && let Some(handle) = self.site.keep(handle)
        {
            handle.close_with_objects();
        }
    }

    /// Whether each handle is the one issued for its object, which is kept so until the guard is dropped.
    pub fn use_objects<'n, 'h>(
        slot: ck::CK_SLOT_ID,
        stamp: u64,
        numbers: &'n Numbers,
        handles: &'h [Handle],
    ) -> Result<Option<InUse<'n, 'h>>> {
        if handles.is_empty() {
            return Ok(None);
        }
        if handles.iter().any(|handle| handle.life != stamp) {
            return Err(stale("the handle is from an earlier epoch"));
        }
        match numbers.enter(slot, handles) {
            None => Err(stale("the handle is not that of an object any more")),
            in_use => Ok(in_use),
        }
    }

    /// An object that the library does not know was destroyed by somebody else, who may give its number away.
    pub fn forget_unknown(&self, handles: &[Handle], failure: &Failure) {
        if let [handle] = handles
            && (failure.is(ck::CKR_OBJECT_HANDLE_INVALID) || failure.is(ck::CKR_KEY_HANDLE_INVALID))
        {
            self.numbers().lost(self.token.slot, handle);
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
