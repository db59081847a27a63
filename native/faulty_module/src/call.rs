//! What happens to one call: the rules before it, the target, the rules after it, the lies.

use crate::rules::{self, Crash, Effect, Lie, Only, Rule};
use crate::subject::Subject;
use crate::{control, journal, token};
use cryptoki_sys::*;
use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

/// How often a hanging call looks whether it is released.
pub const POLL: Duration = Duration::from_millis(5);

/// A call, as far as faults depend on it.
pub struct Call {
    /// The function.
    pub name: &'static str,
    /// What has to be there for it.
    pub scope: Scope,
    /// Where it gives back a length.
    pub claim: Claim,
    /// Where it gives handles.
    pub handles: Vec<Handles>,
    /// What it is about.
    pub subject: Subject,
}

/// A place for handles.
#[derive(Clone, Copy)]
pub enum Handles {
    /// One.
    One(*mut CK_ULONG),
    /// As many as the length says.
    Many(*mut CK_ULONG),
}

/// What a call depends on.
#[derive(Clone, Copy)]
pub enum Scope {
    /// The library only.
    Library,
    /// A slot, with or without a token.
    Reader(CK_SLOT_ID),
    /// The token in a slot.
    Slot(CK_SLOT_ID),
    /// A session.
    Session(CK_SESSION_HANDLE),
}

/// The lengths a call gives back.
pub enum Claim {
    /// None.
    Nothing,
    /// One; `query` if the caller gave no buffer.
    Length {
        /// The caller only asks for the length.
        query: bool,
        /// Where the length goes.
        len: *mut CK_ULONG,
        /// Where what is so long goes, and how many bytes each of it has; null where a lie does not reach it.
        buffer: (*mut u8, usize),
    },
    /// One for each attribute of a template.
    Attributes(*mut CK_ATTRIBUTE, CK_ULONG),
}

impl Claim {
    /// Whether the call only asks for a length, where that can be said of it.
    fn query(&self) -> Option<bool> {
        match self {
            Claim::Length { query, .. } => Some(*query),
            Claim::Nothing | Claim::Attributes(..) => None,
        }
    }

    /// What the caller has put where lengths come back.
    fn lengths(&self) -> Vec<CK_ULONG> {
        match *self {
            // SAFETY: not null, and the caller vouches for its length.
            Claim::Length { len, .. } if !len.is_null() => vec![unsafe { *len }],
            Claim::Attributes(template, n) if !template.is_null() => {
                // SAFETY: not null, and the caller vouches for `n` attributes.
                let template = unsafe { std::slice::from_raw_parts(template, n as usize) };
                template
                    .iter()
                    .map(|attribute| attribute.ulValueLen)
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// An argument that may stand for a buffer.
pub trait Buffer {
    /// Whether it is none, so that the call only asks for the length.
    fn is_query(&self) -> bool;
    /// Where it is, and how many bytes an element has.
    fn place(&self) -> (*mut u8, usize);
}

impl<T> Buffer for *mut T {
    fn is_query(&self) -> bool {
        self.is_null()
    }

    fn place(&self) -> (*mut u8, usize) {
        (self.cast(), size_of::<T>())
    }
}

impl Buffer for CK_ULONG {
    fn is_query(&self) -> bool {
        *self == 0
    }

    fn place(&self) -> (*mut u8, usize) {
        (std::ptr::null_mut(), 0)
    }
}

/// Runs a call. `forward` asks the target (`Ok`), or answers in its place (`Err`).
pub fn run(call: &Call, forward: impl FnOnce() -> Result<CK_RV, CK_RV>) -> CK_RV {
    let rules = control::rules();
    let due = rules.due(call.name, call.claim.query(), &call.subject);
    let before = call.claim.lengths();
    for rule in due.iter().filter(|rule| !rule.after_forward) {
        if let Some(rv) = act(call, rule) {
            journal::note(call.name, "faked", Some(rv));
            return rv;
        }
    }
    let result = match call.scope {
        Scope::Library => forward(),
        scope => {
            // Rules may have waited, and the token may have gone meanwhile.
            let rules = if due.is_empty() {
                Arc::clone(&rules)
            } else {
                control::rules()
            };
            // Held while the target works: sessions are only taken away when no call is inside it.
            let _gate = token::enter();
            token::refusal(&rules, scope).map_or_else(forward, Err)
        }
    };
    let (event, mut rv) = match result {
        Ok(rv) => ("ran", rv),
        Err(rv) => ("faked", rv),
    };
    journal::note(call.name, event, Some(rv));
    // What is written over goes by the target's lengths: all of it before the first of them is falsified.
    if rv == CKR_OK {
        for rule in &due {
            if rule.effects.contains(&Effect::Garbage) {
                garbage(&call.claim);
            }
            replace_handles(call, rule);
        }
    }
    for rule in &due {
        lie(call, rule, rv, &before);
        if rule.after_forward
            && let Some(other) = act(call, rule)
        {
            journal::note(call.name, "denied", Some(other));
            rv = other;
        }
    }
    rv
}

/// Does what a rule says; the answer if it has one.
fn act(call: &Call, rule: &Rule) -> Option<CK_RV> {
    for effect in &rule.effects {
        match effect {
            Effect::Answer(rv) => return Some(*rv),
            Effect::Delay(time) => std::thread::sleep(*time),
            Effect::Hang => hang(call.name),
            Effect::Crash(crash) => {
                journal::note(call.name, "crashes", None);
                crash_now(*crash);
            }
            Effect::Forget => token::forget(),
            Effect::Logout => token::logout(),
            Effect::Lie(_) | Effect::Garbage | Effect::Handle(_) => {}
        }
    }
    None
}

fn hang(name: &str) {
    journal::note(name, "hangs", None);
    while !control::released() && control::rules().hangs(name) {
        std::thread::sleep(POLL);
    }
    journal::note(name, "released", None);
}

/// Falsifies the lengths that the call gave back. `before` is what stood where they are.
fn lie(call: &Call, rule: &Rule, rv: CK_RV, before: &[CK_ULONG]) {
    for effect in &rule.effects {
        let Effect::Lie(lie) = effect else {
            continue;
        };
        let tell = |length: &mut CK_ULONG, query: bool, before: CK_ULONG| {
            if rule.only == Only::Both || (rule.only == Only::Query) == query {
                *length = match lie {
                    Lie::Exactly(n) => *n,
                    Lie::More(n) => length.saturating_add(*n),
                    Lie::Less(n) => length.saturating_sub(*n),
                    Lie::Untouched => before,
                };
            }
        };
        match call.claim {
            Claim::Length { query, len, .. }
                if !len.is_null() && matches!(rv, CKR_OK | CKR_BUFFER_TOO_SMALL) =>
            {
                // SAFETY: not null, and the target has just used it as the caller's length.
                tell(unsafe { &mut *len }, query, before[0]);
            }
            Claim::Attributes(template, n) if !template.is_null() && rv == CKR_OK => {
                // SAFETY: the target has just read `n` attributes there.
                let template = unsafe { std::slice::from_raw_parts_mut(template, n as usize) };
                for (attribute, before) in template.iter_mut().zip(before) {
                    tell(
                        &mut attribute.ulValueLen,
                        attribute.pValue.is_null(),
                        *before,
                    );
                }
            }
            _ => {}
        }
    }
}

/// Writes over what the target has just written, and nothing else.
fn garbage(claim: &Claim) {
    let over = |start: *mut u8, length: usize| {
        if !start.is_null() {
            // SAFETY: the target has just written so many bytes there.
            rules::fill(unsafe { std::slice::from_raw_parts_mut(start, length) });
        }
    };
    match *claim {
        Claim::Length {
            query: false,
            len,
            buffer: (start, size),
        } if !len.is_null() => {
            // SAFETY: not null, and the target has just used it as the caller's length.
            over(start, unsafe { *len } as usize * size);
        }
        Claim::Attributes(template, n) if !template.is_null() => {
            // SAFETY: the target has just read `n` attributes there.
            for attribute in unsafe { std::slice::from_raw_parts(template, n as usize) } {
                // A template in an attribute has pointers of the caller in it.
                if attribute.ulValueLen != CK_UNAVAILABLE_INFORMATION
                    && attribute.type_ & CKF_ARRAY_ATTRIBUTE == 0
                {
                    over(attribute.pValue.cast(), attribute.ulValueLen as usize);
                }
            }
        }
        _ => {}
    }
}

/// Puts other handles in the place of those that the call gave.
fn replace_handles(call: &Call, rule: &Rule) {
    let Some(handle) = rule.effects.iter().find_map(|effect| match effect {
        Effect::Handle(handle) => Some(*handle),
        _ => None,
    }) else {
        return;
    };
    let count = match call.claim {
        // SAFETY: not null, and the target has just written the length there.
        Claim::Length { len, .. } if !len.is_null() => unsafe { *len as usize },
        _ => 0,
    };
    let places = match rule.only {
        Only::First => call.handles.get(..1),
        Only::Second => call.handles.get(1..),
        Only::Both | Only::Query | Only::Data => Some(&call.handles[..]),
    };
    for place in places.unwrap_or_default() {
        let (at, count) = match *place {
            Handles::One(at) => (at, 1),
            Handles::Many(at) => (at, count),
        };
        if !at.is_null() {
            // SAFETY: not null, and the target has just written so many handles there.
            unsafe { std::slice::from_raw_parts_mut(at, count) }.fill(handle);
        }
    }
}

/// Ends the process; the answer where it goes on for a moment.
pub fn crashed(crash: Crash) -> CK_RV {
    crash_now(crash);
    CKR_FUNCTION_FAILED
}

fn crash_now(crash: Crash) {
    match crash {
        // SAFETY: there is none; this is the crash that was asked for.
        Crash::Segv => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        Crash::Abort => std::process::abort(),
        Crash::Exit => {
            // SAFETY: the function is never unmapped: the VM does not close a library.
            unsafe { libc::atexit(abort_at_exit) };
        }
        Crash::Quit => std::process::exit(5),
        Crash::Memory => {
            let mut taken = Vec::new();
            // Written to: what is only reserved costs nothing.
            while taken.len() < 1 << 20 {
                let mut room = Vec::new();
                if room.try_reserve_exact(1 << 20).is_err() {
                    std::process::abort();
                }
                room.resize(1 << 20, 1_u8);
                taken.push(room);
            }
        }
        Crash::Threads => {
            let thread = || std::thread::Builder::new().spawn(|| std::thread::sleep(Duration::MAX));
            while thread().is_ok() {}
            std::process::abort()
        }
        Crash::Close => {
            for descriptor in 3..1024 {
                // SAFETY: there is none; whoever owns it finds it closed.
                unsafe { libc::close(descriptor) };
            }
        }
        Crash::Cxx => {
            silence();
            if let Err(error) = throw() {
                eprintln!("faulty_module: no C++ exception: {error}");
                std::process::abort();
            }
        }
    }
}

/// What ends a process for an exception says so on standard error, which is that of the tests.
fn silence() {
    // SAFETY: the name ends with a zero; the new descriptor takes the place of an open one.
    unsafe {
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
        libc::dup2(nothing, libc::STDERR_FILENO);
    }
}

extern "C" fn abort_at_exit() {
    std::process::abort();
}

/// `throw 42` by the functions a C++ compiler would call.
fn throw() -> Result<(), libloading::Error> {
    type Allocate = unsafe extern "C" fn(usize) -> *mut c_void;
    type Throw = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, *mut c_void) -> !;
    // SAFETY: opening the C++ runtime runs nothing but its own initialisation.
    let runtime = unsafe { libloading::Library::new("libstdc++.so.6") }?;
    // SAFETY: the types are those of the Itanium C++ ABI.
    let allocate = *unsafe { runtime.get::<Allocate>(b"__cxa_allocate_exception\0") }?;
    // SAFETY: as above.
    let throw = *unsafe { runtime.get::<Throw>(b"__cxa_throw\0") }?;
    // SAFETY: as above: the type information of `int`.
    let int = *unsafe { runtime.get::<*mut c_void>(b"_ZTIi\0") }?;
    // The exception outlives this frame.
    std::mem::forget(runtime);
    // SAFETY: room for an int, filled before it is thrown; no destructor.
    unsafe {
        let exception = allocate(size_of::<i32>());
        exception.cast::<i32>().write(42);
        throw(exception, int, std::ptr::null_mut())
    }
}
