//! Keys that are made, wrapped, unwrapped, derived and encapsulated (section 5.18).

use crate::failure::Result;
use crate::functions::{Functions, call, input, output, ulong, valid};
use crate::layout::{MechanismMemory, TemplateMemory};
use crate::objects::new_object;
use crate::sizes;
use crate::values::{Mechanism, Secret, Template};
use cryptoki_sys::{CK_INVALID_HANDLE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE};

/// What a mechanism made beside the key of the call, in its parameter.
pub struct Beside {
    /// Keys, in the order of the structure; invalid handles where none was made.
    pub handles: Vec<CK_OBJECT_HANDLE>,
    /// Bytes, such as IVs.
    pub written: Vec<Secret>,
}

impl Beside {
    fn of(mechanism: &MechanismMemory) -> Self {
        Self {
            handles: mechanism.handles(),
            written: mechanism.written(),
        }
    }
}

impl Functions {
    /// `C_GenerateKey`.
    pub fn generate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let (key, _beside) = self.generate_beside(session, mechanism, template)?;
        Ok(key)
    }

    /// `C_GenerateKey` with what the mechanism answers in its parameter.
    pub fn generate_beside(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        template: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, Beside)> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        let key = new_object("C_GenerateKey", |key| {
            call!(
                self,
                C_GenerateKey(
                    session,
                    mechanism.pointer(),
                    template.pointer(),
                    template.count(),
                    key
                )
            )
        })?;
        Ok((key, Beside::of(&mechanism)))
    }

    /// `C_GenerateKeyPair`: public, private.
    pub fn generate_key_pair(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let (mut public, mut private) =
            (TemplateMemory::new(public)?, TemplateMemory::new(private)?);
        let mut public_key = CK_INVALID_HANDLE;
        let private_key = new_object("C_GenerateKeyPair", |private_key| {
            call!(
                self,
                C_GenerateKeyPair(
                    session,
                    mechanism.pointer(),
                    public.pointer(),
                    public.count(),
                    private.pointer(),
                    private.count(),
                    &mut public_key,
                    private_key
                )
            )
        })?;
        Ok((valid("C_GenerateKeyPair", public_key)?, private_key))
    }

    /// `C_WrapKey`: the wrapped key, and the IV if the library has taken another one.
    pub fn wrap_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
    ) -> Result<(Vec<u8>, Option<Vec<Secret>>)> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let wrapped = output("C_WrapKey", sizes::WRAPPED, |out, length| {
            call!(
                self,
                C_WrapKey(session, mechanism.pointer(), wrapping, key, out, length)
            )
        })?;
        Ok((wrapped, mechanism.rewritten()))
    }

    /// `C_UnwrapKey`.
    pub fn unwrap_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        new_object("C_UnwrapKey", |key| {
            call!(
                self,
                C_UnwrapKey(
                    session,
                    mechanism.pointer(),
                    unwrapping,
                    wrapped.as_ptr().cast_mut(),
                    ulong(wrapped.len()),
                    template.pointer(),
                    template.count(),
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

    /// `C_DeriveKey`.
    pub fn derive_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        base: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut memory = MechanismMemory::new(mechanism)?;
        new_object("C_DeriveKey", |key| {
            self.derive(session, &mut memory, base, template, key)
        })
    }

    /// `C_DeriveKey` with a mechanism that answers in its parameter; the key of the call is an
    /// invalid handle where it makes none.
    pub fn derive_beside(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        base: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, Beside)> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let mut key = CK_INVALID_HANDLE;
        self.derive(session, &mut memory, base, template, &mut key)?;
        Ok((key, Beside::of(&memory)))
    }

    fn derive(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &mut MechanismMemory,
        base: CK_OBJECT_HANDLE,
        template: &Template,
        key: *mut CK_OBJECT_HANDLE,
    ) -> Result<()> {
        let mut template = TemplateMemory::new(template)?;
        call!(
            self,
            C_DeriveKey(
                session,
                mechanism.pointer(),
                base,
                template.pointer(),
                template.count(),
                key
            )
        )
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
}
