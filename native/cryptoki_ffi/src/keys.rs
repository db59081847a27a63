//! Keys that are made, wrapped, unwrapped, derived and encapsulated (section 5.18).

use crate::failure::Result;
use crate::functions::{Functions, call, filled, input, made, ulong, valid};
use crate::layout::{MechanismMemory, TemplateMemory};
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

/// A wrapped key, and the IV if the library has taken another one than it was given.
pub type Wrapped = (Vec<u8>, Option<Vec<Secret>>);

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

    /// The same with what the mechanism answers in its parameter.
    pub fn generate_beside(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        template: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, Beside)> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        let key = made!(self, |key| C_GenerateKey(
            session,
            mechanism.pointer(),
            attributes,
            count,
            key
        ))?;
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
        let mut templates = (TemplateMemory::new(public)?, TemplateMemory::new(private)?);
        let (public, public_count) = templates.0.pointer();
        let (private, private_count) = templates.1.pointer();
        let mut public_key = CK_INVALID_HANDLE;
        let private_key = made!(self, |private_key| C_GenerateKeyPair(
            session,
            mechanism.pointer(),
            public,
            public_count,
            private,
            private_count,
            &mut public_key,
            private_key
        ))?;
        Ok((valid("C_GenerateKeyPair", public_key)?, private_key))
    }

    /// `C_WrapKey`, or `C_WrapKeyAuthenticated` (3.2) with associated data.
    pub fn wrap_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        associated: Option<&[u8]>,
    ) -> Result<Wrapped> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let mechanism = memory.pointer();
        let wrapped = match associated {
            None => filled!(self, sizes::WRAPPED, |out, room| C_WrapKey(
                session, mechanism, wrapping, key, out, room
            )),
            Some(associated) => {
                let (more, length) = (input(associated), ulong(associated.len()));
                filled!(self, sizes::WRAPPED, |out, room| C_WrapKeyAuthenticated(
                    session, mechanism, wrapping, key, more, length, out, room
                ))
            }
        }?;
        Ok((wrapped, memory.rewritten()))
    }

    /// `C_UnwrapKey`, or `C_UnwrapKeyAuthenticated` (3.2) with associated data.
    pub fn unwrap_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        associated: Option<&[u8]>,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let mechanism = memory.pointer();
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        let (bytes, length) = (input(wrapped), ulong(wrapped.len()));
        match associated {
            None => made!(self, |key| C_UnwrapKey(
                session, mechanism, unwrapping, bytes, length, attributes, count, key
            )),
            Some(associated) => {
                let (more, more_length) = (input(associated), ulong(associated.len()));
                made!(self, |key| C_UnwrapKeyAuthenticated(
                    session,
                    mechanism,
                    unwrapping,
                    bytes,
                    length,
                    attributes,
                    count,
                    more,
                    more_length,
                    key
                ))
            }
        }
    }

    /// `C_DeriveKey`.
    pub fn derive_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        base: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let (key, _beside) = self.derive_beside(session, mechanism, base, template)?;
        valid("C_DeriveKey", key)
    }

    /// The same with what the mechanism answers in its parameter; the key of the call is an invalid handle where it
    /// makes none.
    pub fn derive_beside(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        base: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, Beside)> {
        let mut mechanism = MechanismMemory::new(mechanism)?;
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        let mut key = CK_INVALID_HANDLE;
        call!(
            self,
            C_DeriveKey(
                session,
                mechanism.pointer(),
                base,
                attributes,
                count,
                &mut key
            )
        )?;
        Ok((key, Beside::of(&mechanism)))
    }

    /// `C_EncapsulateKey` (3.2): the ciphertext and the shared secret's key.
    pub fn encapsulate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        public: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<(Vec<u8>, CK_OBJECT_HANDLE)> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let mechanism = memory.pointer();
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        let mut key = CK_INVALID_HANDLE;
        let ciphertext = filled!(self, sizes::WRAPPED, |out, room| C_EncapsulateKey(
            session, mechanism, public, attributes, count, out, room, &mut key
        ))?;
        Ok((ciphertext, valid("C_EncapsulateKey", key)?))
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
        let (attributes, count) = template.pointer();
        made!(self, |key| C_DecapsulateKey(
            session,
            mechanism.pointer(),
            private,
            attributes,
            count,
            input(ciphertext),
            ulong(ciphertext.len()),
            key
        ))
    }
}
