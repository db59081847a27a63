//! Every interleaving of callers with threads that take requests, sit down, and are closed: each request is served once,
//! or waits while no thread is free.
//!
//! Seen to fail: when a thread sits down without a second look at what waits, when one that was woken and is closed wakes
//! no other, and when a sweep wakes nobody.

mod atomic {
    pub use loom::sync::atomic::{AtomicUsize, Ordering};
}
mod channel {
    pub use loom::sync::mpsc::Sender;
}
mod sync {
    pub use loom::sync::{Mutex, MutexGuard};
}

#[path = "../src/request/queue.rs"]
mod queue;

use loom::sync::Arc;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread::{self, JoinHandle};
use queue::{Queue, Wake};

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
    let (told, mailbox) = channel();
    let (queue, seat) = (queue.clone(), queue.seat(told.clone()));
    let serving = thread::spawn(move || {
        loop {
            if let Some(request) = queue.pop_or_sit(&seat) {
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
