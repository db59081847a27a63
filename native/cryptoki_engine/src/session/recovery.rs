//! What a session does about a failure: decided here, from the table and the situation; its thread applies it.

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

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki_ffi::failure::Class as C;

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
}
