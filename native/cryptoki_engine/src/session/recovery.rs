//! What a session does about a failure: decided here, from the table's class and the situation; its thread applies it.

use cryptoki_ffi::failure::Class;

/// What the session was in the middle of, and what was asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// It was in an operation that had begun before.
    pub in_operation: bool,
    /// What failed was a step of one.
    pub step: bool,
    /// What failed names objects by handles.
    pub names_objects: bool,
}

/// What becomes of the session, and of the request then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is, and the failure is handed over.
    HandOver,
    /// It is opened anew.
    Reopen(Then),
    /// What it was left in is cancelled, and the request runs once more.
    CancelAndAgain,
    /// What was begun is given up, and the failure is told as the loss of that.
    GiveUp,
}

/// What becomes of the request when the session is opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It may have been executed: the failure is handed over.
    HandOver,
    /// Its handles are void: whoever gave them looks the keys up and tries again.
    LookUp,
    /// An operation went with the session.
    TellLoss,
    /// It runs once more.
    Again,
}

/// Decides.
pub fn decide(class: Class, situation: Situation) -> Decision {
    match class {
        Class::Session | Class::SessionClosed if situation.in_operation => {
            Decision::Reopen(Then::TellLoss)
        }
        Class::SessionClosed => Decision::Reopen(Then::HandOver),
        Class::Session if situation.names_objects => Decision::Reopen(Then::LookUp),
        Class::Session => Decision::Reopen(Then::Again),
        // What was begun went with the login: nothing that could be tried again is left.
        Class::Login if situation.step => Decision::GiveUp,
        Class::OperationActive if !situation.in_operation => Decision::CancelAndAgain,
        _ => Decision::HandOver,
    }
}

/// So many device errors in a row are no longer of what was asked.
const PATIENCE: u32 = 3;

/// What a failure means for the session beyond the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing.
    Nothing,
    /// It ends.
    End,
    /// It is opened anew.
    Reopen,
    /// It is opened anew unless it still answers: that would cost the objects that were made here, and some libraries
    /// call every bad ciphertext a general error.
    ReopenIfSilent,
}

/// Decides that, after so many device errors in a row. Whether it holds objects is asked where it matters: to know it takes
/// a while.
pub fn aftermath(
    class: Class,
    device_errors: u32,
    holds_objects: impl FnOnce() -> bool,
) -> Aftermath {
    match class {
        Class::Absent | Class::NotInitialized => Aftermath::End,
        Class::Device if device_errors < PATIENCE => Aftermath::Nothing,
        Class::Device if holds_objects() => Aftermath::ReopenIfSilent,
        Class::Device => Aftermath::Reopen,
        _ => Aftermath::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_ffi::failure::{Class as C, Failure};
    use cryptoki_sys::CK_RV;

    const QUIET: Situation = Situation {
        in_operation: false,
        step: false,
        names_objects: false,
    };
    const BY_KEY: Situation = Situation {
        names_objects: true,
        ..QUIET
    };
    const STEP: Situation = Situation {
        in_operation: true,
        step: true,
        names_objects: false,
    };

    #[test]
    fn nothing_that_may_have_run_runs_again() {
        for situation in [QUIET, BY_KEY] {
            let closed = decide(C::SessionClosed, situation);
            assert_eq!(closed, Decision::Reopen(Then::HandOver));
            for class in [C::Absent, C::Device, C::NotInitialized, C::Pin, C::Other] {
                assert_eq!(decide(class, situation), Decision::HandOver);
            }
        }
    }

    #[test]
    fn what_was_refused_before_it_ran_runs_once_more() {
        assert_eq!(decide(C::Session, QUIET), Decision::Reopen(Then::Again));
        assert_eq!(decide(C::Session, BY_KEY), Decision::Reopen(Then::LookUp));
        for situation in [QUIET, BY_KEY] {
            assert_eq!(
                decide(C::OperationActive, situation),
                Decision::CancelAndAgain
            );
            assert_eq!(decide(C::Login, situation), Decision::HandOver);
        }
    }

    #[test]
    fn an_operation_that_is_lost_is_told_and_not_gone_on_with() {
        for class in [C::Session, C::SessionClosed] {
            assert_eq!(decide(class, STEP), Decision::Reopen(Then::TellLoss));
        }
        assert_eq!(decide(C::Login, STEP), Decision::GiveUp);
        assert_eq!(decide(C::OperationActive, STEP), Decision::HandOver);
        // Another call on a session in an operation, which is the caller's to end.
        let beside = Situation {
            step: false,
            ..STEP
        };
        assert_eq!(decide(C::Login, beside), Decision::HandOver);
        assert_eq!(decide(C::OperationActive, beside), Decision::HandOver);
    }

    #[test]
    fn device_errors_open_a_session_anew_when_they_do_not_end() {
        for holds_objects in [false, true] {
            let first = aftermath(C::Device, PATIENCE - 1, || holds_objects);
            assert_eq!(first, Aftermath::Nothing);
        }
        assert_eq!(aftermath(C::Device, PATIENCE, || false), Aftermath::Reopen);
        let careful = aftermath(C::Device, PATIENCE, || true);
        assert_eq!(careful, Aftermath::ReopenIfSilent);
    }

    /// What users read of a row in guides/errors.md comes from these columns, what is done from its class.
    #[test]
    fn the_columns_of_the_table_say_what_is_decided() {
        let table = include_str!("../../../cryptoki_ffi/recovery.txt");
        for row in table.lines().filter(|row| !row.starts_with('#')) {
            let columns: Vec<_> = row.split_whitespace().collect();
            let [code, _, _, _, session, again, instance, _] = columns[..] else {
                panic!("{row}");
            };
            let code = CK_RV::from_str_radix(code.trim_start_matches("0x"), 16);
            let failure = Failure::Rv {
                function: "C_Sign",
                code: code.expect(row),
            };
            let class = failure.class();
            let told = match (aftermath(class, 1, || unreachable!()), decide(class, QUIET)) {
                (Aftermath::End, Decision::HandOver) => ("end", "no"),
                (Aftermath::Nothing, Decision::HandOver) => ("keep", "no"),
                (Aftermath::Nothing, Decision::Reopen(Then::Again)) => ("reopen", "once"),
                (Aftermath::Nothing, Decision::Reopen(Then::HandOver)) => ("reopen", "no"),
                (Aftermath::Nothing, Decision::CancelAndAgain) => ("cancel", "once"),
                other => panic!("{row}: {other:?}"),
            };
            // After a login, or a look at its keys, the caller's side runs it again.
            let again = match again {
                "login" if class == C::Login => "no",
                "lookup" if class == C::Other => "no",
                again => again,
            };
            assert_eq!((session, again), told, "{row}");
            let expected = match class {
                C::Absent => "absent",
                C::NotInitialized => "reinitialize",
                C::Pin => "locked",
                _ => "-",
            };
            assert_eq!(instance, expected, "{row}");
        }
    }
}
