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

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_sys::{
        CKR_CRYPTOKI_NOT_INITIALIZED, CKR_PIN_INCORRECT, CKR_SESSION_HANDLE_INVALID,
    };

    fn refused(unheard: &Unheard, pin: &[u8], code: u64) -> Refusal {
        let (pin, function) = (Secret::new(pin.to_vec()), "C_Login");
        let login = unheard.login(Some(&pin), || Err(Failure::Rv { code, function }));
        login.expect_err("a refusal")
    }

    #[test]
    fn a_refusal_is_told_once_to_who_comes_with_that_pin() {
        let unheard = Unheard::default();
        unheard.keep(refused(&unheard, b"wrong", CKR_PIN_INCORRECT));
        assert!(
            unheard
                .login(Some(&Secret::new(b"other".to_vec())), || Ok(()))
                .is_ok()
        );
        assert!(unheard.login(None, || Ok(())).is_ok());
        let wrong = Secret::new(b"wrong".to_vec());
        let told = unheard.login(Some(&wrong), || Ok(()));
        assert!(told.is_err_and(|refusal| refusal.failure().is(CKR_PIN_INCORRECT)));
        assert!(unheard.login(Some(&wrong), || Ok(())).is_ok());
    }

    #[test]
    fn what_was_no_try_is_not_kept_and_no_more_than_there_can_be() {
        let unheard = Unheard::default();
        for code in [CKR_SESSION_HANDLE_INVALID, CKR_CRYPTOKI_NOT_INITIALIZED] {
            unheard.keep(refused(&unheard, b"wrong", code));
        }
        assert_eq!(unheard.lock().len(), 0);
        for number in 0..=LIMIT {
            unheard.keep(refused(&unheard, &number.to_ne_bytes(), CKR_PIN_INCORRECT));
        }
        assert_eq!(unheard.lock().len(), LIMIT);
    }
}
