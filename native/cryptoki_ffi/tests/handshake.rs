//! Every interleaving of a caller that gives up and a thread that answers.

mod atomic {
    pub use loom::sync::atomic::{AtomicU8, Ordering};
}

#[path = "../src/handshake.rs"]
mod handshake;

use handshake::{Cancelled, Handshake};
use loom::sync::Arc;
use loom::thread;

#[test]
fn exactly_one_side_wins() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::new());
        let worker = {
            let handshake = handshake.clone();
            thread::spawn(move || {
                let ran = handshake.start();
                (ran, ran && handshake.finish())
            })
        };
        let cancelled = handshake.cancel();
        let Ok((ran, sent)) = worker.join() else {
            panic!("the worker panicked")
        };
        match cancelled {
            Cancelled::Queued => assert!(!ran && !sent),
            Cancelled::Running => assert!(ran && !sent),
            Cancelled::TooLate => assert!(sent),
            Cancelled::Already => panic!("nobody else cancels"),
        }
        assert_eq!(handshake.is_cancelled(), !sent);
    });
}

#[test]
fn what_nobody_gives_up_is_run_and_answered() {
    loom::model(|| {
        let handshake = Handshake::new();
        assert!(handshake.start() && handshake.finish());
        assert!(!handshake.withdraw());
        assert_eq!(handshake.cancel(), Cancelled::TooLate);
    });
}

#[test]
fn what_is_withdrawn_does_not_run_and_what_is_not_is_answered() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::new());
        let worker = {
            let handshake = handshake.clone();
            thread::spawn(move || handshake.start() && handshake.finish())
        };
        let withdrawn = handshake.withdraw();
        let Ok(sent) = worker.join() else {
            panic!("the worker panicked")
        };
        assert_ne!(withdrawn, sent);
    });
}

#[test]
fn a_caller_that_times_out_and_dies_cancels_once() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::new());
        let other = {
            let handshake = handshake.clone();
            thread::spawn(move || handshake.cancel())
        };
        let here = handshake.cancel();
        let Ok(there) = other.join() else {
            panic!("the other side panicked")
        };
        assert!(matches!(
            (here, there),
            (Cancelled::Queued, Cancelled::Already) | (Cancelled::Already, Cancelled::Queued)
        ));
        assert!(!handshake.start());
    });
}
