//! Verification that knows the signature beforehand, which 3.2 added (section 5.15).

use crate::failure::Result;
use crate::functions::{Functions, call, input, ulong};
use crate::layout::MechanismMemory;
use crate::values::Mechanism;
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_SESSION_HANDLE};

impl Functions {
    /// `C_VerifySignatureInit` (3.2); what it gives is kept as that of the other inits.
    pub fn verify_signature_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
        signature: &[u8],
    ) -> Result<MechanismMemory> {
        let mut memory = MechanismMemory::new(mechanism)?;
        call!(
            self,
            C_VerifySignatureInit(
                session,
                memory.pointer(),
                key,
                input(signature),
                ulong(signature.len())
            )
        )?;
        Ok(memory)
    }

    /// `C_VerifySignature` (3.2).
    pub fn verify_signature(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result<()> {
        call!(
            self,
            C_VerifySignature(session, input(data), ulong(data.len()))
        )
    }

    /// `C_VerifySignatureFinal` (3.2).
    pub fn verify_signature_final(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        call!(self, C_VerifySignatureFinal(session))
    }
}
