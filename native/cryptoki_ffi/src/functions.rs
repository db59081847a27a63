//! The function list of a library, and the one way to call a function of it.

use crate::failure::{Failure, Result};
use crate::gate::Gate;
use crate::values::wipe;
use cryptoki_sys as ck;
use cryptoki_sys::{CK_FLAGS, CK_FUNCTION_LIST_3_2, CK_RV, CK_ULONG};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// No answer of a library may be larger than this beyond what it was given.
pub(crate) const OUTPUT_LIMIT: usize = 64 << 20;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
                let _inside = $crate::whereabouts::inside(stringify!($name));
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

/// Calls one function that fills a buffer of `room` bytes, see [`output`].
macro_rules! filled {
    ($functions:expr, $expected:expr, |$out:ident, $room:ident| $name:ident ( $($argument:expr),* $(,)? )) => {
        $crate::functions::output(stringify!($name), $expected, |$out, $room| {
            $crate::functions::call!($functions, $name($($argument),*))
        })
    };
}
pub(crate) use filled;

/// Calls one function that gives the handle of a session or of an object, see [`valid`].
macro_rules! made {
    ($functions:expr, |$handle:ident| $name:ident ( $($argument:expr),* $(,)? )) => {{
        let mut made = cryptoki_sys::CK_INVALID_HANDLE;
        let $handle = &raw mut made;
        $crate::functions::call!($functions, $name($($argument),*))
            .and_then(|()| $crate::functions::valid(stringify!($name), made))
    }};
}
pub(crate) use made;

/// `CKR_OK` or a failure.
pub fn check(code: CK_RV, function: &'static str) -> Result<()> {
    if code == ck::CKR_OK {
        Ok(())
    } else {
        Err(Failure::Rv { code, function })
    }
}

/// A handle that the library gave; 0 is never one, and with it nothing could be done, or somebody else's be.
pub fn valid(function: &str, handle: CK_ULONG) -> Result<CK_ULONG> {
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
pub fn buffer<T: Clone + Default>(length: usize, function: &str) -> Result<Vec<T>> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(length)
        .map_err(|_| Failure::misbehaved(function, "wants more memory than there is"))?;
    buffer.resize(length, T::default());
    Ok(buffer)
}

/// How often a call is given a larger buffer.
const ROUNDS: usize = 6;
/// Room for a list whose length was not told.
const ROOM: usize = 256;

/// Runs a call that fills a buffer, see [`written`]. Much room for little is not handed on.
pub fn output(
    function: &'static str,
    expected: usize,
    call: impl FnMut(*mut u8, *mut CK_ULONG) -> Result<()>,
) -> Result<Vec<u8>> {
    let mut bytes = written(function, expected, call)?;
    // Whoever has the answer would carry the room along, and overwrite it.
    if bytes.len() < bytes.capacity() / 2 {
        let exact = bytes.to_vec();
        wipe(bytes);
        return Ok(exact);
    }
    Ok(std::mem::take(&mut *bytes))
}

/// Runs a call that fills a buffer: `expected` bytes first, what the library asks for if that was
/// too little, or twice as much where it does not say. The length that comes back is checked against the buffer, and
/// the bytes are where the library wrote them.
pub fn written(
    function: &'static str,
    expected: usize,
    mut call: impl FnMut(*mut u8, *mut CK_ULONG) -> Result<()>,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut capacity = expected;
    for _ in 0..ROUNDS {
        // Overwritten unless it is handed on: a decryption that failed may have left plaintext in it.
        let mut bytes = Zeroizing::new(buffer::<u8>(capacity, function)?);
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
                let told = length as usize > capacity && length != ck::CK_UNAVAILABLE_INFORMATION;
                let wanted = if told {
                    length as usize
                } else {
                    capacity.saturating_mul(2)
                };
                if wanted > expected.saturating_add(OUTPUT_LIMIT) {
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

/// Lists such as slots and mechanisms: count, fill, and again when it grew in between. The count is only a hint: some
/// libraries answer the question with a refusal and the count, others leave the count as it was.
pub fn list(
    function: &'static str,
    limit: usize,
    mut call: impl FnMut(*mut CK_ULONG, *mut CK_ULONG) -> Result<()>,
) -> Result<Vec<CK_ULONG>> {
    let mut known = 0;
    for _ in 0..ROUNDS {
        // Asked each time: a library may look for slots at this question only.
        let mut count: CK_ULONG = 0;
        match call(std::ptr::null_mut(), &mut count) {
            Ok(()) => {}
            Err(failure) if refuses_the_question(&failure) => {}
            Err(failure) => return Err(failure),
        }
        let told = bounded(function, count, limit)?.max(known);
        // Room to spare: some libraries fill in more than they were told there is room for.
        let room = told.max(ROOM);
        let mut items = buffer::<CK_ULONG>(room.saturating_mul(2), function)?;
        items.fill(UNTOUCHED);
        let mut count = ulong(room);
        match call(items.as_mut_ptr(), &mut count) {
            Ok(()) if count as usize > items.len() => {
                return Err(Failure::misbehaved(
                    function,
                    "counts more than the buffer holds",
                ));
            }
            Ok(()) => {
                items.truncate(count as usize);
                items.retain(|item| *item != UNTOUCHED);
                return Ok(items);
            }
            Err(failure) if failure.is(ck::CKR_BUFFER_TOO_SMALL) => {
                known = bounded(function, count, limit)?.max(room.saturating_mul(2));
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::misbehaved(
        function,
        "finds no buffer large enough",
    ))
}

/// What is in a list where nothing was written: neither a slot nor a mechanism.
const UNTOUCHED: CK_ULONG = CK_ULONG::MAX;

/// Whether a library takes the question for a length, which has no buffer, for a buffer that is too small or none.
pub fn refuses_the_question(failure: &Failure) -> bool {
    [ck::CKR_BUFFER_TOO_SMALL, ck::CKR_ARGUMENTS_BAD]
        .iter()
        .any(|rv| failure.is(*rv))
}

fn bounded(function: &str, count: CK_ULONG, limit: usize) -> Result<usize> {
    if count as usize > limit {
        return Err(Failure::misbehaved(function, "counts more than can be"));
    }
    Ok(count as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Reason;

    fn misbehaved<T>(outcome: Result<T>) -> bool {
        matches!(
            outcome,
            Err(Failure::Own {
                reason: Reason::ModuleMisbehaved,
                ..
            })
        )
    }

    fn answer(code: CK_RV) -> Result<()> {
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

    /// One-time passwords have pointers into their buffer.
    #[test]
    fn what_stays_in_place_is_where_it_was_written() {
        let mut at = std::ptr::null();
        let bytes = written("C_Sign", 8_192, |out, length| {
            at = out.cast_const();
            // SAFETY: the test's own pointer.
            unsafe { *length = ulong(64) };
            answer(ck::CKR_OK)
        });
        let bytes = bytes.expect("an answer");
        assert_eq!((bytes.as_ptr(), bytes.len()), (at, 64));
    }

    #[test]
    fn much_room_for_little_is_not_handed_on() {
        for used in [64, 8_000] {
            let bytes = output("C_Sign", 8_192, |out, length| {
                // SAFETY: the test's own pointers, with room for that many.
                unsafe {
                    std::slice::from_raw_parts_mut(out, used).fill(7);
                    *length = ulong(used);
                }
                answer(ck::CKR_OK)
            });
            let bytes = bytes.expect("an answer");
            assert_eq!(bytes, vec![7; used]);
            assert!(bytes.capacity() <= 2 * used, "{used}");
        }
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

    /// Memory for as much as there can be, and for no more: a library that asks for more does not get it.
    #[test]
    fn the_largest_buffer_is_the_limit_beyond_what_was_expected() {
        let with = |wanted: usize| {
            let mut calls = 0;
            let bytes = output("C_Sign", 16, |_, length| {
                calls += 1;
                // SAFETY: the test's own pointer.
                let given = unsafe { std::mem::replace(&mut *length, ulong(wanted)) };
                answer(if given < ulong(wanted) {
                    ck::CKR_BUFFER_TOO_SMALL
                } else {
                    ck::CKR_OK
                })
            });
            (bytes.map(|bytes| bytes.len()), calls)
        };
        let most = 16 + OUTPUT_LIMIT;
        assert_eq!(with(most), (Ok(most), 2));
        let (refused, calls) = with(most + 1);
        assert!(misbehaved(refused) && calls == 1);
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

    /// What a library answers to the question for a number, and then: a code and a count.
    fn two_answers(
        limit: usize,
        question: (CK_RV, CK_ULONG),
        then: (CK_RV, CK_ULONG),
    ) -> Result<usize> {
        let found = list("C_GetSlotList", limit, |items, count| {
            let (code, told) = if items.is_null() { question } else { then };
            // SAFETY: the test's own pointers; there is room for twice as many as the count says.
            unsafe {
                if !items.is_null() && code == ck::CKR_OK {
                    std::slice::from_raw_parts_mut(items, 2 * *count as usize).fill(7);
                }
                *count = told;
            }
            answer(code)
        });
        found.map(|items| items.len())
    }

    #[test]
    fn counts_are_believed_up_to_the_limit_and_as_far_as_the_buffer_goes() {
        let (ok, small) = (ck::CKR_OK, ck::CKR_BUFFER_TOO_SMALL);
        assert_eq!(two_answers(3, (ok, 3), (ok, 3)), Ok(3));
        assert!(misbehaved(two_answers(3, (ok, 4), (ok, 3))));
        assert!(misbehaved(two_answers(3, (ok, 3), (small, 4))));
        // Some fill in more than they were told there is room for.
        let room = ulong(2 * ROOM);
        assert_eq!(two_answers(1000, (ok, 3), (ok, room)), Ok(2 * ROOM));
        assert!(misbehaved(two_answers(1000, (ok, 3), (ok, room + 1))));
    }

    #[test]
    fn a_list_that_fails_is_not_asked_for_again() {
        let failed = two_answers(3, (ck::CKR_OK, 3), (ck::CKR_DEVICE_ERROR, 3));
        assert!(failed.is_err_and(|failure| failure.is(ck::CKR_DEVICE_ERROR)));
    }

    /// A library with so many mechanisms, that answers the question for their number as it is told.
    fn mechanisms(
        total: usize,
        mut question: impl FnMut(&mut CK_ULONG) -> CK_RV,
        untouched: bool,
    ) -> Result<Vec<CK_ULONG>> {
        list("C_GetMechanismList", 10_000, |items, count| {
            // SAFETY: the test's own pointer.
            let count = unsafe { &mut *count };
            if items.is_null() {
                return answer(question(count));
            }
            let fits = *count as usize >= total;
            if fits {
                // SAFETY: there is room for as many as the count says.
                unsafe { std::slice::from_raw_parts_mut(items, total) }.fill(7);
            }
            if !untouched {
                *count = ulong(total);
            }
            answer(if fits {
                ck::CKR_OK
            } else {
                ck::CKR_BUFFER_TOO_SMALL
            })
        })
    }

    #[test]
    fn a_list_is_read_whatever_the_library_says_to_the_question() {
        for total in [0, 1, 64, ROOM, ROOM + 1, 3000] {
            let expected = Ok(vec![7; total]);
            let told = |count: &mut CK_ULONG, rv| {
                *count = ulong(total);
                rv
            };
            for rv in [ck::CKR_OK, ck::CKR_BUFFER_TOO_SMALL] {
                assert_eq!(mechanisms(total, |count| told(count, rv), false), expected);
            }
            for rv in [ck::CKR_OK, ck::CKR_BUFFER_TOO_SMALL, ck::CKR_ARGUMENTS_BAD] {
                assert_eq!(mechanisms(total, |_| rv, false), expected);
                assert_eq!(mechanisms(total, |_| rv, true), expected);
            }
        }
        let refused = mechanisms(1, |_| ck::CKR_DEVICE_ERROR, false);
        assert!(refused.is_err_and(|failure| failure.is(ck::CKR_DEVICE_ERROR)));
    }

    #[test]
    fn a_buffer_that_is_too_small_grows_though_the_library_does_not_say_how_much() {
        for claim in [0, 16, CK_ULONG::MAX] {
            let bytes = output("C_Sign", 16, |_, length| {
                // SAFETY: the test's own pointer.
                let given = unsafe { std::mem::replace(&mut *length, claim) };
                if given < 100 {
                    return answer(ck::CKR_BUFFER_TOO_SMALL);
                }
                // SAFETY: as above.
                unsafe { *length = 100 };
                answer(ck::CKR_OK)
            });
            assert_eq!(bytes.map(|bytes| bytes.len()), Ok(100));
        }
    }
}
