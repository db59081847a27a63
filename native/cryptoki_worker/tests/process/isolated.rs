//! An instance whose library is in a process of its own.

use crate::support::{Module, PIN, token};
use crate::world::{answer, bytes, hmac, object, request, secret_key};
use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_engine::control::login::Credentials;
use cryptoki_engine::held::Held;
use cryptoki_engine::instance::Instance;
use cryptoki_engine::library::info::{Identity, Slot, Token};
use cryptoki_engine::library::initialization::Settings;
use cryptoki_engine::library::token_in_slot::TokenInSlot;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::process::tasks;
use cryptoki_engine::process::worker::{Launch, Worker};
use cryptoki_engine::request::request::Request;
use cryptoki_engine::session::status::{Event, Owner};
use cryptoki_engine::session::told::SessionJob;
use cryptoki_engine::session_thread::{self, Reach};
use cryptoki_engine::site::State;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::values::Secret;
use cryptoki_sys::CKU_USER;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};

struct Nobody;

impl Owner for Nobody {
    fn tell(&self, _session: u64, _event: Event) {}
}

/// It.
pub struct Isolated {
    pub dir: PathBuf,
    /// Of the program, which nobody else's has.
    name: String,
    pub held: Held,
    pub worker: Arc<Worker>,
    pub instance: Arc<Instance>,
    pub token: TokenInSlot,
}

impl Isolated {
    /// With a token, not logged in; `None`, and the test passes, where SoftHSM is not installed.
    pub fn started(memory: Option<u64>) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let dir = Module::copy("")?;
        token(&dir);
        let name = format!("w{}-{}", COUNT.fetch_add(1, SeqCst), std::process::id());
        std::fs::copy(env!("CARGO_BIN_EXE_cryptoki_worker"), dir.join(&name)).unwrap();
        let launch = Launch {
            program: dir.join(&name),
            path: dir.join("faulty.so"),
            interface: None,
            settings: Settings {
                init_args: None,
                serialized: false,
                environment: Vec::new(),
            },
            memory,
        };
        let (opening, opened) = request(());
        tasks::open(launch, opening).unwrap();
        let worker = answer(&opened).unwrap();
        let held = Held::Away(worker.clone());
        let token = found(&held);
        let instance = Arc::new(Instance::new(held.place(), 100));
        Some(Self {
            dir,
            name,
            held,
            worker,
            instance,
            token,
        })
    }

    /// Logged in.
    pub fn ready(memory: Option<u64>) -> Option<Self> {
        let world = Self::started(memory)?;
        answer(&world.log_in().1).unwrap();
        world.instance.set_state(State::Ready);
        Some(world)
    }

    pub fn log_in(&self) -> (Arc<Request<Credentials, ()>>, Receiver<Result<()>>) {
        let credentials = Credentials {
            user: CKU_USER,
            pin: Some(Secret::new(PIN.as_bytes().to_vec())),
            name: None,
        };
        let (login, outcome) = request(credentials);
        let place = &self.instance.place;
        place.log_in(self.token.clone(), login.clone()).unwrap();
        (login, outcome)
    }

    pub fn session(&self) -> Result<Reach> {
        let (opening, opened) = request(());
        let token = self.token.clone();
        session_thread::spawn(self.instance.clone(), Box::new(Nobody), token, opening).unwrap();
        answer(&opened)
    }

    pub fn send(&self, operation: Operation) -> Receiver<Result<Answer>> {
        let (sender, answer) = channel();
        let post = Box::new(crate::world::Post(sender));
        let waiting = Some(self.instance.waiters());
        let request = Request::new(SessionJob::Run(operation), post, waiting);
        self.instance.submit(&request).unwrap();
        answer
    }

    pub fn run(&self, operation: Operation) -> Result<Answer> {
        answer(&self.send(operation))
    }

    /// Whether it works.
    pub fn signs(&self) -> bool {
        let key = object(self.run(secret_key(false)));
        bytes(self.run(hmac(Some(key)))).len() == 32
    }

    pub fn job(&self, job: Job) -> Receiver<Result<Told>> {
        let (asking, answer) = request(job);
        self.held.job(asking).unwrap();
        answer
    }

    pub fn control(&self, text: &str) {
        std::fs::write(self.dir.join("control.new"), text).unwrap();
        std::fs::rename(self.dir.join("control.new"), self.dir.join("control")).unwrap();
    }

    /// How many lines of the journal say this.
    pub fn noted(&self, what: &str) -> usize {
        let journal = std::fs::read_to_string(self.dir.join("journal")).unwrap_or_default();
        journal.lines().filter(|line| line.contains(what)).count()
    }

    /// The process beside the one with the library: a child of ours.
    pub fn keeper(&self) -> i32 {
        self.process(|parent| parent == std::process::id().cast_signed())
    }

    /// The one with the library.
    pub fn process_of_library(&self) -> i32 {
        let keeper = self.keeper();
        self.process(|parent| parent == keeper)
    }

    fn process(&self, child_of: impl Fn(i32) -> bool) -> i32 {
        let of_this = |process: &i32| {
            let status = status(*process);
            field(&status, "Name:") == self.name
                && !field(&status, "State:").starts_with('Z')
                && child_of(field(&status, "PPid:").parse().unwrap_or(0))
        };
        // Those of an earlier life have gone, or have smaller numbers.
        processes().filter(of_this).max().unwrap()
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let (closing, closed) = request(());
        self.held.give_back(closing).unwrap();
        let _ = answer(&closed);
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub fn status(process: i32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default()
}

/// What stands behind a name.
pub fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let line = status.lines().find(|line| line.starts_with(name));
    line.map_or("", |line| line[name.len()..].trim())
}

pub fn exists(process: i32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

pub fn signal(process: i32, signal: libc::c_int) {
    // SAFETY: sends a signal to a process of the test.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

/// Waits until the process is stopped: it goes on for a moment after the signal.
pub fn stop(process: i32) {
    signal(process, libc::SIGSTOP);
    await_that(|| field(&status(process), "State:").starts_with('T'));
}

pub fn await_that(is: impl Fn() -> bool) {
    while !is() {
        std::thread::yield_now();
    }
}

fn found(held: &Held) -> TokenInSlot {
    let (asking, answered) = request(Job::Slots);
    held.job(asking).unwrap();
    let Told::Slots(slots) = answer(&answered).unwrap() else {
        panic!("no slots")
    };
    let with_token = |(slot, token): (Slot, Result<Option<Token>>)| Some((slot, token.unwrap()?));
    let mut tokens = slots.into_iter().filter_map(with_token);
    let (slot, token) = tokens.find(|(_, token)| token.label == "faulty").unwrap();
    let identity = Identity {
        manufacturer: token.manufacturer,
        model: token.model,
        serial: token.serial,
        label: token.label,
    };
    TokenInSlot {
        slot: slot.id,
        token: identity,
        read_only: false,
    }
}

/// Why something failed, where that was for this reason.
pub fn why<A>(outcome: Result<A>, expected: Reason) -> String {
    match outcome {
        Err(Failure::Own { reason, detail }) if reason == expected => detail,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it did not fail"),
    }
}

/// What a process may have; the limit before, where there is another.
pub fn process_limit(process: i32, which: libc::__rlimit_resource_t, other: Option<u64>) -> u64 {
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes there.
    let read = unsafe { libc::prlimit(process, which, std::ptr::null(), &raw mut before) };
    assert_eq!(read, 0);
    if let Some(rlim_cur) = other {
        let limit = libc::rlimit { rlim_cur, ..before };
        // SAFETY: the kernel reads there.
        let set = unsafe { libc::prlimit(process, which, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(set, 0);
    }
    before.rlim_cur
}
