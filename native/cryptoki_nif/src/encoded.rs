//! A NIF result that is already encoded: nothing is left to do outside the guard.

use rustler::codegen_runtime::{NifReturnable, NifReturned};
use rustler::sys::enif_make_badarg;
use rustler::{Env, Term};

/// A term as the VM takes it.
pub struct Encoded(rustler::sys::ErlNifTerm);

impl Encoded {
    /// The term.
    pub fn term(term: Term) -> Self {
        Encoded(term.as_c_arg())
    }

    /// Raises `badarg` in the caller.
    pub fn badarg(env: Env) -> Self {
        // SAFETY: the environment is that of the running NIF.
        Encoded(unsafe { enif_make_badarg(env.as_c_arg()) })
    }
}

// SAFETY: the term was made in the environment of the NIF that returns it; copying it cannot fail.
unsafe impl NifReturnable for Encoded {
    unsafe fn into_returned(self, _env: Env) -> NifReturned {
        NifReturned::Term(self.0)
    }
}
