//! Mechanisms and templates of any shape are laid out as C lays them out: reading the memory back by
//! its pointers gives the values that went in.
#![no_main]

use arbitrary::Arbitrary;
use cryptoki_ffi::layout::{MechanismMemory, TemplateMemory};
use cryptoki_ffi::values::{Data, Field, Handle, Mechanism, Parameter, Template, Value};
use cryptoki_sys::{CK_ATTRIBUTE, CK_ULONG};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Member {
    Ulong(u64),
    Byte(u8),
    Bytes(Vec<u8>),
    InOut(Vec<u8>),
    Inline(Vec<u8>),
    Struct(Vec<Member>),
    Nested(Vec<Member>),
    Array(Vec<Vec<Member>>),
    Handle(u64),
}

#[derive(Arbitrary, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Ulong(u64),
    Bool(bool),
    Ulongs(Vec<u64>),
    Template(Vec<(u64, Content)>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    kind: u64,
    members: Vec<Member>,
    template: Vec<(u64, Content)>,
}

fn field(member: &Member) -> Field {
    let all = |members: &Vec<Member>| members.iter().map(field).collect();
    let secret = |bytes: &Vec<u8>| Data::copied(bytes);
    match member {
        Member::Ulong(number) => Field::Ulong(*number),
        Member::Byte(byte) => Field::Byte(*byte),
        Member::Bytes(bytes) => Field::Bytes(secret(bytes)),
        Member::InOut(bytes) => Field::InOut(secret(bytes)),
        Member::Inline(bytes) => Field::Inline(secret(bytes)),
        Member::Struct(members) => Field::Struct(all(members)),
        Member::Nested(members) => Field::Nested(all(members)),
        Member::Array(elements) => Field::Array(elements.iter().map(all).collect()),
        Member::Handle(object) => Field::Handle(Handle {
            generation: 1,
            number: *object,
            life: 0,
        }),
    }
}

fn template(contents: &[(u64, Content)]) -> Template {
    let value = |content: &Content| match content {
        Content::Bytes(bytes) => Value::Bytes(Data::copied(bytes)),
        Content::Ulong(number) => Value::Ulong(*number),
        Content::Bool(truth) => Value::Bool(*truth),
        Content::Ulongs(numbers) => Value::Ulongs(numbers.clone()),
        Content::Template(nested) => Value::Template(template(nested)),
    };
    contents
        .iter()
        .map(|(kind, content)| (*kind, value(content)))
        .collect()
}

/// Walks through a structure as C would, with a layout computed here a second time.
struct Reader {
    base: *const u8,
    at: usize,
}

impl Reader {
    fn take(&mut self, size: usize, align: usize) -> &[u8] {
        self.at = self.at.next_multiple_of(align);
        // SAFETY: the sanitizer is the judge of that: the memory has to be as long as its fields.
        let bytes = unsafe { std::slice::from_raw_parts(self.base.add(self.at), size) };
        self.at += size;
        bytes
    }

    fn word(&mut self) -> u64 {
        u64::from_ne_bytes(self.take(8, 8).try_into().expect("eight bytes"))
    }

    fn pointer(&mut self) -> *const u8 {
        self.word() as *const u8
    }

    fn bytes_behind(&mut self, expected: &[u8]) {
        let pointer = self.pointer();
        assert_eq!(pointer.is_null(), expected.is_empty());
        if !expected.is_empty() {
            // SAFETY: as above.
            let found = unsafe { std::slice::from_raw_parts(pointer, expected.len()) };
            assert_eq!(found, expected);
        }
    }

    fn check(&mut self, members: &[Member]) {
        for member in members {
            match member {
                Member::Ulong(number) | Member::Handle(number) => assert_eq!(self.word(), *number),
                Member::Byte(byte) => assert_eq!(self.take(1, 1), [*byte]),
                Member::Inline(bytes) => assert_eq!(self.take(bytes.len(), 1), bytes.as_slice()),
                Member::Bytes(bytes) | Member::InOut(bytes) => self.bytes_behind(bytes),
                Member::Struct(inner) => {
                    let base = self.pointer();
                    assert_eq!(base.is_null(), size(inner) == 0);
                    if !base.is_null() {
                        assert!((base as usize).is_multiple_of(align(inner)));
                        Reader { base, at: 0 }.check(inner);
                    }
                }
                Member::Nested(inner) => {
                    self.at = self.at.next_multiple_of(align(inner));
                    let begin = self.at;
                    self.check(inner);
                    self.at = begin + size(inner);
                }
                Member::Array(elements) => {
                    let base = self.pointer();
                    let mut reader = Reader { base, at: 0 };
                    let total: usize = elements.iter().map(|inner| size(inner)).sum();
                    assert_eq!(base.is_null(), total == 0);
                    for inner in elements.iter().filter(|_| total > 0) {
                        let begin = reader.at;
                        reader.check_at(begin, inner);
                        reader.at = begin + size(inner);
                    }
                }
            }
        }
    }

    /// An element of an array, which may follow one that ends anywhere: offsets count from its own start.
    fn check_at(&mut self, begin: usize, inner: &[Member]) {
        // SAFETY: as above.
        let base = unsafe { self.base.add(begin) };
        Reader { base, at: 0 }.check(inner);
    }
}

fn align(members: &[Member]) -> usize {
    let one = |member: &Member| match member {
        Member::Byte(_) | Member::Inline(_) => 1,
        Member::Nested(inner) => align(inner),
        _ => 8,
    };
    members.iter().map(one).max().unwrap_or(1)
}

fn size(members: &[Member]) -> usize {
    let mut at: usize = 0;
    for member in members {
        let (size, align) = match member {
            Member::Byte(_) => (1, 1),
            Member::Inline(bytes) => (bytes.len(), 1),
            Member::Nested(inner) => (size(inner), align(inner)),
            _ => (8, 8),
        };
        at = at.next_multiple_of(align) + size;
    }
    at.next_multiple_of(align(members))
}

fn check_template(contents: &[(u64, Content)], pointer: *const CK_ATTRIBUTE, count: CK_ULONG) {
    assert_eq!(count as usize, contents.len());
    for (index, (kind, content)) in contents.iter().enumerate() {
        // SAFETY: the sanitizer is the judge of that.
        let attribute = unsafe { &*pointer.add(index) };
        assert_eq!({ attribute.type_ }, *kind);
        let length = attribute.ulValueLen as usize;
        // SAFETY: as above.
        let bytes = || unsafe { std::slice::from_raw_parts(attribute.pValue.cast::<u8>(), length) };
        match content {
            Content::Bytes(expected) if expected.is_empty() => assert_eq!(length, 0),
            Content::Bytes(expected) => assert_eq!(bytes(), expected.as_slice()),
            Content::Ulong(number) => assert_eq!(bytes(), number.to_ne_bytes()),
            Content::Bool(truth) => assert_eq!(bytes(), [u8::from(*truth)]),
            Content::Ulongs(numbers) => {
                let expected: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
                assert_eq!(length, expected.len());
                assert!(length == 0 || bytes() == expected.as_slice());
            }
            Content::Template(nested) => {
                assert_eq!(length, std::mem::size_of::<CK_ATTRIBUTE>() * nested.len());
                check_template(nested, attribute.pValue.cast(), nested.len() as CK_ULONG);
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let laid_out = MechanismMemory::new(&Mechanism {
        kind: input.kind,
        parameter: Parameter::Fields(input.members.iter().map(field).collect()),
    });
    // Nested too deep.
    let Ok(mut memory) = laid_out else { return };
    // SAFETY: the mechanism lives until the end.
    let mechanism = unsafe { &*memory.pointer() };
    assert_eq!({ mechanism.mechanism }, input.kind);
    assert_eq!(mechanism.ulParameterLen as usize, size(&input.members));
    if !mechanism.pParameter.is_null() {
        let base = mechanism.pParameter.cast();
        Reader { base, at: 0 }.check(&input.members);
    }
    let _ = memory.written();

    let Ok(mut memory) = TemplateMemory::new(&template(&input.template)) else {
        return;
    };
    let (attributes, count) = memory.pointer();
    check_template(&input.template, attributes, count);
});
