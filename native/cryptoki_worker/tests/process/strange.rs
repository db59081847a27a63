//! In the place of the program there is one that lies, and there may be no thread to see one end. What is told of sessions
//! then is what this side knows, and what cannot be read is no panic.

use crate::isolated::await_that;
use crate::world::{answer, request};
use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_engine::held::Held;
use cryptoki_engine::library::info::Identity;
use cryptoki_engine::library::initialization::Settings;
use cryptoki_engine::library::token_in_slot::TokenInSlot;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::process::life::Life;
use cryptoki_engine::process::link::Link;
use cryptoki_engine::process::session::Away;
use cryptoki_engine::process::tasks;
use cryptoki_engine::process::wire::{
    Answered, Ask, Hello, News, Notice, Noticed, Order, Ordered, Ready, Start,
};
use cryptoki_engine::process::worker::{Launch, Worker};
use cryptoki_engine::session::status::{End, Event, Owner, Status};
use cryptoki_engine::session::work::{Fate, Work};
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::process::{Ended, leave, take_standard_channels, user};
use cryptoki_ffi::values::{Data, Handle};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What this program does in the place of its tests.
const TASK: &str = "CRYPTOKI_TEST_TASK";

/// Before there is a `main`: whoever starts this program for a task has no arguments to give.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = {
    extern "C" fn begin() {
        match std::env::var(TASK).as_deref() {
            Ok("liar") => liar(Hello::ours(), |secret| secret),
            Ok("other version") => {
                let hello = Hello {
                    version: "0.0.0".into(),
                    wire: 0,
                };
                liar(hello, |secret| secret)
            }
            Ok("parrot") => liar(Hello::ours(), |_secret| [7; 32]),
            Ok("stranger") => another("liar"),
            Ok("other user") => {
                // SAFETY: changes the user of this process, which has one thread.
                unsafe { libc::setuid(NOBODY) };
                liar(Hello::ours(), |secret| secret)
            }
            Ok("stutter") => stutter(),
            Ok("no thread") => leave(i32::from(!nothing_is_left_where_there_is_no_thread())),
            _ => {}
        }
    }
    begin
};

/// Each operation that asks for so many bytes is answered by another lie, and one with large data by the last.
#[derive(Clone, Copy)]
enum Lie {
    News = 1,
    Epoch,
    Bytes,
    Length,
    Kind,
    More,
    Beyond,
}

const NOBODY: u32 = 65_534;

/// Half a word, and no more.
fn stutter() -> ! {
    let (first, keeper) = take_standard_channels().unwrap();
    first.send(&[9, 0, 0], None).unwrap();
    let _ = keeper.receive(&mut [0]);
    let _ = keeper.receive(&mut [0]);
    leave(6)
}

/// Another process answers, in a group of its own.
fn another(task: &str) -> ! {
    let mut this = Command::new(std::env::current_exe().unwrap());
    let status = this.env(TASK, task).process_group(0).status();
    leave(status.unwrap().code().unwrap_or(5))
}

fn liar(hello: Hello, hears: fn([u8; 32]) -> [u8; 32]) -> ! {
    let (first, keeper) = take_standard_channels().unwrap();
    std::thread::spawn(move || {
        let _ = keeper.receive(&mut [0]);
        let _ = keeper.send(&Ended::Exit(3).bytes(), None);
        leave(3)
    });
    let mut link = Link::new(first);
    link.send(&hello, None).unwrap();
    let Ok(Start { epoch, secret, .. }) = link.receive() else {
        leave(4)
    };
    let secret = hears(secret);
    link.send(&Ready { secret }, None).unwrap();
    while let Ok((notice, with)) = link.receive_with::<Notice>() {
        let noticed = match notice {
            Notice::Inside => Noticed::Inside(None, None),
            _ => Noticed::Done,
        };
        if let Some(descriptor) = with.descriptor {
            let connection = Link::new(Channel::from_owned(descriptor));
            std::thread::spawn(move || match notice {
                Notice::Control => control(connection, epoch),
                _ => session(connection, epoch),
            });
        }
        let _ = link.send(&noticed, None);
    }
    // It stays, unless it is ended.
    loop {
        std::thread::park();
    }
}

fn control(mut link: Link, epoch: u64) {
    while link.receive::<Order>().is_ok() {
        let outcome = Ok(Told::Done);
        link.send(&Ordered { outcome, epoch }, None).unwrap();
    }
}

fn session(mut link: Link, epoch: u64) {
    while let Ok(ask) = link.receive::<Ask>() {
        let mut answered = Answered {
            outcome: Ok(Answer::Done),
            news: Vec::new(),
            epoch,
            open: true,
            in_operation: false,
            fate: None,
            refusal: None,
        };
        let lie = match ask {
            Ask::Perform(Operation::random { length }) => length,
            Ask::Perform(Operation::seed_random { .. }) => Lie::Beyond as usize,
            _ => 0,
        };
        if lie > 0 && lie != Lie::Kind as usize {
            let more = usize::from(lie == Lie::More as usize);
            answered.outcome = Ok(Answer::Bytes(vec![0; lie + more].into()));
        }
        if lie == Lie::News as usize {
            answered.news = all_news();
        } else if lie == Lie::Epoch as usize {
            answered.epoch = u64::MAX;
        } else if lie == Lie::Bytes as usize {
            let _ = link.channel().send(&[5, 0, 0, 0, 9, 9, 9, 9, 9], None);
        } else if lie == Lie::Beyond as usize {
            // Bytes that lie in the memory of both, as long as it is and one more.
            let _ = link.channel().send(&[6, 0, 0, 0x80, 0, 2], None);
            let _ = link.channel().send(&[0x81, 0x80, 0x80, 2], None);
        } else if lie == Lie::Length as usize {
            let _ = link.channel().send(&u32::MAX.to_le_bytes(), None);
        }
        if link.send(&answered, None).is_err() {
            return;
        }
    }
}

fn all_news() -> Vec<News> {
    let failure = || Failure::own(Reason::Busy, "a lie");
    let events = [
        Event::Lost(failure()),
        Event::Ended(End::Closed),
        Event::Ended(End::Overdue),
        Event::Ended(End::Panic),
        Event::Overdue,
        Event::Cleaning,
        Event::Clean,
        Event::Failing(failure()),
        Event::Working,
        Event::Reopened(failure()),
    ];
    events.into_iter().map(News::Told).collect()
}

fn launch(task: &str) -> Result<Arc<Worker>> {
    let launch = Launch {
        program: std::env::current_exe().unwrap(),
        path: PathBuf::from("/nowhere"),
        interface: None,
        settings: Settings {
            init_args: None,
            serialized: false,
            environment: vec![(TASK.into(), task.into())],
        },
        memory: None,
    };
    let (opening, opened) = request(());
    tasks::open(launch, opening).unwrap();
    answer(&opened)
}

struct Notes(Arc<Mutex<Vec<Event>>>);

impl Owner for Notes {
    fn tell(&self, _session: u64, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

fn token() -> TokenInSlot {
    let name = String::new;
    let token = Identity {
        manufacturer: name(),
        model: name(),
        serial: name(),
        label: name(),
    };
    TokenInSlot {
        slot: 1,
        token,
        read_only: false,
    }
}

/// What it answers, what its owner is told, and its fate.
fn told(lie: Lie) -> (Result<Answer>, Vec<Event>, Option<Fate>, Arc<Worker>) {
    let worker = launch("liar").unwrap();
    let notes = Arc::<Mutex<Vec<Event>>>::default();
    let status = Status::new(Arc::default(), Box::new(Notes(notes.clone())));
    let mut session = Away::new(worker.clone(), Arc::new(status), Arc::default(), token());
    session.open().unwrap();
    let (caller, _answer) = request::<(), ()>(());
    let operation = match lie {
        Lie::Beyond => Operation::seed_random {
            seed: Data::copied(&[7; 1 << 20]),
        },
        lie => Operation::random {
            length: lie as usize,
        },
    };
    let outcome = session.perform(&operation, &*caller);
    let told = std::mem::take(&mut *notes.lock().unwrap());
    (outcome, told, session.fate().take(), worker)
}

#[test]
fn of_what_is_told_of_a_session_only_is_believed_that_it_was_opened_anew() {
    let (outcome, told, fate, _worker) = told(Lie::News);
    assert!(matches!(outcome, Ok(Answer::Bytes(_))) && fate.is_none());
    assert!(matches!(told[..], [Event::Reopened(_)]), "{told:?}");
}

#[test]
fn who_sends_what_cannot_be_read_or_is_no_answer_is_ended() {
    use Lie::*;
    for lie in [Epoch, Bytes, Length, Kind, More, Beyond] {
        let (outcome, told, fate, worker) = told(lie);
        let Err(Failure::Own { reason, detail }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(reason, Reason::ModuleMisbehaved, "{detail}");
        assert!(detail.contains("cannot be read") && detail.contains("status 3"));
        assert!(told.is_empty() && matches!(fate, Some(Fate::Lost(_))));
        assert!(worker.life().unwrap().is_over());
    }
}

#[test]
fn who_answers_a_job_with_something_else_is_ended() {
    let worker = launch("liar").unwrap();
    let (asking, answered) = request(Job::Slots);
    Held::Away(worker.clone()).job(asking).unwrap();
    let Err(Failure::Own { reason, detail }) = answer(&answered) else {
        panic!("it was believed")
    };
    assert_eq!(reason, Reason::ModuleMisbehaved, "{detail}");
    assert!(worker.life().unwrap().is_over());
}

#[test]
fn who_answers_a_notice_with_something_else_is_left() {
    let worker = launch("liar").unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let hear = Box::new(move |noticed| drop(told.send(noticed)));
    let handle = Handle {
        number: 1,
        life: 1,
        generation: 1,
    };
    worker.ask(Notice::Standing(handle), hear).unwrap();
    assert!(heard.recv().unwrap().is_err());
    await_that(|| worker.life().unwrap().is_over());
}

#[test]
fn who_is_of_another_version_or_another_one_is_told_nothing() {
    for (task, why) in [
        ("other version", "of another version"),
        ("stranger", "not the process that was started"),
        ("parrot", "says what another has said"),
        ("other user", "not the process that was started"),
        ("stutter", "it has not said who it is"),
    ] {
        if task == "other user" && user() != 0 {
            continue;
        }
        let Err(Failure::Own { reason, detail }) = launch(task) else {
            panic!("it was started")
        };
        assert_eq!(reason, Reason::LibraryNotLoaded);
        assert!(detail.contains(why), "{detail}");
    }
}

#[test]
fn where_there_is_no_thread_to_see_a_process_end_none_is_left() {
    let mut this = Command::new(std::env::current_exe().unwrap());
    assert!(this.env(TASK, "no thread").status().unwrap().success());
}

/// In a process of its own.
fn nothing_is_left_where_there_is_no_thread() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = crate::isolated::field(&status, "VmSize:");
    let kilobytes: u64 = size.trim_end_matches(" kB").trim().parse().unwrap();
    let limit = libc::rlimit {
        rlim_cur: (kilobytes << 10) + (1 << 20),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: sets a limit of this process: for a stack of a thread there is no room.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(limited, 0);
    let start = Start {
        path: PathBuf::new(),
        interface: None,
        memory: None,
        epoch: 1,
        secret: [0; 32],
    };
    let begun = Life::begin(Path::new("/bin/true"), &Vec::new(), &start, |_| {});
    let refused = matches!(
        begun,
        Err(Failure::Own {
            reason: Reason::Busy,
            ..
        })
    );
    let this = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{this}/task/{this}/children"));
    refused && children.unwrap().trim().is_empty()
}
