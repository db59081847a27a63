//! Where an operation runs.

use crate::operation::answer::Answer;
use crate::operation::begun::Begun;
use crate::operation::login::Login;
use crate::operation::operation::Key;
use crate::request::request::Cancel;
use crate::session::session::Session;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Reason, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_ffi::output::Output;
use cryptoki_ffi::values::{Handle, Mechanism, Secret, Template};
use cryptoki_sys as ck;
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_SESSION_HANDLE};

/// A session, and who waits for the operation that it runs.
pub struct At<'s> {
    /// The session.
    pub session: &'s mut Session,
    /// Who waits.
    pub caller: &'s dyn Cancel,
}

/// What every cryptographic operation begins with.
pub struct Crypto<'o> {
    /// Its kind.
    pub kind: Kind,
    /// How it is done.
    pub mechanism: &'o Mechanism,
    /// With which key; none for a digest.
    pub key: &'o Key,
    /// The login for this use of the key.
    pub login: &'o Login,
}

impl Crypto<'_> {
    /// The key as the library wants it.
    pub fn key(&self) -> CK_OBJECT_HANDLE {
        number(*self.key)
    }
}

/// The library's number of an object.
pub fn number(handle: Key) -> CK_OBJECT_HANDLE {
    handle.map_or(ck::CK_INVALID_HANDLE, |handle| handle.number)
}

impl At<'_> {
    /// Fails when nobody waits for the answer any more: to be asked where one operation is many calls.
    pub fn ensure_awaited(&self) -> Result<()> {
        match self.caller.is_cancelled() {
            true => Err(Failure::own(Reason::Busy, "nobody waits for the answer")),
            false => Ok(()),
        }
    }

    /// Calls a function of the library with the session's handle.
    pub fn call<T>(
        &self,
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<T>,
    ) -> Result<T> {
        self.session.call(work)
    }

    /// The same with a function that gives nothing back.
    pub fn done(
        &self,
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<()>,
    ) -> Result<Answer> {
        self.call(work).map(|()| Answer::Done)
    }

    /// The same with a function that makes an object by a template.
    pub fn makes(
        &self,
        template: &Template,
        work: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Result<CK_OBJECT_HANDLE>,
    ) -> Result<Answer> {
        let object = self.call(work)?;
        Ok(Answer::Object(self.made(object, template)))
    }

    /// Calls a function as a step of an operation the session is in: a failure ends the operation.
    pub fn step<T>(
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
    pub fn log_in_for_use(&mut self, crypto: &Crypto) -> Result<()> {
        let pin = match crypto.login {
            Login::Without => return Ok(()),
            Login::Protected => None,
            Login::Pin(pin) => Some(pin),
        };
        let login = self.session.site.unheard.login(pin, || {
            self.call(|functions, session| {
                functions.login(session, ck::CKU_CONTEXT_SPECIFIC, pin, None)
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

    /// What an operation gave.
    pub fn result(&self, kind: Kind, bytes: Output) -> Answer {
        match kind {
            Kind::Decrypt | Kind::MessageDecrypt => Answer::Secret(bytes.secret()),
            _ => Answer::Bytes(bytes),
        }
    }

    /// The same; with the IV where the library has taken another one than it was given.
    pub fn with_own_iv(
        &self,
        kind: Kind,
        result: Answer,
        mechanism: Option<MechanismMemory>,
    ) -> Answer {
        let encrypted = mechanism.filter(|_| kind == Kind::Encrypt);
        with(
            result,
            encrypted.and_then(|mechanism| mechanism.rewritten()),
        )
    }

    /// The handle of an object made by a template, which says whether it stays when the session ends.
    pub fn made(&self, object: CK_OBJECT_HANDLE, template: &Template) -> Handle {
        let stored = template
            .iter()
            .any(|(kind, value)| *kind == ck::CKA_TOKEN && value.is_true());
        self.session.made_object(object, stored)
    }
}

/// A result with what the library has written, if it has.
pub fn with(result: Answer, written: Option<Vec<Secret>>) -> Answer {
    match written {
        Some(written) => Answer::With(Box::new(result), written),
        None => result,
    }
}
