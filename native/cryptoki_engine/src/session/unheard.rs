//! What a token said of a PIN when nobody listened any more: it is told to the next who comes with that PIN, in
//! place of another try.

use cryptoki_ffi::failure::{Class, Failure, Result};
use cryptoki_ffi::values::Secret;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// More than anybody has PINs for one token.
const LIMIT: usize = 64;

/// A login that failed; the PIN as a hash that means nothing outside of this instance.
pub struct Refusal {
    pin: u64,
    failure: Failure,
}

/// Those of an instance.
#[derive(Default)]
pub struct Unheard {
    hasher: RandomState,
    refusals: Mutex<Vec<Refusal>>,
}

impl Unheard {
    /// Logs in, unless there is an answer to this PIN already.
    pub fn login(
        &self,
        pin: Option<&Secret>,
        login: impl FnOnce() -> Result<()>,
    ) -> Result<(), Refusal> {
        let pin = self.hasher.hash_one(pin.map(|pin| pin.as_slice()));
        match self.take(pin) {
            Some(known) => Err(known),
            None => login().map_err(|failure| Refusal { pin, failure }),
        }
    }

    fn take(&self, pin: u64) -> Option<Refusal> {
        let mut refusals = self.lock();
        let at = refusals.iter().position(|refusal| refusal.pin == pin)?;
        Some(refusals.swap_remove(at))
    }

    /// Keeps one that nobody has heard. What only says that there was no session or no token was no try.
    pub fn keep(&self, refusal: Refusal) {
        let class = refusal.failure.class();
        let mut refusals = self.lock();
        if class != Class::Session && class != Class::NotInitialized && refusals.len() < LIMIT {
            refusals.push(refusal);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Refusal>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    /// What the library answered.
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }
}
