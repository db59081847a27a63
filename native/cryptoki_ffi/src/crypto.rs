//! Signing, verifying, encrypting, decrypting, digesting and random numbers (sections 5.8 to 5.15, 5.19).

use crate::failure::{Failure, Reason, Result};
use crate::functions::{Functions, OUTPUT_LIMIT, buffer, call, input, ulong, written};
use crate::layout::MechanismMemory;
use crate::output::{Output, turned};
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
        macro_rules! init {
            ($name:ident) => {
                call!(self, $name(session, mechanism, key))
            };
        }
        match kind {
            Kind::Sign => init!(C_SignInit),
            Kind::Verify => init!(C_VerifyInit),
            Kind::Encrypt => init!(C_EncryptInit),
            Kind::Decrypt => init!(C_DecryptInit),
            Kind::Digest => call!(self, C_DigestInit(session, mechanism)),
            Kind::SignRecover => init!(C_SignRecoverInit),
            Kind::VerifyRecover => init!(C_VerifyRecoverInit),
            Kind::MessageEncrypt => init!(C_MessageEncryptInit),
            Kind::MessageDecrypt => init!(C_MessageDecryptInit),
            Kind::MessageSign => init!(C_MessageSignInit),
            Kind::MessageVerify => init!(C_MessageVerifyInit),
            Kind::Find | Kind::VerifySignature => Err(no_such(kind, "init")),
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
    ) -> Result<Output> {
        let (bytes, length) = (input(data), ulong(data.len()));
        let (sized, signature) = (sizes::cipher(data.len()), sizes::signature(mechanism));
        macro_rules! single {
            ($name:ident, $expected:expr) => {
                turned!(self, $expected, |out, room| $name(
                    session, bytes, length, out, room
                ))
            };
        }
        match kind {
            Kind::Sign => single!(C_Sign, signature),
            Kind::Encrypt => single!(C_Encrypt, sized),
            Kind::Decrypt => single!(C_Decrypt, sized),
            Kind::Digest => single!(C_Digest, sizes::DIGEST),
            Kind::SignRecover => single!(C_SignRecover, signature),
            Kind::VerifyRecover => single!(C_VerifyRecover, signature),
            _ => Err(no_such(kind, "single")),
        }
    }

    /// `C_Sign` with a mechanism whose signature has pointers into itself: it stays where the library wrote it.
    pub fn sign_in_place(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        session: CK_SESSION_HANDLE,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let (bytes, length) = (input(data), ulong(data.len()));
        written("C_Sign", sizes::signature(mechanism), |out, room| {
            call!(self, C_Sign(session, bytes, length, out, room))
        })
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
    ) -> Result<Option<Output>> {
        let (bytes, length) = (input(data), ulong(data.len()));
        let sized = sizes::cipher(data.len());
        macro_rules! taken {
            ($name:ident) => {
                call!(self, $name(session, bytes, length)).map(|()| None)
            };
        }
        macro_rules! given_back {
            ($name:ident) => {
                turned!(self, sized, |out, room| $name(
                    session, bytes, length, out, room
                ))
                .map(Some)
            };
        }
        match kind {
            Kind::Sign => taken!(C_SignUpdate),
            Kind::Verify => taken!(C_VerifyUpdate),
            Kind::VerifySignature => taken!(C_VerifySignatureUpdate),
            Kind::Digest => taken!(C_DigestUpdate),
            Kind::Encrypt => given_back!(C_EncryptUpdate),
            Kind::Decrypt => given_back!(C_DecryptUpdate),
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
    ) -> Result<Output> {
        macro_rules! last {
            ($name:ident, $expected:expr) => {
                turned!(self, $expected, |out, room| $name(session, out, room))
            };
        }
        match kind {
            Kind::Sign => last!(C_SignFinal, sizes::signature(mechanism)),
            Kind::Digest => last!(C_DigestFinal, sizes::DIGEST),
            Kind::Encrypt => last!(C_EncryptFinal, sizes::cipher(0)),
            // AEAD modes give nothing before the tag is checked: all of the plaintext comes here.
            Kind::Decrypt => last!(C_DecryptFinal, sizes::cipher(held)),
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
                    .map(Output::discard)
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
        if length > OUTPUT_LIMIT {
            let why = format!("{length} random bytes are more than one call gives");
            return Err(Failure::own(Reason::InvalidArgument, why));
        }
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
