//! A loaded library, one per real path in the whole VM.

use crate::control::{self, Message};
use crate::info;
use crossbeam_channel::{Sender, unbounded};
use cryptoki_ffi::claims::Claims;
use cryptoki_ffi::failure::{Class, Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::loader;
use cryptoki_ffi::numbers::{Numbers, PATIENCE};
use cryptoki_ffi::panics::guarded;
use cryptoki_ffi::whereabouts::Whereabouts;
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID, CKR_SESSION_HANDLE_INVALID};
use once_cell::sync::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// Every library of the VM by its real path. Entries stay for ever: a library is never unloaded,
/// and statics are not dropped, so nothing of this runs at exit.
static REGISTRY: Mutex<BTreeMap<PathBuf, Arc<OnceCell<Arc<Library>>>>> =
    Mutex::new(BTreeMap::new());

/// More requests than can wait for a control thread that works.
const BACKLOG: usize = 256;

/// How many at once may wait for a library whose constructors do not return: each has a thread.
const OPENERS: usize = 16;

/// Who is opening what.
static OPENING: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// One who opens a library, until it is dropped.
pub struct Opening(PathBuf);

impl Opening {
    /// One more, if there may be.
    pub fn of(path: &Path) -> Result<Self> {
        let mut opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let count = opening.entry(path.to_owned()).or_default();
        if *count >= OPENERS {
            return Err(Failure::own(
                Reason::Busy,
                "the library does not return from being loaded",
            ));
        }
        *count += 1;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = opening.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                opening.remove(&self.0);
            }
        }
    }
}

/// How often a session is opened that is closed in the place of another.
const OPENINGS: usize = 3;

/// A library with its control thread.
pub struct Library {
    /// Its functions behind its gate.
    pub functions: Functions,
    /// What instances need done, and whatever else keeps them going.
    jobs: Sender<Message>,
    /// What callers want to know, for which no instance waits.
    questions: Sender<Message>,
    /// How many slot events it has given: whoever takes one takes it from all who watch.
    slot_events: AtomicU64,
    /// Where its control thread is.
    pub control: Arc<Whereabouts>,
    /// Who opened a session handle last. A library that was restarted gives out old numbers again:
    /// whoever held the number before must not use it any more.
    claims: Claims,
    /// What the numbers of objects mean.
    pub numbers: Numbers,
}

impl Library {
    /// Loads the library, or finds it loaded, under whatever name. The first to load it chooses the
    /// interface; `wanted` asks for one.
    pub fn find(path: &Path, wanted: Option<(u8, u8)>) -> Result<Arc<Self>> {
        let real = path.canonicalize().map_err(|error| {
            Failure::own(
                Reason::LibraryNotLoaded,
                format!("{}: {error}", path.display()),
            )
        })?;
        let cell = {
            let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
            registry.entry(real.clone()).or_default().clone()
        };
        let library = cell.get_or_try_init(|| Self::load(&real, wanted))?;
        let interface = library.functions.interface;
        if wanted.is_some_and(|wanted| wanted != interface) {
            return Err(Failure::own(
                Reason::InvalidArgument,
                format!(
                    "the library was loaded with interface {}.{} in this VM, and one is all it can have",
                    interface.0, interface.1
                ),
            ));
        }
        Ok(library.clone())
    }

    fn load(path: &Path, wanted: Option<(u8, u8)>) -> Result<Arc<Self>> {
        let functions = loader::load(path, wanted)?;
        let (jobs, first) = unbounded();
        let (questions, then) = unbounded();
        let library = Arc::new(Self {
            functions,
            jobs,
            questions,
            slot_events: AtomicU64::new(0),
            control: Arc::default(),
            claims: Claims::new(),
            numbers: Numbers::default(),
        });
        control::spawn(library.clone(), first, then)?;
        Ok(library)
    }

    /// Hands something to the control thread, which lives as long as the VM.
    pub fn tell(&self, message: Message) {
        let _ = self.jobs.send(message);
    }

    /// Runs something on a thread of its own; where none can be had the control thread does it.
    pub fn elsewhere(&self, name: &str, work: impl Fn() + Send + Sync + 'static) {
        let work = Arc::new(work);
        let again = work.clone();
        let thread = std::thread::Builder::new().name(name.into());
        if thread.spawn(move || guarded(|| work())).is_err() {
            self.tell(Message::Work(Box::new(move || again())));
        }
    }

    /// The same with something that is answered. Requests of callers that gave up stay until
    /// the thread comes back from a call that hangs; so there is a limit.
    pub fn ask(&self, message: Message) -> Result<()> {
        offer(&self.jobs, message)
    }

    /// The same for questions, which come after all that instances need done: however many ask, no
    /// instance waits for them.
    pub fn question(&self, message: Message) -> Result<()> {
        offer(&self.questions, message)
    }

    /// Takes the slot events there are; how many there were so far, `None` where it cannot say.
    pub fn take_slot_events(&self) -> Option<u64> {
        let taken = info::take_events(&self.functions)? as u64;
        Some(self.slot_events.fetch_add(taken, SeqCst) + taken)
    }

    /// Opens a session and claims its handle, whatever token is in the slot: see `Place`.
    pub fn open_session(
        &self,
        slot: CK_SLOT_ID,
        read_only: bool,
    ) -> Result<(CK_SESSION_HANDLE, u64)> {
        for _ in 0..OPENINGS {
            let closed = self.claims.count_closed();
            let handle = self.functions.open_session(slot, read_only)?;
            let claim = self.claims.take(handle, closed);
            if !claim.doubtful || !self.is_lost(handle) {
                return Ok((handle, claim.number));
            }
            // Closed in the place of another one; there is nothing to close.
            if self.claims.close(handle, claim.number) {
                self.claims.closed(handle, claim.number);
            }
        }
        Err(session_gone())
    }

    fn is_lost(&self, handle: CK_SESSION_HANDLE) -> bool {
        let looked = self.functions.session_info(handle);
        looked.is_err_and(|failure| failure.class() == Class::Session)
    }

    /// Whether the handle still belongs to the one with this claim.
    pub fn owns(&self, handle: CK_SESSION_HANDLE, claim: u64) -> bool {
        self.claims.owns(handle, claim)
    }

    /// Makes a call with a session of somebody else, which is not closed under it; `None` when it is not theirs any
    /// more.
    pub fn with_session<T>(
        &self,
        handle: CK_SESSION_HANDLE,
        claim: u64,
        call: impl FnOnce() -> T,
    ) -> Option<T> {
        self.claims.enter(handle, claim).then(|| {
            let _user = User {
                library: self,
                handle,
                claim,
            };
            call()
        })
    }

    /// Closes a session, unless its handle belongs to somebody else by now. Where somebody else is in a call with it,
    /// they close it afterwards.
    pub fn close_session(&self, handle: CK_SESSION_HANDLE, claim: u64) {
        if self.claims.close(handle, claim) {
            self.close_now(handle, claim);
        }
    }

    /// The same with the objects that end with it: their handles are good for nothing from then on.
    pub fn close_with_objects(&self, handle: CK_SESSION_HANDLE, claim: u64) {
        let ending = self.numbers.end_of(claim, PATIENCE);
        self.close_session(handle, claim);
        ending.gone();
    }

    fn close_now(&self, handle: CK_SESSION_HANDLE, claim: u64) {
        // It may be gone already: then there is nothing to close.
        let _ = self.functions.close_session(handle);
        self.claims.closed(handle, claim);
    }

    /// The same from anywhere: the control thread closes it.
    pub fn forget_session(&self, handle: CK_SESSION_HANDLE, claim: u64) {
        self.tell(Message::CloseSession { handle, claim });
    }

    /// Whether anybody has a session.
    pub fn has_sessions(&self) -> bool {
        self.claims.any()
    }

    /// No handle means anything any more, with `C_Finalize`: nor to a thread that is about to call with one.
    pub fn forget_all_sessions(&self) {
        self.functions.gate.begin_life();
        self.claims.clear();
        self.numbers.clear(None);
    }
}

/// Somebody in a call with a session that is not theirs; the last one closes it, if it is to be closed.
struct User<'a> {
    library: &'a Library,
    handle: CK_SESSION_HANDLE,
    claim: u64,
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let (library, handle, claim) = (self.library, self.handle, self.claim);
        if library.claims.leave(handle, claim) {
            library.close_now(handle, claim);
        }
    }
}

fn session_gone() -> Failure {
    Failure::Rv {
        code: CKR_SESSION_HANDLE_INVALID,
        function: "C_OpenSession",
    }
}

fn offer(lane: &Sender<Message>, message: Message) -> Result<()> {
    if lane.len() >= BACKLOG {
        return Err(Failure::own(
            Reason::Busy,
            "the library does not return from a call that looks for tokens or logs in",
        ));
    }
    let _ = lane.send(message);
    Ok(())
}
