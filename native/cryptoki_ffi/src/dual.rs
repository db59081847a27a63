//! Two operations fed at once (section 5.16).

use crate::crypto::Kind;
use crate::failure::Result;
use crate::functions::{Functions, input, ulong};
use crate::output::{Output, turned};
use crate::sizes;
use cryptoki_sys::CK_SESSION_HANDLE;
use serde::{Deserialize, Serialize};

impl Functions {
    /// The dual-function updates, such as `C_DigestEncryptUpdate`.
    pub fn dual_update(
        &self,
        dual: Dual,
        session: CK_SESSION_HANDLE,
        data: &[u8],
    ) -> Result<Output> {
        let (bytes, length) = (input(data), ulong(data.len()));
        macro_rules! update {
            ($name:ident) => {
                turned!(self, sizes::cipher(data.len()), |out, room| $name(
                    session, bytes, length, out, room
                ))
            };
        }
        match dual {
            Dual::DigestEncrypt => update!(C_DigestEncryptUpdate),
            Dual::DecryptDigest => update!(C_DecryptDigestUpdate),
            Dual::SignEncrypt => update!(C_SignEncryptUpdate),
            Dual::DecryptVerify => update!(C_DecryptVerifyUpdate),
        }
    }
}

/// Two operations fed by one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
