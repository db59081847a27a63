//! The answer of the one-time password mechanisms (section 6.53): a structure whose pointers lie in the
//! buffer it was written to. They are only compared with it, never followed.

use crate::failure::{Failure, Result};
use cryptoki_sys::{
    CK_OTP_PARAM, CK_OTP_PARAM_TYPE, CK_OTP_PARAMS, CK_OTP_SIGNATURE_INFO, CK_ULONG,
};
use std::mem::offset_of;

const WORD: usize = size_of::<CK_ULONG>();

/// The parameters in a `CK_OTP_SIGNATURE_INFO` that the library has written to `buffer`.
pub fn parameters(buffer: &[u8]) -> Result<Vec<(CK_OTP_PARAM_TYPE, Vec<u8>)>> {
    let at = buffer.as_ptr().addr();
    let read = || {
        let list = word(buffer, offset_of!(CK_OTP_SIGNATURE_INFO, pParams))?;
        let count = word(buffer, offset_of!(CK_OTP_SIGNATURE_INFO, ulCount))?;
        let begin = list.checked_sub(at)?;
        (0..count)
            .map(|index| {
                let one = index.checked_mul(size_of::<CK_OTP_PARAM>())?;
                let one = buffer.get(begin.checked_add(one)?..)?;
                let kind = word(one, offset_of!(CK_OTP_PARAM, type_))?;
                let length = word(one, offset_of!(CK_OTP_PARAM, ulValueLen))?;
                let value = match word(one, offset_of!(CK_OTP_PARAM, pValue))? {
                    _ if length == 0 => &[],
                    pointer => buffer.get(pointer.checked_sub(at)?..)?.get(..length)?,
                };
                Some((kind as CK_OTP_PARAM_TYPE, value.to_vec()))
            })
            .collect::<Option<Vec<_>>>()
    };
    read().ok_or_else(|| {
        Failure::misbehaved("C_Sign", "gives a one-time password outside of its buffer")
    })
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.get(..WORD)?;
    Some(CK_ULONG::from_ne_bytes(word.try_into().ok()?) as usize)
}

// The two structures are one: what is given and what comes back.
const _: () = assert!(size_of::<CK_OTP_SIGNATURE_INFO>() == size_of::<CK_OTP_PARAMS>());

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer with two parameters, as a library lays it out.
    fn answer(change: impl FnOnce(&mut [usize], usize)) -> Vec<u8> {
        let size = 8 * WORD + 8;
        let mut buffer = vec![0; size];
        let at = buffer.as_ptr().addr();
        let mut words = [
            at + 2 * WORD,
            2,
            0,
            at + 8 * WORD,
            6,
            4,
            at + 8 * WORD + 6,
            2,
        ];
        change(&mut words, at);
        for (place, word) in buffer.chunks_exact_mut(WORD).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        buffer[8 * WORD..].copy_from_slice(b"755224ab");
        buffer
    }

    #[test]
    fn parameters_are_read_from_the_buffer() {
        let buffer = answer(|_, _| {});
        let expected = vec![(0, b"755224".to_vec()), (4, b"ab".to_vec())];
        assert_eq!(parameters(&buffer), Ok(expected));
    }

    /// Such as a flag that only has to be there: its pointer may be null.
    #[test]
    fn a_parameter_of_no_bytes_may_point_nowhere() {
        let buffer = answer(|words, _| (words[3], words[4]) = (0, 0));
        let expected = vec![(0, vec![]), (4, b"ab".to_vec())];
        assert_eq!(parameters(&buffer), Ok(expected));
    }

    #[test]
    fn pointers_and_counts_outside_of_the_buffer_are_refused() {
        let refused: [fn(&mut [usize], usize); 7] = [
            |words, at| words[0] = at - 1,
            |words, _| words[0] = usize::MAX,
            |words, _| words[1] = 3,
            |words, _| words[1] = usize::MAX,
            |words, at| words[3] = at - 8,
            |words, _| words[4] = 9,
            |words, _| words[4] = usize::MAX,
        ];
        for change in refused {
            assert!(parameters(&answer(change)).is_err());
        }
        assert!(parameters(&[0; 15]).is_err());
    }
}
