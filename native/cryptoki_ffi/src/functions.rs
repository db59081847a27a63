//! The function list of a library, and the one way to call a function of it.

use crate::failure::{Failure, Outcome};
use crate::gate::Gate;
use cryptoki_sys as ck;
use cryptoki_sys::{CK_FLAGS, CK_FUNCTION_LIST_3_2, CK_RV, CK_ULONG};

/// No answer of a library may be larger than this beyond what it was given.
const OUTPUT_LIMIT: usize = 64 << 20;

/// The functions of one library behind its gate. What a library lacks is `None`.
pub struct Functions {
    pub(crate) list: CK_FUNCTION_LIST_3_2,
    /// The version of the interface in use, 2.40 to 3.2.
    pub interface: (u8, u8),
    /// All that the library offers; empty before 3.0.
    pub interfaces: Vec<Interface>,
    /// Who may call.
    pub gate: Gate,
}

impl Functions {
    /// Behind a gate that is shut.
    ///
    /// # Safety
    /// The functions keep to their declarations and are there for as long as the process.
    pub unsafe fn new(
        list: CK_FUNCTION_LIST_3_2,
        interface: (u8, u8),
        interfaces: Vec<Interface>,
    ) -> Self {
        Self {
            list,
            interface,
            interfaces,
            gate: Gate::shut(),
        }
    }
}

/// One entry of `C_GetInterfaceList` (3.0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// "PKCS 11" for the standard's own.
    pub name: String,
    /// The version of its function list.
    pub version: (u8, u8),
    /// `CKF_INTERFACE_FORK_SAFE`
    pub flags: CK_FLAGS,
}

/// Calls one function through the gate: `call!(self, C_Sign(session, ...))`.
macro_rules! call {
    ($functions:expr, $name:ident ( $($argument:expr),* $(,)? )) => {{
        let functions: &$crate::functions::Functions = $functions;
        match functions.list.$name {
            None => $crate::functions::check(
                cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED, stringify!($name)),
            Some(function) => functions.gate.enter().and_then(|_pass| {
                functions.gate.same_life(stringify!($name))?;
                // SAFETY: the pointer comes from the function list of a library that is never
                // unloaded; every pointer argument outlives the call and has the length it is
                // passed with; the gate keeps C_Finalize away until the call is back.
                let rv = unsafe { function($($argument),*) };
                $crate::functions::check(rv, stringify!($name))
            }),
        }
    }};
}
pub(crate) use call;

/// `CKR_OK` or a failure.
pub fn check(code: CK_RV, function: &'static str) -> Outcome<()> {
    if code == ck::CKR_OK {
        Ok(())
    } else {
        Err(Failure::Rv { code, function })
    }
}

/// A handle that the library gave; 0 is never one, and with it nothing could be done, or somebody else's be.
pub fn valid(function: &str, handle: CK_ULONG) -> Outcome<CK_ULONG> {
    if handle == ck::CK_INVALID_HANDLE {
        return Err(Failure::misbehaved(
            function,
            "answered CKR_OK with an invalid handle",
        ));
    }
    Ok(handle)
}

/// A length as the library wants it.
pub fn ulong(length: usize) -> CK_ULONG {
    length as CK_ULONG
}

/// Bytes that the library only reads, as its functions are declared.
pub fn input(bytes: &[u8]) -> *mut u8 {
    bytes.as_ptr().cast_mut()
}

/// A zeroed buffer, or an error when there is no memory for it.
pub fn buffer<T: Clone + Default>(length: usize, function: &str) -> Outcome<Vec<T>> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(length)
        .map_err(|_| Failure::misbehaved(function, "wants more memory than there is"))?;
    buffer.resize(length, T::default());
    Ok(buffer)
}

/// Runs a call that fills a buffer: `expected` bytes first, what the library asks for if that was
/// too little. The length that comes back is checked against the buffer.
pub fn output(
    function: &'static str,
    expected: usize,
    mut call: impl FnMut(*mut u8, *mut CK_ULONG) -> Outcome<()>,
) -> Outcome<Vec<u8>> {
    let mut capacity = expected;
    // Three rounds: the guess, what the library said, and once more for one that said too little.
    for _ in 0..3 {
        let mut bytes = buffer::<u8>(capacity, function)?;
        let mut length = ulong(capacity);
        match call(bytes.as_mut_ptr(), &mut length) {
            Ok(()) if length as usize > capacity => {
                return Err(Failure::misbehaved(
                    function,
                    "says it wrote more than the buffer holds",
                ));
            }
            Ok(()) => {
                bytes.truncate(length as usize);
                return Ok(bytes);
            }
            Err(failure) if failure.is(ck::CKR_BUFFER_TOO_SMALL) => {
                let wanted = if length == ck::CK_UNAVAILABLE_INFORMATION {
                    capacity.saturating_mul(2)
                } else {
                    length as usize
                };
                if wanted <= capacity || wanted > expected.saturating_add(OUTPUT_LIMIT) {
                    return Err(Failure::misbehaved(
                        function,
                        "asks for a buffer of an impossible size",
                    ));
                }
                capacity = wanted;
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::misbehaved(
        function,
        "finds no buffer large enough",
    ))
}

/// Lists such as slots and mechanisms: count, fill, and again when it grew in between.
pub fn list(
    function: &'static str,
    limit: usize,
    mut call: impl FnMut(*mut CK_ULONG, *mut CK_ULONG) -> Outcome<()>,
) -> Outcome<Vec<CK_ULONG>> {
    for _ in 0..4 {
        let mut count: CK_ULONG = 0;
        call(std::ptr::null_mut(), &mut count)?;
        if count as usize > limit {
            return Err(Failure::misbehaved(function, "counts more than can be"));
        }
        // Room to spare: some libraries fill in more than they were told there is room for.
        let capacity = (count as usize).saturating_mul(2).max(64);
        let mut items = buffer::<CK_ULONG>(capacity, function)?;
        let mut count = ulong(capacity / 2).max(count);
        match call(items.as_mut_ptr(), &mut count) {
            Ok(()) if count as usize > capacity => {
                return Err(Failure::misbehaved(
                    function,
                    "counts more than the buffer holds",
                ));
            }
            Ok(()) => {
                items.truncate(count as usize);
                return Ok(items);
            }
            Err(failure) if failure.is(ck::CKR_BUFFER_TOO_SMALL) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::misbehaved(
        function,
        "finds no buffer large enough",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Reason;

    fn misbehaved<T>(outcome: Outcome<T>) -> bool {
        matches!(
            outcome,
            Err(Failure::Own {
                reason: Reason::ModuleMisbehaved,
                ..
            })
        )
    }

    fn answer(code: CK_RV) -> Outcome<()> {
        check(code, "C_Sign")
    }

    #[test]
    fn an_output_is_cut_to_what_was_written() {
        let bytes = output("C_Sign", 16, |_, length| {
            // SAFETY: the test's own pointer.
            unsafe { *length = 3 };
            answer(ck::CKR_OK)
        });
        assert_eq!(bytes, Ok(vec![0; 3]));
    }

    #[test]
    fn a_small_buffer_is_replaced_by_one_of_the_size_the_library_asks_for() {
        let bytes = output("C_Sign", 4, |_, length| {
            // SAFETY: the test's own pointer.
            let given = unsafe { std::mem::replace(&mut *length, 100) };
            answer(if given < 100 {
                ck::CKR_BUFFER_TOO_SMALL
            } else {
                ck::CKR_OK
            })
        });
        assert_eq!(bytes.map(|bytes| bytes.len()), Ok(100));
    }

    #[test]
    fn a_library_that_lies_about_lengths_costs_an_error() {
        for claim in [17, CK_ULONG::MAX, CK_ULONG::MAX - 1] {
            assert!(misbehaved(output("C_Sign", 16, |_, length| {
                // SAFETY: the test's own pointer.
                unsafe { *length = claim };
                answer(ck::CKR_OK)
            })));
        }
        for claim in [0, 16, CK_ULONG::MAX - 1] {
            assert!(misbehaved(output("C_Sign", 16, |_, length| {
                // SAFETY: the test's own pointer.
                unsafe { *length = claim };
                answer(ck::CKR_BUFFER_TOO_SMALL)
            })));
        }
    }

    #[test]
    fn a_library_that_lies_about_counts_costs_an_error() {
        assert!(misbehaved(list("C_GetSlotList", 100, |_, count| {
            // SAFETY: the test's own pointer.
            unsafe { *count = CK_ULONG::MAX };
            answer(ck::CKR_OK)
        })));
        assert!(misbehaved(list("C_GetSlotList", 100, |items, count| {
            // SAFETY: the test's own pointer.
            unsafe { *count = if items.is_null() { 2 } else { 1000 } };
            answer(ck::CKR_OK)
        })));
    }
}
