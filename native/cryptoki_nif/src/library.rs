//! A loaded library, one per real path in the whole VM.

use crate::control::{self, Message};
use crossbeam_channel::{Sender, unbounded};
use cryptoki_ffi::failure::{Failure, Outcome, Reason};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::loader;
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID};
use once_cell::sync::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Every library of the VM by its real path. Entries stay for ever: a library is never unloaded,
/// and statics are not dropped, so nothing of this runs at exit.
static REGISTRY: Mutex<BTreeMap<PathBuf, Arc<OnceCell<Arc<Library>>>>> =
    Mutex::new(BTreeMap::new());

/// More requests than can wait for a control thread that works.
const BACKLOG: usize = 256;

static CLAIMS: AtomicU64 = AtomicU64::new(1);

/// A library with its control thread.
pub struct Library {
    /// Its functions behind its gate.
    pub functions: Functions,
    control: Sender<Message>,
    /// Who opened a session handle last. A library that was restarted gives out old numbers again:
    /// whoever held the number before must not use it any more.
    claims: Mutex<HashMap<CK_SESSION_HANDLE, u64>>,
}

impl Library {
    /// Loads the library, or finds it loaded, under whatever name. The first to load it chooses the
    /// interface; `wanted` asks for one.
    pub fn find(path: &Path, wanted: Option<(u8, u8)>) -> Outcome<Arc<Self>> {
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

    fn load(path: &Path, wanted: Option<(u8, u8)>) -> Outcome<Arc<Self>> {
        let functions = loader::load(path, wanted)?;
        let (control, messages) = unbounded();
        let library = Arc::new(Self {
            functions,
            control,
            claims: Mutex::default(),
        });
        control::spawn(library.clone(), messages)?;
        Ok(library)
    }

    /// Hands something to the control thread, which lives as long as the VM.
    pub fn tell(&self, message: Message) {
        let _ = self.control.send(message);
    }

    /// The same with something that is answered. Requests of callers that gave up stay until
    /// the thread comes back from a call that hangs; so there is a limit.
    pub fn ask(&self, message: Message) -> Outcome<()> {
        if self.control.len() >= BACKLOG {
            return Err(Failure::own(
                Reason::Busy,
                "the library does not return from a call that looks for tokens or logs in",
            ));
        }
        self.tell(message);
        Ok(())
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, HashMap<CK_SESSION_HANDLE, u64>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and claims its handle, whatever token is in the slot: see `Place`.
    pub fn open_session(
        &self,
        slot: CK_SLOT_ID,
        read_only: bool,
    ) -> Outcome<(CK_SESSION_HANDLE, u64)> {
        let handle = self.functions.open_session(slot, read_only)?;
        let claim = CLAIMS.fetch_add(1, Relaxed);
        self.claims().insert(handle, claim);
        Ok((handle, claim))
    }

    /// Whether the handle still belongs to the one with this claim.
    pub fn owns(&self, handle: CK_SESSION_HANDLE, claim: u64) -> bool {
        self.claims().get(&handle) == Some(&claim)
    }

    /// Closes a session, unless its handle belongs to somebody else by now.
    pub fn close_session(&self, handle: CK_SESSION_HANDLE, claim: u64) {
        let ours = {
            let mut claims = self.claims();
            let ours = claims.get(&handle) == Some(&claim);
            if ours {
                claims.remove(&handle);
            }
            ours
        };
        if ours {
            // It may be gone already: then there is nothing to close.
            let _ = self.functions.close_session(handle);
        }
    }

    /// The same from anywhere: the control thread closes it.
    pub fn forget_session(&self, handle: CK_SESSION_HANDLE, claim: u64) {
        self.tell(Message::CloseSession { handle, claim });
    }

    /// Whether anybody has a session.
    pub fn has_sessions(&self) -> bool {
        !self.claims().is_empty()
    }

    /// After `C_Finalize` no handle means anything.
    pub fn forget_all_sessions(&self) {
        self.claims().clear();
    }
}
