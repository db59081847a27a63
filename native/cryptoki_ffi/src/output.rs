//! What a library writes of what it is given: into memory of ours, or where the other process reads it.

use crate::failure::{Failure, Result};
use crate::functions::ulong;
use crate::shared::{LARGE, Lent, Room};
use crate::values::{Secret, wipe};
use crate::wire::Piece;
use cryptoki_sys as ck;
use cryptoki_sys::CK_ULONG;
use std::fmt;
use std::ops::Deref;
use zeroize::Zeroizing;

/// Bytes that were written.
#[derive(Clone)]
pub enum Output<B = Vec<u8>> {
    /// They are ours.
    Own(B),
    /// They lie where the other process reads them, and overwrites them.
    Lent(Lent),
}

impl Output {
    /// The same, to be overwritten.
    pub fn secret(self) -> Output<Secret> {
        match self {
            Output::Own(bytes) => Output::Own(Zeroizing::new(bytes)),
            Output::Lent(bytes) => Output::Lent(bytes),
        }
    }

    /// Nobody wants them.
    pub fn discard(self) {
        match self {
            Output::Own(bytes) => wipe(Zeroizing::new(bytes)),
            Output::Lent(bytes) => bytes.wipe(),
        }
    }
}

impl<B: Piece> Output<B> {
    /// They, as ours.
    pub fn own(self) -> B {
        match self {
            Output::Own(bytes) => bytes,
            Output::Lent(bytes) => B::of(Zeroizing::new(bytes.as_ref().to_vec())),
        }
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Output<B> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Output::Own(bytes) => bytes.as_ref(),
            Output::Lent(bytes) => bytes.as_ref(),
        }
    }
}

impl<B: AsRef<[u8]>> Deref for Output<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for Output<B> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} bytes", self.len())
    }
}

impl<B: AsRef<[u8]>> PartialEq for Output<B> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<B> From<B> for Output<B> {
    fn from(bytes: B) -> Self {
        Output::Own(bytes)
    }
}

impl<B: Piece> Piece for Output<B> {
    fn of(bytes: Secret) -> Self {
        Output::Own(B::of(bytes))
    }
}

/// Calls one function whose output may be as large as its input, see [`output`].
macro_rules! turned {
    ($functions:expr, $expected:expr, |$out:ident, $room:ident| $name:ident ( $($argument:expr),* $(,)? )) => {
        $crate::output::output(stringify!($name), $expected, |$out, $room| {
            $crate::functions::call!($functions, $name($($argument),*))
        })
    };
}
pub(crate) use turned;

/// As [`crate::functions::output`]; where there is room for the other process to read what is large it is written there.
pub fn output(
    function: &'static str,
    expected: usize,
    mut call: impl FnMut(*mut u8, *mut CK_ULONG) -> Result<()>,
) -> Result<Output> {
    if let Some(room) = Room::take(expected) {
        let mut length = ulong(expected);
        match call(room.pointer(), &mut length) {
            Ok(()) => {
                let length = length as usize;
                let output = if length < LARGE {
                    room.copy(length).map(Output::Own)
                } else {
                    room.keep(length).map(Output::Lent)
                };
                let why = "says it wrote more than the buffer holds";
                return output.ok_or_else(|| Failure::misbehaved(function, why));
            }
            Err(failure) if !failure.is(ck::CKR_BUFFER_TOO_SMALL) => return Err(failure),
            Err(_) => {}
        }
    }
    crate::functions::output(function, expected, call).map(Output::Own)
}
