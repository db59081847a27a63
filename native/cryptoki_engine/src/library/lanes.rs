//! A thread that does one thing after the other: what instances need done comes first, questions wait for as long as
//! there is any.

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::panics::guarded;
use cryptoki_ffi::whereabouts::Whereabouts;
use std::sync::Arc;

/// Some libraries need more stack than a thread of a VM has.
pub const STACK: usize = 4 << 20;

/// More requests than can wait for a control thread that works.
const BACKLOG: usize = 256;

/// Something to do, with what the thread remembers. A panic in it ends it, not the thread.
pub type Task<S> = Box<dyn FnOnce(&mut S) + Send>;

/// The way to the thread.
pub struct Lanes<S> {
    jobs: Sender<Task<S>>,
    questions: Sender<Task<S>>,
}

impl<S: Default + 'static> Lanes<S> {
    /// Starts a thread that lives as long as the process.
    pub fn spawn(whereabouts: Arc<Whereabouts>) -> Result<Self> {
        let (jobs, first) = unbounded();
        let (questions, then) = unbounded();
        std::thread::Builder::new()
            .name("cryptoki-control".into())
            .stack_size(STACK)
            .spawn(move || {
                whereabouts.follow();
                work(&first, &then);
            })
            .map_err(|error| {
                let why = format!("no thread for the library: {error}");
                Failure::own(Reason::LibraryNotLoaded, why)
            })?;
        Ok(Self { jobs, questions })
    }

    /// A job that nobody is refused.
    pub fn tell(&self, task: Task<S>) {
        let _ = self.jobs.send(task);
    }

    /// A job that somebody waits for. Those of callers that gave up stay until the thread comes back from a call that
    /// hangs; so there is a limit.
    pub fn ask(&self, task: Task<S>) -> Result<()> {
        offer(&self.jobs, task)
    }

    /// A question.
    pub fn question(&self, task: Task<S>) -> Result<()> {
        offer(&self.questions, task)
    }
}

fn work<S: Default>(jobs: &Receiver<Task<S>>, questions: &Receiver<Task<S>>) {
    let mut state = S::default();
    loop {
        let task = select_biased! {
            recv(jobs) -> task => task,
            recv(questions) -> task => task,
        };
        let Ok(task) = task else { break };
        let _ = guarded(|| task(&mut state));
    }
}

fn offer<S>(lane: &Sender<Task<S>>, task: Task<S>) -> Result<()> {
    if lane.len() >= BACKLOG {
        return Err(Failure::own(
            Reason::Busy,
            "the library does not return from a call that looks for tokens or logs in",
        ));
    }
    let _ = lane.send(task);
    Ok(())
}
