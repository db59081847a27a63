//! Object and key management (sections 5.7 and 5.18).

use crate::failure::{Failure, Result};
use crate::functions::{Functions, buffer, call, output, ulong, valid};
use crate::layout::{MechanismMemory, TemplateMemory};
use crate::sizes;
use crate::values::{Mechanism, Secret, Template};
use cryptoki_sys::{CK_INVALID_HANDLE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_ULONG};

/// What a mechanism made beside the key of the call, in its parameter.
pub struct Beside {
    /// Keys, in the order of the structure; invalid handles where none was made.
    pub handles: Vec<CK_OBJECT_HANDLE>,
    /// Bytes, such as IVs.
    pub written: Vec<Secret>,
}

/// A call that gives one object handle.
pub(crate) fn new_object(
    function: &str,
    call: impl FnOnce(*mut CK_OBJECT_HANDLE) -> Result<()>,
) -> Result<CK_OBJECT_HANDLE> {
    let mut object = CK_INVALID_HANDLE;
    call(&mut object)?;
    valid(function, object)
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
    /// `C_CreateObject`.
    pub fn create(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut template = TemplateMemory::new(template)?;
        new_object("C_CreateObject", |object| {
            call!(
                self,
                C_CreateObject(session, template.pointer(), template.count(), object)
            )
        })
    }

    /// `C_CopyObject`.
    pub fn copy(
        &self,
        session: CK_SESSION_HANDLE,
        source: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut template = TemplateMemory::new(template)?;
        new_object("C_CopyObject", |object| {
            call!(
                self,
                C_CopyObject(
                    session,
                    source,
                    template.pointer(),
                    template.count(),
                    object
                )
            )
        })
    }

    /// `C_DestroyObject`.
    pub fn destroy(&self, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Result<()> {
        call!(self, C_DestroyObject(session, object))
    }

    /// `C_GetObjectSize`, in bytes.
    pub fn object_size(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
    ) -> Result<CK_ULONG> {
        let mut size: CK_ULONG = 0;
        call!(self, C_GetObjectSize(session, object, &mut size))?;
        Ok(size)
    }

    /// `C_SetAttributeValue`.
    pub fn set_attributes(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<()> {
        let mut template = TemplateMemory::new(template)?;
        call!(
            self,
            C_SetAttributeValue(session, object, template.pointer(), template.count())
        )
    }

    /// `C_FindObjectsInit`.
    pub fn find_init(&self, session: CK_SESSION_HANDLE, template: &Template) -> Result<()> {
        let mut template = TemplateMemory::new(template)?;
        call!(
            self,
            C_FindObjectsInit(session, template.pointer(), template.count())
        )
    }

    /// `C_FindObjects`, at most `limit` of them.
    pub fn find_next(
        &self,
        session: CK_SESSION_HANDLE,
        limit: usize,
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let mut objects = buffer::<CK_OBJECT_HANDLE>(limit, "C_FindObjects")?;
        let mut count: CK_ULONG = 0;
        call!(
            self,
            C_FindObjects(session, objects.as_mut_ptr(), ulong(limit), &mut count)
        )?;
        if count as usize > limit {
            return Err(Failure::misbehaved(
                "C_FindObjects",
                "counts more than the buffer holds",
            ));
        }
        objects.truncate(count as usize);
        for object in &objects {
            valid("C_FindObjects", *object)?;
        }
        Ok(objects)
    }

    /// `C_FindObjectsFinal`.
    pub fn find_final(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        call!(self, C_FindObjectsFinal(session))
    }

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
}
