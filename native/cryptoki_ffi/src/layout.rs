//! C structures, mechanisms and templates in memory, with the buffers their pointers point to.

use crate::functions::ulong;
use crate::values::{Field, Mechanism, Parameter, Secret, Template, Value};
use cryptoki_sys::{CK_ATTRIBUTE, CK_MECHANISM, CK_ULONG};
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
}

impl Arena {
    fn store_for_writing(&mut self, bytes: &[u8]) -> *mut c_void {
        if !bytes.is_empty() {
            self.written.push((self.buffers.len(), bytes.len()));
        }
        self.store(bytes)
    }

    /// What the library has written, in the order of the fields.
    fn written(&self) -> Vec<Secret> {
        let bytes = |(index, length): &(usize, usize)| {
            let words = &self.buffers[*index];
            let all: Secret =
                Zeroizing::new(words.iter().flat_map(|word| word.to_ne_bytes()).collect());
            Zeroizing::new(all[..*length].to_vec())
        };
        self.written.iter().map(bytes).collect()
    }
}

/// One structure under construction, with the natural alignment of C.
struct Structure {
    bytes: Zeroizing<Vec<u8>>,
    align: usize,
}

impl Structure {
    fn of(fields: &[Field], arena: &mut Arena) -> Self {
        let mut structure = Structure {
            bytes: Zeroizing::default(),
            align: 1,
        };
        for field in fields {
            structure.push(field, arena);
        }
        structure.pad(structure.align);
        structure
    }

    fn push(&mut self, field: &Field, arena: &mut Arena) {
        match field {
            Field::Ulong(number) => self.value(&number.to_ne_bytes(), align_of::<CK_ULONG>()),
            Field::Handle(handle) => {
                self.value(&handle.object.to_ne_bytes(), align_of::<CK_ULONG>());
            }
            Field::Byte(byte) => self.value(&[*byte], 1),
            Field::Inline(bytes) => self.value(bytes, 1),
            Field::Nested(fields) => {
                let nested = Structure::of(fields, arena);
                self.value(&nested.bytes, nested.align);
            }
            Field::Bytes(bytes) => self.pointer(arena.store(bytes)),
            Field::InOut(bytes) => self.pointer(arena.store_for_writing(bytes)),
            Field::Struct(fields) => {
                let nested = Structure::of(fields, arena);
                self.pointer(arena.store(&nested.bytes));
            }
            Field::Array(elements) => {
                let mut all: Zeroizing<Vec<u8>> = Zeroizing::default();
                for element in elements {
                    all.extend_from_slice(&Structure::of(element, arena).bytes);
                }
                self.pointer(arena.store(&all));
            }
        }
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
        self.bytes.extend_from_slice(bytes);
    }

    fn pad(&mut self, align: usize) {
        let length = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(length, 0);
    }
}

/// A parameter and everything it points to.
pub struct ParameterMemory {
    pointer: *mut c_void,
    length: usize,
    arena: Arena,
}

impl ParameterMemory {
    /// Lays the parameter out.
    pub fn new(parameter: &Parameter) -> Self {
        let mut arena = Arena::default();
        let (pointer, length) = match parameter {
            Parameter::Absent => (std::ptr::null_mut(), 0),
            Parameter::Raw(bytes) => (arena.store(bytes), bytes.len()),
            Parameter::Fields(fields) => {
                let structure = Structure::of(fields, &mut arena);
                (arena.store(&structure.bytes), structure.bytes.len())
            }
        };
        Self {
            pointer,
            length,
            arena,
        }
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

/// A `CK_MECHANISM` and everything it points to.
pub struct MechanismMemory {
    mechanism: CK_MECHANISM,
    parameter: ParameterMemory,
}

impl MechanismMemory {
    /// Lays the mechanism out.
    pub fn new(mechanism: &Mechanism) -> Self {
        let mut parameter = ParameterMemory::new(&mechanism.parameter);
        let (pointer, length) = parameter.pointer();
        let mechanism = CK_MECHANISM {
            mechanism: mechanism.kind,
            pParameter: pointer,
            ulParameterLen: length,
        };
        Self {
            mechanism,
            parameter,
        }
    }

    /// For a call that ends before `self` does.
    pub fn pointer(&mut self) -> *mut CK_MECHANISM {
        &mut self.mechanism
    }

    /// What the library has written into the parameter.
    pub fn written(&self) -> Vec<Secret> {
        self.parameter.written()
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
    pub fn new(template: &Template) -> Self {
        let mut memory = TemplateMemory::default();
        for (kind, value) in template {
            let (pointer, length) = memory.place(value);
            memory.attributes.push(CK_ATTRIBUTE {
                type_: *kind,
                pValue: pointer,
                ulValueLen: ulong(length),
            });
        }
        memory
    }

    fn place(&mut self, value: &Value) -> (*mut c_void, usize) {
        match value {
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
                let mut nested = TemplateMemory::new(template);
                let place = (
                    nested.pointer().cast(),
                    size_of_val(nested.attributes.as_slice()),
                );
                self.nested.push(nested);
                place
            }
        }
    }

    /// For a call that ends before `self` does; null when empty.
    pub fn pointer(&mut self) -> *mut CK_ATTRIBUTE {
        if self.attributes.is_empty() {
            std::ptr::null_mut()
        } else {
            self.attributes.as_mut_ptr()
        }
    }

    /// How many attributes.
    pub fn count(&self) -> CK_ULONG {
        ulong(self.attributes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::mechanism::aead::GcmParams;
    use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
    use cryptoki::mechanism::{Mechanism as Typed, MechanismType};
    use cryptoki_sys as ck;

    fn secret(bytes: &[u8]) -> crate::values::Secret {
        Zeroizing::new(bytes.to_vec())
    }

    fn laid_out(kind: CK_ULONG, fields: Vec<Field>) -> MechanismMemory {
        MechanismMemory::new(&Mechanism {
            kind,
            parameter: Parameter::Fields(fields),
        })
    }

    /// The typed crate as referee: same type, length and bytes.
    #[test]
    fn pss_parameters_are_those_of_the_typed_crate() {
        let typed = Typed::RsaPkcsPss(PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        });
        let theirs = CK_MECHANISM::from(&typed);
        let fields = [ck::CKM_SHA256, ck::CKG_MGF1_SHA256, 32]
            .map(Field::Ulong)
            .to_vec();
        let mut memory = laid_out(ck::CKM_RSA_PKCS_PSS, fields);
        // SAFETY: both point to structures of the length beside them that live until the end.
        let (a, b) = unsafe {
            let ours = &*memory.pointer();
            assert_eq!(ours.mechanism, theirs.mechanism);
            (
                std::slice::from_raw_parts(
                    ours.pParameter.cast::<u8>(),
                    ours.ulParameterLen as usize,
                ),
                std::slice::from_raw_parts(
                    theirs.pParameter.cast::<u8>(),
                    theirs.ulParameterLen as usize,
                ),
            )
        };
        assert_eq!(a, b);
    }

    #[test]
    fn gcm_parameters_are_those_of_the_typed_crate() {
        let mut iv = [7; 12];
        let Ok(params) = GcmParams::new(&mut iv, b"header", 128.into()) else {
            panic!("params")
        };
        let typed = Typed::AesGcm(params);
        let theirs = CK_MECHANISM::from(&typed);
        let mut memory = laid_out(
            ck::CKM_AES_GCM,
            vec![
                Field::Bytes(secret(&[7; 12])),
                Field::Ulong(12),
                Field::Ulong(96),
                Field::Bytes(secret(b"header")),
                Field::Ulong(6),
                Field::Ulong(128),
            ],
        );
        // SAFETY: both point to a CK_GCM_PARAMS that lives until the end.
        unsafe {
            let ours = &*memory.pointer();
            assert_eq!(ours.ulParameterLen, theirs.ulParameterLen);
            let ours = &*ours.pParameter.cast::<ck::CK_GCM_PARAMS>();
            let theirs = &*theirs.pParameter.cast::<ck::CK_GCM_PARAMS>();
            assert_eq!(ours.ulIvLen, theirs.ulIvLen);
            assert_eq!(ours.ulTagBits, theirs.ulTagBits);
            assert_eq!(ours.ulAADLen, theirs.ulAADLen);
            assert_eq!(std::slice::from_raw_parts(ours.pIv, 12), [7; 12]);
            assert_eq!(std::slice::from_raw_parts(ours.pAAD, 6), b"header");
        }
    }

    #[test]
    fn members_are_aligned_as_c_aligns_them() {
        // CK_HKDF_PARAMS: two CK_BBOOLs, then words.
        let mut memory = laid_out(
            ck::CKM_HKDF_DERIVE,
            vec![
                Field::Byte(1),
                Field::Byte(1),
                Field::Ulong(ck::CKM_SHA256),
                Field::Ulong(ck::CKF_HKDF_SALT_DATA),
                Field::Bytes(secret(b"salt")),
                Field::Ulong(4),
                Field::Ulong(0),
                Field::Bytes(secret(b"")),
                Field::Ulong(0),
            ],
        );
        // SAFETY: the parameter is a CK_HKDF_PARAMS that lives until the end.
        unsafe {
            let mechanism = &*memory.pointer();
            assert_eq!(
                mechanism.ulParameterLen as usize,
                size_of::<ck::CK_HKDF_PARAMS>()
            );
            let params = &*mechanism.pParameter.cast::<ck::CK_HKDF_PARAMS>();
            assert_eq!((params.bExtract, params.bExpand), (1, 1));
            assert_eq!(params.prfHashMechanism, ck::CKM_SHA256);
            assert_eq!(std::slice::from_raw_parts(params.pSalt, 4), b"salt");
            assert!(params.pInfo.is_null());
        }
    }

    #[test]
    fn inline_bytes_follow_a_word() {
        let mut memory = laid_out(
            ck::CKM_AES_CTR,
            vec![Field::Ulong(128), Field::Inline(secret(&[9; 16]))],
        );
        // SAFETY: the parameter is a CK_AES_CTR_PARAMS that lives until the end.
        unsafe {
            let mechanism = &*memory.pointer();
            assert_eq!(
                mechanism.ulParameterLen as usize,
                size_of::<ck::CK_AES_CTR_PARAMS>()
            );
            let params = &*mechanism.pParameter.cast::<ck::CK_AES_CTR_PARAMS>();
            assert_eq!((params.ulCounterBits, params.cb), (128, [9; 16]));
        }
    }

    #[test]
    fn nested_templates_point_to_their_attributes() {
        let template = vec![
            (ck::CKA_TOKEN, Value::Bool(true)),
            (
                ck::CKA_WRAP_TEMPLATE,
                Value::Template(vec![(ck::CKA_VALUE_LEN, Value::Ulong(32))]),
            ),
        ];
        let mut memory = TemplateMemory::new(&template);
        assert_eq!(memory.count(), 2);
        // SAFETY: two attributes, the second of which points to one more.
        unsafe {
            let outer = std::slice::from_raw_parts(memory.pointer(), 2);
            assert_eq!(outer[1].ulValueLen as usize, size_of::<CK_ATTRIBUTE>());
            let inner = &*outer[1].pValue.cast::<CK_ATTRIBUTE>();
            assert_eq!(*inner.pValue.cast::<CK_ULONG>(), 32);
        }
    }
}
