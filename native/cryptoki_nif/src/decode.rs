//! Elixir terms to owned values. Anything malformed is `None`: a mistake on our own Elixir side.

use crate::control::Job;
use crate::operation::{Crypto, Input, Operation, Work};
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::messages::Dual;
use cryptoki_ffi::values::{Field, Handle, Mechanism, Parameter, Secret, Template, Value};
use cryptoki_sys::CK_ULONG;
use rustler::types::tuple::get_tuple;
use rustler::{Binary, OwnedEnv, Term};
use zeroize::Zeroizing;

/// A tagged tuple: its name and its elements.
fn tagged<'a>(term: Term<'a>) -> Option<(String, Vec<Term<'a>>)> {
    let mut elements = get_tuple(term).ok()?;
    if elements.is_empty() {
        return None;
    }
    let name = elements.remove(0).atom_to_string().ok()?;
    Some((name, elements))
}

fn is_nil(term: Term) -> bool {
    term.is_atom() && term.atom_to_string().is_ok_and(|name| name == "nil")
}

/// A number of the standard.
pub fn ulong(term: Term) -> Option<CK_ULONG> {
    term.decode::<u64>()
        .ok()
        .and_then(|number| CK_ULONG::try_from(number).ok())
}

/// A copy of a binary.
pub fn secret(term: Term) -> Option<Secret> {
    Some(Zeroizing::new(
        term.decode::<Binary>().ok()?.as_slice().to_vec(),
    ))
}

/// A copy of a binary, or `nil`.
pub fn optional_secret(term: Term) -> Option<Option<Secret>> {
    if is_nil(term) {
        Some(None)
    } else {
        secret(term).map(Some)
    }
}

fn list<'a, T>(term: Term<'a>, element: impl Fn(Term<'a>) -> Option<T>) -> Option<Vec<T>> {
    term.decode::<Vec<Term<'a>>>()
        .ok()?
        .into_iter()
        .map(element)
        .collect()
}

fn handle(term: Term) -> Option<Handle> {
    let (object, epoch): (u64, u64) = term.decode().ok()?;
    Some(Handle {
        object: CK_ULONG::try_from(object).ok()?,
        epoch,
    })
}

fn field(term: Term) -> Option<Field> {
    let (name, values) = tagged(term)?;
    let [value] = values[..] else { return None };
    Some(match name.as_str() {
        "ulong" => Field::Ulong(ulong(value)?),
        "byte" => Field::Byte(value.decode().ok()?),
        "bool" => Field::Byte(u8::from(value.decode::<bool>().ok()?)),
        "bytes" => Field::Bytes(optional_secret(value)?.unwrap_or_default()),
        "inout" => Field::InOut(secret(value)?),
        "inline" => Field::Inline(secret(value)?),
        "struct" => Field::Struct(list(value, field)?),
        "nested" => Field::Nested(list(value, field)?),
        "array" => Field::Array(list(value, |element| list(element, field))?),
        "handle" => Field::Handle(handle(value)?),
        _ => return None,
    })
}

fn parameter(term: Term) -> Option<Parameter> {
    if is_nil(term) {
        Some(Parameter::Absent)
    } else if term.is_binary() {
        secret(term).map(Parameter::Raw)
    } else {
        list(term, field).map(Parameter::Fields)
    }
}

fn mechanism(term: Term) -> Option<Mechanism> {
    let (kind, of_kind): (Term, Term) = term.decode().ok()?;
    Some(Mechanism {
        kind: ulong(kind)?,
        parameter: parameter(of_kind)?,
    })
}

fn attribute(term: Term) -> Option<(CK_ULONG, Value)> {
    let (kind, value): (Term, Term) = term.decode().ok()?;
    let value = if value.is_binary() {
        Value::Bytes(secret(value)?)
    } else if let Ok(truth) = value.decode::<bool>() {
        Value::Bool(truth)
    } else if value.is_tuple() {
        let (name, values) = tagged(value)?;
        let [value] = values[..] else { return None };
        match name.as_str() {
            "ulongs" => Value::Ulongs(list(value, ulong)?),
            "template" => Value::Template(template(value)?),
            _ => return None,
        }
    } else {
        Value::Ulong(ulong(value)?)
    };
    Some((ulong(kind)?, value))
}

fn template(term: Term) -> Option<Template> {
    list(term, attribute)
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "sign" => Kind::Sign,
        "verify" => Kind::Verify,
        "encrypt" => Kind::Encrypt,
        "decrypt" => Kind::Decrypt,
        "digest" => Kind::Digest,
        "sign_recover" => Kind::SignRecover,
        "verify_recover" => Kind::VerifyRecover,
        _ => return None,
    })
}

fn kind_term(term: Term) -> Option<Kind> {
    kind(&term.atom_to_string().ok()?)
}

/// The message-based twin of an operation.
fn message_kind(term: Term) -> Option<Kind> {
    Some(match kind_term(term)? {
        Kind::Sign => Kind::MessageSign,
        Kind::Verify => Kind::MessageVerify,
        Kind::Encrypt => Kind::MessageEncrypt,
        Kind::Decrypt => Kind::MessageDecrypt,
        _ => return None,
    })
}

fn dual(term: Term) -> Option<Dual> {
    Some(match term.atom_to_string().ok()?.as_str() {
        "digest_encrypt" => Dual::DigestEncrypt,
        "decrypt_digest" => Dual::DecryptDigest,
        "sign_encrypt" => Dual::SignEncrypt,
        "decrypt_verify" => Dual::DecryptVerify,
        _ => return None,
    })
}

/// `nil`, a PIN, or `:protected`.
fn context(term: Term) -> Option<Option<Option<Secret>>> {
    if is_nil(term) {
        Some(None)
    } else if term.is_atom() {
        (term.atom_to_string().ok()? == "protected").then_some(Some(None))
    } else {
        secret(term).map(|pin| Some(Some(pin)))
    }
}

/// One of the operations for session threads. Data stays in the request's environment.
pub fn operation(term: Term, env: &OwnedEnv) -> Option<Operation> {
    let (name, arguments) = tagged(term)?;
    let input = |term: Term| term.is_binary().then(|| Input::new(env.save(term)));
    let mut handles = Vec::new();
    let mut object = |term: Term| {
        let handle = handle(term)?;
        handles.push(handle);
        Some(handle.object)
    };
    let mut parameters = Vec::new();
    let mut used = |term: Term| {
        let mechanism = mechanism(term)?;
        in_parameter(&mechanism.parameter, &mut parameters);
        Some(mechanism)
    };
    let work = match (name.as_str(), arguments.as_slice()) {
        ("verify", &[m, key, data, signature, pin]) => Work::Verify {
            crypto: Crypto {
                kind: Kind::Verify,
                mechanism: used(m)?,
                key: object(key)?,
                context: context(pin)?,
            },
            data: input(data)?,
            signature: input(signature)?,
        },
        ("digest", &[m, data]) => Work::Single {
            crypto: Crypto {
                kind: Kind::Digest,
                mechanism: used(m)?,
                key: 0,
                context: None,
            },
            data: input(data)?,
        },
        (
            "sign" | "encrypt" | "decrypt" | "sign_recover" | "verify_recover",
            &[m, key, data, pin],
        ) => Work::Single {
            crypto: Crypto {
                kind: kind(&name)?,
                mechanism: used(m)?,
                key: object(key)?,
                context: context(pin)?,
            },
            data: input(data)?,
        },
        ("init", &[kind, m, key, pin]) => Work::Init(Crypto {
            kind: kind_term(kind)?,
            mechanism: used(m)?,
            key: if is_nil(key) { 0 } else { object(key)? },
            context: context(pin)?,
        }),
        ("update", &[kind, data]) => Work::Update {
            kind: kind_term(kind)?,
            data: input(data)?,
        },
        ("final", &[kind, signature]) => Work::Final {
            kind: kind_term(kind)?,
            signature: if is_nil(signature) {
                None
            } else {
                Some(input(signature)?)
            },
        },
        ("cancel", &[_kind]) => Work::Cancel,
        ("random", &[length]) => Work::Random(length.decode().ok()?),
        ("seed_random", &[seed]) => Work::SeedRandom(input(seed)?),
        ("find", &[attributes, limit]) => Work::Find(template(attributes)?, limit.decode().ok()?),
        ("find_init", &[attributes]) => Work::FindInit(template(attributes)?),
        ("find_next", &[limit]) => Work::FindNext(limit.decode().ok()?),
        ("find_final", &[]) => Work::Cancel,
        ("attributes", &[target, kinds]) => Work::Attributes(object(target)?, list(kinds, ulong)?),
        ("set_attributes", &[target, values]) => {
            Work::SetAttributes(object(target)?, template(values)?)
        }
        ("create", &[values]) => Work::Create(template(values)?),
        ("copy", &[source, values]) => Work::Copy(object(source)?, template(values)?),
        ("destroy", &[target]) => Work::Destroy(object(target)?),
        ("object_size", &[target]) => Work::ObjectSize(object(target)?),
        ("generate_key", &[m, values]) => Work::GenerateKey(used(m)?, template(values)?),
        ("generate_key_pair", &[m, public, private]) => {
            Work::GenerateKeyPair(used(m)?, template(public)?, template(private)?)
        }
        ("wrap_key", &[m, wrapping, key]) => {
            Work::WrapKey(used(m)?, object(wrapping)?, object(key)?)
        }
        ("unwrap_key", &[m, unwrapping, wrapped, values]) => Work::UnwrapKey {
            mechanism: used(m)?,
            unwrapping: object(unwrapping)?,
            wrapped: input(wrapped)?,
            template: template(values)?,
        },
        ("derive_key", &[m, base, values]) => {
            Work::DeriveKey(used(m)?, object(base)?, template(values)?)
        }
        ("session_info", &[]) => Work::SessionInfo,
        ("verify_signature", &[m, key, data, signature, pin]) => Work::VerifySignature {
            crypto: Crypto {
                kind: Kind::Verify,
                mechanism: used(m)?,
                key: object(key)?,
                context: context(pin)?,
            },
            data: input(data)?,
            signature: input(signature)?,
        },
        ("digest_key", &[key]) => Work::DigestKey(object(key)?),
        ("dual_update", &[name, data]) => Work::DualUpdate(dual(name)?, input(data)?),
        ("save_state", &[]) => Work::SaveState,
        ("restore_state", &[kind, state, encryption, authentication]) => Work::RestoreState {
            kind: kind_term(kind)?,
            state: input(state)?,
            encryption: if is_nil(encryption) {
                None
            } else {
                Some(object(encryption)?)
            },
            authentication: if is_nil(authentication) {
                None
            } else {
                Some(object(authentication)?)
            },
        },
        ("message_init", &[kind, m, key, pin]) => Work::MessageInit(Crypto {
            kind: message_kind(kind)?,
            mechanism: used(m)?,
            key: object(key)?,
            context: context(pin)?,
        }),
        ("message", &[kind, of_message, extra, data]) => Work::Message {
            kind: message_kind(kind)?,
            parameter: parameter(of_message)?,
            extra: input(extra)?,
            data: input(data)?,
        },
        ("message_final", &[kind]) => Work::MessageFinal(message_kind(kind)?),
        ("encapsulate_key", &[m, public, values]) => {
            Work::EncapsulateKey(used(m)?, object(public)?, template(values)?)
        }
        ("decapsulate_key", &[m, private, ciphertext, values]) => Work::DecapsulateKey {
            mechanism: used(m)?,
            private: object(private)?,
            ciphertext: input(ciphertext)?,
            template: template(values)?,
        },
        ("wrap_key_authenticated", &[m, wrapping, key, associated]) => Work::WrapKeyAuthenticated {
            mechanism: used(m)?,
            wrapping: object(wrapping)?,
            key: object(key)?,
            associated: input(associated)?,
        },
        ("unwrap_key_authenticated", &[m, unwrapping, wrapped, associated, values]) => {
            Work::UnwrapKeyAuthenticated {
                mechanism: used(m)?,
                unwrapping: object(unwrapping)?,
                wrapped: input(wrapped)?,
                associated: input(associated)?,
                template: template(values)?,
            }
        }
        ("validation_flags", &[kind]) => Work::ValidationFlags(ulong(kind)?),
        _ => return None,
    };
    handles.append(&mut parameters);
    Some(Operation::new(work, &handles))
}

/// Handles inside a parameter age like any other.
fn in_parameter(parameter: &Parameter, found: &mut Vec<Handle>) {
    fn walk(fields: &[Field], found: &mut Vec<Handle>) {
        for field in fields {
            match field {
                Field::Handle(handle) => found.push(*handle),
                Field::Struct(fields) | Field::Nested(fields) => walk(fields, found),
                Field::Array(elements) => elements.iter().for_each(|fields| walk(fields, found)),
                Field::Ulong(_)
                | Field::Byte(_)
                | Field::Bytes(_)
                | Field::InOut(_)
                | Field::Inline(_) => {}
            }
        }
    }
    if let Parameter::Fields(fields) = parameter {
        walk(fields, found);
    }
}

/// One of the operations for the control thread.
pub fn control(term: Term) -> Option<Job> {
    let (name, arguments) = tagged(term)?;
    Some(match (name.as_str(), arguments.as_slice()) {
        ("library_info", &[]) => Job::LibraryInfo,
        ("slots", &[]) => Job::Slots,
        ("token_info", &[slot]) => Job::TokenInfo(ulong(slot)?),
        ("mechanisms", &[slot]) => Job::Mechanisms(ulong(slot)?),
        ("mechanism_info", &[slot, kind]) => Job::MechanismInfo(ulong(slot)?, ulong(kind)?),
        ("init_token", &[slot, so_pin, label]) => Job::InitToken {
            slot: ulong(slot)?,
            so_pin: optional_secret(so_pin)?,
            label: label.decode::<Binary>().ok()?.as_slice().to_vec(),
        },
        ("init_pin", &[slot, so_pin, pin]) => Job::InitPin {
            slot: ulong(slot)?,
            so_pin: optional_secret(so_pin)?,
            pin: optional_secret(pin)?,
        },
        ("set_pin", &[slot, user, old, new]) => Job::SetPin {
            slot: ulong(slot)?,
            user: if is_nil(user) {
                None
            } else {
                Some(ulong(user)?)
            },
            old: optional_secret(old)?,
            new: optional_secret(new)?,
        },
        ("poll", &[]) => Job::Poll,
        _ => return None,
    })
}
