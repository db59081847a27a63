//! Every interleaving of those who use the handle of a session with the one who closes it, and with one who opens a
//! session to which the library gives the same number.
//!
//! Seen to fail: the first model when `close` does not look at the users, and when the last user does not close; the
//! second when `take` does not wait, and when it does not look at what was closed before.

mod sync {
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "../src/library/claims.rs"]
mod claims;

use claims::Claims;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use loom::thread;

const HANDLE: u64 = 7;

/// A library with room for one session, which has the same number each time.
struct Library {
    claims: Claims,
    /// Which session has the number, 0: none.
    session: AtomicU64,
    inside: AtomicUsize,
    closes: AtomicUsize,
}

impl Library {
    fn with_session() -> (Arc<Self>, u64) {
        let library = Arc::new(Self {
            claims: Claims::default(),
            session: AtomicU64::new(1),
            inside: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
        });
        let claim = library.claims.take(HANDLE, 0).number;
        (library, claim)
    }

    /// As `cryptoki_nif`'s library does it.
    fn call(&self, claim: u64) -> bool {
        if !self.claims.enter(HANDLE, claim) {
            return false;
        }
        self.inside.fetch_add(1, SeqCst);
        thread::yield_now();
        self.inside.fetch_sub(1, SeqCst);
        if self.claims.leave(HANDLE, claim) {
            self.close_now(claim);
        }
        true
    }

    fn close(&self, claim: u64) {
        if self.claims.close(HANDLE, claim) {
            self.close_now(claim);
        }
    }

    fn close_now(&self, claim: u64) {
        assert_eq!(self.inside.load(SeqCst), 0, "closed under a call");
        self.session.store(0, SeqCst);
        self.closes.fetch_add(1, SeqCst);
        self.claims.closed(HANDLE, claim);
    }
}

#[test]
fn no_session_is_closed_under_a_call() {
    loom::model(|| {
        let (library, claim) = Library::with_session();
        let users: Vec<_> = (0..2)
            .map(|_| {
                let library = library.clone();
                thread::spawn(move || library.call(claim))
            })
            .collect();
        library.close(claim);
        for user in users {
            let _ = user.join();
        }
        assert_eq!(library.closes.load(SeqCst), 1);
        assert!(!library.call(claim));
        assert!(!library.claims.any());
    });
}

/// The library has lost the session, and gives its number to the next while the loss is cleaned up.
#[test]
fn a_session_that_has_the_number_of_a_lost_one_lives_or_is_doubtful() {
    loom::model(|| {
        let (library, old) = Library::with_session();
        let closer = {
            let library = library.clone();
            thread::spawn(move || library.close(old))
        };
        let before = library.claims.count_closed();
        library.session.store(2, SeqCst);
        let claim = library.claims.take(HANDLE, before);
        let alive = library.session.load(SeqCst) == 2;
        assert!(alive || claim.doubtful);
        let _ = closer.join();
        // Nothing of the old one reaches it any more.
        assert_eq!(library.session.load(SeqCst) == 2, alive);
        assert!(library.claims.owns(HANDLE, claim.number));
        assert!(!library.call(old));
    });
}

#[test]
fn a_lost_session_with_users_is_left_to_the_library() {
    loom::model(|| {
        let (library, old) = Library::with_session();
        let user = {
            let library = library.clone();
            thread::spawn(move || library.call(old))
        };
        library.close(old);
        let claim = library.claims.take(HANDLE, library.claims.count_closed());
        let _ = user.join();
        assert!(library.claims.owns(HANDLE, claim.number));
        library.close(claim.number);
        assert!(!library.claims.any());
    });
}

#[test]
fn nobody_has_anything_after_all_is_forgotten() {
    loom::model(|| {
        let (library, claim) = Library::with_session();
        let user = {
            let library = library.clone();
            thread::spawn(move || library.call(claim))
        };
        library.claims.clear();
        let _ = user.join();
        assert!(!library.call(claim));
        library.close(claim);
        assert_eq!(library.closes.load(SeqCst), 0);
        assert!(!library.claims.any());
    });
}

#[test]
fn a_handle_belongs_to_one_claim_until_it_is_closed() {
    loom::model(|| {
        let claims = Claims::default();
        let first = claims.take(HANDLE, 0).number;
        assert!(claims.any() && claims.owns(HANDLE, first));
        assert!(!claims.owns(HANDLE, first + 1));
        assert!(claims.enter(HANDLE, first) && !claims.enter(HANDLE, first + 1));
        assert!(!claims.leave(HANDLE, first), "nobody closes it");
        assert!(claims.close(HANDLE, first) && !claims.owns(HANDLE, first));
        claims.closed(HANDLE, first);
        assert!(!claims.any());
        assert_eq!(claims.count_closed(), 1);
        assert!(!claims.take(HANDLE, 1).doubtful);
        assert!(claims.take(HANDLE, 0).doubtful);
    });
}
