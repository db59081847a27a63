//! Reading attributes so that one that cannot be read spoils no other (section 5.7.5).

pub use crate::attributes::wanted::Wanted;
use crate::attributes::wanted::{
    FUNCTION, TEMPLATES, is_plain, is_public, length, question, taken, with_room,
};
use crate::failure::{Class, Failure, Result};
use crate::functions::{Functions, buffer, call, refuses_the_question, ulong};
use crate::values::{NoValue, Read, Secret};
use cryptoki_sys as ck;
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
};
use zeroize::Zeroizing;

/// No attribute is longer.
const LIMIT: usize = 16 << 20;
/// Room for a value whose length was not told: more than any number, name or identifier has.
const SPARE: usize = 1 << 10;

/// From so many on it is worth a question more to learn whether a library has looked at all of them.
const MANY: usize = 8;

/// The attributes of an object.
pub type Attributes = Vec<(CK_ATTRIBUTE_TYPE, Read)>;

/// What is known of attributes, in the order asked; none of what only asking for it alone explains.
type Known = Vec<Option<Read>>;

/// Whether the answer speaks of single attributes, not of the call.
fn partial(failure: &Failure) -> bool {
    [
        ck::CKR_ATTRIBUTE_SENSITIVE,
        ck::CKR_ATTRIBUTE_TYPE_INVALID,
        ck::CKR_BUFFER_TOO_SMALL,
    ]
    .iter()
    .any(|rv| failure.is(*rv))
}

/// The code, when it may be one attribute that the library cannot read, for whatever reason: not the session, the
/// token or the object that is gone.
fn of_attribute(failure: &Failure) -> Option<CK_RV> {
    match failure {
        Failure::Rv { code, .. }
            if matches!(failure.class(), Class::Device | Class::Other)
                && *code != ck::CKR_OBJECT_HANDLE_INVALID =>
        {
            Some(*code)
        }
        _ => None,
    }
}

/// Whether asking for each attribute alone can tell more.
fn alone(failure: &Failure, kinds: &[CK_ATTRIBUTE_TYPE]) -> bool {
    partial(failure) || (kinds.len() > 1 && of_attribute(failure).is_some())
}

/// Whether a library that found some attributes without a value has told the length of the others all the same, up to the
/// last, as section 5.7.5 has it.
fn went_on(failure: &Failure, last: &[CK_ATTRIBUTE]) -> bool {
    let of_some =
        failure.is(ck::CKR_ATTRIBUTE_TYPE_INVALID) || failure.is(ck::CKR_ATTRIBUTE_SENSITIVE);
    of_some && has_class(last)
}

/// Whether the library has answered the last question, which is for what every object has.
fn has_class(last: &[CK_ATTRIBUTE]) -> bool {
    matches!(last, [.., class] if length(class) == Some(size_of::<CK_ULONG>()))
}

fn reason(failure: &Failure) -> NoValue {
    if failure.is(ck::CKR_ATTRIBUTE_SENSITIVE) {
        NoValue::Sensitive
    } else if failure.is(ck::CKR_ATTRIBUTE_TYPE_INVALID) {
        NoValue::TypeInvalid
    } else {
        NoValue::Unavailable
    }
}

impl Functions {
    /// `C_GetAttributeValue` for all the attributes at once, and one by one where that fails.
    pub fn attributes(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        kinds: &[CK_ATTRIBUTE_TYPE],
    ) -> Result<Attributes> {
        self.attributes_of(session, object, &mut Wanted::new(kinds)?)
    }

    /// The same of one object of several.
    pub fn attributes_of(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        wanted: &mut Wanted,
    ) -> Result<Attributes> {
        let seen = Seen {
            functions: self,
            session,
            object,
        };
        seen.attributes(wanted)
    }
}

/// An object as a session sees it.
struct Seen<'f> {
    functions: &'f Functions,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
}

impl Seen<'_> {
    fn attributes(&self, wanted: &mut Wanted) -> Result<Attributes> {
        if let Some(read) = self.like_those_before(wanted)? {
            return Ok(read);
        }
        let kinds = wanted.kinds;
        let together = match self.in_one_call(wanted)? {
            None if is_plain(kinds) => self.lengths_then_values(kinds)?,
            together => together,
        };
        let known = together.unwrap_or_else(|| vec![None; kinds.len()]);
        let mut read = Vec::with_capacity(kinds.len());
        let mut first = None;
        for (kind, known) in kinds.iter().zip(known) {
            let value = known.map_or_else(|| self.one(*kind), Ok);
            match value {
                Ok(value) => read.push((*kind, value)),
                Err(failure) => {
                    let code = of_attribute(&failure).ok_or_else(|| failure.clone())?;
                    read.push((*kind, Read::Nothing(NoValue::Failed(code))));
                    first.get_or_insert(failure);
                }
            }
        }
        let nothing = |(_, value): &(_, Read)| matches!(value, Read::Nothing(NoValue::Failed(_)));
        // What every attribute answers is said of the object.
        match first {
            Some(failure) if read.iter().all(nothing) => Err(failure),
            _ => Ok(read),
        }
    }

    fn get(&self, asked: &mut [CK_ATTRIBUTE]) -> Result<()> {
        let (all, count) = (asked.as_mut_ptr(), ulong(asked.len()));
        call!(
            self.functions,
            C_GetAttributeValue(self.session, self.object, all, count)
        )
    }

    /// One call for an object that is taken to have what those before had: each is asked for once, with room or for its
    /// length. `None` where it is another one, or not known to be like them.
    fn like_those_before(&self, wanted: &mut Wanted) -> Result<Option<Attributes>> {
        let (kinds, asked) = (wanted.kinds, &mut wanted.asked);
        let (Some(room), Some(there)) = (&mut wanted.room, wanted.before.expected()) else {
            return Ok(None);
        };
        let each = room.len() / kinds.len();
        let all = kinds.iter().zip(room.chunks_exact_mut(each)).zip(there);
        asked.clear();
        asked.extend(all.map(|((kind, room), there)| match there {
            true => with_room((kind, room)),
            false => question(*kind),
        }));
        // The last question is for what every object has.
        let class_first = kinds.first() == Some(&ck::CKA_CLASS);
        if class_first {
            asked.rotate_left(1);
        } else {
            asked.push(question(ck::CKA_CLASS));
        }
        let none = match self.get(asked) {
            Ok(()) => Some(false),
            Err(failure) if failure.is(ck::CKR_ATTRIBUTE_TYPE_INVALID) => Some(true),
            Err(failure) if partial(&failure) || of_attribute(&failure).is_some() => None,
            Err(failure) => return Err(failure),
        };
        let complete = none.is_some() && has_class(asked);
        if class_first {
            asked.rotate_right(1);
        }
        let mut read = Vec::with_capacity(kinds.len());
        let answers = asked.iter().zip(room.chunks_exact_mut(each)).zip(there);
        for ((one, room), there) in answers.take(if complete { kinds.len() } else { 0 }) {
            match (length(one), there) {
                (Some(written), true) if written < room.len() => {
                    read.push((one.type_, taken(room, written)));
                }
                (None, false) if none == Some(true) => {
                    read.push((one.type_, Read::Nothing(NoValue::TypeInvalid)));
                }
                _another => break,
            }
        }
        if read.len() < kinds.len() {
            room.fill(0);
            wanted.before.was_wrong();
            return Ok(None);
        }
        Ok(Some(read))
    }

    /// One call for everything. Each is asked for with room, and for its length, which tells what is too long from what
    /// is not there. `None` where the answers do not fit each other, or the library wants to be asked in another way.
    fn in_one_call(&self, wanted: &mut Wanted) -> Result<Option<Known>> {
        let kinds = wanted.kinds;
        let Some(room) = &mut wanted.room else {
            return Ok(None);
        };
        let each = room.len() / kinds.len();
        let (lengths, asked) = (&wanted.lengths, &mut wanted.asked);
        asked.clear();
        asked.extend(kinds.iter().zip(room.chunks_exact_mut(each)).map(with_room));
        asked.extend(lengths.iter().map(|kind| question(*kind)));
        asked.push(question(ck::CKA_CLASS));
        let told = self.get(asked);
        let (with, without) = asked.split_at(kinds.len());
        let complete = match &told {
            Ok(()) => true,
            Err(failure) if partial(failure) => has_class(without),
            Err(failure) if of_attribute(failure).is_some() => false,
            Err(failure) => return Err(failure.clone()),
        };
        let told = |code| told.as_ref().is_err_and(|failure| failure.is(code));
        let none = complete && told(ck::CKR_ATTRIBUTE_TYPE_INVALID);
        let none_or_long = none || complete && told(ck::CKR_BUFFER_TOO_SMALL);
        let mut without = without.iter();
        let answers = with.iter().zip(room.chunks_exact_mut(each));
        let known = answers.map(|(with, room)| {
            let asked = lengths.contains(&with.type_);
            let without = if asked {
                without.next().map(length)
            } else {
                None
            };
            let public = is_public(with.type_);
            match (length(with), without) {
                // Who writes no length leaves that of the room.
                (Some(written), None) if written < room.len() => Some(Some(taken(room, written))),
                (Some(written), Some(Some(told))) if written == told && written <= room.len() => {
                    Some(Some(taken(room, written)))
                }
                (None, None) if none && public => Some(Some(Read::Nothing(NoValue::TypeInvalid))),
                // What is too long is told by its length.
                (None, Some(None)) if none_or_long && public => {
                    Some(Some(Read::Nothing(NoValue::TypeInvalid)))
                }
                (None, _) => Some(None),
                _contradiction => None,
            }
        });
        let known: Option<Known> = known.collect();
        let known = known.filter(|known| complete || known.iter().all(Option::is_some));
        if known.is_none() {
            wanted.lengths_first();
        }
        wanted.before.note(known.as_deref());
        Ok(known)
    }

    /// Two calls for everything: how long, then what. `None` where that tells nothing.
    fn lengths_then_values(&self, kinds: &[CK_ATTRIBUTE_TYPE]) -> Result<Option<Known>> {
        let mut asked: Vec<CK_ATTRIBUTE> = kinds.iter().map(|kind| question(*kind)).collect();
        if kinds.len() >= MANY {
            // Every object has one: a library that tells its length has gone on to the end.
            asked.push(question(ck::CKA_CLASS));
        }
        let told = self.get(&mut asked);
        let last = asked.split_off(kinds.len());
        match told {
            Ok(()) => {}
            Err(failure) if went_on(&failure, &last) => {
                return self.those_there(kinds, asked, &failure);
            }
            Err(failure) if alone(&failure, kinds) || refuses_the_question(&failure) => {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        }
        if asked.iter().any(|attribute| length(attribute).is_none()) {
            return Ok(None);
        }
        let values = self.values(asked)?;
        Ok(values.map(|values| values.into_iter().map(Some).collect()))
    }

    /// Where only some have a length: the values of those, and of the others why there is none, as far as that is certain.
    fn those_there(
        &self,
        kinds: &[CK_ATTRIBUTE_TYPE],
        asked: Vec<CK_ATTRIBUTE>,
        failure: &Failure,
    ) -> Result<Option<Known>> {
        let there: Vec<bool> = asked.iter().map(|one| length(one).is_some()).collect();
        let asked = asked.into_iter().filter(|one| length(one).is_some());
        let Some(values) = self.values(asked.collect())? else {
            return Ok(None);
        };
        let mut values = values.into_iter();
        let none = failure.is(ck::CKR_ATTRIBUTE_TYPE_INVALID);
        let known = kinds.iter().zip(there).map(|(kind, there)| match there {
            true => values.next(),
            false if none && is_public(*kind) => Some(Read::Nothing(NoValue::TypeInvalid)),
            false => None,
        });
        Ok(Some(known.collect()))
    }

    /// The values of attributes whose lengths were told; `None` when they are not given together.
    fn values(&self, mut asked: Vec<CK_ATTRIBUTE>) -> Result<Option<Vec<Read>>> {
        if asked.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let Some(values) = rooms(&mut asked)? else {
            return Ok(None);
        };
        let kinds: Vec<_> = asked.iter().map(|attribute| attribute.type_).collect();
        match self.get(&mut asked) {
            Ok(()) => {}
            Err(failure) if alone(&failure, &kinds) => return Ok(None),
            Err(failure) => return Err(failure),
        }
        let read = asked.iter().zip(values);
        let read: Result<_> = read.map(|(one, value)| cut(one, value)).collect();
        read.map(Some)
    }

    fn one(&self, kind: CK_ATTRIBUTE_TYPE) -> Result<Read> {
        let mut asked = [question(kind)];
        match self.get(&mut asked) {
            Ok(()) => {}
            // Taken for a buffer that is too small: the length may have been told with it.
            Err(failure) if refuses_the_question(&failure) => {
                asked[0].ulValueLen = ulong(length(&asked[0]).unwrap_or(0));
            }
            Err(failure) if partial(&failure) => return Ok(Read::Nothing(reason(&failure))),
            Err(failure) => return Err(failure),
        }
        if TEMPLATES.contains(&kind) {
            return self.template(kind, asked[0].ulValueLen);
        }
        let mut told = asked[0].ulValueLen != 0;
        loop {
            let Some(value) = room(&mut asked[0])? else {
                return Ok(Read::Nothing(NoValue::Unavailable));
            };
            let given = value.len();
            match self.get(&mut asked) {
                Ok(()) => return cut(&asked[0], value),
                Err(failure) if failure.is(ck::CKR_BUFFER_TOO_SMALL) && !told => {
                    let more = given.saturating_mul(64).min(LIMIT);
                    asked[0].ulValueLen = ulong(more);
                    told = more == LIMIT;
                }
                Err(failure) if partial(&failure) => return Ok(Read::Nothing(reason(&failure))),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// An array of attributes: its size, then the types and lengths, then the values.
    fn template(&self, kind: CK_ATTRIBUTE_TYPE, size: CK_ULONG) -> Result<Read> {
        if size == ck::CK_UNAVAILABLE_INFORMATION {
            return Ok(Read::Nothing(NoValue::Unavailable));
        }
        let count = size as usize / size_of::<CK_ATTRIBUTE>();
        if size == 0 {
            return Ok(Read::Template(Vec::new()));
        }
        if count > 1024 || !(size as usize).is_multiple_of(size_of::<CK_ATTRIBUTE>()) {
            return Err(Failure::misbehaved(
                FUNCTION,
                "claims an impossible number of nested attributes",
            ));
        }
        let mut inner: Vec<CK_ATTRIBUTE> = vec![question(0); count];
        let mut outer = [CK_ATTRIBUTE {
            type_: kind,
            pValue: inner.as_mut_ptr().cast(),
            ulValueLen: size,
        }];
        self.get(&mut outer)?;
        let Some(values) = rooms(&mut inner)? else {
            return Ok(Read::Nothing(NoValue::Unavailable));
        };
        outer[0].pValue = inner.as_mut_ptr().cast();
        outer[0].ulValueLen = size;
        self.get(&mut outer)?;
        let mut read = Vec::with_capacity(count);
        for (attribute, value) in inner.iter().zip(values) {
            read.push((attribute.type_, cut(attribute, value)?));
        }
        Ok(Read::Template(read))
    }
}

/// A buffer of the length the library asked for, which the attribute points to; `None` when it has no value. A length
/// of 0 may be that of an empty value, or none: some libraries leave it as it was.
fn room(attribute: &mut CK_ATTRIBUTE) -> Result<Option<Secret>> {
    let length = match length(attribute) {
        None => return Ok(None),
        Some(length) if length > LIMIT => {
            return Err(Failure::misbehaved(FUNCTION, "claims an impossible length"));
        }
        Some(0) => SPARE,
        Some(length) => length,
    };
    let mut value = Zeroizing::new(buffer::<u8>(length, FUNCTION)?);
    attribute.pValue = value.as_mut_ptr().cast();
    attribute.ulValueLen = ulong(length);
    Ok(Some(value))
}

/// The same for several; `None` when one of them has no value.
fn rooms(attributes: &mut [CK_ATTRIBUTE]) -> Result<Option<Vec<Secret>>> {
    attributes.iter_mut().map(room).collect()
}

fn cut(attribute: &CK_ATTRIBUTE, mut value: Secret) -> Result<Read> {
    match length(attribute) {
        None => Ok(Read::Nothing(NoValue::Unavailable)),
        Some(length) if length > value.len() => Err(Failure::misbehaved(
            FUNCTION,
            "says it wrote more than the buffer holds",
        )),
        Some(length) => {
            value.truncate(length);
            Ok(Read::Bytes(value))
        }
    }
}

#[cfg(test)]
mod tests;
mod wanted;
