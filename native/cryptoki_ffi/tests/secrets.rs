//! No memory is given back with a secret in it: whoever gets it next, or reads a dump, would find keys and PINs.

use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::functions::Functions;
use cryptoki_ffi::layout::{MechanismMemory, TemplateMemory};
use cryptoki_ffi::values::{Data, Field, Mechanism, Parameter, Value};
use cryptoki_sys::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const SECRET: [u8; 16] = *b"not to be found!";

static FOUND: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which looks at what it is given back; what grows is moved.
struct Watching;

// SAFETY: all memory is the system's.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let is_at = |at: usize| {
            // SAFETY: within the block; what was never written is read as it is.
            (0..SECRET.len()).all(|n| unsafe { block.add(at + n).read_volatile() } == SECRET[n])
        };
        if (0..(layout.size() + 1).saturating_sub(SECRET.len())).any(is_at) {
            FOUND.fetch_add(1, SeqCst);
        }
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

fn secret() -> Data {
    Data::copied(&SECRET)
}

/// How many blocks with a secret were given back meanwhile.
fn found(work: impl FnOnce()) -> usize {
    let before = FOUND.load(SeqCst);
    work();
    FOUND.load(SeqCst) - before
}

/// Fails, and has written the plaintext already.
unsafe extern "C" fn decrypt(
    _session: CK_ULONG,
    _data: *mut CK_BYTE,
    _length: CK_ULONG,
    out: *mut CK_BYTE,
    _room: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: there is room for more.
    unsafe { out.copy_from(SECRET.as_ptr(), SECRET.len()) };
    CKR_DEVICE_ERROR
}

/// One test: what others give back at the same time would be counted as well.
#[test]
fn what_is_given_back_is_overwritten_before() {
    assert_eq!(found(|| drop(SECRET.to_vec())), 1, "it is seen");

    assert_eq!(found(|| drop(secret())), 0);
    let inline = |count| vec![Field::Inline(secret()); count];
    for count in 1..20 {
        let mut fields = inline(count);
        fields.push(Field::Byte(1));
        fields.push(Field::Bytes(secret()));
        fields.push(Field::Struct(inline(count)));
        fields.push(Field::Array(vec![inline(count), inline(1)]));
        let mechanism = Mechanism {
            kind: CKM_VENDOR_DEFINED,
            parameter: Parameter::Fields(fields),
        };
        let left = found(|| assert!(MechanismMemory::new(&mechanism).is_ok()));
        assert_eq!(left, 0, "{count}");
    }
    let template = vec![(CKA_VALUE, Value::Bytes(secret()))];
    assert_eq!(found(|| drop(TemplateMemory::new(&template))), 0);

    // SAFETY: functions that are not there.
    let mut list: CK_FUNCTION_LIST_3_2 = unsafe { std::mem::zeroed() };
    list.C_Decrypt = Some(decrypt);
    // SAFETY: the function keeps to its declaration.
    let functions = unsafe { Functions::new(list, (2, 40), Vec::new()) };
    functions.gate.open();
    let left = found(|| assert!(functions.single(Kind::Decrypt, 0, 1, b"data").is_err()));
    assert_eq!(left, 0);
}
