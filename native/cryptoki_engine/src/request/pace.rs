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
/// No look takes so long by itself.
const INTERRUPTED: Duration = Duration::from_micros(600);
/// For so many calls at least, and at most, nobody looks after one that was interrupted.
const SHORTEST_REST: u32 = 512;
const LONGEST_REST: u32 = 1 << 15;
/// After so many looks that were not it is half as many again.
const PEACE: u32 = 1 << 12;
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
    rest: Rest,
}

/// Who loses the processor while looking shares it with somebody who works: such a look costs as much as many wakes, and
/// who sleeps is let in sooner. So nobody looks for a while after it, for longer where it comes again.
struct Rest {
    left: AtomicU32,
    next: AtomicU32,
    undisturbed: AtomicU32,
}

impl Rest {
    const fn new() -> Self {
        Self {
            left: AtomicU32::new(0),
            next: AtomicU32::new(SHORTEST_REST),
            undisturbed: AtomicU32::new(0),
        }
    }

    /// Whether it is over; to be asked for each call.
    fn is_over(&self) -> bool {
        let left = self.left.load(Relaxed);
        if left > 0 {
            self.left.store(left - 1, Relaxed);
        }
        left == 0
    }

    /// A look has taken so long. Two at once may lose one of the two, as with the score.
    fn looked(&self, took: Duration) {
        let next = self.next.load(Relaxed);
        if took >= INTERRUPTED {
            self.left.store(next, Relaxed);
            self.next.store((2 * next).min(LONGEST_REST), Relaxed);
        } else if next > SHORTEST_REST
            && self.undisturbed.fetch_add(1, Relaxed) % PEACE == PEACE - 1
        {
            self.next.store(next / 2, Relaxed);
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            worked: AtomicU64::new(SHORT),
            callers: Score::new(),
            threads: Score::new(),
            rest: Rest::new(),
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
        let pays = is_possible()
            && self.worked.load(Relaxed) <= SHORT
            && self.rest.is_over()
            && self.callers.pays();
        pays.then(|| Instant::now() + CALLERS_BOUND)
    }

    /// Whether a caller has found its answer, and how long it has looked.
    pub fn caller_looked(&self, found: bool, took: Duration) {
        self.rest.looked(took);
        self.callers.note(found);
    }

    /// Whether it pays for a thread to look.
    pub fn threads_look(&self) -> bool {
        is_possible() && self.rest.is_over() && self.threads.pays()
    }

    /// What a thread finds that looks for a while.
    pub fn find<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        let found = look_until(begun + THREADS_BOUND, look);
        self.rest.looked(begun.elapsed());
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
    fn who_loses_the_processor_while_looking_looks_no_more_for_a_while() {
        let pace = Pace::default();
        pace.worked(0);
        pace.caller_looked(true, INTERRUPTED);
        assert!(!pace.threads_look() && pace.callers_look().is_none());

        let rest = Rest::new();
        let calls = || std::iter::from_fn(|| (!rest.is_over()).then_some(())).count();
        assert_eq!(calls(), 0);
        for longer in [1, 2, 4] {
            rest.looked(INTERRUPTED);
            assert_eq!(calls(), (longer * SHORTEST_REST) as usize);
        }
        for _ in 0..20 {
            rest.looked(INTERRUPTED);
        }
        assert_eq!(calls(), LONGEST_REST as usize);
        for _ in 0..20 * PEACE {
            rest.looked(CALLERS_BOUND);
        }
        rest.looked(INTERRUPTED);
        assert_eq!(calls(), SHORTEST_REST as usize);
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
