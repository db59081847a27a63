//! Message-based operations, which 3.0 added (sections 5.9, 5.11, 5.14 and 5.16).

use crate::crypto::{Kind, no_such};
use crate::failure::Result;
use crate::functions::{Functions, call, input, output, ulong};
use crate::layout::{MechanismMemory, ParameterMemory};
use crate::sizes;
use crate::values::{Mechanism, Parameter, Secret};
use cryptoki_sys::{
    CK_FLAGS, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CKF_END_OF_MESSAGE,
};
use std::ptr::null_mut;

/// What a message call gave, and what it wrote into its parameter (an IV or a tag made by the token).
pub type Message = (Vec<u8>, Vec<Secret>);

impl Functions {
    /// `C_MessageEncryptInit` and its kin (3.0); what it gives is kept as that of the other inits.
    pub fn message_init(
        &self,
        kind: Kind,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result<MechanismMemory> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let mechanism = memory.pointer();
        match kind {
            Kind::MessageEncrypt => call!(self, C_MessageEncryptInit(session, mechanism, key)),
            Kind::MessageDecrypt => call!(self, C_MessageDecryptInit(session, mechanism, key)),
            Kind::MessageSign => call!(self, C_MessageSignInit(session, mechanism, key)),
            Kind::MessageVerify => call!(self, C_MessageVerifyInit(session, mechanism, key)),
            _ => Err(no_such(kind, "message init")),
        }?;
        Ok(memory)
    }

    /// `C_EncryptMessage` and its kin (3.0). `extra` is the associated data of a cipher and the
    /// signature of a verification.
    pub fn message(
        &self,
        kind: Kind,
        mechanism: CK_MECHANISM_TYPE,
        session: CK_SESSION_HANDLE,
        parameter: &Parameter,
        extra: &[u8],
        data: &[u8],
    ) -> Result<Message> {
        let mut memory = ParameterMemory::new(parameter)?;
        let (parameter, parameter_length) = memory.pointer();
        let (bytes, length) = (input(data), ulong(data.len()));
        let (more, more_length) = (input(extra), ulong(extra.len()));
        let (sized, signature) = (sizes::cipher(data.len()), sizes::signature(mechanism));
        let result = match kind {
            Kind::MessageEncrypt => output("C_EncryptMessage", sized, |out, out_length| {
                call!(
                    self,
                    C_EncryptMessage(
                        session,
                        parameter,
                        parameter_length,
                        more,
                        more_length,
                        bytes,
                        length,
                        out,
                        out_length
                    )
                )
            }),
            Kind::MessageDecrypt => output("C_DecryptMessage", sized, |out, out_length| {
                call!(
                    self,
                    C_DecryptMessage(
                        session,
                        parameter,
                        parameter_length,
                        more,
                        more_length,
                        bytes,
                        length,
                        out,
                        out_length
                    )
                )
            }),
            Kind::MessageSign => output("C_SignMessage", signature, |out, out_length| {
                call!(
                    self,
                    C_SignMessage(
                        session,
                        parameter,
                        parameter_length,
                        bytes,
                        length,
                        out,
                        out_length
                    )
                )
            }),
            Kind::MessageVerify => call!(
                self,
                C_VerifyMessage(
                    session,
                    parameter,
                    parameter_length,
                    bytes,
                    length,
                    more,
                    more_length
                )
            )
            .map(|()| Vec::new()),
            _ => Err(no_such(kind, "message")),
        }?;
        Ok((result, memory.written()))
    }

    /// `C_EncryptMessageBegin` and its kin (3.0): what was written into the parameter.
    pub fn message_begin(
        &self,
        kind: Kind,
        session: CK_SESSION_HANDLE,
        parameter: &Parameter,
        associated: &[u8],
    ) -> Result<Vec<Secret>> {
        let mut memory = ParameterMemory::new(parameter)?;
        let (parameter, size) = memory.pointer();
        let (more, length) = (input(associated), ulong(associated.len()));
        match kind {
            Kind::MessageEncrypt => call!(
                self,
                C_EncryptMessageBegin(session, parameter, size, more, length)
            ),
            Kind::MessageDecrypt => call!(
                self,
                C_DecryptMessageBegin(session, parameter, size, more, length)
            ),
            Kind::MessageSign => call!(self, C_SignMessageBegin(session, parameter, size)),
            Kind::MessageVerify => call!(self, C_VerifyMessageBegin(session, parameter, size)),
            _ => Err(no_such(kind, "message begin")),
        }?;
        Ok(memory.written())
    }

    /// `C_EncryptMessageNext` and its kin (3.0). The last part comes with the signature of the whole
    /// message, which is empty where there is none to verify.
    pub fn message_next(
        &self,
        kind: Kind,
        mechanism: CK_MECHANISM_TYPE,
        session: CK_SESSION_HANDLE,
        parameter: &Parameter,
        data: &[u8],
        last: Option<&[u8]>,
    ) -> Result<Message> {
        let mut memory = ParameterMemory::new(parameter)?;
        let (parameter, size) = memory.pointer();
        let (bytes, length) = (input(data), ulong(data.len()));
        let flags: CK_FLAGS = if last.is_some() {
            CKF_END_OF_MESSAGE
        } else {
            0
        };
        let sized = sizes::cipher(data.len());
        let result = match kind {
            Kind::MessageEncrypt => output("C_EncryptMessageNext", sized, |out, out_length| {
                call!(
                    self,
                    C_EncryptMessageNext(
                        session, parameter, size, bytes, length, out, out_length, flags
                    )
                )
            }),
            Kind::MessageDecrypt => output("C_DecryptMessageNext", sized, |out, out_length| {
                call!(
                    self,
                    C_DecryptMessageNext(
                        session, parameter, size, bytes, length, out, out_length, flags
                    )
                )
            }),
            // Only the last part has room for the signature: that is what makes it the last.
            Kind::MessageSign if last.is_some() => output(
                "C_SignMessageNext",
                sizes::signature(mechanism),
                |out, out_length| {
                    call!(
                        self,
                        C_SignMessageNext(session, parameter, size, bytes, length, out, out_length)
                    )
                },
            ),
            Kind::MessageSign => call!(
                self,
                C_SignMessageNext(
                    session,
                    parameter,
                    size,
                    bytes,
                    length,
                    null_mut(),
                    null_mut()
                )
            )
            .map(|()| Vec::new()),
            Kind::MessageVerify => {
                let (signature, signature_length) = match last {
                    Some(signature) => (input(signature), ulong(signature.len())),
                    None => (null_mut(), 0),
                };
                call!(
                    self,
                    C_VerifyMessageNext(
                        session,
                        parameter,
                        size,
                        bytes,
                        length,
                        signature,
                        signature_length
                    )
                )
                .map(|()| Vec::new())
            }
            _ => Err(no_such(kind, "message next")),
        }?;
        Ok((result, memory.written()))
    }

    /// `C_MessageEncryptFinal` and its kin (3.0).
    pub fn message_final(&self, kind: Kind, session: CK_SESSION_HANDLE) -> Result<()> {
        match kind {
            Kind::MessageEncrypt => call!(self, C_MessageEncryptFinal(session)),
            Kind::MessageDecrypt => call!(self, C_MessageDecryptFinal(session)),
            Kind::MessageSign => call!(self, C_MessageSignFinal(session)),
            Kind::MessageVerify => call!(self, C_MessageVerifyFinal(session)),
            _ => Err(no_such(kind, "message final")),
        }
    }
}
