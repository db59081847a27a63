//! What 3.2 added: signatures known beforehand, key encapsulation, authenticated wrapping; and what
//! spans several operations: their state, and two of them fed at once (sections 5.6, 5.12 to 5.18).

use crate::crypto::Kind;
use crate::failure::Result;
use crate::functions::{Functions, call, input, output, ulong};
use crate::layout::{MechanismMemory, TemplateMemory};
use crate::objects::new_object;
use crate::sizes;
use crate::values::{Mechanism, Secret, Template};
use cryptoki_sys::{
    CK_FLAGS, CK_INVALID_HANDLE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE,
    CK_SESSION_VALIDATION_FLAGS_TYPE,
};

impl Functions {
    /// `C_VerifySignatureInit` (3.2); what it gives is kept as that of the other inits.
    pub fn verify_signature_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
        signature: &[u8],
    ) -> Result<MechanismMemory> {
        let mut memory = MechanismMemory::new(mechanism)?;
        call!(
            self,
            C_VerifySignatureInit(
                session,
                memory.pointer(),
                key,
                input(signature),
                ulong(signature.len())
            )
        )?;
        Ok(memory)
    }

    /// `C_VerifySignature` (3.2).
    pub fn verify_signature(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result<()> {
        call!(
            self,
            C_VerifySignature(session, input(data), ulong(data.len()))
        )
    }

    /// `C_VerifySignatureFinal` (3.2).
    pub fn verify_signature_final(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        call!(self, C_VerifySignatureFinal(session))
    }

    /// `C_EncapsulateKey` (3.2): the ciphertext and the shared secret's key.
    pub fn encapsulate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        public: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<(Vec<u8>, CK_OBJECT_HANDLE)> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        let mut ciphertext = Vec::new();
        let key = new_object("C_EncapsulateKey", |key| {
            ciphertext = output("C_EncapsulateKey", sizes::WRAPPED, |out, length| {
                call!(
                    self,
                    C_EncapsulateKey(
                        session,
                        mechanism.pointer(),
                        public,
                        template.pointer(),
                        template.count(),
                        out,
                        length,
                        key
                    )
                )
            })?;
            Ok(())
        })?;
        Ok((ciphertext, key))
    }

    /// `C_DecapsulateKey` (3.2).
    pub fn decapsulate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        private: CK_OBJECT_HANDLE,
        ciphertext: &[u8],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        new_object("C_DecapsulateKey", |key| {
            call!(
                self,
                C_DecapsulateKey(
                    session,
                    mechanism.pointer(),
                    private,
                    template.pointer(),
                    template.count(),
                    input(ciphertext),
                    ulong(ciphertext.len()),
                    key
                )
            )
        })
    }

    /// `C_WrapKeyAuthenticated` (3.2): the wrapped key, and what was written into the parameter.
    pub fn wrap_key_authenticated(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        associated: &[u8],
    ) -> Result<(Vec<u8>, Option<Vec<Secret>>)> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let wrapped = output("C_WrapKeyAuthenticated", sizes::WRAPPED, |out, length| {
            call!(
                self,
                C_WrapKeyAuthenticated(
                    session,
                    memory.pointer(),
                    wrapping,
                    key,
                    input(associated),
                    ulong(associated.len()),
                    out,
                    length
                )
            )
        })?;
        Ok((wrapped, memory.rewritten()))
    }

    /// `C_UnwrapKeyAuthenticated` (3.2).
    pub fn unwrap_key_authenticated(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        associated: &[u8],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        new_object("C_UnwrapKeyAuthenticated", |key| {
            call!(
                self,
                C_UnwrapKeyAuthenticated(
                    session,
                    mechanism.pointer(),
                    unwrapping,
                    input(wrapped),
                    ulong(wrapped.len()),
                    template.pointer(),
                    template.count(),
                    input(associated),
                    ulong(associated.len()),
                    key
                )
            )
        })
    }

    /// `C_DigestKey`.
    pub fn digest_key(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result<()> {
        call!(self, C_DigestKey(session, key))
    }

    /// `C_GetOperationState`.
    pub fn operation_state(&self, session: CK_SESSION_HANDLE) -> Result<Vec<u8>> {
        output("C_GetOperationState", sizes::STATE, |out, length| {
            call!(self, C_GetOperationState(session, out, length))
        })
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

    /// The dual-function updates, such as `C_DigestEncryptUpdate`.
    pub fn dual_update(
        &self,
        dual: Dual,
        session: CK_SESSION_HANDLE,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        let (bytes, length) = (input(data), ulong(data.len()));
        macro_rules! update {
            ($name:ident) => {
                output(stringify!($name), sizes::cipher(data.len()), |out, room| {
                    call!(self, $name(session, bytes, length, out, room))
                })
            };
        }
        match dual {
            Dual::DigestEncrypt => update!(C_DigestEncryptUpdate),
            Dual::DecryptDigest => update!(C_DecryptDigestUpdate),
            Dual::SignEncrypt => update!(C_SignEncryptUpdate),
            Dual::DecryptVerify => update!(C_DecryptVerifyUpdate),
        }
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

/// Two operations fed by one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dual {
    /// `C_DigestEncryptUpdate`
    DigestEncrypt,
    /// `C_DecryptDigestUpdate`
    DecryptDigest,
    /// `C_SignEncryptUpdate`
    SignEncrypt,
    /// `C_DecryptVerifyUpdate`
    DecryptVerify,
}

impl Dual {
    /// The two operations, the one that gives bytes first.
    pub fn kinds(self) -> [Kind; 2] {
        match self {
            Dual::DigestEncrypt => [Kind::Encrypt, Kind::Digest],
            Dual::DecryptDigest => [Kind::Decrypt, Kind::Digest],
            Dual::SignEncrypt => [Kind::Encrypt, Kind::Sign],
            Dual::DecryptVerify => [Kind::Decrypt, Kind::Verify],
        }
    }
}
