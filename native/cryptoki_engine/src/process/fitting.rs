//! Whether an answer is one to what was asked: another process may send any.

use crate::control::jobs::{Job, Told};
use crate::operation::answer::Answer;
use crate::operation::operation::Operation;
use crate::process::link::Broken;
use crate::process::wire::{Ask, Notice, Noticed, Order};
use cryptoki_ffi::attributes::Attributes;
use cryptoki_ffi::failure::Result;
use cryptoki_sys::CK_ULONG;

type Fits = std::result::Result<(), Broken>;

fn only_if(it_is: bool) -> Fits {
    it_is.then_some(()).ok_or(Broken::Malformed)
}

/// Of a session.
pub fn of_session(asked: &Ask<&Operation>, outcome: &Result<Answer>) -> Fits {
    only_if(match (asked, outcome) {
        (_, Err(_)) => true,
        (Ask::Perform(operation), Ok(answer)) => fits(operation, answer),
        (_, Ok(answer)) => matches!(answer, Answer::Done),
    })
}

/// Of the control thread.
pub fn of_control(asked: &Order, outcome: &Result<Told>) -> Fits {
    let Ok(told) = outcome else { return Ok(()) };
    only_if(match asked {
        Order::Job(Job::LibraryInfo) => matches!(told, Told::Library(..)),
        Order::Job(Job::Slots) => matches!(told, Told::Slots(_)),
        Order::Job(Job::TokenInfo(_)) => matches!(told, Told::Token(_)),
        Order::Job(Job::Mechanisms(_)) => matches!(told, Told::Mechanisms(_)),
        Order::Job(Job::MechanismInfo(..)) => matches!(told, Told::Mechanism(_)),
        Order::Job(Job::Poll) => matches!(told, Told::Presence(_)),
        Order::Job(Job::Events) => matches!(told, Told::Events(_)),
        Order::Job(Job::InitToken(..) | Job::InitPin(..) | Job::SetPin(..) | Job::Reinitialize)
        | Order::Open(_)
        | Order::Prepare(_)
        | Order::LogIn(..)
        | Order::Close => matches!(told, Told::Done),
    })
}

/// Of the first connection.
pub fn of_notice(asked: &Notice, noticed: &Noticed) -> Fits {
    only_if(match asked {
        Notice::Control | Notice::Session => {
            matches!(noticed, Noticed::Done | Noticed::Refused(_))
        }
        Notice::State(_) | Notice::Epoch(_) => matches!(noticed, Noticed::Done),
        Notice::Inside => matches!(noticed, Noticed::Inside(..)),
        Notice::Standing(_) => matches!(noticed, Noticed::Standing(_)),
    })
}

fn fits(operation: &Operation, answer: &Answer) -> bool {
    use Operation as O;
    match operation {
        O::sign { .. }
        | O::encrypt { .. }
        | O::decrypt { .. }
        | O::digest { .. }
        | O::sign_recover { .. }
        | O::verify_recover { .. }
        | O::dual_update { .. }
        | O::save_state { .. }
        | O::message { .. }
        | O::message_next { .. }
        | O::wrap_key { .. }
        | O::wrap_key_authenticated { .. } => are_bytes(answer),
        O::update { .. } | O::final_ { .. } => matches!(answer, Answer::Done) || are_bytes(answer),
        O::random { length } => matches!(answer, Answer::Bytes(bytes) if bytes.len() == *length),
        O::verify { .. }
        | O::verify_signature { .. }
        | O::seed_random { .. }
        | O::digest_key { .. }
        | O::cancel { .. }
        | O::restore_state { .. }
        | O::message_final { .. }
        | O::set_attributes { .. }
        | O::destroy { .. } => matches!(answer, Answer::Done),
        O::init { .. } | O::verify_signature_init { .. } => {
            matches!(answer, Answer::Done | Answer::OwnIv)
        }
        O::sign_otp { .. } => matches!(answer, Answer::Otp(_)),
        O::message_begin { .. } => matches!(answer, Answer::Written(_)),
        O::generate_key { .. }
        | O::unwrap_key { .. }
        | O::unwrap_key_authenticated { .. }
        | O::derive_key { .. }
        | O::decapsulate_key { .. }
        | O::create { .. }
        | O::copy { .. } => matches!(answer, Answer::Object(_)),
        O::generate_beside { .. } | O::derive_beside { .. } => {
            matches!(answer, Answer::Beside(..))
        }
        O::generate_key_pair { .. } => matches!(answer, Answer::Pair(..)),
        O::encapsulate_key { .. } => matches!(answer, Answer::Encapsulated(..)),
        O::find { limit, .. } => {
            let most = if *limit == 0 { usize::MAX } else { *limit };
            matches!(answer, Answer::Objects(objects) if objects.len() <= most)
        }
        O::attributes { kinds, .. } => {
            matches!(answer, Answer::Attributes(read) if are_of(kinds, read))
        }
        // Of so many as come in a turn, but of one at least: who asks goes on with the next.
        O::attributes_of { objects, kinds } => matches!(answer, Answer::Each(each)
            if each.len() <= objects.len() && each.is_empty() == objects.is_empty()
                && each.iter().flatten().all(|read| are_of(kinds, read))),
        O::object_size { .. } => matches!(answer, Answer::Number(_) | Answer::Unavailable),
        O::session_info {} => matches!(answer, Answer::Session(_)),
        O::validation_flags { .. } => matches!(answer, Answer::Number(_)),
    }
}

/// With what the library has written into the parameter, or without.
fn are_bytes(answer: &Answer) -> bool {
    match answer {
        Answer::With(result, _written) => {
            matches!(**result, Answer::Bytes(_) | Answer::Secret(_))
        }
        answer => matches!(answer, Answer::Bytes(_) | Answer::Secret(_)),
    }
}

fn are_of(kinds: &[CK_ULONG], read: &Attributes) -> bool {
    kinds.iter().eq(read.iter().map(|(kind, _value)| kind))
}
