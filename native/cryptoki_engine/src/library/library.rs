//! A loaded library, one per real path in the whole process.

use crate::library::claims::Claims;
use crate::library::info;
use crate::library::initialization::Initialization;
use crate::library::lanes::Lanes;
use crate::library::numbers::Numbers;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::loader;
use cryptoki_ffi::whereabouts::Whereabouts;
use once_cell::sync::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// Every library of the process by its real path. Entries stay for ever: a library is never unloaded,
/// and statics are not dropped, so nothing of this runs at exit.
static REGISTRY: Mutex<BTreeMap<PathBuf, Arc<OnceCell<Arc<Library>>>>> =
    Mutex::new(BTreeMap::new());

/// A library with its control thread.
pub struct Library {
    /// Its functions behind its gate.
    pub functions: Functions,
    /// Its control thread.
    pub lanes: Lanes<Initialization>,
    /// Where that is.
    pub control: Arc<Whereabouts>,
    /// Who opened a session handle last. A library that was restarted gives out old numbers again:
    /// whoever held the number before must not use it any more.
    pub claims: Claims,
    /// What the numbers of objects mean.
    pub numbers: Numbers,
    /// How many slot events it has given: whoever takes one takes it from all who watch.
    slot_events: AtomicU64,
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
                    "the library was loaded with interface {}.{} in this process, and one is all it can have",
                    interface.0, interface.1
                ),
            ));
        }
        Ok(library.clone())
    }

    fn load(path: &Path, wanted: Option<(u8, u8)>) -> Result<Arc<Self>> {
        let functions = loader::load(path, wanted)?;
        let control = Arc::default();
        Ok(Arc::new(Self {
            functions,
            lanes: Lanes::spawn(Arc::clone(&control))?,
            control,
            claims: Claims::default(),
            numbers: Numbers::default(),
            slot_events: AtomicU64::new(0),
        }))
    }

    /// Takes the slot events there are; how many there were so far, `None` where it cannot say.
    pub fn take_slot_events(&self) -> Option<u64> {
        let taken = info::take_events(&self.functions)? as u64;
        Some(self.slot_events.fetch_add(taken, SeqCst) + taken)
    }

    /// No handle means anything any more, with `C_Finalize`: nor to a thread that is about to call with one.
    pub fn forget_all_sessions(&self) {
        self.functions.gate.begin_life();
        self.claims.clear();
        self.numbers.clear(None);
    }
}
