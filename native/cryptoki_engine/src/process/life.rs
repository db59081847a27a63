//! One life of a worker: from its start to its end, however that comes.

use crate::process::link::{Broken, Link};
use crate::process::notices::{Hear, Notices};
use crate::process::wire::{CLOSED, Hello, Notice, Noticed, Ready, Start};
use crossbeam_channel::{Receiver, Sender, bounded};
use cryptoki_ffi::channel::{self, Channel};
use cryptoki_ffi::environment::Variables;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::process::{self, Ended};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long a process may take to say its first word.
const FIRST_WORD: Duration = Duration::from_secs(20);
/// How long one that has closed its connection may take to end.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How long one that was killed may.
const KILLED: Duration = Duration::from_secs(10);
/// Then it is taken for ended, whatever it does.
const GIVEN_UP: Duration = Duration::from_secs(8);

/// Why it is ended, or has ended itself, where what is in it has closed what is not its own.
const CONNECTION_CLOSED: &str = "it had closed its connection";

/// How often is looked whether somebody still waits for an answer.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What is kept of our environment: where a library finds its files, how it is to write, and how some are configured.
const KEPT: &[&str] = &[
    "HOME",
    "PATH",
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH",
    "CRYPTOKI_LOOK",
    "SOFTHSM2_CONF",
    "KRYOPTIC_CONF",
    "OPENSC_CONF",
    "YUBIHSM_PKCS11_CONF",
    "TPM2_PKCS11_STORE",
    "TPM2_PKCS11_TCTI",
    "ChrystokiConfigurationPath",
    "CS_PKCS11_R2_CFG",
];

#[derive(Default)]
struct State {
    ended: Option<Ended>,
    /// Why we have ended it.
    why: Option<String>,
    /// Those who wait for it.
    ends: Vec<Weak<Channel>>,
}

/// The process.
pub struct Life {
    /// The process beside it that starts it, ends it and sees it end: the VM hears nothing of how its children end.
    keeper: Channel,
    /// Its number.
    process: u32,
    /// Ended when we end it: who waits for its end is woken. The other end is kept for that.
    killed: (Channel, Channel),
    state: Mutex<State>,
    over: Condvar,
    /// Disconnected when it is over.
    end: Receiver<()>,
    /// What it is told.
    pub notices: Notices,
    noted: AtomicBool,
    /// It has said who it is.
    greeted: AtomicBool,
}

impl Life {
    /// Starts the program, and tells it what to load.
    pub fn begin(
        program: &Path,
        environment: &Variables,
        start: &Start,
        begun: impl FnOnce(&Arc<Self>),
    ) -> Result<Arc<Self>> {
        let unable = |error: std::io::Error| {
            let program = program.display();
            let why = format!("{program}, its process, cannot be started: {error}");
            Failure::own(Reason::LibraryNotLoaded, why)
        };
        let (ours, theirs) = Channel::pair().map_err(unable)?;
        ours.ask_who_sends();
        let (keeper, its) = Channel::pair().map_err(unable)?;
        let killed = Channel::pair().map_err(unable)?;
        // Before there is a process: where no thread is to be had none is left behind that nobody reaps.
        let (to_watch, watched) = bounded::<(Arc<Self>, Child, Sender<()>)>(1);
        spawn("cryptoki-end", move || {
            if let Ok((life, mut child, alive)) = watched.recv() {
                life.watch(alive);
                // Where the VM leaves that to us.
                let _ = child.wait();
            }
        })?;
        let child = command(program, environment, theirs, its).spawn();
        let child = child.map_err(unable)?;
        let (alive, end) = bounded(0);
        let (notices, told) = Notices::new();
        let life = Arc::new(Self {
            keeper,
            process: child.id(),
            killed,
            state: Mutex::default(),
            over: Condvar::new(),
            end,
            notices,
            noted: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
        });
        let _ = to_watch.send((life.clone(), child, alive));
        // What it is told it is told by one that may wait for it.
        let mut link = Link::asking(ours);
        life.lock().ends.push(Arc::downgrade(link.channel()));
        begun(&life);
        life.greet(&mut link, start, program)?;
        let liar = Arc::downgrade(&life);
        let broken = move || {
            if let Some(life) = liar.upgrade() {
                life.kill("it had answered what was not asked");
            }
        };
        spawn("cryptoki-notices", move || told.tell(link, broken))
            .inspect_err(|_| life.kill("no thread"))?;
        Ok(life)
    }

    /// Whoever answers is of this version, was started by us, and has heard what was said to it.
    fn greet(&self, link: &mut Link, start: &Start, program: &Path) -> Result<()> {
        let refused = |why: &str| {
            let why = format!("{}{why}", program.display());
            Failure::own(Reason::LibraryNotLoaded, why)
        };
        let hello = link.receive_with::<Hello>().and_then(|(hello, with)| {
            let ours = self.is_ours(with.sender)?;
            Ok((hello, ours))
        });
        match hello {
            Ok((hello, _ours)) if hello != Hello::ours() => {
                self.kill("it is of another version");
                return Err(refused(
                    " is of another version than this library: compile cryptoki again",
                ));
            }
            Ok((_hello, false)) => {
                self.kill("it is another one");
                return Err(refused(
                    ": what answers is not the process that was started",
                ));
            }
            Ok((_hello, true)) => {}
            Err(_) => {
                self.kill_program();
                let ended = self.ended("it has not said who it is");
                return Err(refused(&format!(": the process {ended}")));
            }
        }
        // One word after the other: a descriptor comes with the one that it belongs to.
        let started = link.send(start, None);
        match started.and_then(|()| link.receive::<Ready>()) {
            Ok(Ready { secret }) if secret == start.secret => {
                self.greeted.store(true, SeqCst);
                Ok(())
            }
            Ok(_) => {
                self.kill("it had not listened");
                Err(refused(
                    ": what answers is not what was asked, but says what another has said",
                ))
            }
            Err(broken) => Err(self.crash(broken)),
        }
    }

    /// Whether it is in the group that was started, and of our user; where no kernel says it, it is believed.
    fn is_ours(&self, sender: Option<channel::Sender>) -> std::result::Result<bool, Broken> {
        let Some(sender) = sender else {
            return Ok(!channel::SENDERS_ARE_TOLD);
        };
        let group = process::group(sender.process).ok_or(Broken::Gone)?;
        Ok((sender.user, group) == (process::user(), self.process))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end, on a thread of its own; whoever waits for an answer is woken.
    fn watch(&self, alive: Sender<()>) {
        let ended = self.hear_the_end();
        if ended.is_none() {
            // Its keeper has not ended what it has started. Where the VM leaves the ends of children to the kernel the number is
            // free from then on: one that has said how it ended, as all do but who was ended itself, is not followed.
            process::kill_group(self.process);
        }
        let mut state = self.lock();
        state.ended = Some(ended.unwrap_or(Ended::Unknown));
        for channel in state.ends.drain(..).filter_map(|channel| channel.upgrade()) {
            channel.end();
        }
        drop(state);
        drop(alive);
        self.over.notify_all();
    }

    /// What the keeper says of it; none: it is gone without a word, or says nothing.
    fn hear_the_end(&self) -> Option<Ended> {
        let ended = self
            .keeper
            .wait_for_either(&self.killed.0, Some(FIRST_WORD));
        if !ended.unwrap_or(true) {
            if !self.greeted.load(SeqCst) {
                self.kill_program();
                self.kill("it has not said who it is");
            }
            let _ = self.keeper.wait_for_either(&self.killed.0, None);
        }
        let (mut note, mut heard) = ([0; 5], 0);
        while let Some(room) = note.get_mut(heard..).filter(|room| !room.is_empty()) {
            // A driver, or whoever has stopped it, may keep it from ending: then nobody waits for it any more.
            if !self.keeper.wait(Some(GIVEN_UP)).unwrap_or(true) {
                self.give_up();
                return None;
            }
            match self.keeper.receive(room) {
                Ok(0) | Err(_) => return None,
                Ok(count) => heard += count,
            }
        }
        Some(Ended::of(note))
    }

    fn give_up(&self) {
        if let Some(why) = &mut self.lock().why {
            let process = self.process;
            *why += &format!("; it was killed, and does not end: see process {process}");
        }
    }

    /// Ends a program that may not have become a keeper yet, which would hear it.
    fn kill_program(&self) {
        // While this is held the number is nobody else's: it is reaped after the end was noted.
        let state = self.lock();
        if state.ended.is_none() {
            process::kill(self.process);
        }
    }

    /// Ends the process, unless it has ended.
    pub fn kill(&self, why: &str) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.why.get_or_insert_with(|| why.to_owned());
            // Whatever it is sent, and that it is sent nothing any more.
            let _ = self.keeper.send(&[1], None);
            self.killed.0.end();
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Waits for the end; whether it has come in time.
    pub fn wait(&self, limit: Duration) -> bool {
        let state = self.lock();
        let waited = self
            .over
            .wait_timeout_while(state, limit, |state| state.ended.is_none());
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .ended
            .is_some()
    }

    /// Disconnected when it is over.
    pub fn end(&self) -> Receiver<()> {
        self.end.clone()
    }

    /// How it has ended, as the end of a sentence; one that has not is ended for that reason.
    fn ended(&self, why: &str) -> String {
        if !self.wait(LAST_MOMENT) {
            self.kill(why);
            self.wait(KILLED);
        }
        let state = self.lock();
        let ended = state.ended.unwrap_or(Ended::Unknown);
        match (&state.why, ended) {
            (Some(why), _) => format!("{ended}: {why}"),
            (None, Ended::Exit(CLOSED)) => format!("{ended}: {CONNECTION_CLOSED}"),
            (None, _) => ended.to_string(),
        }
    }

    /// What those are told who waited for an answer.
    pub fn crash(&self, how: Broken) -> Failure {
        match how {
            Broken::TooLong => {
                let why =
                    "more than can be handed to the process of a library at once: give it in parts";
                Failure::own(Reason::InvalidArgument, why)
            }
            Broken::Malformed => {
                // At once: it is not to be given anything by another session.
                let why = "it had sent what cannot be read";
                self.kill(why);
                let ended = self.ended(why);
                let what = format!("has sent what cannot be read, and {ended}");
                Failure::misbehaved("the process of the library", &what)
            }
            Broken::Gone | Broken::NoRoom => {
                let ended = self.ended(if how == Broken::Gone {
                    CONNECTION_CLOSED
                } else {
                    "there was no memory for what it had sent"
                });
                Failure::own(
                    Reason::LibraryCrashed,
                    format!("the process of the library {ended}"),
                )
            }
        }
    }

    /// What those are told who come later.
    pub fn gone(&self) -> Failure {
        let ended = self.ended("");
        let why = format!("the process of the library {ended}, and was not started again yet");
        Failure::own(Reason::NoProcess, why)
    }

    /// True once, for whoever comes first after the end.
    pub fn is_first_to_note(&self) -> bool {
        !self.noted.swap(true, SeqCst)
    }

    /// One more connection.
    pub fn connect(&self, notice: Notice) -> Result<Link> {
        let unable = |error: std::io::Error| Failure::own(Reason::Busy, error.to_string());
        let (ours, theirs) = Channel::pair().map_err(unable)?;
        let link = Link::asking(ours);
        let mut state = self.lock();
        if state.ended.is_some() {
            drop(state);
            return Err(self.gone());
        }
        state.ends.retain(|channel| channel.strong_count() > 0);
        state.ends.push(Arc::downgrade(link.channel()));
        drop(state);
        let (told, heard) = bounded(1);
        let hear: Hear = Box::new(move |noticed| drop(told.send(noticed)));
        self.notices.send(notice, Some(theirs), Some(hear));
        match heard.recv() {
            Ok(Ok(Noticed::Refused(why))) => Err(Failure::own(
                Reason::Busy,
                format!("the process of the library: {why}"),
            )),
            // Where it has ended, whoever asks over it is told.
            _ => Ok(link),
        }
    }

    /// Waits until it has taken notice of all that it was told so far.
    pub fn settle(&self) {
        let (done, settled) = bounded(1);
        let hear: Hear = Box::new(move |_| {
            let _ = done.send(());
        });
        self.notices.send(Notice::Inside, None, Some(hear));
        // Those who never hear are told by the end.
        let _ = settled.recv();
    }
}

/// A thread.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    let failed = |error| Failure::own(Reason::Busy, format!("no thread for a process: {error}"));
    thread.map(drop).map_err(failed)
}

/// In a group of its own, as what is typed at our terminal is not for it; with nothing of ours but one connection, where
/// errors are written to, and a few variables.
fn command(program: &Path, environment: &Variables, theirs: Channel, its: Channel) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let kept: Vec<_> = kept.collect();
    command
        .env_clear()
        .envs(kept)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(theirs.into_owned()))
        .stdout(Stdio::from(its.into_owned()))
        .process_group(0);
    command
}
