//! What the outcome of an operation means for its instance: counted, and told when it changes something.

use crate::request::encode_failure;
use crate::status::Status;
use cryptoki_ffi::failure::Failure;
use rustler::Encoder;
use std::sync::atomic::Ordering::Relaxed;

mod atoms {
    rustler::atoms! { failing, working }
}

/// Counts an operation; `works` says that its success shows that the device does.
pub fn count(status: &Status, works: bool, failure: Option<&Failure>) {
    let counters = &status.instance.counters;
    match failure {
        None => {
            if works {
                counters.worked.fetch_add(1, Relaxed);
            }
            if counters.trouble.succeeded(works) {
                status.tell(|env| atoms::working().encode(env));
            }
        }
        Some(failure) => {
            if counters.trouble.failed(works, failure) {
                status.tell(|env| (atoms::failing(), encode_failure(env, failure)).encode(env));
            }
        }
    }
}
