//! What a panic of our own code costs: an error, never the VM.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` and survives its panic. The payload is forgotten: dropping it could panic again.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(std::mem::forget)
        .ok()
}

/// A panic tells where it happened; its message could carry data.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Some(place) = info.location() {
            eprintln!(
                "cryptoki: native code panicked at {}:{}",
                place.file(),
                place.line()
            );
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload panics as well");
        }
    }

    #[test]
    fn a_panic_is_none_and_its_payload_is_not_dropped() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> u8 { std::panic::panic_any(Bomb) }), None);
    }

    #[test]
    fn an_overflow_is_a_panic_and_no_wrong_number() {
        let length = std::hint::black_box(usize::MAX);
        assert_eq!(guarded(|| length + std::hint::black_box(1)), None);
    }
}
