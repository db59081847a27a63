//! What a session does for a caller: one execution path per function of the standard.

use crate::info;
use crate::request::ok;
use crate::session::Session;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Outcome, Reason};
use cryptoki_ffi::messages::Dual;
use cryptoki_ffi::values::{Handle, Mechanism, NoValue, Parameter, Read, Secret, Template};
use cryptoki_sys as ck;
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_ULONG};
use rustler::env::SavedTerm;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, Term};
use zeroize::Zeroizing;

mod atoms {
    rustler::atoms! {
        error, template, unavailable, attribute_sensitive, attribute_type_invalid,
    }
}

/// Objects taken from a search at a time.
const BATCH: usize = 256;

/// Data of the caller; large binaries are shared with it, not copied.
pub struct Input(SavedTerm);

impl Input {
    /// A binary saved in the request's environment.
    pub fn new(term: SavedTerm) -> Self {
        Self(term)
    }

    fn bytes<'a>(&self, env: Env<'a>) -> Outcome<Binary<'a>> {
        self.0
            .load(env)
            .into_binary()
            .map_err(|_| Failure::own(Reason::InvalidArgument, "data must be a binary"))
    }
}

/// What every cryptographic operation begins with.
pub struct Crypto {
    /// Which one.
    pub kind: Kind,
    /// How.
    pub mechanism: Mechanism,
    /// With which key; nothing for a digest.
    pub key: CK_OBJECT_HANDLE,
    /// Context-specific login: none, by the protected path, or with a PIN.
    pub context: Option<Option<Secret>>,
}

/// What to do.
pub enum Work {
    Single {
        crypto: Crypto,
        data: Input,
    },
    Verify {
        crypto: Crypto,
        data: Input,
        signature: Input,
    },
    Init(Crypto),
    Update {
        kind: Kind,
        data: Input,
    },
    Final {
        kind: Kind,
        signature: Option<Input>,
    },
    /// Ends whatever the session is in.
    Cancel,
    Random(usize),
    SeedRandom(Input),
    Find(Template, usize),
    FindInit(Template),
    FindNext(usize),
    Attributes(CK_OBJECT_HANDLE, Vec<CK_ATTRIBUTE_TYPE>),
    SetAttributes(CK_OBJECT_HANDLE, Template),
    Create(Template),
    Copy(CK_OBJECT_HANDLE, Template),
    Destroy(CK_OBJECT_HANDLE),
    ObjectSize(CK_OBJECT_HANDLE),
    GenerateKey(Mechanism, Template),
    GenerateKeyPair(Mechanism, Template, Template),
    WrapKey(Mechanism, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
    UnwrapKey {
        mechanism: Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: Input,
        template: Template,
    },
    DeriveKey(Mechanism, CK_OBJECT_HANDLE, Template),
    SessionInfo,
    /// `C_VerifySignature*`: the signature comes first, the data after it.
    VerifySignature {
        crypto: Crypto,
        data: Input,
        signature: Input,
    },
    DigestKey(CK_OBJECT_HANDLE),
    DualUpdate(Dual, Input),
    SaveState,
    RestoreState {
        kind: Kind,
        state: Input,
        encryption: Option<CK_OBJECT_HANDLE>,
        authentication: Option<CK_OBJECT_HANDLE>,
    },
    MessageInit(Crypto),
    /// `extra`: associated data, or the signature to verify.
    Message {
        kind: Kind,
        parameter: Parameter,
        extra: Input,
        data: Input,
    },
    MessageFinal(Kind),
    EncapsulateKey(Mechanism, CK_OBJECT_HANDLE, Template),
    DecapsulateKey {
        mechanism: Mechanism,
        private: CK_OBJECT_HANDLE,
        ciphertext: Input,
        template: Template,
    },
    WrapKeyAuthenticated {
        mechanism: Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        associated: Input,
    },
    UnwrapKeyAuthenticated {
        mechanism: Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: Input,
        associated: Input,
        template: Template,
    },
    ValidationFlags(CK_ULONG),
}

/// Work and the age of the handles in it.
pub struct Operation {
    work: Work,
    epoch: Option<u64>,
}

impl Operation {
    /// Handles of different epochs cannot all be current: the oldest decides.
    pub fn new(work: Work, handles: &[Handle]) -> Self {
        Self {
            work,
            epoch: handles.iter().map(|handle| handle.epoch).min(),
        }
    }

    /// The epoch of its handles.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Runs it on a session.
    pub fn run<'a>(&self, env: Env<'a>, session: &mut Session) -> Outcome<Term<'a>> {
        let instance = session.instance().clone();
        let functions = &instance.library.functions;
        let handle = session.handle();
        let object = |object: CK_OBJECT_HANDLE| (object, instance.epoch()).encode(env);
        match &self.work {
            Work::Single { crypto, data } => {
                let data = data.bytes(env)?;
                begin(session, crypto)?;
                let bytes = functions.single(crypto.kind, handle, &data)?;
                Ok(result(env, crypto.kind, bytes))
            }
            Work::Verify {
                crypto,
                data,
                signature,
            } => {
                let (data, signature) = (data.bytes(env)?, signature.bytes(env)?);
                begin(session, crypto)?;
                functions
                    .verify(handle, &data, &signature)
                    .map(|()| ok(env))
            }
            Work::Init(crypto) => {
                begin(session, crypto)?;
                session.began(crypto.kind);
                Ok(ok(env))
            }
            Work::Update { kind, data } => {
                let data = data.bytes(env)?;
                session.expect(*kind)?;
                match session.step(|| functions.update(*kind, handle, &data))? {
                    None => Ok(ok(env)),
                    Some(bytes) => {
                        session.held = (session.held + data.len()).saturating_sub(bytes.len());
                        Ok(result(env, *kind, bytes))
                    }
                }
            }
            Work::Final { kind, signature } => {
                session.expect(*kind)?;
                session.ended_operation(*kind);
                let held = std::mem::take(&mut session.held);
                match signature {
                    Some(signature) => functions
                        .verify_final(handle, &signature.bytes(env)?)
                        .map(|()| ok(env)),
                    None => {
                        let bytes = functions.finish(*kind, handle, held)?;
                        Ok(result(env, *kind, bytes))
                    }
                }
            }
            Work::Cancel => {
                session.clean();
                Ok(ok(env))
            }
            Work::Random(length) => functions
                .random(handle, *length)
                .map(|bytes| binary(env, &bytes)),
            Work::SeedRandom(seed) => functions
                .seed_random(handle, &seed.bytes(env)?)
                .map(|()| ok(env)),
            Work::Find(template, limit) => {
                let found = find(session, template, *limit)?;
                Ok(found
                    .into_iter()
                    .map(object)
                    .collect::<Vec<_>>()
                    .encode(env))
            }
            Work::FindInit(template) => {
                functions.find_init(handle, template)?;
                session.began(Kind::Find);
                Ok(ok(env))
            }
            Work::FindNext(limit) => {
                session.expect(Kind::Find)?;
                let found =
                    session.step(|| functions.find_next(handle, (*limit).clamp(1, 1 << 16)))?;
                Ok(found
                    .into_iter()
                    .map(object)
                    .collect::<Vec<_>>()
                    .encode(env))
            }
            Work::Attributes(target, kinds) => {
                let read = functions.attributes(handle, *target, kinds)?;
                Ok(read
                    .iter()
                    .map(|(kind, read)| (*kind, encode_read(env, read)))
                    .collect::<Vec<_>>()
                    .encode(env))
            }
            Work::SetAttributes(target, template) => functions
                .set_attributes(handle, *target, template)
                .map(|()| ok(env)),
            Work::Create(template) => functions.create(handle, template).map(object),
            Work::Copy(source, template) => functions.copy(handle, *source, template).map(object),
            Work::Destroy(target) => functions.destroy(handle, *target).map(|()| ok(env)),
            Work::ObjectSize(target) => Ok(match functions.object_size(handle, *target)? {
                ck::CK_UNAVAILABLE_INFORMATION => atoms::unavailable().encode(env),
                size => size.encode(env),
            }),
            Work::GenerateKey(mechanism, template) => functions
                .generate_key(handle, mechanism, template)
                .map(object),
            Work::GenerateKeyPair(mechanism, public, private) => {
                let (public, private) =
                    functions.generate_key_pair(handle, mechanism, public, private)?;
                Ok((object(public), object(private)).encode(env))
            }
            Work::WrapKey(mechanism, wrapping, key) => functions
                .wrap_key(handle, mechanism, *wrapping, *key)
                .map(|bytes| binary(env, &bytes)),
            Work::UnwrapKey {
                mechanism,
                unwrapping,
                wrapped,
                template,
            } => {
                let wrapped = wrapped.bytes(env)?;
                functions
                    .unwrap_key(handle, mechanism, *unwrapping, &wrapped, template)
                    .map(object)
            }
            Work::DeriveKey(mechanism, base, template) => functions
                .derive_key(handle, mechanism, *base, template)
                .map(object),
            Work::SessionInfo => info::session(env, functions, handle),
            Work::VerifySignature {
                crypto,
                data,
                signature,
            } => {
                let (data, signature) = (data.bytes(env)?, signature.bytes(env)?);
                functions.verify_signature_init(
                    handle,
                    &crypto.mechanism,
                    crypto.key,
                    &signature,
                )?;
                log_in_for_use(session, crypto)?;
                functions.verify_signature(handle, &data).map(|()| ok(env))
            }
            Work::DigestKey(key) => {
                session.expect(Kind::Digest)?;
                session
                    .step(|| functions.digest_key(handle, *key))
                    .map(|()| ok(env))
            }
            Work::DualUpdate(dual, data) => {
                let data = data.bytes(env)?;
                let [ciphering, other] = dual.kinds();
                session.expect(ciphering)?;
                session.expect(other)?;
                let bytes = session.step(|| functions.dual_update(*dual, handle, &data))?;
                session.held = (session.held + data.len()).saturating_sub(bytes.len());
                Ok(result(env, ciphering, bytes))
            }
            Work::SaveState => functions
                .operation_state(handle)
                .map(|bytes| plaintext(env, bytes)),
            Work::RestoreState {
                kind,
                state,
                encryption,
                authentication,
            } => {
                let state = state.bytes(env)?;
                functions.set_operation_state(handle, &state, *encryption, *authentication)?;
                session.began(*kind);
                Ok(ok(env))
            }
            Work::MessageInit(crypto) => {
                functions.message_init(crypto.kind, handle, &crypto.mechanism, crypto.key)?;
                log_in_for_use(session, crypto)?;
                session.began(crypto.kind);
                Ok(ok(env))
            }
            Work::Message {
                kind,
                parameter,
                extra,
                data,
            } => {
                let (extra, data) = (extra.bytes(env)?, data.bytes(env)?);
                session.expect(*kind)?;
                // A message that fails does not end the operation: the next one may be well.
                let (bytes, written) =
                    functions.message(*kind, handle, parameter, &extra, &data)?;
                Ok(with_written(env, result(env, *kind, bytes), &written))
            }
            Work::MessageFinal(kind) => {
                session.expect(*kind)?;
                session.ended_operation(*kind);
                functions.message_final(*kind, handle).map(|()| ok(env))
            }
            Work::EncapsulateKey(mechanism, public, template) => {
                let (ciphertext, key) =
                    functions.encapsulate_key(handle, mechanism, *public, template)?;
                Ok((binary(env, &ciphertext), object(key)).encode(env))
            }
            Work::DecapsulateKey {
                mechanism,
                private,
                ciphertext,
                template,
            } => {
                let ciphertext = ciphertext.bytes(env)?;
                functions
                    .decapsulate_key(handle, mechanism, *private, &ciphertext, template)
                    .map(object)
            }
            Work::WrapKeyAuthenticated {
                mechanism,
                wrapping,
                key,
                associated,
            } => {
                let associated = associated.bytes(env)?;
                let (wrapped, written) = functions.wrap_key_authenticated(
                    handle,
                    mechanism,
                    *wrapping,
                    *key,
                    &associated,
                )?;
                Ok(with_written(env, binary(env, &wrapped), &written))
            }
            Work::UnwrapKeyAuthenticated {
                mechanism,
                unwrapping,
                wrapped,
                associated,
                template,
            } => {
                let (wrapped, associated) = (wrapped.bytes(env)?, associated.bytes(env)?);
                functions
                    .unwrap_key_authenticated(
                        handle,
                        mechanism,
                        *unwrapping,
                        &wrapped,
                        &associated,
                        template,
                    )
                    .map(object)
            }
            Work::ValidationFlags(kind) => functions
                .validation_flags(handle, *kind)
                .map(|flags| flags.encode(env)),
        }
    }
}

/// Init, and the login that some keys want for every single use.
fn begin(session: &mut Session, crypto: &Crypto) -> Outcome<()> {
    let instance = session.instance().clone();
    let functions = &instance.library.functions;
    functions.init(crypto.kind, session.handle(), &crypto.mechanism, crypto.key)?;
    log_in_for_use(session, crypto)
}

/// The context-specific login; without it the operation is not left half begun.
fn log_in_for_use(session: &mut Session, crypto: &Crypto) -> Outcome<()> {
    let Some(pin) = &crypto.context else {
        return Ok(());
    };
    let instance = session.instance().clone();
    let functions = &instance.library.functions;
    let login = functions.login(
        session.handle(),
        ck::CKU_CONTEXT_SPECIFIC,
        pin.as_ref(),
        None,
    );
    if login.is_err() {
        session.began(crypto.kind);
        session.clean();
    }
    login
}

/// All that match, up to `limit` (0: without limit).
fn find(
    session: &mut Session,
    template: &Template,
    limit: usize,
) -> Outcome<Vec<CK_OBJECT_HANDLE>> {
    let instance = session.instance().clone();
    let functions = &instance.library.functions;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let handle = session.handle();
    functions.find_init(handle, template)?;
    session.began(Kind::Find);
    let mut found = Vec::new();
    while found.len() < limit {
        let wanted = BATCH.min(limit - found.len());
        let batch = session.step(|| functions.find_next(handle, wanted))?;
        if batch.is_empty() {
            break;
        }
        found.extend(batch);
    }
    session.clean();
    Ok(found)
}

fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

/// What an operation gave: plaintexts do not linger in our memory.
fn result(env: Env<'_>, kind: Kind, bytes: Vec<u8>) -> Term<'_> {
    match kind {
        Kind::Decrypt | Kind::MessageDecrypt => plaintext(env, bytes),
        _ => binary(env, &bytes),
    }
}

/// A result with what the library wrote into the parameter.
fn with_written<'a>(env: Env<'a>, result: Term<'a>, written: &[Secret]) -> Term<'a> {
    let written: Vec<_> = written.iter().map(|bytes| binary(env, bytes)).collect();
    (result, written).encode(env)
}

/// The same for what should not linger in our memory.
fn plaintext(env: Env<'_>, bytes: Vec<u8>) -> Term<'_> {
    binary(env, &Zeroizing::new(bytes))
}

fn encode_read<'a>(env: Env<'a>, read: &Read) -> Term<'a> {
    match read {
        Read::Bytes(bytes) => binary(env, bytes),
        Read::Template(inner) => {
            let inner: Vec<_> = inner
                .iter()
                .map(|(kind, read)| (*kind, encode_read(env, read)))
                .collect();
            (atoms::template(), inner).encode(env)
        }
        Read::Nothing(why) => (atoms::error(), no_value(*why)).encode(env),
    }
}

fn no_value(why: NoValue) -> Atom {
    match why {
        NoValue::Sensitive => atoms::attribute_sensitive(),
        NoValue::TypeInvalid => atoms::attribute_type_invalid(),
        NoValue::Unavailable => atoms::unavailable(),
    }
}
