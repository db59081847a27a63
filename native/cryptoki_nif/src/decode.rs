//! Elixir terms to owned values. Anything malformed is `None`: a mistake on our own Elixir side. So is what is nested
//! deeper than [`LEVELS`]: whoever walks these values later does so by recursion, on a stack of the VM or of ours.

use crate::active::Begun;
use crate::control::Job;
use crate::info::Identity;
use crate::inject;
use crate::place::Place;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::values::{Field, Handle, LEVELS, Mechanism, Parameter, Secret, Template, Value};
use cryptoki_sys::CK_ULONG;
use rustler::types::tuple::get_tuple;
use rustler::{Binary, Term};
use std::cell::Cell;
use zeroize::Zeroizing;

/// A tagged tuple: its name and its elements.
pub fn tagged<'a>(term: Term<'a>) -> Option<(String, Vec<Term<'a>>)> {
    inject::in_nif("decoding");
    let mut elements = get_tuple(term).ok()?;
    if elements.is_empty() {
        return None;
    }
    let name = elements.remove(0).atom_to_string().ok()?;
    Some((name, elements))
}

/// Whether it is `nil`.
pub fn is_nil(term: Term) -> bool {
    inject::in_nif("decoding");
    term.is_atom() && term.atom_to_string().is_ok_and(|name| name == "nil")
}

/// A number of the standard.
pub fn ulong(term: Term) -> Option<CK_ULONG> {
    term.decode::<u64>()
        .ok()
        .and_then(|number| CK_ULONG::try_from(number).ok())
}

/// `{slot, {manufacturer, model, serial, label}, read_only}`
pub fn place(term: Term) -> Option<Place> {
    inject::in_nif("decoding");
    let (slot, token, read_only): (u64, _, bool) = term.decode().ok()?;
    let (manufacturer, model, serial, label) = token;
    Some(Place {
        slot: CK_ULONG::try_from(slot).ok()?,
        token: Identity {
            manufacturer,
            model,
            serial,
            label,
        },
        read_only,
    })
}

/// What a scheduler copies; more takes its time.
const COPIED: usize = 64 << 10;

thread_local! {
    /// Whether long binaries are left out, and whether any was.
    static LEAVING_OUT: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Reads with empty binaries in the place of long ones, and says whether there were any: for a scheduler, which has
/// no time to copy them.
pub fn without_long<T>(read: impl FnOnce() -> T) -> (T, bool) {
    struct WithLong;
    impl Drop for WithLong {
        fn drop(&mut self) {
            LEAVING_OUT.set(None);
        }
    }
    LEAVING_OUT.set(Some(false));
    let _afterwards = WithLong;
    (read(), LEAVING_OUT.get() == Some(true))
}

/// A copy of a binary.
pub fn secret(term: Term) -> Option<Secret> {
    let binary = term.decode::<Binary>().ok()?;
    if binary.len() > COPIED && LEAVING_OUT.get().is_some() {
        LEAVING_OUT.set(Some(true));
        return Some(Zeroizing::default());
    }
    Some(Zeroizing::new(binary.as_slice().to_vec()))
}

/// A copy of a binary, or `nil`.
pub fn optional_secret(term: Term) -> Option<Option<Secret>> {
    if is_nil(term) {
        Some(None)
    } else {
        secret(term).map(Some)
    }
}

/// A list whose elements all decode.
pub fn list<'a, T>(term: Term<'a>, element: impl Fn(Term<'a>) -> Option<T>) -> Option<Vec<T>> {
    // rustler's iterator panics at the end of an improper list, which has no length.
    term.list_length().ok()?;
    term.decode::<Vec<Term<'a>>>()
        .ok()?
        .into_iter()
        .map(element)
        .collect()
}

/// `{number, epoch, generation}` of an object.
pub fn handle(term: Term) -> Option<Handle> {
    let (object, epoch, generation): (u64, u64, u64) = term.decode().ok()?;
    Some(Handle {
        object: CK_ULONG::try_from(object).ok()?,
        epoch,
        generation,
    })
}

/// One level less; `None` below the last.
fn deeper(levels: usize) -> Option<usize> {
    levels.checked_sub(1)
}

fn fields(term: Term, levels: usize) -> Option<Vec<Field>> {
    let levels = deeper(levels)?;
    list(term, |term| field(term, levels))
}

fn field(term: Term, levels: usize) -> Option<Field> {
    let (name, values) = tagged(term)?;
    let [value] = values[..] else { return None };
    Some(match name.as_str() {
        "ulong" => Field::Ulong(ulong(value)?),
        "byte" => Field::Byte(value.decode().ok()?),
        "bool" => Field::Byte(u8::from(value.decode::<bool>().ok()?)),
        "bytes" => Field::Bytes(optional_secret(value)?.unwrap_or_default()),
        "inout" => Field::InOut(secret(value)?),
        "inline" => Field::Inline(secret(value)?),
        "struct" => Field::Struct(fields(value, levels)?),
        "nested" => Field::Nested(fields(value, levels)?),
        "array" => Field::Array(list(value, |element| fields(element, levels))?),
        "handle" => Field::Handle(handle(value)?),
        "new_handle" => is_nil(value).then_some(Field::NewHandle)?,
        "template" => Field::Template(attributes(value, levels)?),
        _ => return None,
    })
}

/// The parameter of a mechanism: none, raw bytes, or the members of a structure.
pub fn parameter(term: Term) -> Option<Parameter> {
    if is_nil(term) {
        Some(Parameter::Absent)
    } else if term.is_binary() {
        secret(term).map(Parameter::Raw)
    } else {
        fields(term, LEVELS).map(Parameter::Fields)
    }
}

/// A mechanism.
pub fn mechanism(term: Term) -> Option<Mechanism> {
    let (kind, of_kind): (Term, Term) = term.decode().ok()?;
    Some(Mechanism {
        kind: ulong(kind)?,
        parameter: parameter(of_kind)?,
    })
}

fn attributes(term: Term, levels: usize) -> Option<Template> {
    let levels = deeper(levels)?;
    list(term, |term| attribute(term, levels))
}

fn attribute(term: Term, levels: usize) -> Option<(CK_ULONG, Value)> {
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
            "template" => Value::Template(attributes(value, levels)?),
            _ => return None,
        }
    } else {
        Value::Ulong(ulong(value)?)
    };
    Some((ulong(kind)?, value))
}

/// A template.
pub fn template(term: Term) -> Option<Template> {
    attributes(term, LEVELS)
}

/// The kind of an operation by its name.
pub fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "sign" => Kind::Sign,
        "verify" => Kind::Verify,
        "encrypt" => Kind::Encrypt,
        "decrypt" => Kind::Decrypt,
        "digest" => Kind::Digest,
        "sign_recover" => Kind::SignRecover,
        "verify_recover" => Kind::VerifyRecover,
        "verify_signature" => Kind::VerifySignature,
        "message_sign" => Kind::MessageSign,
        "message_verify" => Kind::MessageVerify,
        "message_encrypt" => Kind::MessageEncrypt,
        "message_decrypt" => Kind::MessageDecrypt,
        _ => return None,
    })
}

/// `{kind, number}` of an operation.
pub fn begun(term: Term) -> Option<Begun> {
    let (of, number): (Term, u64) = term.decode().ok()?;
    Some(Begun {
        kind: kind(&name(of)?)?,
        number,
    })
}

/// The text of an atom.
pub fn name(term: Term) -> Option<String> {
    term.atom_to_string().ok()
}

/// `nil`, a PIN, or `:protected`.
pub fn context_login(term: Term) -> Option<Option<Option<Secret>>> {
    if is_nil(term) {
        Some(None)
    } else if term.is_atom() {
        (term.atom_to_string().ok()? == "protected").then_some(Some(None))
    } else {
        secret(term).map(|pin| Some(Some(pin)))
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
        ("events", &[]) => Job::Events,
        ("reinitialize", &[]) => Job::Reinitialize,
        _ => return None,
    })
}
