//! General purpose, slot, token and session functions (PKCS #11 v3.2, sections 5.4 to 5.6).

use crate::exit;
use crate::failure::Result;
use crate::functions::{Functions, call, check, filled, input, list, made, ulong};
use crate::sizes;
use crate::values::Secret;
use crate::whereabouts::inside;
use cryptoki::context::{CInitializeArgs, CInitializeFlags};
use cryptoki_sys as ck;
use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_FLAGS, CK_INFO, CK_INVALID_HANDLE, CK_MECHANISM_INFO,
    CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SESSION_INFO,
    CK_SESSION_VALIDATION_FLAGS_TYPE, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG,
    CK_USER_TYPE,
};
use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};

/// More slots than any library has, or mechanisms than any token.
const LIST_LIMIT: usize = 1 << 16;

/// `CK_C_INITIALIZE_ARGS` with the word that NSS expects behind it.
#[repr(C)]
struct InitializeArgs {
    standard: CK_C_INITIALIZE_ARGS,
    nss: *mut c_void,
}

/// A PIN as the functions take it: none (null) for the protected authentication path.
fn given(pin: Option<&Secret>) -> (*mut u8, CK_ULONG) {
    pin.map_or((null_mut(), 0), |pin| (input(pin), ulong(pin.len())))
}

impl Functions {
    /// Reads a structure that the library fills in.
    fn structure<T>(&self, fill: impl FnOnce(*mut T) -> Result<()>) -> Result<T> {
        let mut structure = MaybeUninit::<T>::zeroed();
        fill(structure.as_mut_ptr())?;
        // SAFETY: only used for structures of numbers and characters, for which zero is a value.
        Ok(unsafe { structure.assume_init() })
    }

    /// `C_Initialize`, by the gate's rule: with `CKF_OS_LOCKING_OK`, or for one thread at a time.
    /// `reserved` is the string some libraries want.
    pub fn initialize(&self, reserved: Option<&'static CStr>) -> Result<()> {
        let serialized = self.gate.is_serialized();
        if serialized && reserved.is_none() {
            return call!(self, C_Initialize(null_mut()));
        }
        let flags = if serialized {
            CInitializeFlags::empty()
        } else {
            CInitializeFlags::OS_LOCKING_OK
        };
        let args = match reserved.and_then(|text| NonNull::new(text.as_ptr().cast_mut())) {
            None => CInitializeArgs::new(flags),
            // SAFETY: the string lives for ever.
            Some(text) => unsafe { CInitializeArgs::new_with_reserved(flags, text.cast()) },
        };
        let mut args = InitializeArgs {
            standard: args.into(),
            nss: null_mut(),
        };
        call!(self, C_Initialize((&raw mut args).cast()))
    }

    /// `C_Finalize`, past the closed gate: the caller has made sure that nobody is inside.
    pub fn finalize(&self) -> Result<()> {
        let Some(finalize) = self.list.C_Finalize else {
            return Ok(());
        };
        let _outside = exit::outside();
        let _inside = inside("C_Finalize");
        // SAFETY: the gate is closed and idle, so no other call is in the library.
        check(unsafe { finalize(null_mut()) }, "C_Finalize")
    }

    /// `C_GetInfo`.
    pub fn info(&self) -> Result<CK_INFO> {
        self.structure(|info| call!(self, C_GetInfo(info)))
    }

    /// `C_GetSlotList`.
    pub fn slots(&self, token_present: bool) -> Result<Vec<CK_SLOT_ID>> {
        list("C_GetSlotList", LIST_LIMIT, |slots, count| {
            call!(self, C_GetSlotList(u8::from(token_present), slots, count))
        })
    }

    /// `C_GetSlotInfo`.
    pub fn slot_info(&self, slot: CK_SLOT_ID) -> Result<CK_SLOT_INFO> {
        self.structure(|info| call!(self, C_GetSlotInfo(slot, info)))
    }

    /// `C_GetTokenInfo`.
    pub fn token_info(&self, slot: CK_SLOT_ID) -> Result<CK_TOKEN_INFO> {
        self.structure(|info| call!(self, C_GetTokenInfo(slot, info)))
    }

    /// `C_GetMechanismList`.
    pub fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>> {
        list("C_GetMechanismList", LIST_LIMIT, |mechanisms, count| {
            call!(self, C_GetMechanismList(slot, mechanisms, count))
        })
    }

    /// `C_GetMechanismInfo`.
    pub fn mechanism_info(
        &self,
        slot: CK_SLOT_ID,
        kind: CK_MECHANISM_TYPE,
    ) -> Result<CK_MECHANISM_INFO> {
        self.structure(|info| call!(self, C_GetMechanismInfo(slot, kind, info)))
    }

    /// `C_WaitForSlotEvent` that never waits; `None` when nothing happened.
    pub fn slot_event(&self) -> Result<Option<CK_SLOT_ID>> {
        let mut slot: CK_SLOT_ID = 0;
        match call!(
            self,
            C_WaitForSlotEvent(ck::CKF_DONT_BLOCK, &mut slot, null_mut())
        ) {
            Ok(()) => Ok(Some(slot)),
            Err(failure) if failure.is(ck::CKR_NO_EVENT) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// `C_InitToken`; the label is padded with blanks to the 32 bytes the standard wants.
    pub fn init_token(
        &self,
        slot: CK_SLOT_ID,
        so_pin: Option<&Secret>,
        label: &[u8],
    ) -> Result<()> {
        let (pin, length) = given(so_pin);
        let mut padded = [b' '; 32];
        for (place, byte) in padded.iter_mut().zip(label) {
            *place = *byte;
        }
        call!(self, C_InitToken(slot, pin, length, padded.as_mut_ptr()))
    }

    /// `C_InitPIN`.
    pub fn init_pin(&self, session: CK_SESSION_HANDLE, pin: Option<&Secret>) -> Result<()> {
        let (pin, length) = given(pin);
        call!(self, C_InitPIN(session, pin, length))
    }

    /// `C_SetPIN`.
    pub fn set_pin(
        &self,
        session: CK_SESSION_HANDLE,
        old: Option<&Secret>,
        new: Option<&Secret>,
    ) -> Result<()> {
        let ((old, old_length), (new, new_length)) = (given(old), given(new));
        call!(self, C_SetPIN(session, old, old_length, new, new_length))
    }

    /// `C_OpenSession`.
    pub fn open_session(&self, slot: CK_SLOT_ID, read_only: bool) -> Result<CK_SESSION_HANDLE> {
        let write: CK_FLAGS = if read_only { 0 } else { ck::CKF_RW_SESSION };
        let flags = ck::CKF_SERIAL_SESSION | write;
        made!(self, |session| C_OpenSession(
            slot,
            flags,
            null_mut(),
            None,
            session
        ))
    }

    /// `C_CloseSession`.
    pub fn close_session(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        call!(self, C_CloseSession(session))
    }

    /// `C_GetSessionInfo`.
    pub fn session_info(&self, session: CK_SESSION_HANDLE) -> Result<CK_SESSION_INFO> {
        self.structure(|info| call!(self, C_GetSessionInfo(session, info)))
    }

    /// `C_SessionCancel` (3.0).
    pub fn session_cancel(&self, session: CK_SESSION_HANDLE, flags: CK_FLAGS) -> Result<()> {
        call!(self, C_SessionCancel(session, flags))
    }

    /// `C_Login`, or `C_LoginUser` (3.0) with a user name.
    pub fn login(
        &self,
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: Option<&Secret>,
        name: Option<&[u8]>,
    ) -> Result<()> {
        let (pin, length) = given(pin);
        match name {
            None => call!(self, C_Login(session, user, pin, length)),
            Some(name) => {
                let (name, name_length) = (input(name), ulong(name.len()));
                call!(
                    self,
                    C_LoginUser(session, user, pin, length, name, name_length)
                )
            }
        }
    }

    /// `C_Logout`.
    pub fn logout(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        call!(self, C_Logout(session))
    }

    /// `C_GetOperationState`.
    pub fn operation_state(&self, session: CK_SESSION_HANDLE) -> Result<Vec<u8>> {
        filled!(self, sizes::STATE, |out, room| C_GetOperationState(
            session, out, room
        ))
    }

    /// `C_SetOperationState`; the keys only where the state does not carry them.
    pub fn set_operation_state(
        &self,
        session: CK_SESSION_HANDLE,
        state: &[u8],
        encryption: Option<CK_OBJECT_HANDLE>,
        authentication: Option<CK_OBJECT_HANDLE>,
    ) -> Result<()> {
        call!(
            self,
            C_SetOperationState(
                session,
                input(state),
                ulong(state.len()),
                encryption.unwrap_or(CK_INVALID_HANDLE),
                authentication.unwrap_or(CK_INVALID_HANDLE)
            )
        )
    }

    /// `C_GetSessionValidationFlags` (3.2).
    pub fn validation_flags(
        &self,
        session: CK_SESSION_HANDLE,
        kind: CK_SESSION_VALIDATION_FLAGS_TYPE,
    ) -> Result<CK_FLAGS> {
        let mut flags: CK_FLAGS = 0;
        call!(self, C_GetSessionValidationFlags(session, kind, &mut flags))?;
        Ok(flags)
    }
}
