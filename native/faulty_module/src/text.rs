//! Fixed fields of text that are filled with something else than blanks.

use crate::control;
use crate::target::{Answer, real};
use cryptoki_sys::{CK_BYTE, CK_INFO, CK_UTF8CHAR, CKR_OK};

/// With what fixed fields of text are filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// Zero bytes.
    Zeros,
    /// A zero byte, then blanks.
    Mixed,
}

impl Padding {
    /// Reads the word behind `padding`.
    pub fn parse(word: &str) -> Result<Padding, String> {
        match word {
            "zeros" => Ok(Padding::Zeros),
            "mixed" => Ok(Padding::Mixed),
            _ => Err(word.to_owned()),
        }
    }
}

/// `C_GetInfo`.
///
/// # Safety
/// As for the function.
pub(crate) unsafe fn get_info(info: *mut CK_INFO) -> Answer {
    let rv = real!(C_GetInfo(info))?;
    if rv == CKR_OK {
        // SAFETY: the target has just written the structure.
        let info = unsafe { &mut *info };
        pad(&mut [&mut info.manufacturerID, &mut info.libraryDescription]);
    }
    Ok(rv)
}

/// Fills fields anew.
pub(crate) fn pad(fields: &mut [&mut [CK_UTF8CHAR]]) {
    let Some(padding) = control::current().padding else {
        return;
    };
    for field in fields {
        let blank = |byte: &CK_BYTE| matches!(byte, b' ' | 0);
        let length = field.len() - field.iter().rev().take_while(|byte| blank(byte)).count();
        let rest = &mut field[length..];
        rest.fill(match padding {
            Padding::Zeros => 0,
            Padding::Mixed => b' ',
        });
        if let Some(first) = rest.first_mut() {
            *first = 0;
        }
    }
}
