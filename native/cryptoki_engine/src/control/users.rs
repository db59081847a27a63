//! The users of a library: it is initialised for the first, and finalised after the last.

use crate::control::task::on_control;
use crate::inject;
use crate::library::initialization::{Initialization, Initialized, Settings};
use crate::library::library::Library;
use crate::request::request::{Request, panic_failure};
use cryptoki_ffi::environment::{Set, Variables};
use cryptoki_ffi::exit;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::panics::guarded;
use cryptoki_sys as ck;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long finalising, and whatever else has to be alone, waits for calls in flight.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A user's hold on a library; letting go gives it back.
pub struct Attached {
    library: Arc<Library>,
    /// Not given back yet.
    attached: AtomicBool,
}

impl Attached {
    /// The library.
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Gives it back; the request is answered when that is done. Whatever becomes of the caller, it is given back once.
    pub fn detach(&self, request: Arc<Request<(), ()>>) -> Result<()> {
        if !self.attached.swap(false, SeqCst) {
            let why = "the library was given back before";
            return Err(Failure::own(Reason::Shutdown, why));
        }
        let library = self.library.clone();
        self.library.lanes.tell(Box::new(move |state| {
            let outcome = detach(&library, state);
            request.serve(None, |()| outcome);
        }));
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.attached.load(SeqCst) {
            let library = self.library.clone();
            self.library.lanes.tell(Box::new(move |state| {
                let _ = detach(&library, state);
            }));
        }
    }
}

fn detach(library: &Library, state: &mut Initialization) -> Result<()> {
    guarded(|| {
        inject::place("control detach");
        state.detach(library)
    })
    .unwrap_or_else(|| Err(panic_failure()))
}

/// One more user; initialises the library for the first.
pub fn attach(library: Arc<Library>, request: Arc<Request<Settings, Attached>>) {
    let of = library.clone();
    library
        .lanes
        .tell(on_control(request, move |state, settings| {
            state.attach(&of, settings)?;
            Ok(Attached {
                library: of,
                attached: AtomicBool::new(true),
            })
        }));
}

impl Initialization {
    fn attach(&mut self, library: &Library, settings: Settings) -> Result<()> {
        if !self.is_alive(library) {
            self.initialize(library, settings)?;
        } else if self
            .now
            .as_ref()
            .is_some_and(|known| known.settings != settings)
        {
            self.change_settings(library, settings)?;
        }
        library.functions.gate.open();
        self.users += 1;
        Ok(())
    }

    /// A library that nobody uses may still be initialised: calls were in flight when its last user
    /// went.
    fn change_settings(&mut self, library: &Library, settings: Settings) -> Result<()> {
        let adopted = self.now.as_ref().is_some_and(|known| known.adopted);
        let gate = &library.functions.gate;
        if self.users == 0 && !adopted {
            gate.close();
            if gate.wait_until_idle(PATIENCE) {
                self.now = None;
                // Whatever it says: it is initialised again at once.
                let _ = self.finalize(library);
                return self.initialize(library, settings);
            }
        }
        Err(Failure::own(
            Reason::InvalidArgument,
            "the library is in use with another init_args:, locking: or env:, and can be initialised only once",
        ))
    }

    /// Whether the library is initialised: somebody else may have finalised it.
    fn is_alive(&self, library: &Library) -> bool {
        if self.now.is_none() {
            return false;
        }
        library.functions.gate.open();
        !is_finalized(library)
    }

    fn initialize(&mut self, library: &Library, settings: Settings) -> Result<()> {
        let reserved = settings.init_args.as_deref().map(kept);
        let gate = &library.functions.gate;
        gate.serialize(settings.serialized);
        // Before anybody comes in.
        library.forget_all_sessions();
        gate.open();
        let answer = self.call_initialize(library, reserved, &settings.environment);
        if answer.is_err() && self.users == 0 {
            gate.close();
        }
        self.now = Some(Initialized {
            adopted: answer?,
            settings,
            reserved,
        });
        Ok(())
    }

    /// `C_Initialize`; whether somebody else had done it.
    fn call_initialize(
        &mut self,
        library: &Library,
        reserved: Option<&'static CStr>,
        environment: &Variables,
    ) -> Result<bool> {
        let set = Set::new(environment)?;
        let answer = library.functions.initialize(reserved);
        drop(set);
        // After C_Initialize, so that it runs before the destructors registered there.
        exit::hook();
        match answer {
            Ok(()) => {
                self.left = false;
                Ok(false)
            }
            Err(failure) if failure.is(ck::CKR_CRYPTOKI_ALREADY_INITIALIZED) => Ok(!self.left),
            Err(failure) => Err(failure),
        }
    }

    /// `C_Finalize`, of a library that we have initialised.
    fn finalize(&mut self, library: &Library) -> Result<()> {
        let answer = match library.functions.finalize() {
            // A failed attempt to initialise it anew, or somebody else, has done it.
            Err(failure) if failure.is(ck::CKR_CRYPTOKI_NOT_INITIALIZED) => Ok(()),
            answer => answer,
        };
        self.left = answer.is_err();
        answer
    }

    /// Initialises the library anew, when nobody can mind: it says itself that it is not
    /// initialised, or nobody has a session. Whoever comes meanwhile waits, and the sessions there
    /// are learn that they are void from their claims. After a failure it can be tried again.
    pub fn reinitialize(&mut self, library: &Library) -> Result<()> {
        let finalized = is_finalized(library);
        let Some(known) = &self.now else {
            return Err(Failure::own(Reason::Shutdown, "the library is shut down"));
        };
        if !finalized && library.claims.any() {
            return Err(Failure::own(
                Reason::Busy,
                "the library is not initialised anew while there are sessions of it",
            ));
        }
        if !finalized && known.adopted {
            return Err(Failure::own(
                Reason::Busy,
                "the library was initialised by somebody else, and is not finalised under them",
            ));
        }
        let (reserved, environment) = (known.reserved, known.settings.environment.clone());
        let answer = library.functions.gate.alone(PATIENCE, || {
            library.forget_all_sessions();
            if !finalized {
                // Whatever it says: it is asked because it is in trouble.
                let _ = self.finalize(library);
            }
            self.call_initialize(library, reserved, &environment)
        });
        let why = "calls are still in flight: the library was not initialised anew";
        let adopted = answer.unwrap_or_else(|| Err(Failure::own(Reason::Busy, why)))?;
        if let Some(known) = &mut self.now {
            known.adopted = adopted;
        }
        Ok(())
    }

    fn detach(&mut self, library: &Library) -> Result<()> {
        self.users = self.users.saturating_sub(1);
        let Some(initialized) = &self.now else {
            return Ok(());
        };
        if self.users > 0 {
            return Ok(());
        }
        let functions = &library.functions;
        functions.gate.close();
        if !functions.gate.wait_until_idle(PATIENCE) {
            // C_Finalize under a call in flight is a crash; the library stays initialised.
            return Err(Failure::own(
                Reason::Busy,
                "calls are still in flight: C_Finalize was left out",
            ));
        }
        library.forget_all_sessions();
        if initialized.adopted {
            return Ok(());
        }
        self.now = None;
        self.finalize(library)
    }
}

/// Whether the library says that it is not initialised.
fn is_finalized(library: &Library) -> bool {
    let answer = library.functions.info();
    answer.is_err_and(|failure| failure.is(ck::CKR_CRYPTOKI_NOT_INITIALIZED))
}

/// A string that is there for as long as the process, once however often it is asked for.
fn kept(text: &CStr) -> &'static CStr {
    static KEPT: Mutex<Vec<&'static CStr>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.iter().find(|known| **known == text) {
        return known;
    }
    let new: &'static CStr = Box::leak(text.to_owned().into_boxed_c_str());
    kept.push(new);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_the_settings_is_kept_once() {
        let first = kept(c"a token's directory");
        let same = c"a token's directory".to_owned();
        assert_eq!(first, same.as_c_str());
        assert!(std::ptr::eq(first, kept(&same)));
        assert!(!std::ptr::eq(first, kept(c"another")));
    }
}
