//! Message-based operations, which 3.0 added (sections 5.9, 5.11, 5.14 and 5.16).

use crate::crypto::{Kind, no_such};
use crate::failure::Result;
use crate::functions::{Functions, call, input, ulong};
use crate::layout::ParameterMemory;
use crate::output::{Output, turned};
use crate::sizes;
use crate::values::{Parameter, Secret};
use cryptoki_sys::{CK_FLAGS, CK_MECHANISM_TYPE, CK_SESSION_HANDLE, CKF_END_OF_MESSAGE};
use std::ptr::null_mut;

/// What a message call gave, and what it wrote into its parameter (an IV or a tag made by the token).
pub type Message = (Output, Vec<Secret>);

impl Functions {
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
        let (parameter, size) = memory.pointer();
        let (bytes, length) = (input(data), ulong(data.len()));
        let (more, more_length) = (input(extra), ulong(extra.len()));
        let (sized, signature) = (sizes::cipher(data.len()), sizes::signature(mechanism));
        macro_rules! cipher {
            ($name:ident) => {
                turned!(self, sized, |out, room| $name(
                    session,
                    parameter,
                    size,
                    more,
                    more_length,
                    bytes,
                    length,
                    out,
                    room
                ))
            };
        }
        let result = match kind {
            Kind::MessageEncrypt => cipher!(C_EncryptMessage),
            Kind::MessageDecrypt => cipher!(C_DecryptMessage),
            Kind::MessageSign => turned!(self, signature, |out, room| C_SignMessage(
                session, parameter, size, bytes, length, out, room
            )),
            Kind::MessageVerify => call!(
                self,
                C_VerifyMessage(session, parameter, size, bytes, length, more, more_length)
            )
            .map(|()| Vec::new().into()),
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
        let (sized, signature) = (sizes::cipher(data.len()), sizes::signature(mechanism));
        macro_rules! cipher {
            ($name:ident) => {
                turned!(self, sized, |out, room| $name(
                    session, parameter, size, bytes, length, out, room, flags
                ))
            };
        }
        let result = match (kind, last) {
            (Kind::MessageEncrypt, _) => cipher!(C_EncryptMessageNext),
            (Kind::MessageDecrypt, _) => cipher!(C_DecryptMessageNext),
            // Only the last part has room for the signature: that is what makes it the last.
            (Kind::MessageSign, Some(_)) => {
                turned!(self, signature, |out, room| C_SignMessageNext(
                    session, parameter, size, bytes, length, out, room
                ))
            }
            (Kind::MessageSign, None) => {
                let (none, nowhere) = (null_mut(), null_mut());
                call!(
                    self,
                    C_SignMessageNext(session, parameter, size, bytes, length, none, nowhere)
                )
                .map(|()| Vec::new().into())
            }
            (Kind::MessageVerify, last) => {
                let signed = last.map_or(null_mut(), input);
                let signed_length = last.map_or(0, |signature| ulong(signature.len()));
                call!(
                    self,
                    C_VerifyMessageNext(
                        session,
                        parameter,
                        size,
                        bytes,
                        length,
                        signed,
                        signed_length
                    )
                )
                .map(|()| Vec::new().into())
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
