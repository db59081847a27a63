//! Whether operations fail with device errors, one after the other, while nothing succeeds.

use cryptoki_ffi::failure::{Class, Failure};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// So many in a row, of all sessions together.
const MANY: u64 = 3;

/// What an error of these says may be about others' data, such as a bad ciphertext.
const BY_DATA: &[&str] = &["Decrypt", "Verify", "UnwrapKey", "DeriveKey", "Decapsulate"];

/// Failures in a row. What only looks may be answered from memory: its success says nothing of the rest.
#[derive(Default)]
pub struct Trouble {
    works: AtomicU64,
    looks: AtomicU64,
}

impl Trouble {
    /// An operation failed; whether the device is in trouble from here on.
    pub fn failed(&self, works: bool, failure: &Failure) -> bool {
        if failure.class() != Class::Device || by_data(failure) {
            return false;
        }
        let counter = if works { &self.works } else { &self.looks };
        counter.fetch_add(1, SeqCst) + 1 == MANY
    }

    /// One succeeded; whether that ends the trouble.
    pub fn succeeded(&self, works: bool) -> bool {
        let looks = clear(&self.looks);
        (works && clear(&self.works)) || (looks && !self.is_there())
    }

    /// Whether it is.
    pub fn is_there(&self) -> bool {
        self.works.load(SeqCst) >= MANY || self.looks.load(SeqCst) >= MANY
    }
}

fn by_data(failure: &Failure) -> bool {
    matches!(failure, Failure::Rv { function, .. } if BY_DATA.iter().any(|part| function.contains(part)))
}

/// Almost always there is nothing to clear, and nothing to write that other processors read.
fn clear(counter: &AtomicU64) -> bool {
    counter.load(SeqCst) != 0 && counter.swap(0, SeqCst) >= MANY
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_sys::{CKR_DEVICE_ERROR, CKR_GENERAL_ERROR};

    fn failure(code: u64, function: &'static str) -> Failure {
        Failure::Rv { code, function }
    }

    #[test]
    fn three_in_a_row_begin_it_and_a_success_ends_it() {
        let trouble = Trouble::default();
        let signs = failure(CKR_DEVICE_ERROR, "C_Sign");
        assert!(!trouble.failed(true, &signs) && !trouble.failed(true, &signs));
        assert!(!trouble.succeeded(true) && !trouble.is_there());
        assert!(!trouble.failed(true, &signs) && !trouble.failed(true, &signs));
        assert!(trouble.failed(true, &signs) && trouble.is_there());
        assert!(!trouble.failed(true, &signs) && !trouble.succeeded(false) && trouble.is_there());
        assert!(trouble.succeeded(true) && !trouble.is_there());
    }

    #[test]
    fn what_may_be_about_the_data_does_not_count() {
        let trouble = Trouble::default();
        for _ in 0..5 {
            assert!(!trouble.failed(true, &failure(CKR_GENERAL_ERROR, "C_DecryptFinal")));
            assert!(!trouble.failed(true, &failure(0x21, "C_Sign")));
        }
        assert!(!trouble.is_there());
    }

    #[test]
    fn looks_count_for_themselves() {
        let trouble = Trouble::default();
        let looks = failure(CKR_DEVICE_ERROR, "C_FindObjects");
        assert!(!trouble.failed(false, &looks) && !trouble.failed(false, &looks));
        assert!(trouble.failed(false, &looks));
        assert!(trouble.succeeded(false) && !trouble.is_there());
    }
}
