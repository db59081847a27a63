//! Objects (section 5.7).

use crate::failure::{Failure, Result};
use crate::functions::{Functions, buffer, call, ulong, valid};
use crate::layout::TemplateMemory;
use crate::values::Template;
use cryptoki_sys::{CK_INVALID_HANDLE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_ULONG};

/// A call that gives one object handle.
pub(crate) fn new_object(
    function: &str,
    call: impl FnOnce(*mut CK_OBJECT_HANDLE) -> Result<()>,
) -> Result<CK_OBJECT_HANDLE> {
    let mut object = CK_INVALID_HANDLE;
    call(&mut object)?;
    valid(function, object)
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
}
