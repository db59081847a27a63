//! Opening a library, on a thread of its own: loading runs the library's constructors, which may take their time.

use crate::control::users::{self, Attached};
use crate::inject;
use crate::library::initialization::Settings;
use crate::library::lanes::STACK;
use crate::library::library::Library;
use crate::request::request::{Request, panic_failure};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::panics::guarded;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How many at once may wait for a library whose constructors do not return: each has a thread.
const OPENERS: usize = 16;

/// Who is opening what.
static OPENING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// One who opens a library, until it is dropped.
struct Opening(PathBuf);

impl Opening {
    /// One more, if there may be.
    fn of(path: &Path) -> Result<Self> {
        let mut opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if opening.iter().filter(|other| *other == path).count() >= OPENERS {
            return Err(Failure::own(
                Reason::Busy,
                "the library does not return from being loaded",
            ));
        }
        opening.push(path.to_owned());
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = opening.iter().position(|path| *path == self.0) {
            opening.swap_remove(at);
        }
    }
}

/// Loads a library or finds it loaded, initialises it for its first user, and answers with a hold on it.
pub fn open(
    path: PathBuf,
    interface: Option<(u8, u8)>,
    request: Arc<Request<Settings, Attached>>,
) -> Result<()> {
    let opening = Opening::of(&path)?;
    let spawned = std::thread::Builder::new()
        .name("cryptoki-open".into())
        .stack_size(STACK)
        .spawn(move || {
            let found = guarded(|| {
                inject::place("open thread");
                Library::find(&path, interface)
            });
            drop(opening);
            match found.unwrap_or_else(|| Err(panic_failure())) {
                Ok(library) => users::attach(library, request),
                Err(failure) => drop(request.refuse(failure)),
            }
        });
    let failed = |error: std::io::Error| Failure::own(Reason::LibraryNotLoaded, error.to_string());
    spawned.map(drop).map_err(failed)
}
