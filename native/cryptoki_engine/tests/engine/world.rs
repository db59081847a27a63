//! An instance on a token of its own, and answers and events where a test can wait for them.

use crate::support::{Module, PIN};
use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_engine::control::login::{self, Credentials};
use cryptoki_engine::control::opening;
use cryptoki_engine::control::users::Attached;
use cryptoki_engine::instance::Instance;
use cryptoki_engine::library::info::Identity;
use cryptoki_engine::library::initialization::Settings;
use cryptoki_engine::library::token_in_slot::TokenInSlot;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::{Key, Operation};
use cryptoki_engine::place::Place;
use cryptoki_engine::request::request::{Deliver, Delivered, Request, Times};
use cryptoki_engine::session::status::{Event, Owner};
use cryptoki_engine::session::told::{SessionJob, SessionRequest};
use cryptoki_engine::session_thread::{self, Reach};
use cryptoki_engine::site::{Site, State};
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::values::{Data, Handle, Mechanism, Parameter, Secret, Value};
use cryptoki_sys::*;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than anything takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where an answer comes to.
pub struct Post<A>(pub Sender<Result<A>>);

impl<A: Send> Deliver<A> for Post<A> {
    fn deliver(self: Box<Self>, outcome: Result<A>, _times: Times) -> Delivered {
        match self.0.send(outcome) {
            Ok(()) => Delivered::Heard,
            Err(_) => Delivered::Unheard,
        }
    }
}

/// A request, and where its answer comes out.
pub fn request<J, A: Send + 'static>(job: J) -> (Arc<Request<J, A>>, Receiver<Result<A>>) {
    let (sender, answer) = channel();
    (Request::new(job, Box::new(Post(sender)), None), answer)
}

/// The answer.
pub fn answer<A>(from: &Receiver<Result<A>>) -> Result<A> {
    from.recv_timeout(PATIENCE).unwrap()
}

/// Who owns the sessions: notes what it is told.
struct Notes(Mutex<Sender<Event>>);

impl Owner for Notes {
    fn tell(&self, _session: u64, event: Event) {
        let _ = self.0.lock().unwrap().send(event);
    }
}

/// Where the sessions of an instance are that are in this process.
pub trait Here {
    fn site(&self) -> &Arc<Site>;
}

impl Here for Instance {
    fn site(&self) -> &Arc<Site> {
        match &self.place {
            Place::Here(site) => site,
            Place::Away(_) => panic!("the sessions are not here"),
        }
    }
}

/// An instance with a token, logged in.
pub struct World {
    pub module: Module,
    pub attached: Attached,
    pub instance: Arc<Instance>,
    pub slot: CK_SLOT_ID,
    pub events: Receiver<Event>,
    notes: Sender<Event>,
    token: Identity,
}

impl World {
    /// Without sessions; `None`, and the test passes, where SoftHSM is not installed.
    pub fn new() -> Option<Self> {
        let (module, list) = Module::ready()?;
        let slot = crate::support::slots(list, CK_TRUE)[0];
        let attached = open(&module.dir.join("faulty.so"));
        let (notes, events) = channel();
        let instance = Arc::new(Instance::new(
            Place::Here(Arc::new(Site::new(attached.library().clone()))),
            100,
        ));
        let token = token(&attached, slot);
        let world = Self {
            module,
            attached,
            instance,
            slot,
            events,
            notes,
            token,
        };
        world.log_in().unwrap();
        world.instance.set_state(State::Ready);
        Some(world)
    }

    /// With so many.
    pub fn with_sessions(count: usize) -> Option<(Self, Vec<Reach>)> {
        let world = Self::new()?;
        let sessions = (0..count).map(|_| world.open_session().unwrap()).collect();
        Some((world, sessions))
    }

    pub fn token(&self) -> TokenInSlot {
        TokenInSlot {
            slot: self.slot,
            token: self.token.clone(),
            read_only: false,
        }
    }

    pub fn log_in(&self) -> Result<()> {
        let credentials = Credentials {
            user: CKU_USER,
            pin: Some(Secret::new(PIN.as_bytes().to_vec())),
            name: None,
        };
        let (request, outcome) = request(credentials);
        let task = login::task(self.instance.site().clone(), self.token(), request);
        self.instance.site().library.lanes.ask(task).unwrap();
        answer(&outcome)
    }

    pub fn open_session(&self) -> Result<Reach> {
        let (request, outcome) = request(());
        let owner = Box::new(Notes(Mutex::new(self.notes.clone())));
        session_thread::spawn(self.instance.clone(), owner, self.token(), request).unwrap();
        answer(&outcome)
    }

    /// Sends an operation into the queue.
    pub fn send(&self, operation: Operation) -> (SessionRequest, Receiver<Result<Answer>>) {
        let (sender, answer) = channel();
        let job = SessionJob::Run(operation);
        let waiting = Some(self.instance.waiters());
        let request = Request::new(job, Box::new(Post(sender)), waiting);
        self.instance.submit(&request).unwrap();
        (request, answer)
    }

    pub fn run(&self, operation: Operation) -> Result<Answer> {
        answer(&self.send(operation).1)
    }

    pub fn ask(&self, job: Job) -> Result<Told> {
        let (request, outcome) = request(job);
        let task = Job::task(self.attached.library().clone(), request);
        self.attached.library().lanes.question(task).unwrap();
        answer(&outcome)
    }

    /// The next event.
    pub fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }
}

/// One more user of a library.
pub fn open(path: &std::path::Path) -> Attached {
    let settings = Settings {
        init_args: None,
        serialized: false,
        environment: Vec::new(),
    };
    let (request, outcome) = request(settings);
    opening::open(PathBuf::from(path), None, request).unwrap();
    answer(&outcome).unwrap()
}

fn token(attached: &Attached, slot: CK_SLOT_ID) -> Identity {
    let info = attached.library().functions.token_info(slot).unwrap();
    cryptoki_engine::library::info::identity(&info)
}

pub fn mechanism(kind: CK_MECHANISM_TYPE) -> Mechanism {
    Mechanism {
        kind,
        parameter: Parameter::Absent,
    }
}

pub fn random() -> Operation {
    Operation::random { length: 8 }
}

/// A key for HMAC, of the session unless it is of the token.
pub fn secret_key(token: bool) -> Operation {
    let template = vec![
        (CKA_CLASS, Value::Ulong(CKO_SECRET_KEY)),
        (CKA_KEY_TYPE, Value::Ulong(CKK_GENERIC_SECRET)),
        (CKA_VALUE_LEN, Value::Ulong(32)),
        (CKA_SIGN, Value::Bool(true)),
        (CKA_TOKEN, Value::Bool(token)),
    ];
    Operation::generate_key {
        mechanism: mechanism(CKM_GENERIC_SECRET_KEY_GEN),
        template,
    }
}

pub fn hmac(key: Key) -> Operation {
    let (mechanism, data) = (mechanism(CKM_SHA256_HMAC), Data::copied(b"data"));
    Operation::sign {
        mechanism,
        key,
        data,
        login: Login::Without,
    }
}

pub fn object(answer: Result<Answer>) -> Handle {
    match answer.unwrap() {
        Answer::Object(handle) => handle,
        other => panic!("{other:?}"),
    }
}

pub fn bytes(answer: Result<Answer>) -> Vec<u8> {
    match answer.unwrap() {
        Answer::Bytes(bytes) => bytes.own(),
        other => panic!("{other:?}"),
    }
}
