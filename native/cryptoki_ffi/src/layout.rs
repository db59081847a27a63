//! C structures, mechanisms and templates in memory, with the buffers their pointers point to.

use crate::failure::{Failure, Reason, Result};
use crate::functions::ulong;
use crate::values::{Field, LEVELS, Mechanism, Parameter, Secret, Template, Value};
use cryptoki_sys::{CK_ATTRIBUTE, CK_INVALID_HANDLE, CK_MECHANISM, CK_OBJECT_HANDLE, CK_ULONG};
use std::ffi::c_void;
use zeroize::Zeroizing;

/// Memory aligned for every structure of the standard.
type Buffer = Zeroizing<Vec<u64>>;

/// What pointers point to; its heap blocks stay where they are when it grows or moves.
#[derive(Default)]
struct Arena {
    buffers: Vec<Buffer>,
    /// Which of them are read back, and how long they are in bytes.
    written: Vec<(usize, usize)>,
    /// Where handles come back: in which of them, and at which byte.
    handles: Vec<(usize, usize)>,
    /// What attributes within a structure point to.
    templates: Vec<TemplateMemory>,
}

impl Arena {
    fn store(&mut self, bytes: &[u8]) -> *mut c_void {
        if bytes.is_empty() {
            return std::ptr::null_mut();
        }
        let mut buffer: Buffer = Zeroizing::new(vec![0; bytes.len().div_ceil(8)]);
        for (word, chunk) in buffer.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(whole);
        }
        let pointer = buffer.as_mut_ptr().cast();
        self.buffers.push(buffer);
        pointer
    }

    fn place(&mut self, structure: &Structure) -> *mut c_void {
        let handles = structure.handles.iter().map(|at| (self.buffers.len(), *at));
        self.handles.extend(handles);
        self.store(&structure.bytes)
    }

    fn store_for_writing(&mut self, bytes: &[u8]) -> *mut c_void {
        if !bytes.is_empty() {
            self.written.push((self.buffers.len(), bytes.len()));
        }
        self.store(bytes)
    }

    /// What the library has written, in the order of the fields.
    fn written(&self) -> Vec<Secret> {
        let bytes = |(index, length): &(usize, usize)| {
            Zeroizing::new(self.bytes(*index)[..*length].to_vec())
        };
        self.written.iter().map(bytes).collect()
    }

    /// The handles it has written.
    fn handles(&self) -> Vec<CK_OBJECT_HANDLE> {
        let handle = |(index, at): &(usize, usize)| {
            let mut bytes = [0; size_of::<CK_OBJECT_HANDLE>()];
            bytes.copy_from_slice(&self.bytes(*index)[*at..][..size_of::<CK_OBJECT_HANDLE>()]);
            CK_OBJECT_HANDLE::from_ne_bytes(bytes)
        };
        self.handles.iter().map(handle).collect()
    }

    fn bytes(&self, index: usize) -> Secret {
        let words = self.buffers[index].iter();
        Zeroizing::new(words.flat_map(|word| word.to_ne_bytes()).collect())
    }
}

/// One level less: what is nested deeper would only end with the stack.
fn deeper(levels: usize) -> Result<usize> {
    levels.checked_sub(1).ok_or_else(|| {
        Failure::own(
            Reason::InvalidArgument,
            format!("structures and templates are nested more than {LEVELS} levels deep"),
        )
    })
}

/// One structure under construction, with the natural alignment of C.
struct Structure {
    bytes: Zeroizing<Vec<u8>>,
    align: usize,
    /// Where in it the library puts handles.
    handles: Vec<usize>,
}

impl Structure {
    fn empty() -> Self {
        Structure {
            bytes: Zeroizing::default(),
            align: 1,
            handles: Vec::new(),
        }
    }

    fn of(fields: &[Field], arena: &mut Arena, levels: usize) -> Result<Self> {
        let levels = deeper(levels)?;
        let mut structure = Structure::empty();
        for field in fields {
            structure.push(field, arena, levels)?;
        }
        structure.pad(structure.align);
        Ok(structure)
    }

    fn push(&mut self, field: &Field, arena: &mut Arena, levels: usize) -> Result<()> {
        match field {
            Field::Ulong(number) => self.value(&number.to_ne_bytes(), align_of::<CK_ULONG>()),
            Field::Handle(handle) => {
                self.value(&handle.number.to_ne_bytes(), align_of::<CK_ULONG>());
            }
            Field::Byte(byte) => self.value(&[*byte], 1),
            Field::Inline(bytes) => self.value(bytes, 1),
            Field::NewHandle => {
                self.value(&CK_INVALID_HANDLE.to_ne_bytes(), align_of::<CK_ULONG>());
                self.handles.push(self.bytes.len() - size_of::<CK_ULONG>());
            }
            Field::Nested(fields) => {
                let nested = Structure::of(fields, arena, levels)?;
                self.value(&nested.bytes, nested.align);
                self.adopt(&nested);
            }
            Field::Template(template) => {
                let mut memory = TemplateMemory::of(template, levels)?;
                self.pointer(memory.pointer().0.cast());
                arena.templates.push(memory);
            }
            Field::Bytes(bytes) => self.pointer(arena.store(bytes)),
            Field::InOut(bytes) => self.pointer(arena.store_for_writing(bytes)),
            Field::Struct(fields) => {
                let nested = Structure::of(fields, arena, levels)?;
                self.pointer(arena.place(&nested));
            }
            Field::Array(elements) => {
                let mut all = Structure::empty();
                for element in elements {
                    let element = Structure::of(element, arena, levels)?;
                    all.put(&element.bytes);
                    all.adopt(&element);
                }
                self.pointer(arena.place(&all));
            }
        }
        Ok(())
    }

    /// The handles of a structure that was put at the end of this one.
    fn adopt(&mut self, nested: &Structure) {
        let begin = self.bytes.len() - nested.bytes.len();
        self.handles
            .extend(nested.handles.iter().map(|at| begin + at));
    }

    fn pointer(&mut self, pointer: *mut c_void) {
        self.value(
            &pointer.expose_provenance().to_ne_bytes(),
            align_of::<*mut c_void>(),
        );
    }

    fn value(&mut self, bytes: &[u8], align: usize) {
        self.pad(align);
        self.align = self.align.max(align);
        self.put(bytes);
    }

    /// A block that is too small is overwritten before it is given back: there may be a secret in it.
    fn put(&mut self, bytes: &[u8]) {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            let room = needed.next_power_of_two().max(64);
            let mut larger = Zeroizing::new(Vec::with_capacity(room));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn pad(&mut self, align: usize) {
        let missing = self.bytes.len().next_multiple_of(align) - self.bytes.len();
        // No structure of the standard is aligned to more.
        self.put(&[0; 16][..missing.min(16)]);
    }
}

/// A parameter and everything it points to.
pub struct ParameterMemory {
    pointer: *mut c_void,
    length: usize,
    arena: Arena,
    /// Whether the parameter is bytes as they are, the IV of most ciphers.
    raw: bool,
    /// What stood in the fields that the library may write to.
    given: Vec<Secret>,
}

impl ParameterMemory {
    /// Lays the parameter out.
    pub fn new(parameter: &Parameter) -> Result<Self> {
        let mut arena = Arena::default();
        let (pointer, length) = match parameter {
            Parameter::Absent => (std::ptr::null_mut(), 0),
            Parameter::Raw(bytes) => (arena.store(bytes), bytes.len()),
            Parameter::Fields(fields) => {
                let structure = Structure::of(fields, &mut arena, LEVELS)?;
                (arena.place(&structure), structure.bytes.len())
            }
        };
        let mut memory = Self {
            pointer,
            length,
            arena,
            raw: length != 0 && matches!(parameter, Parameter::Raw(_)),
            given: Vec::new(),
        };
        memory.given = memory.now();
        Ok(memory)
    }

    fn now(&self) -> Vec<Secret> {
        if self.raw {
            vec![Zeroizing::new(self.arena.bytes(0)[..self.length].to_vec())]
        } else {
            self.arena.written()
        }
    }

    /// What the library has written where it was given something else: an IV of its own.
    pub fn rewritten(&self) -> Option<Vec<Secret>> {
        Some(self.now()).filter(|now| *now != self.given)
    }

    /// Pointer and length, for a call that ends before `self` does.
    pub fn pointer(&mut self) -> (*mut c_void, CK_ULONG) {
        (self.pointer, ulong(self.length))
    }

    /// What the library has written into the fields it may write to.
    pub fn written(&self) -> Vec<Secret> {
        self.arena.written()
    }
}

/// A `CK_MECHANISM` and everything it points to. A library may keep the pointers of an init: they stay valid
/// as long as this does, wherever it is moved.
pub struct MechanismMemory {
    mechanism: CK_MECHANISM,
    parameter: ParameterMemory,
}

// SAFETY: the pointers lead into blocks that the memory owns; whoever has it may drop it, on any thread.
unsafe impl Send for MechanismMemory {}

impl MechanismMemory {
    /// Lays the mechanism out.
    pub fn new(mechanism: &Mechanism) -> Result<Self> {
        let mut parameter = ParameterMemory::new(&mechanism.parameter)?;
        let (pointer, length) = parameter.pointer();
        let mechanism = CK_MECHANISM {
            mechanism: mechanism.kind,
            pParameter: pointer,
            ulParameterLen: length,
        };
        Ok(Self {
            mechanism,
            parameter,
        })
    }

    /// For a call that ends before `self` does.
    pub fn pointer(&mut self) -> *mut CK_MECHANISM {
        &mut self.mechanism
    }

    /// What the library has written into the parameter.
    pub fn written(&self) -> Vec<Secret> {
        self.parameter.written()
    }

    /// What the library has written where it was given something else: an IV of its own.
    pub fn rewritten(&self) -> Option<Vec<Secret>> {
        self.parameter.rewritten()
    }

    /// The handles it has written there; invalid ones where it made no key.
    pub fn handles(&self) -> Vec<CK_OBJECT_HANDLE> {
        self.parameter.arena.handles()
    }
}

/// An array of `CK_ATTRIBUTE` and everything it points to.
#[derive(Default)]
pub struct TemplateMemory {
    attributes: Vec<CK_ATTRIBUTE>,
    arena: Arena,
    nested: Vec<TemplateMemory>,
}

impl TemplateMemory {
    /// Lays the template out.
    pub fn new(template: &Template) -> Result<Self> {
        Self::of(template, LEVELS)
    }

    fn of(template: &Template, levels: usize) -> Result<Self> {
        let levels = deeper(levels)?;
        let mut memory = TemplateMemory::default();
        for (kind, value) in template {
            let (pointer, length) = memory.place(value, levels)?;
            memory.attributes.push(CK_ATTRIBUTE {
                type_: *kind,
                pValue: pointer,
                ulValueLen: ulong(length),
            });
        }
        Ok(memory)
    }

    fn place(&mut self, value: &Value, levels: usize) -> Result<(*mut c_void, usize)> {
        Ok(match value {
            Value::Bytes(bytes) => (self.arena.store(bytes), bytes.len()),
            Value::Bool(truth) => (self.arena.store(&[u8::from(*truth)]), 1),
            Value::Ulong(number) => (
                self.arena.store(&number.to_ne_bytes()),
                size_of::<CK_ULONG>(),
            ),
            Value::Ulongs(numbers) => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
                (self.arena.store(&bytes), bytes.len())
            }
            Value::Template(template) => {
                let mut nested = TemplateMemory::of(template, levels)?;
                let size = size_of_val(nested.attributes.as_slice());
                let place = (nested.pointer().0.cast(), size);
                self.nested.push(nested);
                place
            }
        })
    }

    /// Pointer and count, for a call that ends before `self` does; null when empty.
    pub fn pointer(&mut self) -> (*mut CK_ATTRIBUTE, CK_ULONG) {
        let pointer = if self.attributes.is_empty() {
            std::ptr::null_mut()
        } else {
            self.attributes.as_mut_ptr()
        };
        (pointer, ulong(self.attributes.len()))
    }
}

#[cfg(test)]
mod tests;
