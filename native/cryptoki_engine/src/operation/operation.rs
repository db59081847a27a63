//! An operation: what the table makes of a row.

use crate::operation::begun::Begun;
use crate::operation::login::Login;
use crate::operation::read::{Argument, Term};
use crate::operation::table::operations;
use crate::operation::words::Word;
use cryptoki_ffi::dual::Dual;
use cryptoki_ffi::values::{Data, Handle, Mechanism, Parameter, Template};
use cryptoki_sys::CK_ULONG;
use serde::{Deserialize, Serialize};

/// The key of an operation; a digest has none.
pub type Key = Option<Handle>;

/// What an operation is to recovery and health.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It only looks: a library whose device is gone may answer it from memory.
    looks,
    /// It works with what there is.
    works,
    /// It makes objects.
    makes,
    /// It goes on with what a call before has begun.
    step,
}

/// A row of the table, for who compares it with something else.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name.
    pub name: Word,
    /// The names of the arguments.
    pub arguments: &'static [&'static str],
    /// What it is to recovery.
    pub class: Class,
    /// The functions of the standard that it calls.
    pub functions: &'static [&'static str],
}

macro_rules! declare {
    ($($name:ident ( $($argument:ident : $type:ty),* ) $class:ident [ $($function:ident)* ] |$at:ident| $call:expr;)*) => {
        /// What a session can be asked to do. Variants and fields are called as in the table.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum Operation { $($name { $($argument: $type),* }),* }

        /// The table.
        pub const TABLE: &[Row] = &[$(Row {
            name: Word::$name,
            arguments: &[$(stringify!($argument)),*],
            class: Class::$class,
            functions: &[$(stringify!($function)),*],
        }),*];

        impl Operation {
            /// Reads one: a tuple of its name and its arguments. None: it is none.
            pub fn read<T: Term>(term: T) -> Option<Self> {
                let elements = term.elements()?;
                let (name, arguments) = elements.split_first()?;
                match name.word()? {
                    $(Word::$name => {
                        let mut arguments = arguments.iter();
                        let operation = Operation::$name {
                            $($argument: Argument::read(*arguments.next()?)?),*
                        };
                        arguments.next().is_none().then_some(operation)
                    })*
                    _ => None,
                }
            }

            /// What it is to recovery.
            pub fn class(&self) -> Class {
                match self { $(Operation::$name { .. } => Class::$class),* }
            }

            /// The login in it.
            pub fn login(&self) -> Option<&Login> {
                match self {
                    $(Operation::$name { $($argument),* } => None $(.or_else(|| $argument.login()))*),*
                }
            }

            /// Whether it hands over a PIN.
            pub fn logs_in(&self) -> bool {
                self.login().is_some()
            }

            /// The handles of the objects that it works with.
            pub fn handles(&self) -> Vec<Handle> {
                let mut found = Vec::new();
                match self {
                    $(Operation::$name { $($argument),* } => { $($argument.handles(&mut found);)* })*
                }
                found
            }
        }
    };
}

operations!(declare);

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_ffi::names::NAMES;

    /// What no row calls: the other threads do, or nobody does.
    const ELSEWHERE: &[&str] = &[
        "C_Initialize",
        "C_Finalize",
        "C_GetInfo",
        "C_GetFunctionList",
        "C_GetInterfaceList",
        "C_GetInterface",
        "C_GetSlotList",
        "C_GetSlotInfo",
        "C_GetTokenInfo",
        "C_GetMechanismList",
        "C_GetMechanismInfo",
        "C_WaitForSlotEvent",
        "C_InitToken",
        "C_InitPIN",
        "C_SetPIN",
        "C_OpenSession",
        "C_CloseSession",
        "C_Login",
        "C_LoginUser",
        "C_Logout",
        // Parallel and asynchronous calls: our own threads are that. One session closes for another in the last.
        "C_GetFunctionStatus",
        "C_CancelFunction",
        "C_AsyncComplete",
        "C_AsyncGetID",
        "C_AsyncJoin",
        "C_CloseAllSessions",
    ];

    #[test]
    fn every_function_of_the_standard_is_in_a_row_or_named_here() {
        let rows = || TABLE.iter().flat_map(|row| row.functions);
        for function in rows() {
            assert!(NAMES.contains(function), "{function}");
        }
        for name in NAMES {
            assert!(
                rows().any(|function| function == name) != ELSEWHERE.contains(name),
                "{name}"
            );
        }
    }

    #[test]
    fn each_name_stands_once() {
        for word in Word::ALL {
            let same = Word::ALL.iter().filter(|other| other.text() == word.text());
            assert_eq!(same.count(), 1, "{word:?}");
        }
    }
}
