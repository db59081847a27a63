//! From an operation to its call: what the table says.

use crate::calls::at::{At, Crypto};
use crate::calls::{crypto, keys, messages, objects};
use crate::library::info;
use crate::operation::answer::Answer;
use crate::operation::login::Login;
use crate::operation::operation::Operation;
use crate::operation::table::operations;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::Result;

macro_rules! dispatch {
    ($($name:ident ( $($argument:ident : $type:ty),* ) $class:ident [ $($function:ident)* ] |$at:ident| $call:expr;)*) => {
        /// Runs an operation.
        pub fn run(at: &mut At, operation: &Operation) -> Result<Answer> {
            match operation {
                $(Operation::$name { $($argument),* } => {
                    let $at = at;
                    $call
                })*
            }
        }
    };
}

operations!(dispatch);
