//! What a process is told over its first connection, one after the other, and who hears what it says to that.

use crate::process::fitting;
use crate::process::link::{Broken, Link};
use crate::process::wire::{Notice, Noticed};
use crossbeam_channel::{Receiver, SendError, Sender, unbounded};
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More questions than can wait for a process that answers.
const BACKLOG: usize = 256;

/// What takes no time is answered before, or the process was stopped: one who asks finds that out for all.
const SILENT: Duration = Duration::from_secs(1);

/// Who wants to hear what a notice brings.
pub type Hear = Box<dyn FnOnce(Result<Noticed>) + Send>;

/// Who hears it, or that there is nobody to say it.
struct Hearing(Option<Hear>);

impl Hearing {
    fn told(mut self, what: Result<Noticed>) {
        if let Some(hear) = self.0.take() {
            hear(what);
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some(hear) = self.0.take() {
            hear(Err(nobody()));
        }
    }
}

fn nobody() -> Failure {
    Failure::own(Reason::NoProcess, "the process of the library has ended")
}

/// Something for the first connection.
struct Notification {
    notice: Notice,
    with: Option<Channel>,
    hear: Hearing,
}

/// Since when an answer is waited for.
type Asked = Mutex<Option<Instant>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to the thread that tells it.
pub struct Notices {
    /// None: there will be no more, and the process ends.
    queue: Mutex<Option<Sender<Notification>>>,
    asked: Arc<Asked>,
}

/// What the thread has.
pub struct Told {
    queue: Receiver<Notification>,
    asked: Arc<Asked>,
}

impl Notices {
    /// Both.
    pub fn new() -> (Self, Told) {
        let (sender, queue) = unbounded();
        let asked = Arc::<Asked>::default();
        let told = Told {
            queue,
            asked: asked.clone(),
        };
        let queue = Mutex::new(Some(sender));
        (Self { queue, asked }, told)
    }

    /// Has the process take notice of something, whenever it does.
    pub fn send(&self, notice: Notice, with: Option<Channel>, hear: Option<Hear>) {
        let hear = Hearing(hear);
        drop(self.put(Notification { notice, with, hear }));
    }

    /// Asks it something, as long as it answers: who asks one that was stopped is not to be kept for as long as that is so.
    /// Who hears it is called by a thread of ours, or not at all.
    pub fn ask(&self, notice: Notice, hear: Hear) -> Result<()> {
        if self.waiting() >= BACKLOG || self.silent() >= SILENT {
            let why = "the process of the library does not answer: was it stopped?";
            return Err(Failure::own(Reason::Busy, why));
        }
        let hear = Hearing(Some(hear));
        let with = None;
        match self.put(Notification { notice, with, hear }) {
            None => Ok(()),
            Some(mut unsent) => {
                unsent.hear.0.take();
                Err(nobody())
            }
        }
    }

    /// What could not be put there.
    fn put(&self, notification: Notification) -> Option<Notification> {
        match lock(&self.queue).as_ref() {
            Some(queue) => queue.send(notification).err().map(SendError::into_inner),
            None => Some(notification),
        }
    }

    fn waiting(&self) -> usize {
        lock(&self.queue).as_ref().map_or(0, Sender::len)
    }

    fn silent(&self) -> Duration {
        lock(&self.asked).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// There will be no more.
    pub fn leave(&self) {
        let queue = lock(&self.queue).take();
        drop(queue);
    }
}

impl Told {
    /// Tells it; gone, the process ends. `broken` is called when it answers what was not asked.
    pub fn tell(self, mut link: Link, broken: impl FnOnce()) {
        while let Ok(Notification { notice, with, hear }) = self.queue.recv() {
            *lock(&self.asked) = Some(Instant::now());
            let answer = link
                .send(&notice, with.as_ref())
                .and_then(|()| link.receive::<Noticed>())
                .and_then(|noticed| fitting::of_notice(&notice, &noticed).map(|()| noticed));
            *lock(&self.asked) = None;
            drop(with);
            match answer {
                Ok(answer) => hear.told(Ok(answer)),
                Err(how) => {
                    if how == Broken::Malformed {
                        broken();
                    }
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    fn heard() -> (Hear, Receiver<Result<Noticed>>) {
        let (told, heard) = bounded(1);
        (Box::new(move |what| drop(told.send(what))), heard)
    }

    fn is(reason: Reason, outcome: &Result<()>) -> bool {
        matches!(outcome, Err(Failure::Own { reason: told, .. }) if *told == reason)
    }

    #[test]
    fn of_one_that_does_not_answer_no_more_is_asked_than_it_could_answer() {
        let (notices, told) = Notices::new();
        for _ in 0..BACKLOG {
            assert_eq!(notices.ask(Notice::Inside, heard().0), Ok(()));
        }
        assert!(is(Reason::Busy, &notices.ask(Notice::Inside, heard().0)));
        // What has to reach it, whenever that is.
        let (hear, hears) = heard();
        notices.send(Notice::Epoch(1), None, Some(hear));
        assert_eq!(notices.waiting(), BACKLOG + 1);
        drop(told);
        assert!(hears.recv().is_ok_and(|told| told.is_err()));
        assert!(is(
            Reason::NoProcess,
            &notices.ask(Notice::Inside, heard().0)
        ));
    }

    #[test]
    fn who_asks_one_that_is_silent_is_refused_until_it_answers() {
        let (notices, told) = Notices::new();
        let (ours, theirs) = Channel::pair().unwrap();
        let telling = std::thread::spawn(move || told.tell(Link::asking(ours), || ()));
        let (hear, hears) = heard();
        assert_eq!(notices.ask(Notice::Inside, hear), Ok(()));
        while notices.silent() < SILENT {
            std::thread::yield_now();
        }
        assert!(is(Reason::Busy, &notices.ask(Notice::Inside, heard().0)));
        let mut peer = Link::new(theirs);
        assert!(peer.receive::<Notice>().is_ok());
        peer.send(&Noticed::Inside(None, None), None).unwrap();
        assert!(hears.recv().is_ok_and(|told| told.is_ok()));
        let (hear, hears) = heard();
        assert_eq!(notices.ask(Notice::Inside, hear), Ok(()));
        drop(peer);
        assert!(hears.recv().is_ok_and(|told| told.is_err()));
        telling.join().unwrap();
    }
}
