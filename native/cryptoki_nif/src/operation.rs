//! What a session does for a caller: one execution path per function of the standard.

use crate::info;
use crate::request::ok;
use crate::session::Session;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::{Failure, Outcome, Reason};
use cryptoki_ffi::values::{Handle, Mechanism, NoValue, Read, Secret, Template};
use cryptoki_sys as ck;
use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE};
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
                Ok(if crypto.kind == Kind::Decrypt {
                    plaintext(env, bytes)
                } else {
                    binary(env, &bytes)
                })
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
                session.active = Some(crypto.kind);
                session.held = 0;
                Ok(ok(env))
            }
            Work::Update { kind, data } => {
                let data = data.bytes(env)?;
                session.expect(*kind)?;
                match session.step(|| functions.update(*kind, handle, &data))? {
                    None => Ok(ok(env)),
                    Some(bytes) => {
                        session.held = (session.held + data.len()).saturating_sub(bytes.len());
                        Ok(if *kind == Kind::Decrypt {
                            plaintext(env, bytes)
                        } else {
                            binary(env, &bytes)
                        })
                    }
                }
            }
            Work::Final { kind, signature } => {
                session.expect(*kind)?;
                session.active = None;
                let held = std::mem::take(&mut session.held);
                match signature {
                    Some(signature) => functions
                        .verify_final(handle, &signature.bytes(env)?)
                        .map(|()| ok(env)),
                    None => {
                        let bytes = functions.finish(*kind, handle, held)?;
                        Ok(if *kind == Kind::Decrypt {
                            plaintext(env, bytes)
                        } else {
                            binary(env, &bytes)
                        })
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
                session.active = Some(Kind::Find);
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
        }
    }
}

/// Init, and the login that some keys want for every single use.
fn begin(session: &mut Session, crypto: &Crypto) -> Outcome<()> {
    let instance = session.instance().clone();
    let functions = &instance.library.functions;
    functions.init(crypto.kind, session.handle(), &crypto.mechanism, crypto.key)?;
    if let Some(pin) = &crypto.context {
        let login = functions.login(
            session.handle(),
            ck::CKU_CONTEXT_SPECIFIC,
            pin.as_ref(),
            None,
        );
        if login.is_err() {
            session.active = Some(crypto.kind);
            session.clean();
        }
        login?;
    }
    Ok(())
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
    session.active = Some(Kind::Find);
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
