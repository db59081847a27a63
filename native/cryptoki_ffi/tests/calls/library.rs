//! A PKCS #11 library that notes what it is asked, argument by argument in the order of the standard's prototypes,
//! and answers as it is told to. It is called on the thread of the test: each has its own notes.

use cryptoki_ffi::failure::{Failure, Result};
use cryptoki_ffi::functions::Functions;
use cryptoki_sys::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::fmt::Debug;

thread_local! {
    static NOTES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static ANSWER: Cell<CK_RV> = const { Cell::new(CKR_OK) };
    static HANDLE: Cell<CK_ULONG> = const { Cell::new(101) };
}

/// What the library was asked since the last time.
pub fn notes() -> Vec<String> {
    NOTES.take()
}

/// From now on the library answers so.
pub fn answer(code: CK_RV) {
    ANSWER.set(code);
}

/// The handles that it gives begin with this one.
pub fn hand_out(handle: CK_ULONG) {
    HANDLE.set(handle);
}

/// One call while it is noted.
struct Call {
    words: Vec<String>,
    bytes: Option<*mut CK_BYTE>,
    attributes: Option<*mut CK_ATTRIBUTE>,
    items: Option<*mut CK_ULONG>,
    handle: CK_ULONG,
}

impl Call {
    fn n(&mut self, n: CK_ULONG) {
        let word = match (self.bytes.take(), self.attributes.take()) {
            (Some(bytes), _) if bytes.is_null() => format!("none:{n}"),
            // SAFETY: the caller says that there are as many.
            (Some(bytes), _) => unsafe { std::slice::from_raw_parts(bytes, n as usize) }
                .escape_ascii()
                .to_string(),
            (_, Some(attributes)) if attributes.is_null() => format!("none:{n}"),
            (_, Some(attributes)) => {
                // SAFETY: as above.
                let all = unsafe { std::slice::from_raw_parts(attributes, n as usize) };
                let words: Vec<_> = all.iter().map(attribute).collect();
                words.join(",")
            }
            (None, None) => n.to_string(),
        };
        self.words.push(word);
    }

    fn byte(&mut self, byte: CK_BYTE) {
        self.n(byte.into());
    }

    fn data(&mut self, bytes: *mut CK_BYTE) {
        self.bytes = Some(bytes);
    }

    fn template(&mut self, attributes: *mut CK_ATTRIBUTE) {
        self.attributes = Some(attributes);
    }

    /// The label of C_InitToken has no length.
    fn label(&mut self, label: *mut CK_BYTE) {
        self.data(label);
        self.n(32);
    }

    fn mechanism(&mut self, mechanism: *mut CK_MECHANISM) {
        // SAFETY: the caller's own.
        let CK_MECHANISM {
            mechanism,
            pParameter,
            ulParameterLen,
        } = unsafe { *mechanism };
        self.n(mechanism);
        self.parameter(pParameter);
        self.n(ulParameterLen);
    }

    fn parameter(&mut self, parameter: *mut c_void) {
        self.data(parameter.cast());
    }

    fn pointer(&mut self, pointer: *mut c_void) {
        if !pointer.is_null() {
            self.words.push("argument".into());
        }
    }

    fn notify(&mut self, _notify: CK_NOTIFY) {}

    fn out(&mut self, buffer: *mut CK_BYTE) {
        self.bytes = Some(buffer);
    }

    /// Gives the name of the function.
    fn room(&mut self, length: *mut CK_ULONG) {
        let name = self.words[0].as_bytes();
        let (Some(buffer), false) = (self.bytes.take(), length.is_null()) else {
            return;
        };
        // SAFETY: the caller's own, with as much room as it says.
        unsafe {
            assert!(*length as usize >= name.len());
            buffer.copy_from(name.as_ptr(), name.len());
            *length = name.len() as CK_ULONG;
        }
        self.words.push("room".into());
    }

    fn random(&mut self, buffer: *mut CK_BYTE) {
        // SAFETY: no call of these tests wants less.
        unsafe { buffer.write_bytes(9, 3) };
    }

    fn made(&mut self, handle: *mut CK_ULONG) {
        // SAFETY: the caller's own.
        unsafe { *handle = self.handle };
        self.handle += 1;
    }

    /// A list and its length.
    fn list(&mut self, items: *mut CK_ULONG) {
        self.items = Some(items);
    }

    /// How many there is room for, and then how many there are.
    fn count(&mut self, count: *mut CK_ULONG) {
        // SAFETY: the caller's own.
        unsafe {
            assert!(
                self.items
                    .is_none_or(|items| items.is_null() || *count >= 2)
            )
        };
        self.found(count);
    }

    /// How many there are: two.
    fn found(&mut self, count: *mut CK_ULONG) {
        let items = self.items.take().filter(|items| !items.is_null());
        // SAFETY: the caller's own, with as much room as it says.
        unsafe {
            if let Some(items) = items {
                items.cast::<[CK_ULONG; 2]>().write_unaligned([5, 6]);
            }
            *count = 2;
        }
    }

    /// A structure, filled with threes.
    fn structure<T>(&mut self, structure: *mut T) {
        // SAFETY: the caller's own.
        unsafe { structure.cast::<u8>().write_bytes(3, size_of::<T>()) };
    }
}

fn attribute(attribute: &CK_ATTRIBUTE) -> String {
    let CK_ATTRIBUTE {
        type_,
        pValue,
        ulValueLen,
    } = *attribute;
    // SAFETY: the caller says that there are as many.
    let value = unsafe { std::slice::from_raw_parts(pValue.cast::<u8>(), ulValueLen as usize) };
    format!("{type_}={}", value.escape_ascii())
}

fn noted(name: &str, note: impl FnOnce(&mut Call)) -> CK_RV {
    let mut call = Call {
        words: vec![name.to_string()],
        bytes: None,
        attributes: None,
        items: None,
        handle: HANDLE.get(),
    };
    note(&mut call);
    NOTES.with_borrow_mut(|notes| notes.push(call.words.join(" ")));
    ANSWER.get()
}

macro_rules! ty {
    (n) => { CK_ULONG };
    (byte) => { CK_BYTE };
    (data) => { *mut CK_BYTE };
    (label) => { *mut CK_BYTE };
    (out) => { *mut CK_BYTE };
    (random) => { *mut CK_BYTE };
    (room) => { *mut CK_ULONG };
    (made) => { *mut CK_ULONG };
    (list) => { *mut CK_ULONG };
    (found) => {
        *mut CK_ULONG
    };
    (count) => { *mut CK_ULONG };
    (template) => { *mut CK_ATTRIBUTE };
    (mechanism) => { *mut CK_MECHANISM };
    (parameter) => { *mut c_void };
    (pointer) => { *mut c_void };
    (notify) => { CK_NOTIFY };
    ($structure:ident) => { *mut $structure };
}

macro_rules! note {
    ($call:ident $kind:ident $value:ident) => { note!(@ $call $kind $value) };
    (@ $call:ident CK_INFO $value:ident) => { $call.structure($value) };
    (@ $call:ident CK_SLOT_INFO $value:ident) => { $call.structure($value) };
    (@ $call:ident CK_TOKEN_INFO $value:ident) => { $call.structure($value) };
    (@ $call:ident CK_SESSION_INFO $value:ident) => { $call.structure($value) };
    (@ $call:ident CK_MECHANISM_INFO $value:ident) => { $call.structure($value) };
    (@ $call:ident $kind:ident $value:ident) => { $call.$kind($value) };
}

macro_rules! functions {
    ($($name:ident: $($arg:ident $kind:ident)*;)*) => {
        $(#[allow(non_snake_case)]
        unsafe extern "C" fn $name($($arg: ty!($kind)),*) -> CK_RV {
            noted(stringify!($name), |_call| { $(note!(_call $kind $arg);)* })
        })*

        /// All functions that are called.
        pub fn list() -> CK_FUNCTION_LIST_3_2 {
            // SAFETY: functions that are not there.
            let mut list: CK_FUNCTION_LIST_3_2 = unsafe { std::mem::zeroed() };
            $(list.$name = Some($name);)*
            list
        }
    };
}

functions! {
    C_Initialize: a pointer;
    C_Finalize: a pointer;
    C_GetInfo: a CK_INFO;
    C_GetSlotList: a byte b list c count;
    C_GetSlotInfo: a n b CK_SLOT_INFO;
    C_GetTokenInfo: a n b CK_TOKEN_INFO;
    C_GetMechanismList: a n b list c count;
    C_GetMechanismInfo: a n b n c CK_MECHANISM_INFO;
    C_InitToken: a n b data c n d label;
    C_InitPIN: a n b data c n;
    C_SetPIN: a n b data c n d data e n;
    C_OpenSession: a n b n c pointer d notify e made;
    C_CloseSession: a n;
    C_GetSessionInfo: a n b CK_SESSION_INFO;
    C_GetOperationState: a n b out c room;
    C_SetOperationState: a n b data c n d n e n;
    C_Login: a n b n c data d n;
    C_LoginUser: a n b n c data d n e data f n;
    C_Logout: a n;
    C_CreateObject: a n b template c n d made;
    C_CopyObject: a n b n c template d n e made;
    C_DestroyObject: a n b n;
    C_GetObjectSize: a n b n c made;
    C_SetAttributeValue: a n b n c template d n;
    C_FindObjectsInit: a n b template c n;
    C_FindObjects: a n b list c n d found;
    C_FindObjectsFinal: a n;
    C_EncryptInit: a n b mechanism c n;
    C_Encrypt: a n b data c n d out e room;
    C_EncryptUpdate: a n b data c n d out e room;
    C_EncryptFinal: a n b out c room;
    C_DecryptInit: a n b mechanism c n;
    C_Decrypt: a n b data c n d out e room;
    C_DecryptUpdate: a n b data c n d out e room;
    C_DecryptFinal: a n b out c room;
    C_DigestInit: a n b mechanism;
    C_Digest: a n b data c n d out e room;
    C_DigestUpdate: a n b data c n;
    C_DigestKey: a n b n;
    C_DigestFinal: a n b out c room;
    C_SignInit: a n b mechanism c n;
    C_Sign: a n b data c n d out e room;
    C_SignUpdate: a n b data c n;
    C_SignFinal: a n b out c room;
    C_SignRecoverInit: a n b mechanism c n;
    C_SignRecover: a n b data c n d out e room;
    C_VerifyInit: a n b mechanism c n;
    C_Verify: a n b data c n d data e n;
    C_VerifyUpdate: a n b data c n;
    C_VerifyFinal: a n b data c n;
    C_VerifyRecoverInit: a n b mechanism c n;
    C_VerifyRecover: a n b data c n d out e room;
    C_DigestEncryptUpdate: a n b data c n d out e room;
    C_DecryptDigestUpdate: a n b data c n d out e room;
    C_SignEncryptUpdate: a n b data c n d out e room;
    C_DecryptVerifyUpdate: a n b data c n d out e room;
    C_GenerateKey: a n b mechanism c template d n e made;
    C_GenerateKeyPair: a n b mechanism c template d n e template f n g made h made;
    C_WrapKey: a n b mechanism c n d n e out f room;
    C_UnwrapKey: a n b mechanism c n d data e n f template g n h made;
    C_DeriveKey: a n b mechanism c n d template e n f made;
    C_SeedRandom: a n b data c n;
    C_GenerateRandom: a n b random c n;
    C_WaitForSlotEvent: a n b made c pointer;
    C_SessionCancel: a n b n;
    C_MessageEncryptInit: a n b mechanism c n;
    C_EncryptMessage: a n b parameter c n d data e n f data g n h out i room;
    C_EncryptMessageBegin: a n b parameter c n d data e n;
    C_EncryptMessageNext: a n b parameter c n d data e n f out g room h n;
    C_MessageEncryptFinal: a n;
    C_MessageDecryptInit: a n b mechanism c n;
    C_DecryptMessage: a n b parameter c n d data e n f data g n h out i room;
    C_DecryptMessageBegin: a n b parameter c n d data e n;
    C_DecryptMessageNext: a n b parameter c n d data e n f out g room h n;
    C_MessageDecryptFinal: a n;
    C_MessageSignInit: a n b mechanism c n;
    C_SignMessage: a n b parameter c n d data e n f out g room;
    C_SignMessageBegin: a n b parameter c n;
    C_SignMessageNext: a n b parameter c n d data e n f out g room;
    C_MessageSignFinal: a n;
    C_MessageVerifyInit: a n b mechanism c n;
    C_VerifyMessage: a n b parameter c n d data e n f data g n;
    C_VerifyMessageBegin: a n b parameter c n;
    C_VerifyMessageNext: a n b parameter c n d data e n f data g n;
    C_MessageVerifyFinal: a n;
    C_EncapsulateKey: a n b mechanism c n d template e n f out g room h made;
    C_DecapsulateKey: a n b mechanism c n d template e n f data g n h made;
    C_VerifySignatureInit: a n b mechanism c n d data e n;
    C_VerifySignature: a n b data c n;
    C_VerifySignatureUpdate: a n b data c n;
    C_VerifySignatureFinal: a n;
    C_GetSessionValidationFlags: a n b n c made;
    C_WrapKeyAuthenticated: a n b mechanism c n d n e data f n g out h room;
    C_UnwrapKeyAuthenticated: a n b mechanism c n d data e n f template g n h data i n j made;
}

/// A library with these functions, open for calls.
pub fn opened(list: CK_FUNCTION_LIST_3_2) -> Functions {
    // SAFETY: the functions keep to their declarations.
    let functions = unsafe { Functions::new(list, (3, 2), Vec::new()) };
    functions.gate.open();
    functions
}

/// That a method asks the library this and gives that; and that it hands on what the library answers, and says
/// what the library does not have.
#[track_caller]
pub fn asks<T: Debug + PartialEq>(asked: &str, given: T, method: impl Fn(&Functions) -> Result<T>) {
    let name = asked.split(' ').next().unwrap_or_default();
    let failed = |code| match method(&opened(list())) {
        Err(failure) => {
            failure
                == Failure::Rv {
                    code,
                    function: leaked(name),
                }
        }
        Ok(_) => false,
    };
    notes();
    answer(CKR_OK);
    assert_eq!(method(&opened(list())), Ok(given));
    assert_eq!(notes().last().map(String::as_str), Some(asked));
    answer(CKR_DEVICE_ERROR);
    assert!(failed(CKR_DEVICE_ERROR), "{name}: a failure is handed on");
    answer(CKR_OK);
    // SAFETY: functions that are not there.
    let nothing = method(&opened(unsafe { std::mem::zeroed() }));
    assert!(nothing.is_err_and(|failure| failure.is(CKR_FUNCTION_NOT_SUPPORTED)));
}

fn leaked(name: &str) -> &'static str {
    name.to_string().leak()
}
