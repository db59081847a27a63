//! Signing, verifying, encrypting, decrypting, digesting and random numbers (sections 5.8 to 5.15, 5.19).

use crate::failure::{Failure, Reason, Result};
use crate::functions::{Functions, buffer, call, input, output, ulong};
use crate::layout::MechanismMemory;
use crate::sizes;
use crate::values::Mechanism;
use cryptoki_sys::{
    CK_FLAGS, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CKR_BUFFER_TOO_SMALL,
    CKR_CRYPTOKI_NOT_INITIALIZED, CKR_FUNCTION_NOT_SUPPORTED, CKR_SESSION_HANDLE_INVALID,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The kinds of operation a session can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `C_Sign*`
    Sign,
    /// `C_Verify*`
    Verify,
    /// `C_Encrypt*`
    Encrypt,
    /// `C_Decrypt*`
    Decrypt,
    /// `C_Digest*`
    Digest,
    /// `C_SignRecover*`
    SignRecover,
    /// `C_VerifyRecover*`
    VerifyRecover,
    /// `C_FindObjects*`
    Find,
    /// `C_EncryptMessage*`
    MessageEncrypt,
    /// `C_DecryptMessage*`
    MessageDecrypt,
    /// `C_SignMessage*`
    MessageSign,
    /// `C_VerifyMessage*`
    MessageVerify,
    /// `C_VerifySignature*`
    VerifySignature,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 13] = [
        Kind::Sign,
        Kind::Verify,
        Kind::Encrypt,
        Kind::Decrypt,
        Kind::Digest,
        Kind::SignRecover,
        Kind::VerifyRecover,
        Kind::Find,
        Kind::MessageEncrypt,
        Kind::MessageDecrypt,
        Kind::MessageSign,
        Kind::MessageVerify,
        Kind::VerifySignature,
    ];

    /// The flag that cancels it in `C_SessionCancel`.
    pub fn cancel_flag(self) -> CK_FLAGS {
        match self {
            Kind::Sign => cryptoki_sys::CKF_SIGN,
            Kind::Verify | Kind::VerifySignature => cryptoki_sys::CKF_VERIFY,
            Kind::Encrypt => cryptoki_sys::CKF_ENCRYPT,
            Kind::Decrypt => cryptoki_sys::CKF_DECRYPT,
            Kind::Digest => cryptoki_sys::CKF_DIGEST,
            Kind::SignRecover => cryptoki_sys::CKF_SIGN_RECOVER,
            Kind::VerifyRecover => cryptoki_sys::CKF_VERIFY_RECOVER,
            Kind::Find => cryptoki_sys::CKF_FIND_OBJECTS,
            Kind::MessageEncrypt => cryptoki_sys::CKF_MESSAGE_ENCRYPT,
            Kind::MessageDecrypt => cryptoki_sys::CKF_MESSAGE_DECRYPT,
            Kind::MessageSign => cryptoki_sys::CKF_MESSAGE_SIGN,
            Kind::MessageVerify => cryptoki_sys::CKF_MESSAGE_VERIFY,
        }
    }
}

pub(crate) fn no_such(kind: Kind, step: &str) -> Failure {
    Failure::own(
        Reason::InvalidArgument,
        format!("{kind:?} has no step {step}"),
    )
}

impl Functions {
    /// `C_SignInit` and its kin; the digest takes no key. What it gives has to be kept until the operation is over:
    /// some libraries write their IV into the parameter with the last call of an encryption.
    pub fn init(
        &self,
        kind: Kind,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result<MechanismMemory> {
        let mut memory = MechanismMemory::new(mechanism)?;
        let mechanism = memory.pointer();
        match kind {
            Kind::Sign => call!(self, C_SignInit(session, mechanism, key)),
            Kind::Verify => call!(self, C_VerifyInit(session, mechanism, key)),
            Kind::Encrypt => call!(self, C_EncryptInit(session, mechanism, key)),
            Kind::Decrypt => call!(self, C_DecryptInit(session, mechanism, key)),
            Kind::Digest => call!(self, C_DigestInit(session, mechanism)),
            Kind::SignRecover => call!(self, C_SignRecoverInit(session, mechanism, key)),
            Kind::VerifyRecover => call!(self, C_VerifyRecoverInit(session, mechanism, key)),
            _ => Err(no_such(kind, "init")),
        }?;
        Ok(memory)
    }

    /// The single-part call that turns data into bytes: `C_Sign`, `C_Encrypt`, `C_Digest` ...
    pub fn single(
        &self,
        kind: Kind,
        mechanism: CK_MECHANISM_TYPE,
        session: CK_SESSION_HANDLE,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        let (bytes, length) = (input(data), ulong(data.len()));
        let (sized, signature) = (sizes::cipher(data.len()), sizes::signature(mechanism));
        match kind {
            Kind::Sign => output("C_Sign", signature, |out, out_length| {
                call!(self, C_Sign(session, bytes, length, out, out_length))
            }),
            Kind::Encrypt => output("C_Encrypt", sized, |out, out_length| {
                call!(self, C_Encrypt(session, bytes, length, out, out_length))
            }),
            Kind::Decrypt => output("C_Decrypt", sized, |out, out_length| {
                call!(self, C_Decrypt(session, bytes, length, out, out_length))
            }),
            Kind::Digest => output("C_Digest", sizes::DIGEST, |out, out_length| {
                call!(self, C_Digest(session, bytes, length, out, out_length))
            }),
            Kind::SignRecover => output("C_SignRecover", signature, |out, out_length| {
                call!(self, C_SignRecover(session, bytes, length, out, out_length))
            }),
            Kind::VerifyRecover => output("C_VerifyRecover", signature, |out, out_length| {
                call!(
                    self,
                    C_VerifyRecover(session, bytes, length, out, out_length)
                )
            }),
            _ => Err(no_such(kind, "single")),
        }
    }

    /// `C_Verify`.
    pub fn verify(&self, session: CK_SESSION_HANDLE, data: &[u8], signature: &[u8]) -> Result<()> {
        call!(
            self,
            C_Verify(
                session,
                input(data),
                ulong(data.len()),
                input(signature),
                ulong(signature.len())
            )
        )
    }

    /// `C_SignUpdate` and its kin; encryption and decryption answer with bytes.
    pub fn update(
        &self,
        kind: Kind,
        session: CK_SESSION_HANDLE,
        data: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let (bytes, length) = (input(data), ulong(data.len()));
        let sized = sizes::cipher(data.len());
        match kind {
            Kind::Sign => call!(self, C_SignUpdate(session, bytes, length)).map(|()| None),
            Kind::Verify => call!(self, C_VerifyUpdate(session, bytes, length)).map(|()| None),
            Kind::VerifySignature => {
                call!(self, C_VerifySignatureUpdate(session, bytes, length)).map(|()| None)
            }
            Kind::Digest => call!(self, C_DigestUpdate(session, bytes, length)).map(|()| None),
            Kind::Encrypt => output("C_EncryptUpdate", sized, |out, out_length| {
                call!(
                    self,
                    C_EncryptUpdate(session, bytes, length, out, out_length)
                )
            })
            .map(Some),
            Kind::Decrypt => output("C_DecryptUpdate", sized, |out, out_length| {
                call!(
                    self,
                    C_DecryptUpdate(session, bytes, length, out, out_length)
                )
            })
            .map(Some),
            _ => Err(no_such(kind, "update")),
        }
    }

    /// `C_SignFinal` and its kin. `held` is how much input the library may still hold back.
    pub fn finish(
        &self,
        kind: Kind,
        mechanism: CK_MECHANISM_TYPE,
        session: CK_SESSION_HANDLE,
        held: usize,
    ) -> Result<Vec<u8>> {
        match kind {
            Kind::Sign => output("C_SignFinal", sizes::signature(mechanism), |out, length| {
                call!(self, C_SignFinal(session, out, length))
            }),
            Kind::Digest => output("C_DigestFinal", sizes::DIGEST, |out, length| {
                call!(self, C_DigestFinal(session, out, length))
            }),
            Kind::Encrypt => output("C_EncryptFinal", sizes::cipher(0), |out, length| {
                call!(self, C_EncryptFinal(session, out, length))
            }),
            // AEAD modes give nothing before the tag is checked: all of the plaintext comes here.
            Kind::Decrypt => output("C_DecryptFinal", sizes::cipher(held), |out, length| {
                call!(self, C_DecryptFinal(session, out, length))
            }),
            _ => Err(no_such(kind, "final")),
        }
    }

    /// `C_VerifyFinal`.
    pub fn verify_final(&self, session: CK_SESSION_HANDLE, signature: &[u8]) -> Result<()> {
        call!(
            self,
            C_VerifyFinal(session, input(signature), ulong(signature.len()))
        )
    }

    /// Ends an operation that nobody will finish, by finishing it where that costs nothing: a
    /// signature is not made for nobody. Whether it is over now.
    pub fn finish_off(&self, kind: Kind, session: CK_SESSION_HANDLE) -> bool {
        let end = match kind {
            Kind::Find => self.find_final(session),
            Kind::Digest | Kind::Encrypt | Kind::Decrypt if self.list.C_SessionCancel.is_none() => {
                self.finish(kind, 0, session, sizes::cipher(0))
                    .map(Zeroizing::new)
                    .map(drop)
            }
            Kind::Verify if self.list.C_SessionCancel.is_none() => self.verify_final(session, &[0]),
            // It has no flag of its own in C_SessionCancel, and Kryoptic's CKF_VERIFY leaves it alone.
            Kind::VerifySignature => self.verify_signature_final(session),
            _ => return false,
        };
        // Any answer but these ends the operation (section 5.2).
        match end {
            Ok(()) => true,
            Err(Failure::Rv { code, .. }) => ![
                CKR_BUFFER_TOO_SMALL,
                CKR_FUNCTION_NOT_SUPPORTED,
                CKR_SESSION_HANDLE_INVALID,
                CKR_CRYPTOKI_NOT_INITIALIZED,
            ]
            .contains(&code),
            Err(Failure::Own { .. }) => false,
        }
    }

    /// `C_GenerateRandom`.
    pub fn random(&self, session: CK_SESSION_HANDLE, length: usize) -> Result<Vec<u8>> {
        let mut bytes = buffer::<u8>(length, "C_GenerateRandom")?;
        call!(
            self,
            C_GenerateRandom(session, bytes.as_mut_ptr(), ulong(length))
        )?;
        Ok(bytes)
    }

    /// `C_SeedRandom`.
    pub fn seed_random(&self, session: CK_SESSION_HANDLE, seed: &[u8]) -> Result<()> {
        call!(self, C_SeedRandom(session, input(seed), ulong(seed.len())))
    }

    /// `C_DigestKey`.
    pub fn digest_key(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result<()> {
        call!(self, C_DigestKey(session, key))
    }
}
