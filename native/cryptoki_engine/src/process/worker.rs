//! The library of one instance in a process of its own: started, asked, started again when it has ended.

use crate::control::jobs::{Job, Told};
use crate::library::initialization::Settings;
use crate::library::lanes::Lanes;
use crate::process::fitting;
use crate::process::life::{Life, spawn};
use crate::process::link::{Broken, Link};
use crate::process::notices::Hear;
use crate::process::wire::{Notice, Order, Ordered, Start};
use crate::request::pace::Pace;
use crate::site::{FOR_A_PROCESS, State, epochs_for_a_process};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::whereabouts::Whereabouts;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long a process may take to end that was told to: less than whoever has told it waits.
const LAST: Duration = Duration::from_secs(4);

/// When a process has used so many epochs it is given more.
const MANY: u64 = FOR_A_PROCESS / 2;

/// What is started.
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// The library.
    pub path: PathBuf,
    /// The version of the interface that is wanted.
    pub interface: Option<(u8, u8)>,
    /// How the library is initialised.
    pub settings: Settings,
    /// How much memory the process may have.
    pub memory: Option<u64>,
}

/// What the control thread remembers.
#[derive(Default)]
pub struct Seat {
    now: Option<(Arc<Life>, Link)>,
}

/// The library.
pub struct Worker {
    launch: Launch,
    /// The control thread of this side.
    pub lanes: Lanes<Seat>,
    /// Whether it pays to look for answers.
    pub pace: Pace,
    /// None: it was not started.
    life: Mutex<Option<Arc<Life>>>,
    /// One that has not initialised its library yet, and may hang there.
    starting: Mutex<Weak<Life>>,
    epoch: AtomicU64,
    /// The first of those that the process has now.
    block: AtomicU64,
    /// How many have ended.
    epochs: AtomicU64,
    /// None: it was closed.
    open: Mutex<Option<Sender<()>>>,
    /// Disconnected then.
    closed: Receiver<()>,
}

impl Worker {
    /// One that is to be started.
    pub fn new(launch: Launch) -> Result<Self> {
        let epoch = epochs_for_a_process();
        let (open, closed) = bounded(0);
        Ok(Self {
            launch,
            lanes: Lanes::spawn(Arc::new(Whereabouts::default()))?,
            pace: Pace::default(),
            life: Mutex::default(),
            starting: Mutex::default(),
            epoch: AtomicU64::new(epoch),
            block: AtomicU64::new(epoch),
            epochs: AtomicU64::new(0),
            open: Mutex::new(Some(open)),
            closed,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Life>>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that there is, or was.
    pub fn life(&self) -> Result<Arc<Life>> {
        let life = self.lock().clone();
        life.ok_or_else(|| Failure::own(Reason::NoProcess, "the library has no process"))
    }

    /// That one, and one that is starting.
    fn lives(&self) -> impl Iterator<Item = Arc<Life>> {
        let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let (life, starting) = (self.lock().clone(), starting.upgrade());
        life.into_iter().chain(starting)
    }

    /// Starts the process, and has it initialise the library.
    pub fn start(&self, seat: &mut Seat) -> Result<()> {
        let Launch {
            program,
            path,
            interface,
            settings,
            memory,
        } = &self.launch;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| Failure::own(Reason::Busy, format!("no random bytes: {error}")))?;
        let start = Start {
            secret,
            path: path.clone(),
            interface: *interface,
            memory: *memory,
            epoch: self.bump_local(),
        };
        seat.now = None;
        let begun = |life: &Arc<Life>| {
            let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            *starting = Arc::downgrade(life);
        };
        let life = Life::begin(program, &settings.environment, &start, begun)?;
        let link = life.connect(Notice::Control);
        let link = link.inspect_err(|_| life.kill("it could not be given orders"))?;
        seat.now = Some((life.clone(), link));
        let opened = self.order(seat, &Order::Open(settings.clone()));
        if let Err(failure) = opened {
            life.kill("it could not open the library");
            seat.now = None;
            return Err(failure);
        }
        *self.lock() = Some(life);
        *self.starting.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
        Ok(())
    }

    /// Starts it again if it has ended, else has it initialise the library anew.
    pub fn restart(&self, seat: &mut Seat) -> Result<Told> {
        let over = seat.now.as_ref().is_none_or(|(life, _link)| life.is_over());
        if over {
            return self.start(seat).map(|()| Told::Done);
        }
        self.order(seat, &Order::Job(Job::Reinitialize))
    }

    /// Waits until the process has taken notice of all that it was told: before a request is taken that is not to wait.
    pub fn settle(&self, seat: &Seat) {
        if let Some((life, _link)) = &seat.now {
            life.settle();
        }
    }

    /// Has the control thread of the process do something.
    pub fn order(&self, seat: &mut Seat, order: &Order) -> Result<Told> {
        let Some((life, link)) = &mut seat.now else {
            return Err(self
                .life()
                .map_or_else(|failure| failure, |life| life.gone()));
        };
        if life.is_over() {
            return Err(life.gone());
        }
        let answer = link
            .send(order, None)
            .and_then(|()| link.receive::<Ordered>())
            .and_then(|Ordered { outcome, epoch }| {
                self.follow(epoch)?;
                fitting::of_control(order, &outcome).map(|()| outcome)
            });
        match answer {
            Ok(outcome) => outcome,
            Err(Broken::TooLong) => Err(life.crash(Broken::TooLong)),
            Err(broken) => {
                let failure = life.crash(broken);
                self.note_end(life);
                Err(failure)
            }
        }
    }

    /// Asks the process something that takes no time.
    pub fn ask(&self, notice: Notice, hear: Hear) -> Result<()> {
        self.life()?.notices.ask(notice, hear)
    }

    /// Tells it something, if there is one.
    fn notify(&self, notice: Notice) {
        if let Ok(life) = self.life() {
            life.notices.send(notice, None, None);
        }
    }

    /// The state of the instance.
    pub fn set_state(&self, state: State) {
        self.notify(Notice::State(state));
    }

    /// The epoch handles are issued in.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// How many have ended.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(SeqCst)
    }

    /// The process is in this epoch.
    pub fn follow(&self, epoch: u64) -> std::result::Result<(), Broken> {
        let block = self.block.load(SeqCst);
        match epoch.saturating_sub(block) {
            // Those are another's.
            FOR_A_PROCESS.. => return Err(Broken::Malformed),
            MANY.. => self.give_more(block),
            _ => {}
        }
        self.enter(epoch);
        Ok(())
    }

    /// The process has not many left.
    fn give_more(&self, block: u64) {
        let next = epochs_for_a_process();
        let exchanged = self.block.compare_exchange(block, next, SeqCst, SeqCst);
        if exchanged.is_ok() {
            self.enter(next);
            self.notify(Notice::Epoch(next));
        }
    }

    fn enter(&self, epoch: u64) {
        if self.epoch.load(SeqCst) < epoch && self.epoch.fetch_max(epoch, SeqCst) < epoch {
            self.epochs.fetch_add(1, SeqCst);
        }
    }

    /// A process has ended: all that it has given is void.
    pub fn note_end(&self, life: &Life) {
        if life.is_first_to_note() {
            self.bump_local();
        }
    }

    fn bump_local(&self) -> u64 {
        let epoch = epochs_for_a_process();
        self.block.fetch_max(epoch, SeqCst);
        self.enter(epoch);
        epoch
    }

    /// Makes all handles stale.
    pub fn bump_epoch(&self) {
        let epoch = self.bump_local();
        self.notify(Notice::Epoch(epoch));
    }

    /// Ends the process, which does not return from the library, at once.
    pub fn kill(&self, why: &str) {
        self.lives().for_each(|life| life.kill(why));
    }

    /// Finalises the library and ends the process.
    pub fn close(&self, seat: &mut Seat) -> Result<()> {
        let outcome = self.finalize(seat);
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        outcome
    }

    fn finalize(&self, seat: &mut Seat) -> Result<()> {
        let Some((life, _link)) = &seat.now else {
            return Ok(());
        };
        let life = life.clone();
        let outcome = if life.is_over() {
            Ok(())
        } else {
            self.order(seat, &Order::Close).map(drop)
        };
        // Without its connections it ends.
        seat.now = None;
        self.lock().take();
        life.notices.leave();
        if !life.wait(LAST) {
            life.kill("it did not end when it was told to");
        }
        outcome
    }

    /// Sees to it that the process ends, whatever the control thread is in: it may be starting another one.
    pub fn bound_the_end(self: &Arc<Self>) {
        let worker = self.clone();
        let spawned = spawn("cryptoki-end", move || {
            while worker.closed.recv_timeout(LAST) == Err(RecvTimeoutError::Timeout) {
                worker.kill("it did not end when it was told to");
            }
        });
        if spawned.is_err() {
            self.kill("it was to end");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for life in self.lives() {
            life.notices.leave();
            life.kill("nobody uses it any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_the_epochs_that_it_was_given_and_more_in_time() {
        let worker = Worker::new(Launch {
            program: PathBuf::new(),
            path: PathBuf::new(),
            interface: None,
            settings: Settings {
                init_args: None,
                serialized: false,
                environment: Vec::new(),
            },
            memory: None,
        });
        let worker = worker.unwrap();
        let first = worker.epoch();
        assert_eq!(worker.follow(first + 1), Ok(()));
        assert_eq!((worker.epoch(), worker.epochs()), (first + 1, 1));
        for strange in [first + FOR_A_PROCESS, u64::MAX] {
            assert_eq!(worker.follow(strange), Err(Broken::Malformed));
        }
        assert_eq!(worker.epoch(), first + 1);
        assert_eq!(worker.follow(first + MANY), Ok(()));
        assert!(worker.epoch() >= first + FOR_A_PROCESS);
        // An answer that was under way, which is of the block before.
        assert_eq!(worker.follow(first + MANY + 1), Ok(()));
    }
}
