//! What a session does for a caller: one path from the Elixir term to each C function.
//!
//! A term such as `{:sign, mechanism, key, data, pin}` is decoded on the caller's scheduler into a
//! closure that the session thread runs. [`crypto`], [`messages`], [`keys`] and [`objects`] hold one
//! entry a function.

mod crypto;
mod keys;
mod messages;
mod objects;
mod raw_rsa;

use crate::active::Begun;
use crate::decode;
use crate::instance::SessionRequest;
use crate::request::Cancel;
use crate::session::Session;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_ffi::objects::Beside;
use cryptoki_ffi::values::{Field, Handle, Mechanism, Parameter, Secret, Template};
use cryptoki_sys::{self as ck, CK_OBJECT_HANDLE, CK_SESSION_HANDLE};
use rustler::env::SavedTerm;
use rustler::{Binary, Encoder, Env, NewBinary, OwnedEnv, Term};
use zeroize::Zeroizing;

/// Runs an operation at a session.
type Run = Box<dyn for<'a> Fn(&mut At<'a, '_>) -> Result<Term<'a>> + Send>;

/// Gives a closure its type.
fn run<F>(work: F) -> Option<Run>
where
    F: for<'a> Fn(&mut At<'a, '_>) -> Result<Term<'a>> + Send + 'static,
{
    Some(Box::new(work))
}

/// What only looks: a library whose device is gone may answer it from memory.
const LOOKS: &[&str] = &[
    "find",
    "find_init",
    "find_next",
    "find_final",
    "attributes",
    "object_size",
    "session_info",
    "validation_flags",
];

/// The steps of operations that were begun by a call before.
const STEPS: &[&str] = &[
    "update",
    "digest_key",
    "dual_update",
    "final",
    "message",
    "message_begin",
    "message_next",
    "message_final",
    "save_state",
];

/// An operation and the handles in it.
pub struct Operation {
    run: Run,
    handles: Vec<Handle>,
    looks: bool,
    step: bool,
}

impl Operation {
    /// Reads a term; data stays in the request's environment, and so do long values of attributes and parameters: the
    /// session's thread reads the term again, with them.
    pub fn decode(term: Term, env: &OwnedEnv) -> Option<Self> {
        let (operation, long) = decode::without_long(|| Self::read(term, Some(env)));
        let mut operation = operation?;
        if long {
            let saved = env.save(term);
            operation.run = run(move |at| {
                let whole = Self::read(saved.load(at.env), None)
                    .ok_or_else(|| Failure::own(Reason::InvalidArgument, "it cannot be read"))?;
                (whole.run)(at)
            })?;
        }
        Some(operation)
    }

    fn read(term: Term, env: Option<&OwnedEnv>) -> Option<Self> {
        let (name, arguments) = decode::tagged(term)?;
        let mut reader = Reader {
            env,
            handles: Vec::new(),
        };
        let (name, arguments) = (name.as_str(), arguments.as_slice());
        let run = crypto::decode(name, arguments, &mut reader)
            .or_else(|| keys::decode(name, arguments, &mut reader))
            .or_else(|| objects::decode(name, arguments, &mut reader))
            .or_else(|| messages::decode(name, arguments, &mut reader))?;
        let handles = reader.handles;
        Some(Self {
            run,
            handles,
            looks: LOOKS.contains(&name),
            step: STEPS.contains(&name),
        })
    }

    /// Whether it goes on with what an earlier call began.
    pub fn is_step(&self) -> bool {
        self.step
    }

    /// The handles of the objects that it works with.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Whether its success shows that the device works.
    pub fn works(&self) -> bool {
        !self.looks
    }
}

/// An operation and who waits for it.
pub struct Work<'w> {
    /// What is done.
    pub operation: &'w Operation,
    caller: &'w dyn Cancel,
}

impl<'w> Work<'w> {
    /// Of a request that a session thread has taken.
    pub fn new(operation: &'w Operation, request: &'w SessionRequest) -> Self {
        let caller = &**request;
        Self { operation, caller }
    }

    /// Runs it.
    pub fn run<'a>(&self, env: Env<'a>, session: &mut Session) -> Result<Term<'a>> {
        let caller = self.caller;
        (self.operation.run)(&mut At {
            env,
            session,
            caller,
        })
    }
}

/// Reads arguments and remembers the handles among them.
struct Reader<'e> {
    /// Where data is kept; none: it is copied.
    env: Option<&'e OwnedEnv>,
    handles: Vec<Handle>,
}

impl Reader<'_> {
    fn input(&self, term: Term) -> Option<Input> {
        match self.env {
            Some(env) => term.is_binary().then(|| Input::Kept(env.save(term))),
            None => decode::secret(term).map(Input::Copied),
        }
    }

    fn optional_input(&self, term: Term) -> Option<Option<Input>> {
        if decode::is_nil(term) {
            Some(None)
        } else {
            self.input(term).map(Some)
        }
    }

    fn handle(&mut self, term: Term) -> Option<Handle> {
        let handle = decode::handle(term)?;
        self.handles.push(handle);
        Some(handle)
    }

    fn object(&mut self, term: Term) -> Option<CK_OBJECT_HANDLE> {
        self.handle(term).map(|handle| handle.object)
    }

    fn optional_object(&mut self, term: Term) -> Option<Option<CK_OBJECT_HANDLE>> {
        if decode::is_nil(term) {
            Some(None)
        } else {
            self.object(term).map(Some)
        }
    }

    fn mechanism(&mut self, term: Term) -> Option<Mechanism> {
        let mechanism = decode::mechanism(term)?;
        if let Parameter::Fields(fields) = &mechanism.parameter {
            self.walk(fields);
        }
        Some(mechanism)
    }

    /// Handles inside a parameter age like any other.
    fn walk(&mut self, fields: &[Field]) {
        for field in fields {
            match field {
                Field::Handle(handle) => self.handles.push(*handle),
                Field::Struct(fields) | Field::Nested(fields) => self.walk(fields),
                Field::Array(elements) => elements.iter().for_each(|fields| self.walk(fields)),
                Field::Ulong(_)
                | Field::Byte(_)
                | Field::Bytes(_)
                | Field::InOut(_)
                | Field::Inline(_)
                | Field::NewHandle
                | Field::Template(_) => {}
            }
        }
    }

    fn template(&self, term: Term) -> Option<Template> {
        decode::template(term)
    }

    /// Mechanism, key and login of an operation.
    fn crypto(&mut self, kind: Kind, mechanism: Term, key: Term, pin: Term) -> Option<Crypto> {
        Some(Crypto {
            kind,
            mechanism: self.mechanism(mechanism)?,
            key: self.optional_object(key)?.unwrap_or(ck::CK_INVALID_HANDLE),
            login: decode::context_login(pin)?,
        })
    }
}

/// Data of the caller; large binaries are shared with it, not copied.
enum Input {
    Kept(SavedTerm),
    Copied(Secret),
}

impl Input {
    fn bytes<'a>(&self, at: &At<'a, '_>) -> Result<Binary<'a>> {
        match self {
            Input::Kept(term) => term
                .load(at.env)
                .into_binary()
                .map_err(|_| Failure::own(Reason::InvalidArgument, "data must be a binary")),
            Input::Copied(bytes) => Ok(NewBinary::from_slice(at.env, bytes).into()),
        }
    }
}

/// What every cryptographic operation begins with.
struct Crypto {
    kind: Kind,
    mechanism: Mechanism,
    /// Invalid for a digest.
    key: CK_OBJECT_HANDLE,
    /// Context-specific login: none, by the protected path, or with a PIN.
    login: Option<Option<Secret>>,
}

/// Where an operation runs.
struct At<'a, 's> {
    env: Env<'a>,
    session: &'s mut Session,
    caller: &'s dyn Cancel,
}

impl<'a> At<'a, '_> {
    /// Whether nobody waits for the answer any more: to be asked where one operation is many calls.
    fn is_abandoned(&self) -> bool {
        self.caller.is_cancelled()
    }

    /// Calls a function of the library with the session's handle.
    fn call<T>(&self, work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<T>) -> Result<T> {
        work(
            &self.session.instance().library.functions,
            self.session.handle(),
        )
    }

    /// The same as a step of an operation the session is in: a failure ends the operation.
    fn step<T>(
        &mut self,
        steps: &[Begun],
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<T>,
    ) -> Result<T> {
        for begun in steps {
            self.session.active.expect(*begun)?;
        }
        let outcome = self.call(work);
        if outcome.is_err() {
            for begun in steps {
                self.session.leave(*begun);
            }
        }
        outcome
    }

    /// The context-specific login that some keys want for every use (section 5.6.8). Without it the
    /// operation is not left half begun.
    fn log_in_for_use(&mut self, crypto: &Crypto) -> Result<()> {
        let Some(pin) = &crypto.login else {
            return Ok(());
        };
        let login = self.session.instance().unheard.login(pin.as_ref(), || {
            self.call(|functions, session| {
                functions.login(session, ck::CKU_CONTEXT_SPECIFIC, pin.as_ref(), None)
            })
        });
        let Err(refusal) = login else {
            return Ok(());
        };
        let failure = refusal.failure();
        self.session.refusal = Some(refusal);
        let begun = Begun::in_this_call(crypto.kind);
        self.session.active.began(begun, crypto.mechanism.kind);
        self.session.leave(begun);
        Err(failure)
    }

    fn ok(&self) -> Term<'a> {
        crate::request::ok(self.env)
    }

    fn binary(&self, bytes: &[u8]) -> Term<'a> {
        NewBinary::from_slice(self.env, bytes).into()
    }

    /// Bytes that should not linger in our memory.
    fn secret(&self, bytes: Vec<u8>) -> Term<'a> {
        self.binary(&Zeroizing::new(bytes))
    }

    /// What an operation gave.
    fn result(&self, kind: Kind, bytes: Vec<u8>) -> Term<'a> {
        match kind {
            Kind::Decrypt | Kind::MessageDecrypt => self.secret(bytes),
            _ => self.binary(&bytes),
        }
    }

    /// A result with what the library wrote into the parameter.
    fn with_written(&self, result: Term<'a>, written: &[Secret]) -> Term<'a> {
        (result, self.binaries(written)).encode(self.env)
    }

    /// A wrapped key; with the IV where the library has taken another one than it was given.
    fn wrapped(&self, bytes: &[u8], own_iv: Option<Vec<Secret>>) -> Term<'a> {
        let wrapped = self.binary(bytes);
        own_iv.map_or(wrapped, |written| self.with_written(wrapped, &written))
    }

    /// The same for a ciphertext.
    fn with_own_iv(
        &self,
        kind: Kind,
        result: Term<'a>,
        mechanism: Option<MechanismMemory>,
    ) -> Term<'a> {
        let encrypted = mechanism.filter(|_| kind == Kind::Encrypt);
        match encrypted.and_then(|mechanism| mechanism.rewritten()) {
            Some(written) => self.with_written(result, &written),
            None => result,
        }
    }

    fn binaries(&self, all: &[Secret]) -> Vec<Term<'a>> {
        all.iter().map(|bytes| self.binary(bytes)).collect()
    }

    /// The handle of an object made by a template, which says whether it stays when the session ends.
    fn made(&self, object: CK_OBJECT_HANDLE, template: &Template) -> Term<'a> {
        let stored = template
            .iter()
            .any(|(kind, value)| *kind == ck::CKA_TOKEN && value.is_true());
        self.made_object(object, stored)
    }

    fn made_object(&self, object: CK_OBJECT_HANDLE, stored: bool) -> Term<'a> {
        let generation = self.session.made_object(object, stored);
        (object, self.session.stamp(), generation).encode(self.env)
    }

    /// A new key, and what its mechanism made beside it; `nil` for a key that it did not make.
    fn made_beside(
        &self,
        (key, beside): (CK_OBJECT_HANDLE, Beside),
        template: &Template,
    ) -> Term<'a> {
        let made = |key| (key != ck::CK_INVALID_HANDLE).then(|| self.made(key, template));
        let keys: Vec<_> = beside.handles.into_iter().map(made).collect();
        (made(key), keys, self.binaries(&beside.written)).encode(self.env)
    }

    /// Handles, valid in the epoch in which the operation began.
    fn objects(&self, objects: &[CK_OBJECT_HANDLE]) -> Term<'a> {
        let stamp = self.session.stamp();
        let issued = self.session.found_objects(objects).into_iter();
        let handles: Vec<_> = issued
            .map(|(object, generation)| (object, stamp, generation))
            .collect();
        handles.encode(self.env)
    }
}
