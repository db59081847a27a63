//! The table of all functions of PKCS #11 3.2 and what is made of it: a wrapper each, and the lists that hold the wrappers.
//!
//! A line is a function and its arguments in order; the name of an argument is its type (see `ty!`). The first
//! argument says what the call depends on (a session, a slot, the library). `-> out len` marks the buffer and the
//! length a lie falsifies, `=> template n` the attributes, `by` the function that stands in for the target's.

use crate::call::{self, Buffer, Call, Claim, Handles, Scope};
use crate::subject::Subject;
use crate::target::real;
use crate::{attribute, environment, handles, iv, signature, text, token, two_layers, values};
use cryptoki_sys::*;
use std::ffi::c_void;

/// Every function of 2.40, 3.0 and 3.2 together; the older lists are its beginning.
pub type List = CK_FUNCTION_LIST_3_2;

macro_rules! ty {
    (session) => { CK_SESSION_HANDLE };
    (slot) => { CK_SLOT_ID };
    (reader) => { CK_SLOT_ID };
    (slots) => { *mut CK_SLOT_ID };
    (object) => { CK_OBJECT_HANDLE };
    (object2) => { CK_OBJECT_HANDLE };
    (objects) => { *mut CK_OBJECT_HANDLE };
    (new) => { *mut CK_OBJECT_HANDLE };
    (new2) => { *mut CK_OBJECT_HANDLE };
    (handle) => { *mut CK_SESSION_HANDLE };
    (data) => { *mut CK_BYTE };
    (data2) => { *mut CK_BYTE };
    (out) => { *mut CK_BYTE };
    (n) => { CK_ULONG };
    (n2) => { CK_ULONG };
    (n3) => { CK_ULONG };
    (len) => { *mut CK_ULONG };
    (mechanism) => { *mut CK_MECHANISM };
    (mechanisms) => { *mut CK_MECHANISM_TYPE };
    (mechanism_type) => { CK_MECHANISM_TYPE };
    (mechanism_info) => { *mut CK_MECHANISM_INFO };
    (template) => { *mut CK_ATTRIBUTE };
    (template2) => { *mut CK_ATTRIBUTE };
    (pointer) => { *mut c_void };
    (notify) => { CK_NOTIFY };
    (flags) => { CK_FLAGS };
    (flags_out) => { *mut CK_FLAGS };
    (present) => { CK_BBOOL };
    (user) => { CK_USER_TYPE };
    (info) => { *mut CK_INFO };
    (slot_info) => { *mut CK_SLOT_INFO };
    (token_info) => { *mut CK_TOKEN_INFO };
    (session_info) => { *mut CK_SESSION_INFO };
    (validation) => { CK_SESSION_VALIDATION_FLAGS_TYPE };
    (async_data) => { *mut CK_ASYNC_DATA };
}

macro_rules! scope {
    (session $value:ident) => {
        Scope::Session($value)
    };
    (reader $value:ident) => {
        Scope::Reader($value)
    };
    (slot $value:ident) => {
        Scope::Slot($value)
    };
    ($other:ident $value:ident) => {
        Scope::Library
    };
}

macro_rules! claim {
    () => {
        Claim::Nothing
    };
    (-> $out:ident $len:ident) => {
        Claim::Length {
            query: $out.is_query(),
            len: $len,
            buffer: $out.place(),
        }
    };
    (=> $template:ident $n:ident) => {
        Claim::Attributes($template, $n)
    };
}

/// What an argument says a call is about.
macro_rules! about {
    ($subject:ident slot $value:ident) => {
        $subject.slot = Some($value)
    };
    ($subject:ident reader $value:ident) => {
        $subject.slot = Some($value)
    };
    ($subject:ident session $value:ident) => {
        $subject.slot = token::slot_of($value)
    };
    ($subject:ident object $value:ident) => {
        $subject.objects.push($value)
    };
    ($subject:ident object2 $value:ident) => {
        $subject.objects.push($value)
    };
    ($subject:ident mechanism_type $value:ident) => {
        $subject.mechanism = Some($value)
    };
    ($subject:ident mechanism $value:ident) => {
        // SAFETY: null, or the caller's mechanism.
        $subject.mechanism = unsafe { $value.as_ref() }.map(|mechanism| mechanism.mechanism)
    };
    ($subject:ident n $value:ident) => {
        $subject.length = Some($value)
    };
    ($subject:ident $other:ident $value:ident) => {};
}

/// The attributes of a template.
fn attributes(template: *const CK_ATTRIBUTE, n: CK_ULONG) -> Vec<CK_ATTRIBUTE_TYPE> {
    if template.is_null() {
        return Vec::new();
    }
    // SAFETY: not null, and the caller vouches for `n` attributes.
    let template = unsafe { std::slice::from_raw_parts(template, n as usize) };
    template.iter().map(|attribute| attribute.type_).collect()
}

/// A handle of an object as the target knows it.
macro_rules! known {
    (object $value:ident) => {
        handles::known($value)
    };
    (object2 $value:ident) => {
        handles::known($value)
    };
    ($other:ident $value:ident) => {
        $value
    };
}

/// A handle that the target has given, as the client knows it.
macro_rules! given {
    (new $value:ident) => {
        handles::given($value)
    };
    (new2 $value:ident) => {
        handles::given($value)
    };
    ($other:ident $value:ident) => {
        let _ = $value;
    };
}

/// Where a call gives handles.
macro_rules! place {
    (new $value:ident) => {
        Some(Handles::One($value))
    };
    (new2 $value:ident) => {
        Some(Handles::One($value))
    };
    (handle $value:ident) => {
        Some(Handles::One($value))
    };
    (objects $value:ident) => {
        Some(Handles::Many($value))
    };
    ($other:ident $value:ident) => {
        None
    };
}

macro_rules! forward {
    ($name:ident($($arg:ident)*)) => {
        real!($name($($arg),*))
    };
    ($name:ident($($arg:ident)*) $hook:path) => {
        // SAFETY: the stand-in has the contract of the function it stands for.
        unsafe { $hook($($arg),*) }
    };
}

macro_rules! functions {
    ($($name:ident($first:ident $($arg:ident)* $(-> $out:ident $len:ident $($more:ident)*)? $(=> $template:ident $n:ident)?)
       $(by $hook:path)?;)*) => {
        /// The names of all wrapped functions: what a rule may name.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        #[allow(non_snake_case, clippy::too_many_arguments)]
        mod wrapped {
            use super::*;
            $(
                /// # Safety
                /// As for the function of the same name in the target.
                // "C-unwind": `crash=cxx` throws through this frame.
                pub unsafe extern "C-unwind" fn $name(
                    $first: ty!($first) $(, $arg: ty!($arg))* $(, $out: ty!($out), $len: ty!($len) $(, $more: ty!($more))*)?
                    $(, $template: ty!($template), $n: ty!($n))?
                ) -> CK_RV {
                    #[allow(unused_mut)]
                    let mut subject = Subject::default();
                    about!(subject $first $first);
                    $(about!(subject $arg $arg);)*
                    $(subject.attributes = attributes($template, $n);)?
                    let call = Call {
                        name: stringify!($name),
                        subject,
                        scope: scope!($first $first),
                        claim: claim!($(-> $out $len)? $(=> $template $n)?),
                        handles: [
                            None,
                            $(place!($arg $arg),)*
                            $($(place!($more $more),)*)?
                        ]
                        .into_iter()
                        .flatten()
                        .collect(),
                    };
                    call::run(&call, || {
                        $(let $arg = known!($arg $arg);)*
                        let answer = forward!($name($first $($arg)* $($out $len $($more)*)? $($template $n)?) $($hook)?);
                        if answer == Ok(CKR_OK) {
                            $(given!($arg $arg);)*
                            $($(given!($more $more);)*)?
                        }
                        answer
                    })
                }
            )*
        }

        /// The wrappers of the functions that `original` has, without those named in `null`.
        pub fn wrap(original: &List, null: &[String]) -> List {
            let mut list = List { version: original.version, ..List::default() };
            $(
                if original.$name.is_some() && !null.iter().any(|name| name == stringify!($name)) {
                    let wrapper = wrapped::$name as *const c_void;
                    // SAFETY: the wrapper has the arguments of the field (`forward!` passes them on typed), and
                    // "C-unwind" is the same convention as "C".
                    list.$name = unsafe { std::mem::transmute::<*const c_void, Option<_>>(wrapper) };
                }
            )*
            list
        }
    };
}

functions! {
    C_Initialize(pointer) by environment::initialize;
    C_Finalize(pointer) by token::finalize;
    C_GetInfo(info) by text::get_info;
    C_GetSlotList(present -> slots len) by token::get_slot_list;
    C_GetSlotInfo(reader slot_info) by token::get_slot_info;
    C_GetTokenInfo(slot token_info) by token::get_token_info;
    C_GetMechanismList(slot -> mechanisms len) by two_layers::get_mechanism_list;
    C_GetMechanismInfo(slot mechanism_type mechanism_info);
    C_InitToken(slot data n data2);
    C_InitPIN(session data n);
    C_SetPIN(session data n data2 n2);
    C_OpenSession(slot flags pointer notify handle) by token::open_session;
    C_CloseSession(session) by token::close_session;
    C_CloseAllSessions(slot) by token::close_all_sessions;
    C_GetSessionInfo(session session_info);
    C_GetOperationState(session -> out len);
    C_SetOperationState(session data n object object2);
    C_Login(session user data n) by token::login;
    C_Logout(session);
    C_CreateObject(session template n new) by values::create_object;
    C_CopyObject(session object template n new);
    C_DestroyObject(session object);
    C_GetObjectSize(session object len);
    C_GetAttributeValue(session object => template n) by attribute::get_attribute_value;
    C_SetAttributeValue(session object template n);
    C_FindObjectsInit(session template n);
    C_FindObjects(session objects -> n len) by token::find_objects;
    C_FindObjectsFinal(session);
    C_EncryptInit(session mechanism object) by iv::encrypt_init;
    C_Encrypt(session data n -> out len) by iv::encrypt;
    C_EncryptUpdate(session data n -> out len);
    C_EncryptFinal(session -> out len) by iv::encrypt_final;
    C_DecryptInit(session mechanism object);
    C_Decrypt(session data n -> out len);
    C_DecryptUpdate(session data n -> out len);
    C_DecryptFinal(session -> out len);
    C_DigestInit(session mechanism);
    C_Digest(session data n -> out len);
    C_DigestUpdate(session data n);
    C_DigestKey(session object);
    C_DigestFinal(session -> out len);
    C_SignInit(session mechanism object) by signature::sign_init;
    C_Sign(session data n -> out len) by signature::sign;
    C_SignUpdate(session data n) by signature::sign_update;
    C_SignFinal(session -> out len) by signature::sign_final;
    C_SignRecoverInit(session mechanism object);
    C_SignRecover(session data n -> out len);
    C_VerifyInit(session mechanism object) by signature::verify_init;
    C_Verify(session data n data2 n2) by signature::verify;
    C_VerifyUpdate(session data n) by signature::verify_update;
    C_VerifyFinal(session data n);
    C_VerifyRecoverInit(session mechanism object);
    C_VerifyRecover(session data n -> out len);
    C_DigestEncryptUpdate(session data n -> out len);
    C_DecryptDigestUpdate(session data n -> out len);
    C_SignEncryptUpdate(session data n -> out len);
    C_DecryptVerifyUpdate(session data n -> out len);
    C_GenerateKey(session mechanism template n new);
    C_GenerateKeyPair(session mechanism template n template2 n2 new new2);
    C_WrapKey(session mechanism object object2 -> out len) by iv::wrap_key;
    C_UnwrapKey(session mechanism object data n template n2 new) by two_layers::unwrap_key;
    C_DeriveKey(session mechanism object template n new);
    C_SeedRandom(session data n);
    C_GenerateRandom(session data n);
    C_GetFunctionStatus(session);
    C_CancelFunction(session);
    C_WaitForSlotEvent(flags slots pointer) by token::wait_for_slot_event;
    C_LoginUser(session user data n data2 n2) by token::login_user;
    C_SessionCancel(session flags);
    C_MessageEncryptInit(session mechanism object);
    C_EncryptMessage(session pointer n data n2 data2 n3 -> out len);
    C_EncryptMessageBegin(session pointer n data n2);
    C_EncryptMessageNext(session pointer n data n2 -> out len flags);
    C_MessageEncryptFinal(session);
    C_MessageDecryptInit(session mechanism object);
    C_DecryptMessage(session pointer n data n2 data2 n3 -> out len);
    C_DecryptMessageBegin(session pointer n data n2);
    C_DecryptMessageNext(session pointer n data n2 -> out len flags);
    C_MessageDecryptFinal(session);
    C_MessageSignInit(session mechanism object);
    C_SignMessage(session pointer n data n2 -> out len);
    C_SignMessageBegin(session pointer n);
    C_SignMessageNext(session pointer n data n2 -> out len);
    C_MessageSignFinal(session);
    C_MessageVerifyInit(session mechanism object);
    C_VerifyMessage(session pointer n data n2 data2 n3);
    C_VerifyMessageBegin(session pointer n);
    C_VerifyMessageNext(session pointer n data n2 data2 n3);
    C_MessageVerifyFinal(session);
    C_EncapsulateKey(session mechanism object template n -> out len new);
    C_DecapsulateKey(session mechanism object template n data n2 new);
    C_VerifySignatureInit(session mechanism object data n);
    C_VerifySignature(session data n);
    C_VerifySignatureUpdate(session data n);
    C_VerifySignatureFinal(session);
    C_GetSessionValidationFlags(session validation flags_out);
    C_AsyncComplete(session data async_data);
    C_AsyncGetID(session data len);
    C_AsyncJoin(session data n data2 n2);
    C_WrapKeyAuthenticated(session mechanism object object2 data n -> out len);
    C_UnwrapKeyAuthenticated(session mechanism object data n template n2 data2 n3 new);
}
