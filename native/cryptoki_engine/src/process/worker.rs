//! The library of one instance in a process of its own: started, asked, started again when it has ended.

use crate::control::jobs::{Job, Told};
use crate::library::initialization::Settings;
use crate::library::lanes::Lanes;
use crate::process::life::{Hear, Life, nobody};
use crate::process::link::{Broken, Link};
use crate::process::wire::{Notice, Order, Ordered, Start};
use crate::request::pace::Pace;
use crate::site::{State, epochs_for_a_process};
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::whereabouts::Whereabouts;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a process may take to end that was told to.
const LAST: Duration = Duration::from_secs(5);

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
    epoch: AtomicU64,
    /// How many have ended.
    epochs: AtomicU64,
}

impl Worker {
    /// One that is to be started.
    pub fn new(launch: Launch) -> Result<Self> {
        Ok(Self {
            launch,
            lanes: Lanes::spawn(Arc::new(Whereabouts::default()))?,
            pace: Pace::default(),
            life: Mutex::default(),
            epoch: AtomicU64::new(epochs_for_a_process()),
            epochs: AtomicU64::new(0),
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

    /// Starts the process, and has it initialise the library.
    pub fn start(&self, seat: &mut Seat) -> Result<()> {
        let Launch {
            program,
            path,
            interface,
            settings,
            memory,
        } = &self.launch;
        let start = Start {
            path: path.clone(),
            interface: *interface,
            memory: *memory,
            epoch: self.bump_local(),
        };
        seat.now = None;
        let life = Life::begin(program, &settings.environment, &start)?;
        let link = life.connect(Notice::Control)?;
        seat.now = Some((life.clone(), link));
        let opened = self.order(seat, &Order::Open(settings.clone()));
        if let Err(failure) = opened {
            life.kill("it could not open the library");
            seat.now = None;
            return Err(failure);
        }
        *self.lock() = Some(life);
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
        life.settle();
        let answer = link
            .send(order, None)
            .and_then(|()| link.receive::<Ordered>());
        match answer {
            Ok(Ordered { outcome, epoch }) => {
                self.follow(epoch);
                outcome
            }
            Err(Broken::TooLong) => Err(life.crash(Broken::TooLong)),
            Err(broken) => {
                let failure = life.crash(broken);
                self.note_end(life);
                Err(failure)
            }
        }
    }

    /// Tells the process something that takes no time, if there is one.
    pub fn notify(&self, notice: Notice, hear: Option<Hear>) {
        match self.life() {
            Ok(life) => life.notify(notice, hear),
            Err(_) => nobody(hear),
        }
    }

    /// The state of the instance.
    pub fn set_state(&self, state: State) {
        self.notify(Notice::State(state), None);
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
    pub fn follow(&self, epoch: u64) {
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
        self.follow(epoch);
        epoch
    }

    /// Makes all handles stale.
    pub fn bump_epoch(&self) {
        let epoch = self.bump_local();
        self.notify(Notice::Epoch(epoch), None);
    }

    /// Ends the process, which does not return from the library, at once.
    pub fn kill(&self, why: &str) {
        if let Ok(life) = self.life() {
            life.kill(why);
        }
    }

    /// Finalises the library and ends the process.
    pub fn close(&self, seat: &mut Seat) -> Result<()> {
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
        life.leave();
        if !life.wait(LAST) {
            life.kill("it did not end when it was told to");
        }
        outcome
    }

    /// Sees to it that the process ends, whatever the control thread is in.
    pub fn bound_the_end(&self) {
        let Ok(life) = self.life() else { return };
        let bounded = std::thread::Builder::new().name("cryptoki-end".into());
        let end = life.clone();
        let spawned = bounded.spawn(move || {
            if !end.wait(LAST) {
                end.kill("it did not end when it was told to");
            }
        });
        if spawned.is_err() {
            life.kill("it was to end");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(life) = self.lock().take() {
            life.leave();
            life.kill("nobody uses it any more");
        }
    }
}
