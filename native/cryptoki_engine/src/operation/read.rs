//! What operations are read from: the terms of a VM, or what a fuzzer makes up. Anything malformed is `None`: a
//! mistake on the side of whoever made it. So is what is nested deeper than [`LEVELS`]: whoever walks these values
//! later does so by recursion.

use crate::operation::begun::Begun;
use crate::operation::login::Login;
use crate::operation::words::Word;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::dual::Dual;
use cryptoki_ffi::values::{
    Data, Field, Handle, LEVELS, Mechanism, Parameter, Secret, Template, Value,
};
use cryptoki_sys::CK_ULONG;
use zeroize::Zeroizing;

/// A term.
pub trait Term: Copy {
    /// The word that it is.
    fn word(self) -> Option<Word>;
    /// The number.
    fn number(self) -> Option<u64>;
    /// The bytes.
    fn data(self) -> Option<Data>;
    /// The elements of a tuple.
    fn elements(self) -> Option<Vec<Self>>;
    /// The elements of a list.
    fn items(self) -> Option<Vec<Self>>;
}

/// What stands in an operation.
pub trait Argument: Sized {
    /// Reads it.
    fn read<T: Term>(term: T) -> Option<Self>;

    /// The handles in it.
    fn handles(&self, _found: &mut Vec<Handle>) {}

    /// The login that it is.
    fn login(&self) -> Option<&Login> {
        None
    }
}

/// A term with `N` elements.
fn tuple<T: Term, const N: usize>(term: T) -> Option<[T; N]> {
    term.elements()?.try_into().ok()
}

/// A list whose elements all can be read.
fn list<T: Term, V>(term: T, element: impl Fn(T) -> Option<V>) -> Option<Vec<V>> {
    term.items()?.into_iter().map(element).collect()
}

/// Whether it is `nil`.
pub fn is_nil(term: impl Term) -> bool {
    term.word() == Some(Word::nil)
}

impl Argument for CK_ULONG {
    fn read<T: Term>(term: T) -> Option<Self> {
        CK_ULONG::try_from(term.number()?).ok()
    }
}

impl Argument for usize {
    fn read<T: Term>(term: T) -> Option<Self> {
        usize::try_from(term.number()?).ok()
    }
}

impl Argument for bool {
    fn read<T: Term>(term: T) -> Option<Self> {
        match term.word()? {
            Word::true_ => Some(true),
            Word::false_ => Some(false),
            _ => None,
        }
    }
}

impl Argument for Data {
    fn read<T: Term>(term: T) -> Option<Self> {
        term.data()
    }
}

/// A copy that is overwritten when it is dropped.
impl Argument for Secret {
    fn read<T: Term>(term: T) -> Option<Self> {
        term.data().map(|bytes| Zeroizing::new(bytes.to_vec()))
    }
}

impl<A: Argument> Argument for Option<A> {
    fn read<T: Term>(term: T) -> Option<Self> {
        if is_nil(term) {
            Some(None)
        } else {
            A::read(term).map(Some)
        }
    }

    fn handles(&self, found: &mut Vec<Handle>) {
        if let Some(argument) = self {
            argument.handles(found);
        }
    }
}

impl Argument for Vec<CK_ULONG> {
    fn read<T: Term>(term: T) -> Option<Self> {
        list(term, CK_ULONG::read)
    }
}

/// `{number, life, generation}`
impl Argument for Handle {
    fn read<T: Term>(term: T) -> Option<Self> {
        let [number, life, generation] = tuple(term)?;
        Some(Handle {
            number: CK_ULONG::read(number)?,
            life: life.number()?,
            generation: generation.number()?,
        })
    }

    fn handles(&self, found: &mut Vec<Handle>) {
        found.push(*self);
    }
}

impl Argument for Vec<Handle> {
    fn read<T: Term>(term: T) -> Option<Self> {
        list(term, Handle::read)
    }

    fn handles(&self, found: &mut Vec<Handle>) {
        found.extend(self);
    }
}

/// `nil`, a PIN, or `protected`
impl Argument for Login {
    fn read<T: Term>(term: T) -> Option<Self> {
        match term.word() {
            Some(Word::nil) => Some(Login::Without),
            Some(Word::protected) => Some(Login::Protected),
            _ => Secret::read(term).map(Login::Pin),
        }
    }

    fn login(&self) -> Option<&Login> {
        (!matches!(self, Login::Without)).then_some(self)
    }
}

impl Argument for Kind {
    fn read<T: Term>(term: T) -> Option<Self> {
        Some(match term.word()? {
            Word::sign => Kind::Sign,
            Word::verify => Kind::Verify,
            Word::encrypt => Kind::Encrypt,
            Word::decrypt => Kind::Decrypt,
            Word::digest => Kind::Digest,
            Word::sign_recover => Kind::SignRecover,
            Word::verify_recover => Kind::VerifyRecover,
            Word::verify_signature => Kind::VerifySignature,
            Word::message_sign => Kind::MessageSign,
            Word::message_verify => Kind::MessageVerify,
            Word::message_encrypt => Kind::MessageEncrypt,
            Word::message_decrypt => Kind::MessageDecrypt,
            _ => return None,
        })
    }
}

/// `{kind, number}`
impl Argument for Begun {
    fn read<T: Term>(term: T) -> Option<Self> {
        let [kind, number] = tuple(term)?;
        Some(Begun {
            kind: Kind::read(kind)?,
            number: number.number()?,
        })
    }
}

impl Argument for Dual {
    fn read<T: Term>(term: T) -> Option<Self> {
        Some(match term.word()? {
            Word::digest_encrypt => Dual::DigestEncrypt,
            Word::decrypt_digest => Dual::DecryptDigest,
            Word::sign_encrypt => Dual::SignEncrypt,
            Word::decrypt_verify => Dual::DecryptVerify,
            _ => return None,
        })
    }
}

/// `{number, parameter}`
impl Argument for Mechanism {
    fn read<T: Term>(term: T) -> Option<Self> {
        let [kind, parameter] = tuple(term)?;
        Some(Mechanism {
            kind: CK_ULONG::read(kind)?,
            parameter: Parameter::read(parameter)?,
        })
    }

    fn handles(&self, found: &mut Vec<Handle>) {
        self.parameter.handles(found);
    }
}

/// None, raw bytes, or the members of a structure.
impl Argument for Parameter {
    fn read<T: Term>(term: T) -> Option<Self> {
        if is_nil(term) {
            return Some(Parameter::Absent);
        }
        match term.items() {
            Some(_) => fields(term, LEVELS).map(Parameter::Fields),
            None => term.data().map(Parameter::Raw),
        }
    }

    fn handles(&self, found: &mut Vec<Handle>) {
        if let Parameter::Fields(fields) = self {
            walk(fields, found);
        }
    }
}

impl Argument for Template {
    fn read<T: Term>(term: T) -> Option<Self> {
        attributes(term, LEVELS)
    }
}

fn fields<T: Term>(term: T, levels: usize) -> Option<Vec<Field>> {
    let levels = levels.checked_sub(1)?;
    list(term, |term| field(term, levels))
}

fn field<T: Term>(term: T, levels: usize) -> Option<Field> {
    let [name, value] = tuple(term)?;
    Some(match name.word()? {
        Word::ulong => Field::Ulong(CK_ULONG::read(value)?),
        Word::byte => Field::Byte(u8::try_from(value.number()?).ok()?),
        Word::bool => Field::Byte(u8::from(bool::read(value)?)),
        Word::bytes => Field::Bytes(Option::<Data>::read(value)?.unwrap_or_default()),
        Word::inout => Field::InOut(value.data()?),
        Word::inline => Field::Inline(value.data()?),
        Word::struct_ => Field::Struct(fields(value, levels)?),
        Word::nested => Field::Nested(fields(value, levels)?),
        Word::array => Field::Array(list(value, |element| fields(element, levels))?),
        Word::handle => Field::Handle(Handle::read(value)?),
        Word::new_handle => is_nil(value).then_some(Field::NewHandle)?,
        Word::template => Field::Template(attributes(value, levels)?),
        _ => return None,
    })
}

/// Handles inside a parameter age like any other.
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
            | Field::Inline(_)
            | Field::NewHandle
            | Field::Template(_) => {}
        }
    }
}

fn attributes<T: Term>(term: T, levels: usize) -> Option<Template> {
    let levels = levels.checked_sub(1)?;
    list(term, |term| attribute(term, levels))
}

/// `{number, value}`
fn attribute<T: Term>(term: T, levels: usize) -> Option<(CK_ULONG, Value)> {
    let [kind, value] = tuple(term)?;
    let kind = CK_ULONG::read(kind)?;
    if let Some(bytes) = value.data() {
        return Some((kind, Value::Bytes(bytes)));
    }
    if let Some(number) = CK_ULONG::read(value) {
        return Some((kind, Value::Ulong(number)));
    }
    if let Some(truth) = bool::read(value) {
        return Some((kind, Value::Bool(truth)));
    }
    let [name, value] = tuple(value)?;
    let value = match name.word()? {
        Word::ulongs => Value::Ulongs(Vec::read(value)?),
        Word::template => Value::Template(attributes(value, levels)?),
        _ => return None,
    };
    Some((kind, value))
}
