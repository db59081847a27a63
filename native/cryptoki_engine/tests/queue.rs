//! Callers with threads that look, take requests, sit down, and are closed, in every interleaving with up to three
//! preemptions: each request is served once, or waits while no thread is free.
//!
//! Seen to fail: when a thread sits down without a second look at what waits, when one that was woken and is closed wakes
//! no other, when a sweep wakes nobody, and when a hand is closed without a look at what was given last.

mod atomic {
    pub use loom::sync::atomic::{AtomicUsize, Ordering};
}
mod channel {
    pub use loom::sync::mpsc::Sender;
}
mod sync {
    pub use loom::sync::{Mutex, MutexGuard};
}

#[path = "../src/request/hand.rs"]
mod hand;
#[path = "../src/request/queue.rs"]
mod queue;

use hand::Hand;
use loom::sync::Arc;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread::{self, JoinHandle};
use queue::{Queue, Seat, Wake};

enum Told {
    Look,
    Close,
}

impl From<Wake> for Told {
    fn from(_wake: Wake) -> Self {
        Told::Look
    }
}

/// A request is where its caller is told that it was served.
type Requests = Queue<Sender<()>, Told>;

fn serve(request: &Sender<()>) {
    assert!(request.send(()).is_ok());
}

/// As session threads do, until it is closed.
fn thread(queue: &Arc<Requests>) -> (JoinHandle<()>, Sender<Told>) {
    thread_that(queue, |queue, seat| queue.pop_or_sit(seat))
}

/// What a thread finds that looks before it sits down.
fn found(queue: &Requests, hand: &Hand<Sender<()>>) -> Option<Sender<()>> {
    assert!(hand.open());
    let found = hand.take().or_else(|| queue.pop());
    match (found, hand.close()) {
        (Some(found), Some(last)) => {
            queue.put(last);
            Some(found)
        }
        (found, last) => found.or(last),
    }
}

fn thread_that(
    queue: &Arc<Requests>,
    next: impl Fn(&Requests, &Seat<Told>) -> Option<Sender<()>> + Send + 'static,
) -> (JoinHandle<()>, Sender<Told>) {
    let (told, mailbox) = channel();
    let (queue, seat) = (queue.clone(), queue.seat(told.clone()));
    let serving = thread::spawn(move || {
        loop {
            if let Some(request) = next(&queue, &seat) {
                serve(&request);
                continue;
            }
            match mailbox.recv() {
                Ok(Told::Look) => {}
                Ok(Told::Close) => return queue.rise(&seat),
                Err(_) => unreachable!("its seat has a sender"),
            }
        }
    });
    (serving, told)
}

fn close((serving, told): (JoinHandle<()>, Sender<Told>)) {
    assert!(told.send(Told::Close).is_ok());
    assert!(serving.join().is_ok());
}

fn put(queue: &Requests) -> Receiver<()> {
    let (request, served) = channel();
    queue.put(request);
    served
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn none_waits_while_a_thread_is_free() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let only = thread(&queue);
        let another = {
            let queue = queue.clone();
            thread::spawn(move || put(&queue))
        };
        // Where it would not be woken nobody goes on.
        assert!(put(&queue).recv().is_ok());
        assert!(another.join().is_ok_and(|served| served.recv().is_ok()));
        close(only);
        assert!(queue.is_empty());
    });
}

#[test]
fn what_is_given_to_a_hand_is_served() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let hand = Arc::new(Hand::default());
        let looking = {
            let hand = hand.clone();
            thread_that(&queue, move |queue, seat| {
                found(queue, &hand).or_else(|| queue.pop_or_sit(seat))
            })
        };
        let submit = |queue: &Requests, hand: &Hand<Sender<()>>| {
            let (request, served) = channel();
            if let Err(request) = hand.give(request) {
                queue.put(request);
            }
            served
        };
        let another = {
            let (queue, hand) = (queue.clone(), hand.clone());
            thread::spawn(move || submit(&queue, &hand))
        };
        assert!(submit(&queue, &hand).recv().is_ok());
        assert!(another.join().is_ok_and(|served| served.recv().is_ok()));
        close(looking);
        assert!(queue.is_empty() && hand.close().is_none());
    });
}

#[test]
fn of_two_threads_the_one_that_is_left_serves() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let (left, (closed, told)) = (thread(&queue), thread(&queue));
        assert!(told.send(Told::Close).is_ok());
        let served = put(&queue);
        assert!(closed.join().is_ok() && served.recv().is_ok());
        close(left);
    });
}

#[test]
fn what_a_closed_thread_leaves_waits() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let (serving, told) = thread(&queue);
        let first = put(&queue);
        assert!(told.send(Told::Close).is_ok());
        let second = put(&queue);
        assert!(serving.join().is_ok());
        while let Some(request) = queue.pop() {
            serve(&request);
        }
        assert_eq!(queue.len(), 0);
        // Each once: it hears of no other.
        for served in [first, second] {
            assert!(served.recv().is_ok());
        }
    });
}

#[test]
fn what_is_swept_is_missed_by_nobody() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let served = put(&queue);
        let only = thread(&queue);
        queue.sweep(|_request| true);
        assert!(served.recv().is_ok());
        close(only);
        let _dropped = put(&queue);
        queue.sweep(|_request| false);
        assert!(queue.is_empty() && queue.pop().is_none());
    });
}

#[test]
fn what_is_given_is_found_by_the_one_who_looks_or_handed_back() {
    model(|| {
        let hand = Hand::default();
        assert_eq!(hand.give(1), Err(1));
        assert!(hand.open() && !hand.open());
        assert_eq!((hand.give(2), hand.give(3)), (Ok(()), Err(3)));
        assert_eq!((hand.take(), hand.take()), (Some(2), None));
        assert_eq!(hand.give(4), Ok(()));
        assert_eq!(hand.close(), Some(4));
        assert_eq!(hand.give(5), Err(5));
        assert!(hand.open() && !hand.keep_shut());
        assert_eq!(hand.close(), None);
        assert!(hand.keep_shut() && !hand.keep_shut() && hand.is_kept_shut());
        assert_eq!(hand.give(6), Err(6));
        hand.let_go();
        assert!(!hand.is_kept_shut() && hand.keep_shut());
        // What anybody asks goes before.
        assert!(hand.open() && !hand.is_kept_shut());
        hand.let_go();
        assert_eq!((hand.give(7), hand.close()), (Ok(()), Some(7)));
    });
}
