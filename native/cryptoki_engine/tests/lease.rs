//! Every interleaving of a caller with a session of its own, the thread that serves it, and whoever
//! gives the session back: each request has one answer, and the thread is free in the end.
//!
//! Seen to fail: when `end` leaves out what is in the inbox, and when it looks before it shuts.

mod sync {
    pub use loom::sync::{Arc, Mutex, MutexGuard};
}

/// What crossbeam's channel promises, of one sender: loom's own has no end when that is gone.
mod channel {
    use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    use std::collections::VecDeque;

    pub struct Closed<T>(pub T);

    struct Queue<T> {
        items: Mutex<(VecDeque<T>, bool)>,
        changed: Condvar,
    }

    impl<T> Queue<T> {
        fn lock(&self) -> MutexGuard<'_, (VecDeque<T>, bool)> {
            match self.items.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }

    pub struct Sender<T>(Arc<Queue<T>>);
    pub struct Receiver<T>(Arc<Queue<T>>);

    pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let queue = Arc::new(Queue {
            items: Mutex::new((VecDeque::new(), true)),
            changed: Condvar::new(),
        });
        (Sender(queue.clone()), Receiver(queue))
    }

    impl<T> Sender<T> {
        pub fn send(&self, item: T) -> Result<(), Closed<T>> {
            let mut items = self.0.lock();
            if !items.1 {
                return Err(Closed(item));
            }
            items.0.push_back(item);
            self.0.changed.notify_one();
            Ok(())
        }
    }

    impl<T> Sender<T> {
        pub fn len(&self) -> usize {
            self.0.lock().0.len()
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.lock().1 = false;
            self.0.changed.notify_one();
        }
    }

    impl<T> Receiver<T> {
        pub fn recv(&self) -> Result<T, ()> {
            let mut items = self.0.lock();
            loop {
                match (items.0.pop_front(), items.1) {
                    (Some(item), _) => return Ok(item),
                    (None, false) => return Err(()),
                    (None, true) => {}
                }
                items = match self.0.changed.wait(items) {
                    Ok(guard) => guard,
                    Err(poisoned) => poisoned.into_inner(),
                };
            }
        }

        pub fn try_recv(&self) -> Result<T, ()> {
            self.0.lock().0.pop_front().ok_or(())
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.lock().1 = false;
        }
    }
}

#[path = "../src/request/lease.rs"]
mod lease;

use lease::{Lease, Refused};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

/// How often a request was answered.
type Request = Arc<AtomicUsize>;

fn answer(request: &Request) {
    request.fetch_add(1, SeqCst);
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// As `Thread::serve_leased`; `limit` is how many it serves before its own fate ends it.
fn serve(lease: Lease<Request>, limit: usize) {
    for _ in 0..limit {
        match lease.requests.recv() {
            Ok(request) => answer(&request),
            Err(_) => break,
        }
    }
    lease.end(|request| answer(&request));
}

fn caller_and_thread(limit: usize, room: usize, others_release: bool) {
    let (lease, inbox) = Lease::new(room);
    let inbox = Arc::new(inbox);
    let session = thread::spawn(move || serve(lease, limit));
    let releaser = others_release.then(|| {
        let inbox = inbox.clone();
        thread::spawn(move || inbox.shut())
    });
    let requests: Vec<Request> = (0..2).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for request in &requests {
        if let Err(Refused::Shut(refused) | Refused::Full(refused)) = inbox.put(request.clone()) {
            answer(&refused);
        }
    }
    inbox.shut();
    assert!(session.join().is_ok());
    if let Some(releaser) = releaser {
        assert!(releaser.join().is_ok());
    }
    for request in requests {
        assert_eq!(request.load(SeqCst), 1);
    }
}

#[test]
fn a_caller_that_gives_it_back() {
    model(|| caller_and_thread(usize::MAX, 2, false));
}

#[test]
fn a_caller_whose_death_is_noticed_meanwhile() {
    model(|| caller_and_thread(usize::MAX, 2, true));
}

#[test]
fn a_session_that_is_lost_meanwhile() {
    model(|| caller_and_thread(1, 2, false));
}

#[test]
fn a_caller_that_asks_for_more_than_may_wait() {
    model(|| caller_and_thread(usize::MAX, 1, false));
}
