//! The control thread of a library: initialises, looks at slots and tokens, logs in, finalises.

use crate::info;
use crate::inject;
use crate::instance::Instance;
use crate::library::Library;
use crate::place::Place;
use crate::quirks;
use crate::request::{Request, ok, panic_failure};
use crate::resources::LibraryResource;
use crate::session::STACK;
use crossbeam_channel::{Receiver, select_biased};
use cryptoki_ffi::exit;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::panics::guarded;
use cryptoki_ffi::values::Secret;
use cryptoki_sys as ck;
use cryptoki_sys::{CK_MECHANISM_TYPE, CK_SESSION_HANDLE, CK_SLOT_ID, CK_USER_TYPE};
use rustler::{Encoder, Env, ResourceArc, Term};
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod login;

pub use login::Credentials;

/// How long finalising, and whatever else has to be alone, waits for calls in flight.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the control thread takes.
pub enum Message {
    /// Somebody waits for the answer.
    Request(Arc<Request<Job>>),
    /// `C_Login`, with a session to be found or opened before the request is taken.
    Login(Arc<Instance>, Place, Arc<Request<Credentials>>),
    /// A user of the library is gone.
    Detach(Option<Arc<Request<()>>>),
    /// A session whose owner is gone.
    CloseSession {
        /// Its handle.
        handle: CK_SESSION_HANDLE,
        /// The claim of the one who opened it.
        claim: u64,
    },
    /// What no other thread could be had for.
    Work(Box<dyn FnOnce() + Send>),
}

/// How a library is initialised: once, for all its users.
#[derive(PartialEq, Eq)]
pub struct Settings {
    /// The reserved string.
    pub init_args: Option<CString>,
    /// One call at a time.
    pub serialized: bool,
}

/// What can be asked of the control thread.
pub enum Job {
    /// One more user; initialises the library for the first.
    Attach(Settings),
    /// `C_GetInfo`
    LibraryInfo,
    /// Every slot with its token.
    Slots,
    /// `C_GetTokenInfo`
    TokenInfo(CK_SLOT_ID),
    /// `C_GetMechanismList`
    Mechanisms(CK_SLOT_ID),
    /// `C_GetMechanismInfo`
    MechanismInfo(CK_SLOT_ID, CK_MECHANISM_TYPE),
    /// `C_InitToken`
    InitToken {
        slot: CK_SLOT_ID,
        so_pin: Option<Secret>,
        label: Vec<u8>,
    },
    /// `C_InitPIN`
    InitPin {
        slot: CK_SLOT_ID,
        so_pin: Option<Secret>,
        pin: Option<Secret>,
    },
    /// `C_SetPIN`
    SetPin {
        slot: CK_SLOT_ID,
        user: Option<CK_USER_TYPE>,
        old: Option<Secret>,
        new: Option<Secret>,
    },
    /// Slot events, without waiting for any, and every slot.
    Poll,
    /// Slot events alone.
    Events,
    /// `C_Finalize` and `C_Initialize`, for a library that has got stuck.
    Reinitialize,
}

/// Starts the control thread of a library.
///
/// What instances need done comes first: questions wait for as long as there is any.
pub fn spawn(
    library: Arc<Library>,
    jobs: Receiver<Message>,
    questions: Receiver<Message>,
) -> Result<()> {
    std::thread::Builder::new()
        .name("cryptoki-control".into())
        .stack_size(STACK)
        .spawn(move || {
            library.control.follow();
            let mut control = Control {
                library,
                users: 0,
                initialized: None,
                left: false,
            };
            loop {
                let message = select_biased! {
                    recv(jobs) -> message => message,
                    recv(questions) -> message => message,
                };
                match message {
                    Ok(message) => control.handle(message),
                    Err(_) => break,
                }
            }
        })
        .map(drop)
        .map_err(|error| {
            Failure::own(
                Reason::LibraryNotLoaded,
                format!("no thread for the library: {error}"),
            )
        })
}

/// How the library was initialised.
struct Initialized {
    settings: Settings,
    /// The string in the settings, kept for ever: some libraries read it again later.
    reserved: Option<&'static CStr>,
    /// Somebody else in the process did it, and will finalise it.
    adopted: bool,
}

struct Control {
    library: Arc<Library>,
    users: usize,
    initialized: Option<Initialized>,
    /// `C_Finalize` has refused: what is found initialised then is what we have left, nobody else's.
    left: bool,
}

impl Control {
    fn handle(&mut self, message: Message) {
        match message {
            Message::Request(request) => {
                let served = guarded(|| {
                    inject::place("control loop");
                    request.serve(None, |env, job| self.run(env, job))
                });
                if served.is_none() {
                    request.refuse(panic_failure());
                }
            }
            Message::Login(instance, place, request) => {
                let served = guarded(|| {
                    inject::place("control login");
                    self.serve_login(&instance, &place, &request)
                });
                if served.is_none() {
                    request.refuse(panic_failure());
                }
            }
            Message::Detach(request) => {
                let outcome = guarded(|| {
                    inject::place("control detach");
                    self.detach()
                });
                if let Some(request) = request {
                    request.serve(None, |env, ()| {
                        outcome
                            .unwrap_or_else(|| Err(panic_failure()))
                            .map(|()| ok(env))
                    });
                }
            }
            Message::CloseSession { handle, claim } => {
                let _ = guarded(|| {
                    inject::place("control close");
                    self.library.close_with_objects(handle, claim);
                });
            }
            Message::Work(work) => {
                let _ = guarded(work);
            }
        }
    }

    fn run<'a>(&mut self, env: Env<'a>, job: Job) -> Result<Term<'a>> {
        inject::place("control work");
        let functions = &self.library.functions;
        match job {
            Job::Attach(settings) => {
                self.attach(settings)?;
                Ok(ResourceArc::new(LibraryResource::new(self.library.clone())).encode(env))
            }
            Job::LibraryInfo => info::library(env, functions),
            Job::Slots => info::slots(env, functions),
            Job::TokenInfo(slot) => info::token(env, functions, slot),
            Job::Mechanisms(slot) => Ok(functions.mechanisms(slot)?.encode(env)),
            Job::MechanismInfo(slot, kind) => info::mechanism(env, functions, slot, kind),
            Job::InitToken {
                slot,
                so_pin,
                label,
            } => functions
                .init_token(slot, so_pin.as_ref(), &label)
                .map(|()| {
                    self.library.numbers.clear(Some(slot));
                    ok(env)
                }),
            Job::InitPin { slot, so_pin, pin } => self
                .with_login(slot, Some((ck::CKU_SO, so_pin.as_ref())), |session| {
                    functions.init_pin(session, pin.as_ref())
                })
                .map(|()| ok(env)),
            Job::SetPin {
                slot,
                user,
                old,
                new,
            } => self
                .with_login(slot, user.map(|user| (user, old.as_ref())), |session| {
                    functions.set_pin(session, old.as_ref(), new.as_ref())
                })
                .map(|()| ok(env)),
            Job::Poll => {
                self.library.take_slot_events();
                info::poll(env, functions)
            }
            Job::Events => Ok(self.library.take_slot_events().encode(env)),
            Job::Reinitialize => self.reinitialize().map(|()| ok(env)),
        }
    }

    fn attach(&mut self, settings: Settings) -> Result<()> {
        if !self.is_alive() {
            self.initialize(settings)?;
        } else if self.settings_differ(&settings) {
            self.change_settings(settings)?;
        }
        self.library.functions.gate.open();
        self.users += 1;
        Ok(())
    }

    fn settings_differ(&self, settings: &Settings) -> bool {
        self.initialized
            .as_ref()
            .is_some_and(|known| known.settings != *settings)
    }

    /// A library that nobody uses may still be initialised: calls were in flight when its last user
    /// went.
    fn change_settings(&mut self, settings: Settings) -> Result<()> {
        let adopted = self.initialized.as_ref().is_some_and(|known| known.adopted);
        let gate = &self.library.functions.gate;
        if self.users == 0 && !adopted {
            gate.close();
            if gate.wait_until_idle(PATIENCE) {
                self.initialized = None;
                // Whatever it says: it is initialised again at once.
                let _ = self.finalize();
                return self.initialize(settings);
            }
        }
        Err(Failure::own(
            Reason::InvalidArgument,
            "the library is in use with another init_args: or locking:, and can be initialised only once",
        ))
    }

    /// Whether the library is initialised: somebody else may have finalised it.
    fn is_alive(&self) -> bool {
        if self.initialized.is_none() {
            return false;
        }
        let gate = &self.library.functions.gate;
        gate.open();
        match self.library.functions.info() {
            Err(failure) => !failure.is(ck::CKR_CRYPTOKI_NOT_INITIALIZED),
            Ok(_) => true,
        }
    }

    fn initialize(&mut self, settings: Settings) -> Result<()> {
        let reserved = settings.init_args.as_deref().map(kept);
        let gate = &self.library.functions.gate;
        gate.serialize(settings.serialized);
        // Before anybody comes in.
        self.library.forget_all_sessions();
        gate.open();
        match self.call_initialize(reserved) {
            Ok(adopted) => {
                self.initialized = Some(Initialized {
                    settings,
                    reserved,
                    adopted,
                });
                Ok(())
            }
            Err(failure) => {
                if self.users == 0 {
                    self.library.functions.gate.close();
                }
                Err(failure)
            }
        }
    }

    /// `C_Initialize`; whether somebody else had done it.
    fn call_initialize(&mut self, reserved: Option<&'static CStr>) -> Result<bool> {
        let answer = self.library.functions.initialize(reserved);
        // After C_Initialize, so that it runs before the destructors registered there.
        exit::hook();
        let adopted = match answer {
            Ok(()) => {
                self.left = false;
                false
            }
            Err(failure) if failure.is(ck::CKR_CRYPTOKI_ALREADY_INITIALIZED) => !self.left,
            Err(failure) => return Err(failure),
        };
        Ok(adopted)
    }

    /// `C_Finalize`, of a library that we have initialised.
    fn finalize(&mut self) -> Result<()> {
        let answer = match self.library.functions.finalize() {
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
    fn reinitialize(&mut self) -> Result<()> {
        let functions = &self.library.functions;
        let finalized = functions
            .info()
            .is_err_and(|failure| failure.is(ck::CKR_CRYPTOKI_NOT_INITIALIZED));
        let Some(known) = &self.initialized else {
            return Err(Failure::own(Reason::Shutdown, "the library is shut down"));
        };
        if !finalized && self.library.has_sessions() {
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
        let reserved = known.reserved;
        let library = self.library.clone();
        let answer = library.functions.gate.alone(PATIENCE, || {
            self.library.forget_all_sessions();
            if !finalized {
                // Whatever it says: it is asked because it is in trouble.
                let _ = self.finalize();
            }
            self.call_initialize(reserved)
        });
        match answer {
            Some(Ok(adopted)) => {
                if let Some(known) = &mut self.initialized {
                    known.adopted = adopted;
                }
                Ok(())
            }
            Some(Err(failure)) => Err(failure),
            None => Err(Failure::own(
                Reason::Busy,
                "calls are still in flight: the library was not initialised anew",
            )),
        }
    }

    fn detach(&mut self) -> Result<()> {
        self.users = self.users.saturating_sub(1);
        let Some(initialized) = &self.initialized else {
            return Ok(());
        };
        if self.users > 0 {
            return Ok(());
        }
        let functions = &self.library.functions;
        functions.gate.close();
        if !functions.gate.wait_until_idle(PATIENCE) {
            // C_Finalize under a call in flight is a crash; the library stays initialised.
            return Err(Failure::own(
                Reason::Busy,
                "calls are still in flight: C_Finalize was left out",
            ));
        }
        self.library.forget_all_sessions();
        if initialized.adopted {
            return Ok(());
        }
        self.initialized = None;
        self.finalize()
    }

    /// A session for one administrative call, logged in if need be and logged out again.
    fn with_login(
        &self,
        slot: CK_SLOT_ID,
        user: Option<(CK_USER_TYPE, Option<&Secret>)>,
        work: impl FnOnce(CK_SESSION_HANDLE) -> Result<()>,
    ) -> Result<()> {
        let functions = &self.library.functions;
        let (session, claim) = self.library.open_session(slot, false)?;
        let outcome = match user {
            None => work(session),
            Some((user, pin)) => self.undisturbed(quirks::logs_in_alone(functions), || {
                functions.login(session, user, pin, None)?;
                let outcome = work(session);
                // Ours alone: had anybody been logged in, C_Login would have refused.
                let _ = functions.logout(session);
                outcome
            }),
        };
        self.library.close_session(session, claim);
        outcome
    }

    /// Logs in or out, with nobody else inside where the library cannot stand it.
    fn undisturbed(&self, alone: bool, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if !alone {
            return work();
        }
        self.library
            .functions
            .gate
            .alone(PATIENCE, work)
            .unwrap_or_else(|| {
                Err(Failure::own(
                    Reason::Busy,
                    "calls are still in flight, under which this library cannot log in or out",
                ))
            })
    }
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
