//! Every interleaving of callers with threads that take requests, sit down, and are closed: each request is served once,
//! or waits while no thread is free.
//!
//! Seen to fail: when a thread sits down without a second look at what waits, and when one that rises forgets what is on
//! its way to it.

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
#[allow(dead_code)]
mod queue;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;
use queue::{Queue, Seat};

/// How often a request was served.
type Request = Arc<AtomicUsize>;

enum Told {
    Request(Request),
    Close,
}

impl From<Request> for Told {
    fn from(request: Request) -> Self {
        Told::Request(request)
    }
}

type Requests = Queue<Request, Told>;

struct Thread {
    queue: Arc<Requests>,
    seat: Seat<Told>,
    mailbox: Receiver<Told>,
}

impl Thread {
    fn new(queue: &Arc<Requests>) -> (Self, Sender<Told>) {
        let (told, mailbox) = channel();
        let (queue, seat) = (queue.clone(), queue.seat(told.clone()));
        let thread = Self {
            queue,
            seat,
            mailbox,
        };
        (thread, told)
    }

    /// As session threads do, until it is closed.
    fn serve(self) {
        loop {
            if let Some(request) = self.queue.pop_or_sit(&self.seat) {
                request.fetch_add(1, SeqCst);
                continue;
            }
            match self.mailbox.recv() {
                Ok(Told::Request(request)) => drop(request.fetch_add(1, SeqCst)),
                Ok(Told::Close) => return self.rise(),
                Err(_) => unreachable!("its seat has a sender"),
            }
        }
    }

    fn rise(self) {
        if self.queue.rise(&self.seat) {
            return;
        }
        match self.mailbox.recv() {
            Ok(Told::Request(request)) => self.queue.put(request),
            _ => unreachable!("it was closed once"),
        }
    }
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

fn requests<const N: usize>() -> [Request; N] {
    std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)))
}

#[test]
fn a_thread_that_is_closed_leaves_to_others_what_it_was_given() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let (thread, told) = Thread::new(&queue);
        let serving = thread::spawn(move || thread.serve());
        let all: [Request; 2] = requests();
        queue.put(all[0].clone());
        assert!(told.send(Told::Close).is_ok());
        queue.put(all[1].clone());
        assert!(serving.join().is_ok());
        while let Some(request) = queue.pop() {
            request.fetch_add(1, SeqCst);
        }
        assert_eq!(all.map(|request| request.load(SeqCst)), [1, 1]);
    });
}

#[test]
fn two_threads_of_which_one_is_closed() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let (one, tell_one) = Thread::new(&queue);
        let (other, tell_other) = Thread::new(&queue);
        let serving = [one, other].map(|thread| thread::spawn(move || thread.serve()));
        let [request] = requests();
        queue.put(request.clone());
        assert!(tell_one.send(Told::Close).is_ok());
        // Whoever is left has it, or is given it, before it is closed.
        let [one, other] = serving;
        assert!(one.join().is_ok());
        assert!(tell_other.send(Told::Close).is_ok());
        assert!(other.join().is_ok());
        assert_eq!(request.load(SeqCst) + queue.len(), 1);
        assert!(queue.pop().is_none_or(|left| left.load(SeqCst) == 0));
    });
}

#[test]
fn none_waits_while_a_thread_is_free() {
    model(|| {
        let queue = Arc::new(Requests::default());
        let (thread, told) = Thread::new(&queue);
        let all: [Request; 2] = requests();
        let caller = {
            let (queue, request) = (queue.clone(), all[0].clone());
            thread::spawn(move || queue.put(request))
        };
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                let request = thread.queue.pop_or_sit(&thread.seat).or_else(|| {
                    // Nobody would wake it.
                    match thread.mailbox.recv() {
                        Ok(Told::Request(request)) => Some(request),
                        _ => None,
                    }
                });
                assert!(request.is_some_and(|request| request.fetch_add(1, SeqCst) == 0));
            }
        });
        queue.put(all[1].clone());
        assert!(caller.join().is_ok() && serving.join().is_ok());
        drop(told);
        assert!(queue.is_empty());
    });
}
