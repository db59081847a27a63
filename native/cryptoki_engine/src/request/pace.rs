//! Whether it pays to look for what is about to come, in place of sleeping until one is woken: a wake costs as much as
//! many a call. Who looks takes a processor meanwhile, so it is measured: looks that find nothing end it for a while.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a NIF may take, and is far from too long.
const CALLERS_BOUND: Duration = Duration::from_micros(100);
/// Calls that take longer than this are not looked for: their answer would not be there in time.
const SHORT: u64 = 90_000;
/// How long a thread that has just served looks for the next request.
const THREADS_BOUND: Duration = Duration::from_micros(50);
/// How much a find is worth, of how much a score can be, and how much a look costs that finds nothing.
const FOUND: u32 = 1;
const FULL: u32 = 32;
const MISSED: u32 = 2;
/// So many at most, each some 40 ns.
const PAUSES: u32 = 12;
/// While it does not pay, one of so many looks all the same, whether it does now.
const PROBE: u32 = 32;

/// Looks of one sort and what they have found lately.
struct Score {
    value: AtomicU32,
    skipped: AtomicU32,
}

impl Score {
    const fn new() -> Self {
        Self {
            value: AtomicU32::new(FULL / 2),
            skipped: AtomicU32::new(0),
        }
    }

    fn pays(&self) -> bool {
        self.value.load(Relaxed) >= MISSED
            || self.skipped.fetch_add(1, Relaxed) % PROBE == PROBE - 1
    }

    /// Two at once may lose one of the two: it is a tendency, not a count.
    fn note(&self, found: bool) {
        let value = self.value.load(Relaxed);
        let next = if found {
            (value + FOUND).min(FULL)
        } else {
            value.saturating_sub(MISSED)
        };
        if next != value {
            self.value.store(next, Relaxed);
        }
    }
}

/// Those of an instance.
pub struct Pace {
    /// What calls have lately taken, in nanoseconds.
    worked: AtomicU64,
    callers: Score,
    threads: Score,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            worked: AtomicU64::new(SHORT),
            callers: Score::new(),
            threads: Score::new(),
        }
    }
}

impl Pace {
    /// A call has taken so long.
    pub fn worked(&self, nanoseconds: u64) {
        let before = self.worked.load(Relaxed);
        self.worked
            .store(before - before / 8 + nanoseconds / 8, Relaxed);
    }

    /// Until when a caller may look for its answer, if it pays.
    pub fn callers_look(&self) -> Option<Instant> {
        let pays = is_possible() && self.worked.load(Relaxed) <= SHORT && self.callers.pays();
        pays.then(|| Instant::now() + CALLERS_BOUND)
    }

    /// Whether a caller has found its answer.
    pub fn caller_looked(&self, found: bool) {
        self.callers.note(found);
    }

    /// Whether it pays for a thread to look.
    pub fn threads_look(&self) -> bool {
        is_possible() && self.threads.pays()
    }

    /// What a thread finds that looks for a while.
    pub fn find<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        let found = look_until(Instant::now() + THREADS_BOUND, look);
        self.threads.note(found.is_some());
        found
    }
}

/// Looks for something until then: closely at first, then with pauses, which leave the processor's core to a neighbour
/// that may be the one who makes what is looked for.
pub fn look_until<T>(until: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for pauses in (1..PAUSES).chain(std::iter::repeat(PAUSES)) {
        let found = look();
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        for _ in 0..pauses {
            std::hint::spin_loop();
        }
    }
    None
}

/// On one processor whoever looks keeps away who is looked for. `CRYPTOKI_LOOK=0` in the environment switches all looks
/// off, to measure what they are worth.
pub fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        std::env::var_os("CRYPTOKI_LOOK").is_none_or(|value| value != "0")
            && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_find_nothing_end_and_are_tried_again_now_and_then() {
        let score = Score::new();
        let mut looks = 0;
        for _ in 0..1000 {
            if score.pays() {
                looks += 1;
                score.note(false);
            }
        }
        assert!(looks <= FULL + 1000 / PROBE, "{looks}");
        // What pays again is found out by the looks that try.
        let mut tries = 0;
        while score.value.load(Relaxed) < FULL {
            tries += 1;
            if score.pays() {
                score.note(true);
            }
        }
        assert!(tries < (MISSED + 1) * PROBE + FULL, "{tries}");
    }

    #[test]
    fn calls_that_take_long_are_not_looked_for() {
        let pace = Pace::default();
        for _ in 0..50 {
            pace.worked(1_000_000);
        }
        assert!(pace.callers_look().is_none());
        for _ in 0..50 {
            pace.worked(10_000);
        }
        assert_eq!(pace.callers_look().is_some(), is_possible());
    }

    #[test]
    fn a_thread_finds_what_there_is_and_ends_where_there_is_nothing() {
        let pace = Pace::default();
        assert_eq!(pace.find(|| Some(1)), Some(1));
        assert_eq!(pace.find(|| None::<()>), None);
    }
}
