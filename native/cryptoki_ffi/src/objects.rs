//! Objects (section 5.7).

use crate::failure::{Failure, Result};
use crate::functions::{Functions, buffer, call, made, ulong, valid};
use crate::layout::TemplateMemory;
use crate::values::Template;
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_ULONG};

impl Functions {
    /// `C_CreateObject`.
    pub fn create(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        made!(self, |object| C_CreateObject(
            session, attributes, count, object
        ))
    }

    /// `C_CopyObject`.
    pub fn copy(
        &self,
        session: CK_SESSION_HANDLE,
        source: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        made!(self, |object| C_CopyObject(
            session, source, attributes, count, object
        ))
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
        let (attributes, count) = template.pointer();
        call!(
            self,
            C_SetAttributeValue(session, object, attributes, count)
        )
    }

    /// `C_FindObjectsInit`.
    pub fn find_init(&self, session: CK_SESSION_HANDLE, template: &Template) -> Result<()> {
        let mut template = TemplateMemory::new(template)?;
        let (attributes, count) = template.pointer();
        call!(self, C_FindObjectsInit(session, attributes, count))
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
