//! Every interleaving of a caller that gives up and a thread that answers.

mod atomic {
    pub use loom::sync::atomic::{AtomicU8, Ordering};
}

#[path = "../src/request/handshake.rs"]
mod handshake;

use handshake::{Cancelled, Handshake};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

/// Does something with it on another thread.
fn beside<T: 'static>(handshake: &Arc<Handshake>, work: fn(&Handshake) -> T) -> JoinHandle<T> {
    let handshake = handshake.clone();
    thread::spawn(move || work(&handshake))
}

#[test]
fn exactly_one_side_wins() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::new());
        let worker = beside(&handshake, |handshake| {
            let ran = handshake.start();
            (ran, ran && handshake.finish())
        });
        let cancelled = handshake.cancel();
        let (ran, sent) = worker.join().unwrap();
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
        let worker = beside(&handshake, |handshake| {
            handshake.start() && handshake.finish()
        });
        let withdrawn = handshake.withdraw();
        let sent = worker.join().unwrap();
        assert_ne!(withdrawn, sent);
    });
}

#[test]
fn a_caller_that_times_out_and_dies_cancels_once() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::new());
        let other = beside(&handshake, Handshake::cancel);
        let here = handshake.cancel();
        let there = other.join().unwrap();
        assert!(matches!(
            (here, there),
            (Cancelled::Queued, Cancelled::Already) | (Cancelled::Already, Cancelled::Queued)
        ));
        assert!(!handshake.start());
    });
}

/// A thread that answers as a request does: where the caller looks, or by a message.
fn answers(handshake: &Handshake) -> (bool, bool) {
    if !handshake.start() {
        return (false, false);
    }
    if handshake.is_looked_for() && handshake.leave() {
        return (true, false);
    }
    (false, handshake.finish())
}

/// Seen to fail: when `leave` also steps from RUNNING, when `look_away` takes LEFT for RUNNING.
#[test]
fn a_caller_that_looks_away_finds_its_answer_or_is_sent_it_and_never_both() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::looked_for());
        let worker = beside(&handshake, answers);
        let found = handshake.is_left() || !handshake.look_away();
        let (left, sent) = worker.join().unwrap();
        assert_eq!((left, sent), (found, !found));
    });
}

#[test]
fn who_gives_up_after_looking_is_sent_nothing_more() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::looked_for());
        let worker = beside(&handshake, answers);
        let cancelled = handshake.look_away().then(|| handshake.cancel());
        let (left, sent) = worker.join().unwrap();
        match cancelled {
            None => assert!(left && !sent),
            Some(Cancelled::TooLate) => assert!(sent && !left),
            Some(Cancelled::Queued | Cancelled::Running) => assert!(!sent && !left),
            Some(Cancelled::Already) => panic!("nobody else cancels"),
        }
    });
}

/// As an instance does whose state has changed since it was asked.
#[test]
fn what_is_taken_back_while_its_caller_looks_does_not_run_and_what_is_not_is_answered() {
    loom::model(|| {
        let handshake = Arc::new(Handshake::looked_for());
        let worker = beside(&handshake, answers);
        let withdrawn = handshake.withdraw();
        let found = !withdrawn && !handshake.look_away();
        let (left, sent) = worker.join().unwrap();
        assert_eq!((left, sent), (found, !withdrawn && !found));
    });
}
