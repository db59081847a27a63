//! What can go wrong in a request, and what each return value means for the pool.

use crate::names::NAMES;
use cryptoki_sys::CK_RV;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NoName, StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::LazyLock;
use thiserror::Error;

/// A name of the standard. Under a name of its own, as serde would borrow a `&str` from what it reads.
type Name = &'static str;

/// Why a request was not answered with a result.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The library answered with something other than `CKR_OK`.
    #[error("{function} answered {code:#x}")]
    Rv {
        /// The return value.
        code: CK_RV,
        /// The function that answered.
        #[serde(deserialize_with = "function")]
        function: Name,
    },
    /// We refused or gave up ourselves.
    #[error("{reason:?}: {detail}")]
    Own {
        /// Which of our reasons.
        reason: Reason,
        /// What a person needs to know besides.
        detail: String,
    },
}

/// Our own reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The instance or the VM is stopping.
    Shutdown,
    /// The instance has no token.
    TokenAbsent,
    /// The instance waits for a person to give a PIN.
    Locked,
    /// The queue is full.
    Busy,
    /// Our code panicked; the session was discarded.
    Panic,
    /// The session of a multi-part operation went away.
    SessionLost,
    /// A handle from an earlier life of the token, or of an object that is gone.
    StaleHandle,
    /// A step of an operation that the session is not in; the library was not asked.
    OperationNotInitialized,
    /// Data that the key cannot take.
    DataLenRange,
    /// The same of a ciphertext.
    EncryptedDataLenRange,
    /// The same of a signature.
    SignatureLenRange,
    /// The library could not be loaded or initialised.
    LibraryNotLoaded,
    /// The library answered with lengths, counts or pointers that cannot be true.
    ModuleMisbehaved,
    /// The call cannot be made like this.
    InvalidArgument,
    /// The process of the library has ended.
    LibraryCrashed,
    /// The same while it had a PIN, or may have had.
    CrashedInLogin,
    /// There is no process of the library: nothing was asked.
    NoProcess,
}

impl Failure {
    /// One of our own reasons with its detail.
    pub fn own(reason: Reason, detail: impl Into<String>) -> Self {
        Failure::Own {
            reason,
            detail: detail.into(),
        }
    }

    /// The library told something that cannot be true.
    pub fn misbehaved(function: &str, what: &str) -> Self {
        Failure::own(Reason::ModuleMisbehaved, format!("{function} {what}"))
    }

    /// What the failure means for the pool.
    pub fn class(&self) -> Class {
        match self {
            Failure::Rv { function, code } => match Class::of(*code) {
                // To a login these are no answers that the standard has: it may have cost a try.
                Class::OperationActive | Class::Login if is_login(function) => Class::Other,
                class => class,
            },
            Failure::Own { .. } => Class::Other,
        }
    }

    /// Whether it is this return value.
    pub fn is(&self, rv: CK_RV) -> bool {
        matches!(self, Failure::Rv { code, .. } if *code == rv)
    }
}

/// A function of the standard by its name.
pub fn function<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(from)?;
    let known = NAMES.iter().find(|known| **known == name);
    known
        .copied()
        .ok_or_else(|| serde::de::Error::custom("no function of the standard"))
}

fn is_login(function: &str) -> bool {
    matches!(function, "C_Login" | "C_LoginUser")
}

/// What a return value means for the pool. The session thread and the Elixir side both act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The session was gone before the call: reopen, run the request again once.
    Session,
    /// The session went during the call, which may have done its work: reopen, hand it on.
    SessionClosed,
    /// The login is gone: log in again, run again once.
    Login,
    /// The token is gone.
    Absent,
    /// The session was left in an operation: cancel or reopen, run again once.
    OperationActive,
    /// The PIN was refused: never try it again.
    Pin,
    /// The device is in trouble: hand it on; after several in a row reopen the session.
    Device,
    /// Somebody finalised the library.
    NotInitialized,
    /// Hand it to the caller.
    Other,
}

/// The recovery table: every return value that is more than an answer for the caller.
static TABLE: LazyLock<Vec<(CK_RV, Class)>> = LazyLock::new(|| {
    let rows = include_str!("../recovery.txt").lines();
    rows.filter(|row| !row.starts_with('#'))
        .filter_map(row)
        .collect()
});

fn row(row: &str) -> Option<(CK_RV, Class)> {
    let mut columns = row.split_whitespace();
    let code = columns.next()?.strip_prefix("0x")?;
    let name: StrDeserializer<NoName> = columns.nth(1)?.into_deserializer();
    let class = Class::deserialize(name).ok()?;
    Some((CK_RV::from_str_radix(code, 16).ok()?, class))
}

impl Class {
    /// Whether the session is gone.
    pub fn is_loss(self) -> bool {
        matches!(self, Class::Session | Class::SessionClosed)
    }

    fn of(rv: CK_RV) -> Self {
        TABLE
            .iter()
            .find(|(code, _)| *code == rv)
            .map_or(Class::Other, |(_, class)| *class)
    }
}

/// A result of a native call. The name is one that cargo-mutants knows what to put in the place of.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    fn class(function: &'static str, code: CK_RV) -> Class {
        Failure::Rv { code, function }.class()
    }

    /// The numbers of pkcs11t.h.
    #[test]
    fn to_a_login_the_standard_has_no_lost_login_and_no_active_operation() {
        for (code, elsewhere) in [(0x101, Class::Login), (0x90, Class::OperationActive)] {
            assert_eq!(class("C_Sign", code), elsewhere);
            assert_eq!(class("C_Login", code), Class::Other);
            assert_eq!(class("C_LoginUser", code), Class::Other);
        }
        assert_eq!(class("C_Login", 0xA0), Class::Pin);
        assert_eq!(class("C_Sign", 0x7000_0001), Class::Other);
    }

    #[test]
    fn each_row_of_the_table_is_read_once() {
        let rows = include_str!("../recovery.txt").lines();
        let rows = rows.filter(|row| !row.starts_with('#')).count();
        let codes: std::collections::BTreeSet<_> = TABLE.iter().map(|(code, _)| *code).collect();
        assert!(rows > 20 && TABLE.len() == rows && codes.len() == rows);
        for (code, expected) in [
            (0xB3, Class::Session),
            (0xB0, Class::SessionClosed),
            (0xE0, Class::Absent),
            (0x190, Class::NotInitialized),
            (0x30, Class::Device),
            (0x82, Class::Other),
        ] {
            assert_eq!(class("C_Sign", code), expected);
        }
        assert_eq!(row("0xB3 session_handle_invalid sesion no"), None);
    }

    #[test]
    fn a_session_is_lost_before_a_call_or_in_it() {
        assert!(class("C_Sign", 0xB3).is_loss() && class("C_Sign", 0xB0).is_loss());
        assert!(!class("C_Sign", 0x30).is_loss() && !class("C_Sign", 0x101).is_loss());
    }
}
