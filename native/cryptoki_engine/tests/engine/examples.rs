//! An example of everything that crosses to a library in a process of its own and back. A variant, or a row of the table of
//! operations, that has none does not compile.

use cryptoki_engine::control::jobs::{Job, Told};
use cryptoki_engine::control::login::Credentials;
use cryptoki_engine::library::info::{
    Count, Identity, LibraryInfo, MechanismInfo, Presence, SessionInfo, Slot, Token, Unknown,
};
use cryptoki_engine::library::initialization::Settings;
use cryptoki_engine::library::numbers::Standing;
use cryptoki_engine::library::token_in_slot::TokenInSlot;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::begun::Begun;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::{Key, Operation};
use cryptoki_engine::process::link::{Broken, read};
use cryptoki_engine::process::wire::{
    Answered, Ask, Call, Fate, Hello, News, Notice, Noticed, Order, Ordered, Ready, Start,
};
use cryptoki_engine::session::status::{End, Event};
use cryptoki_engine::site::State;
use cryptoki_ffi::attributes::Attributes;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::dual::Dual;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::functions::Interface;
use cryptoki_ffi::values::{
    Data, Field, Handle, Mechanism, NoValue, Parameter, Read, Secret, Template, Value,
};
use cryptoki_sys::CK_ULONG;

#[path = "../../src/operation/table.rs"]
mod table;

/// What there are examples of.
pub trait Examples: Sized {
    /// Them.
    fn examples() -> Vec<Self>;

    /// One of them; another for another number.
    fn example(number: usize) -> Self {
        let mut examples = Self::examples();
        let at = number % examples.len();
        examples.swap_remove(at)
    }
}

/// Each variant as it is matched, and an example of it.
macro_rules! each {
    ($type:ty { $($pattern:pat => $example:expr,)+ }) => {
        impl Examples for $type {
            fn examples() -> Vec<Self> {
                let _no_other = |value: &Self| match value { $($pattern => {})+ };
                vec![$($example),+]
            }
        }
    };
}

/// Of a type without variants.
macro_rules! some {
    ($($type:ty { $($example:expr),+ $(,)? })+) => {
        $(impl Examples for $type {
            fn examples() -> Vec<Self> {
                vec![$($example),+]
            }
        })+
    };
}

/// Each row of the table, once for each example of its arguments.
macro_rules! rows {
    ($($name:ident ( $($argument:ident : $type:ty),* ) $class:ident [ $($function:ident)* ] |$at:ident| $call:expr;)*) => {
        impl Examples for Operation {
            fn examples() -> Vec<Self> {
                let mut all = Vec::new();
                $({
                    let most = [1, $(<$type>::examples().len()),*].into_iter().max();
                    for _number in 0..most.unwrap_or(1) {
                        all.push(Operation::$name { $($argument: <$type>::example(_number)),* });
                    }
                })*
                all
            }
        }
    };
}

table::operations!(rows);

impl<T: Examples> Examples for Option<T> {
    fn examples() -> Vec<Self> {
        let some = T::examples().into_iter().map(Some);
        some.chain([None]).collect()
    }
}

fn data() -> Data {
    Data::copied(b"data")
}

fn secret() -> Secret {
    Secret::new(b"secret".to_vec())
}

fn text() -> String {
    "text".to_owned()
}

fn handle() -> Handle {
    Handle {
        number: 3,
        life: u64::MAX,
        generation: 5,
    }
}

fn failure() -> Failure {
    Failure::own(Reason::Busy, "the queue is full")
}

fn fields() -> Vec<Field> {
    Field::examples()
}

some! {
    usize { 0, usize::MAX }
    bool { false, true }
    CK_ULONG { 0, CK_ULONG::MAX }
    Vec<CK_ULONG> { vec![], vec![1, 2], vec![CK_ULONG::MAX; 200] }
    Data { Data::copied(b""), data(), Data::copied(&[9; 300]) }
    Secret { secret(), Secret::new(vec![]) }
    Handle { handle() }
    Vec<Handle> { vec![], vec![handle(); 3] }
    Mechanism {
        Mechanism { kind: 0x8000_0001, parameter: Parameter::Absent },
        Mechanism { kind: 1, parameter: Parameter::Raw(data()) },
        Mechanism { kind: CK_ULONG::MAX, parameter: Parameter::Fields(fields()) },
    }
    Template { vec![], Value::examples().into_iter().map(|value| (7, value)).collect() }
    Begun { Begun { kind: Kind::Sign, number: u64::MAX }, Begun { kind: Kind::VerifySignature, number: 0 } }
    Identity { Identity { manufacturer: text(), model: String::new(), serial: text(), label: "\u{1F511}".into() } }
    TokenInSlot { TokenInSlot { slot: 7, token: Identity::example(0), read_only: true } }
    Settings {
        Settings { init_args: None, serialized: false, environment: vec![] },
        Settings { init_args: Some(c"a=b".to_owned()), serialized: true, environment: vec![("A".into(), "b".into())] },
    }
    Credentials {
        Credentials { user: 1, pin: Some(secret()), name: Some(b"alice".to_vec()) },
        Credentials { user: 0, pin: None, name: None },
    }
    LibraryInfo {
        LibraryInfo { cryptoki_version: (3, 2), manufacturer: text(), description: text(), version: (1, 2), interface: (3, 0) }
    }
    Interface { Interface { name: "PKCS 11".into(), version: (3, 2), flags: 1 } }
    Slot {
        Slot { id: 1, description: text(), manufacturer: text(), flags: 7, hardware_version: (1, 2), firmware_version: (3, 4) }
    }
    Token { token(), Token { utc_time: None, ..token() } }
    MechanismInfo { MechanismInfo { min_key_size: 1, max_key_size: 2, flags: CK_ULONG::MAX } }
    Presence { Presence { id: 1, present: true, serial: Some(text()), label: None } }
    SessionInfo { SessionInfo { slot: 1, state: 2, flags: 3, device_error: 4 } }
    Hello { Hello::ours() }
    Start {
        Start { path: "/lib/p11.so".into(), interface: Some((3, 2)), memory: Some(1 << 40), epoch: 9, secret: [7; 32] },
        Start { path: "".into(), interface: None, memory: None, epoch: 0, secret: [0; 32] },
    }
    Ready { Ready { secret: [255; 32] } }
    Call { Call { function: "C_Sign", milliseconds: u64::MAX } }
    Attributes { vec![], Read::examples().into_iter().map(|value| (3, value)).collect() }
}

fn token() -> Token {
    let count = || Count::example(0);
    Token {
        label: text(),
        manufacturer: text(),
        model: text(),
        serial: text(),
        flags: 5,
        max_session_count: Count::example(1),
        session_count: count(),
        max_rw_session_count: Count::example(2),
        rw_session_count: count(),
        max_pin_len: 8,
        min_pin_len: 4,
        total_public_memory: count(),
        free_public_memory: count(),
        total_private_memory: count(),
        free_private_memory: count(),
        hardware_version: (1, 2),
        firmware_version: (3, 4),
        utc_time: Some(text()),
    }
}

each! { Field {
    Field::Ulong(_) => Field::Ulong(7),
    Field::Byte(_) => Field::Byte(255),
    Field::Bytes(_) => Field::Bytes(data()),
    Field::InOut(_) => Field::InOut(data()),
    Field::Inline(_) => Field::Inline(data()),
    Field::Struct(_) => Field::Struct(vec![Field::Handle(handle())]),
    Field::Nested(_) => Field::Nested(vec![Field::NewHandle]),
    Field::Array(_) => Field::Array(vec![vec![], vec![Field::Byte(1)]]),
    Field::Handle(_) => Field::Handle(handle()),
    Field::NewHandle => Field::NewHandle,
    Field::Template(_) => Field::Template(vec![(3, Value::Ulongs(vec![1, 2]))]),
} }
each! { Value {
    Value::Bytes(_) => Value::Bytes(data()),
    Value::Ulong(_) => Value::Ulong(7),
    Value::Bool(_) => Value::Bool(true),
    Value::Ulongs(_) => Value::Ulongs(vec![1, CK_ULONG::MAX]),
    Value::Template(_) => Value::Template(vec![(1, Value::Bool(false))]),
} }
each! { Login {
    Login::Without => Login::Without,
    Login::Protected => Login::Protected,
    Login::Pin(_) => Login::Pin(secret()),
} }
each! { Dual {
    Dual::DigestEncrypt => Dual::DigestEncrypt,
    Dual::DecryptDigest => Dual::DecryptDigest,
    Dual::SignEncrypt => Dual::SignEncrypt,
    Dual::DecryptVerify => Dual::DecryptVerify,
} }
each! { Parameter {
    Parameter::Absent => Parameter::Absent,
    Parameter::Raw(_) => Parameter::Raw(data()),
    Parameter::Fields(_) => Parameter::Fields(fields()),
} }
each! { Count {
    Count::Known(_) => Count::Known(u64::MAX),
    Count::Unknown(Unknown::Infinite) => Count::Unknown(Unknown::Infinite),
    Count::Unknown(Unknown::Unavailable) => Count::Unknown(Unknown::Unavailable),
} }
each! { Read {
    Read::Bytes(_) => Read::Bytes(secret()),
    Read::Template(_) => Read::Template(vec![(1, Read::Bytes(secret()))]),
    Read::Nothing(NoValue::Sensitive) => Read::Nothing(NoValue::Sensitive),
    Read::Nothing(NoValue::TypeInvalid) => Read::Nothing(NoValue::TypeInvalid),
    Read::Nothing(NoValue::Unavailable) => Read::Nothing(NoValue::Unavailable),
    Read::Nothing(NoValue::Failed(_)) => Read::Nothing(NoValue::Failed(6)),
} }
each! { Answer {
    Answer::Done => Answer::Done,
    Answer::OwnIv => Answer::OwnIv,
    Answer::Bytes(_) => Answer::Bytes(vec![7; 300].into()),
    Answer::Secret(_) => Answer::Secret(secret().into()),
    Answer::With(..) => Answer::With(Box::new(Answer::Bytes(vec![1].into())), vec![secret()]),
    Answer::Written(_) => Answer::Written(vec![secret(), Secret::new(vec![])]),
    Answer::Otp(_) => Answer::Otp(vec![(1, b"123456".to_vec())]),
    Answer::Number(_) => Answer::Number(CK_ULONG::MAX),
    Answer::Unavailable => Answer::Unavailable,
    Answer::Object(_) => Answer::Object(handle()),
    Answer::Objects(_) => Answer::Objects(vec![handle(); 70]),
    Answer::Pair(..) => Answer::Pair(handle(), handle()),
    Answer::Encapsulated(..) => Answer::Encapsulated(vec![1, 2], handle()),
    Answer::Beside(..) => Answer::Beside(Some(handle()), vec![None, Some(handle())], vec![secret()]),
    Answer::Attributes(_) => Answer::Attributes(Attributes::example(1)),
    Answer::Each(_) => Answer::Each(vec![Ok(Attributes::example(1)), Err(failure())]),
    Answer::Session(_) => Answer::Session(SessionInfo::example(0)),
} }
each! { Reason {
    Reason::Shutdown => Reason::Shutdown,
    Reason::TokenAbsent => Reason::TokenAbsent,
    Reason::Locked => Reason::Locked,
    Reason::Busy => Reason::Busy,
    Reason::Panic => Reason::Panic,
    Reason::SessionLost => Reason::SessionLost,
    Reason::StaleHandle => Reason::StaleHandle,
    Reason::OperationNotInitialized => Reason::OperationNotInitialized,
    Reason::DataLenRange => Reason::DataLenRange,
    Reason::EncryptedDataLenRange => Reason::EncryptedDataLenRange,
    Reason::SignatureLenRange => Reason::SignatureLenRange,
    Reason::LibraryNotLoaded => Reason::LibraryNotLoaded,
    Reason::ModuleMisbehaved => Reason::ModuleMisbehaved,
    Reason::InvalidArgument => Reason::InvalidArgument,
    Reason::LibraryCrashed => Reason::LibraryCrashed,
    Reason::CrashedInLogin => Reason::CrashedInLogin,
    Reason::NoProcess => Reason::NoProcess,
} }

impl Examples for Failure {
    fn examples() -> Vec<Self> {
        let own = Reason::examples().into_iter();
        let own = own.map(|reason| Failure::own(reason, "why"));
        let rv = |function| Failure::Rv {
            code: CK_ULONG::MAX,
            function,
        };
        own.chain(cryptoki_ffi::names::NAMES.iter().copied().map(rv))
            .collect()
    }
}

each! { End {
    End::Closed => End::Closed,
    End::Overdue => End::Overdue,
    End::Panic => End::Panic,
} }
each! { Event {
    Event::Reopened(_) => Event::Reopened(failure()),
    Event::Lost(_) => Event::Lost(failure()),
    Event::Ended(_) => Event::Ended(End::Panic),
    Event::Overdue => Event::Overdue,
    Event::Cleaning => Event::Cleaning,
    Event::Clean => Event::Clean,
    Event::Failing(_) => Event::Failing(failure()),
    Event::Working => Event::Working,
} }

impl Examples for News {
    fn examples() -> Vec<Self> {
        let _no_other = |news: &News| match news {
            News::Told(_) | News::Counted(..) => {}
        };
        let told = Event::examples().into_iter().map(News::Told);
        let counted = [
            News::Counted(true, None),
            News::Counted(false, Some(failure())),
        ];
        told.chain(counted).collect()
    }
}

each! { Fate {
    Fate::Over(_) => Fate::Over(End::Overdue),
    Fate::Lost(_) => Fate::Lost(failure()),
} }
each! { Job {
    Job::LibraryInfo => Job::LibraryInfo,
    Job::Slots => Job::Slots,
    Job::TokenInfo(_) => Job::TokenInfo(1),
    Job::Mechanisms(_) => Job::Mechanisms(CK_ULONG::MAX),
    Job::MechanismInfo(..) => Job::MechanismInfo(1, 2),
    Job::InitToken(..) => Job::InitToken(1, Some(secret()), data()),
    Job::InitPin(..) => Job::InitPin(1, Some(secret()), None),
    Job::SetPin(..) => Job::SetPin(1, Some(0), Some(secret()), Some(secret())),
    Job::Poll => Job::Poll,
    Job::Events => Job::Events,
    Job::Reinitialize => Job::Reinitialize,
} }
each! { Told {
    Told::Done => Told::Done,
    Told::Library(..) => Told::Library(LibraryInfo::example(0), Interface::examples()),
    Told::Slots(_) => Told::Slots(vec![
        (Slot::example(0), Ok(Some(token()))),
        (Slot::example(0), Ok(None)),
        (Slot::example(0), Err(failure())),
    ]),
    Told::Token(_) => Told::Token(token()),
    Told::Mechanisms(_) => Told::Mechanisms(vec![1, CK_ULONG::MAX]),
    Told::Mechanism(_) => Told::Mechanism(MechanismInfo::example(0)),
    Told::Presence(_) => Told::Presence(Presence::examples()),
    Told::Events(_) => Told::Events(Some(u64::MAX)),
} }
each! { State {
    State::Absent => State::Absent,
    State::Locked => State::Locked,
    State::Ready => State::Ready,
    State::Shutdown => State::Shutdown,
} }
each! { Standing {
    Standing::Current => Standing::Current,
    Standing::Gone => Standing::Gone,
    Standing::Unknown => Standing::Unknown,
} }

impl Examples for Notice {
    fn examples() -> Vec<Self> {
        let _no_other = |notice: &Notice| match notice {
            Notice::Control | Notice::Session | Notice::State(_) => {}
            Notice::Epoch(_) | Notice::Inside | Notice::Standing(_) => {}
        };
        let states = State::examples().into_iter().map(Notice::State);
        let others = [
            Notice::Control,
            Notice::Session,
            Notice::Epoch(u64::MAX),
            Notice::Inside,
            Notice::Standing(handle()),
        ];
        states.chain(others).collect()
    }
}

impl Examples for Noticed {
    fn examples() -> Vec<Self> {
        let _no_other = |noticed: &Noticed| match noticed {
            Noticed::Done | Noticed::Refused(_) => {}
            Noticed::Inside(..) | Noticed::Standing(_) => {}
        };
        let standing = Standing::examples().into_iter().map(Noticed::Standing);
        let call = || Some(Call::example(0));
        let others = [
            Noticed::Done,
            Noticed::Refused(text()),
            Noticed::Inside(None, call()),
            Noticed::Inside(call(), None),
        ];
        standing.chain(others).collect()
    }
}

impl Examples for Order {
    fn examples() -> Vec<Self> {
        let _no_other = |order: &Order| match order {
            Order::Open(_) | Order::Job(_) | Order::Prepare(_) => {}
            Order::LogIn(..) | Order::Close => {}
        };
        let token = || TokenInSlot::example(0);
        let mut all = vec![Order::Prepare(token()), Order::Close];
        all.extend(Settings::examples().into_iter().map(Order::Open));
        all.extend(Job::examples().into_iter().map(Order::Job));
        let credentials = Credentials::examples().into_iter();
        all.extend(credentials.map(|credentials| Order::LogIn(token(), credentials)));
        all
    }
}

impl Examples for Ordered {
    fn examples() -> Vec<Self> {
        let told = Told::examples().into_iter().map(Ok);
        let failed = Failure::examples().into_iter().map(Err);
        let ordered = |outcome| Ordered { outcome, epoch: 9 };
        told.chain(failed).map(ordered).collect()
    }
}

impl Examples for Ask {
    fn examples() -> Vec<Self> {
        let _no_other = |ask: &Ask| match ask {
            Ask::Open(_) | Ask::EnsureOpen | Ask::Perform(_) | Ask::Clean => {}
            Ask::KeepObjects | Ask::Close | Ask::Abandon => {}
        };
        let operations = Operation::examples().into_iter().map(Ask::Perform);
        let others = [
            Ask::Open(TokenInSlot::example(0)),
            Ask::EnsureOpen,
            Ask::Clean,
            Ask::KeepObjects,
            Ask::Close,
            Ask::Abandon,
        ];
        operations.chain(others).collect()
    }
}

impl Examples for Answered {
    fn examples() -> Vec<Self> {
        let answered = |outcome: Result<Answer>| Answered {
            outcome,
            news: Vec::new(),
            epoch: u64::MAX,
            open: true,
            in_operation: false,
            fate: None,
            refusal: None,
        };
        let outcomes = Answer::examples().into_iter().map(Ok);
        let outcomes = outcomes.chain(Failure::examples().into_iter().map(Err));
        let fates = Fate::examples().into_iter().map(|fate| Answered {
            fate: Some(fate),
            news: News::examples(),
            open: false,
            in_operation: true,
            refusal: Some(failure()),
            ..answered(Ok(Answer::Done))
        });
        outcomes.map(answered).chain(fates).collect()
    }
}

/// Written, and read again.
pub fn again<T: serde::Serialize + serde::de::DeserializeOwned>(
    value: &T,
) -> std::result::Result<T, Broken> {
    read(&bytes(value))
}

/// As it is written, without its length.
pub fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}
